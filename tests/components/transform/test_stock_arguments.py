"""Arguments and functions of stock Transform: done by the fast executor, or by the stock one with a line in the log."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_transform.tf_metadata import schema_utils
from tfx.components.transform import executor
from tfx.components.util import udf_utils
from tfx.types import standard_artifacts

from components.transform import analyzers
from components.transform.component import BatchedTransformExecutor

pytestmark = pytest.mark.integration

SPEC = {"x": tf.io.FixedLenFeature([], tf.float32), "town": tf.io.VarLenFeature(tf.string)}
ROWS = 6
FAST = {"disable_statistics": 1}


def scale_to_unit(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return what the fast executor supports; there is no second argument, as in TFX's penguin module."""
    return {"x": tft.scale_to_0_1(inputs["x"])}


def chain_means(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"x": inputs["x"] - tft.mean(inputs["x"] - tft.mean(inputs["x"]))}


def per_key(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"x": tft.scale_to_z_score_per_key(inputs["x"], tf.strings.as_string(inputs["x"] > 2))}


def by_mutual_information(inputs: dict[str, Any]) -> dict[str, Any]:
    towns = tf.sparse.to_dense(inputs["town"])[:, 0]
    return {"x": tft.compute_and_apply_vocabulary(towns, labels=tf.zeros_like(towns, tf.int64))}


def sparse(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"town": tft.compute_and_apply_vocabulary(inputs["town"])}


def make_ragged(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"town": tf.RaggedTensor.from_sparse(inputs["town"])}


def double(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"x": tf.cast(inputs["x"], tf.float64)}


def everything(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, Any]:
    return {
        "chained": chain_means(inputs)["x"] + custom_config["plus"],
        "per_key": per_key(inputs)["x"],
        "sparse": sparse(inputs)["town"],
    }


def path_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (chain_means, r"the analyzer '\S+' builds on another one"),
        (per_key, r"the analyzer '\S+' is not one of the fast executor"),
        (by_mutual_information, r"the analyzer '\S+' is not one of the fast executor"),
        (sparse, "the output 'town' is not dense with one or two dimensions"),
        (make_ragged, "the output 'town' is not dense with one or two dimensions"),
        (double, "the output 'x' is of float64"),
    ],
)
def test_what_the_fast_executor_does_not_support_is_named(function: Callable[..., Any], reason: str) -> None:
    schema = schema_utils.schema_from_feature_spec(SPEC).SerializeToString()
    with pytest.raises(NotImplementedError, match=reason):
        analyzers.Analysis(analyzers.Preprocessing(path_of(function), "{}", schema))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    folder = tmp_path_factory.mktemp("inputs")
    for split in ("train", "eval"):
        (folder / "raw" / f"Split-{split}").mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / "raw" / f"Split-{split}" / "data.gz"), "GZIP") as writer:
            for row in range(ROWS):
                example = tf.train.Example()
                example.features.feature["x"].float_list.value.append(row)
                example.features.feature["town"].bytes_list.value.extend([b"Oslo", b"Bergen"][: row % 3])
                writer.write(example.SerializeToString())
    (folder / "schema").mkdir()
    text = text_format.MessageToString(schema_utils.schema_from_feature_spec(SPEC))
    (folder / "schema" / "schema.pbtxt").write_text(text)
    examples, schema = standard_artifacts.Examples(), standard_artifacts.Schema()
    examples.uri, schema.uri = str(folder / "raw"), str(folder / "schema")
    examples.split_names = '["train", "eval"]'
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    return {"examples": [examples], "schema": [schema]}


def transform(
    inputs: dict[str, list[Any]],
    folder: Path,
    outputs: tuple[str, ...] = (),
    executor_class: type[executor.Executor] = BatchedTransformExecutor,
    **properties: Any,
) -> Any:
    """Run an executor; return what TFT reads of the graph.

    Args:
      inputs: Artifacts by key.
      folder: Folder of the outputs.
      outputs: Keys of the optional outputs.
      executor_class: Executor.
      properties: Properties of the execution.
    """
    kinds = {
        "transform_graph": standard_artifacts.TransformGraph,
        "transformed_examples": standard_artifacts.Examples,
        "updated_analyzer_cache": standard_artifacts.TransformCache,
        "pre_transform_schema": standard_artifacts.Schema,
        "pre_transform_stats": standard_artifacts.ExampleStatistics,
        "post_transform_schema": standard_artifacts.Schema,
        "post_transform_stats": standard_artifacts.ExampleStatistics,
        "post_transform_anomalies": standard_artifacts.ExampleAnomalies,
    }
    artifacts = {key: [kinds[key]()] for key in ("transform_graph", *outputs)}
    for key, (artifact,) in artifacts.items():
        artifact.uri = str(folder / key)
    executor_class().Do(inputs, artifacts, properties)
    return tft.TFTransformOutput(str(folder / "transform_graph"))


def columns(graph: Any, folder: Path, split: str) -> dict[str, Any]:
    files = sorted(map(str, (folder / "transformed_examples" / f"Split-{split}").iterdir()))
    records = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
    assert len(records) == ROWS
    parsed: dict[str, Any] = tf.io.parse_example(records, graph.transformed_feature_spec())
    return parsed


def test_a_function_without_custom_config_is_called_as_in_tfx(
    inputs: dict[str, list[Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without `splits_config`, all splits are transformed."""
    graph = transform(inputs, tmp_path, ("transformed_examples",), preprocessing_fn=path_of(scale_to_unit), **FAST)
    for split in ("train", "eval"):
        assert columns(graph, tmp_path, split)["x"].numpy().tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert "the executor of stock TFX" not in caplog.text


def test_examples_are_written_only_if_they_are_materialized(
    inputs: dict[str, list[Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = transform(inputs, tmp_path, preprocessing_fn=path_of(scale_to_unit), **FAST)
    assert [*graph.transformed_feature_spec()] == ["x"]
    assert [path.name for path in tmp_path.iterdir()] == ["transform_graph"]
    assert "the executor of stock TFX" not in caplog.text


def test_all_that_tft_can_is_done_by_the_stock_executor(
    inputs: dict[str, list[Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    properties = {"preprocessing_fn": path_of(everything), "custom_config": '{"plus": 100}'}
    graph = transform(inputs, tmp_path, ("transformed_examples",), **properties, **FAST)
    written = columns(graph, tmp_path, "train")
    assert written["chained"].numpy().tolist() == pytest.approx([100, 101, 102, 103, 104, 105])
    assert written["per_key"].numpy()[3:].tolist() == pytest.approx([-1.2247, 0, 1.2247], abs=1e-3)
    assert tf.sparse.to_dense(written["sparse"], -1).numpy().tolist() == [[-1, -1], [0, -1], [0, 1]] * 2
    assert "Transform: the executor of stock TFX does the work, since the output 'sparse'" in caplog.text


def test_statistics_and_the_cache_are_those_of_the_stock_executor(
    inputs: dict[str, list[Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stats = ("pre_transform_schema", "pre_transform_stats", "post_transform_schema", "post_transform_stats")
    outputs = ("transformed_examples", "updated_analyzer_cache", *stats, "post_transform_anomalies")
    graph = transform(inputs, tmp_path, outputs, preprocessing_fn=path_of(scale_to_unit))
    assert columns(graph, tmp_path, "eval")["x"].numpy()[-1] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"transform_graph", *outputs}
    assert "since disable_statistics is false" in caplog.text


def test_several_artifacts_have_an_output_each(
    inputs: dict[str, list[Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    two = {**inputs, "examples": inputs["examples"] * 2}
    transform(two, tmp_path, ("transformed_examples",), preprocessing_fn=path_of(scale_to_unit), **FAST)
    assert {path.name for path in (tmp_path / "transformed_examples").iterdir()} == {"0", "1"}
    assert "since there are several Examples artifacts" in caplog.text


_MODULE = """
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    return {"x": FACTOR * tft.scale_to_0_1(inputs["x"])}
"""


@pytest.mark.parametrize("is_packaged", [False, True])
def test_a_module_file_is_done_by_the_fast_executor(
    is_packaged: bool, inputs: dict[str, list[Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A second module of the same name is another one."""
    for factor in (2, 3):
        folder = tmp_path / str(factor)
        folder.mkdir()
        (folder / "own_features.py").write_text(_MODULE.replace("FACTOR", str(factor)))
        source = {"module_file": str(folder / "own_features.py")}
        if is_packaged:
            _, source["module_path"] = udf_utils.package_user_module_file(
                "Transform", source["module_file"], str(folder)
            )
        graph = transform(inputs, folder, ("transformed_examples",), **source, **FAST)
        expected = [factor * value for value in (0, 0.2, 0.4, 0.6, 0.8, 1)]
        assert columns(graph, folder, "train")["x"].numpy().tolist() == pytest.approx(expected)
    assert "the executor of stock TFX" not in caplog.text


@pytest.mark.parametrize("executor_class", [BatchedTransformExecutor, executor.Executor])
@pytest.mark.parametrize("is_packaged", [False, True])
def test_a_module_excludes_a_preprocessing_fn(
    is_packaged: bool, executor_class: type[executor.Executor], inputs: dict[str, list[Any]], tmp_path: Path
) -> None:
    (tmp_path / "own_features.py").write_text(_MODULE)
    source = {"module_file": str(tmp_path / "own_features.py")}
    if is_packaged:
        _, path = udf_utils.package_user_module_file("Transform", source["module_file"], str(tmp_path))
        source = {"module_path": path}
    source["preprocessing_fn"] = path_of(scale_to_unit)
    with pytest.raises(ValueError, match="preprocessing_fn"):
        transform(inputs, tmp_path, executor_class=executor_class, **source, **FAST)
