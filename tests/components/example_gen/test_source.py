"""Another ExampleGen in front: its class and arguments are checked, and its records are those that are checked."""

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tfx.orchestration.pipeline import Pipeline

from cli.errors import ConfigError, DataError
from components.example_gen.component import ROWS_PROPERTY, build_example_gen
from components.example_gen.source import build_source
from pipeline.config import pipeline_config
from pipeline.config.beam_args import build_beam_args
from pipeline.database.sqlite import SQLiteFile
from pipeline.run import dag_runner
from pipeline.vertex.compiler import compile_job
from schemas.data import Data, SourceExampleGen
from schemas.features import FeatureSet
from tests.conftest import CENSUS_CONFIG

FEATURES = FeatureSet.model_validate(
    {
        "features": {"x": {"kind": "numeric"}, "c": {"kind": "vocabulary", "max_size": 9, "missing": "unknown"}},
        "label": {"column": "y", "positive": "1", "negative": "0"},
    }
)
_CSV, _IMPORT = "tfx.components.CsvExampleGen", "tfx.components.ImportExampleGen"
_TAKEN = {"low": {"source": "train", "column": "x", "below": 20}, "eval": {"source": "train", "fraction": 0.3}}


@pytest.mark.parametrize(
    ("component", "arguments", "problem"),
    [
        ("nowhere.MyExampleGen", {}, r"component: nowhere.MyExampleGen cannot be imported: No module named 'nowhere'"),
        ("tfx.components.CsvExampleGenn", {}, r"component: tfx.components has no CsvExampleGenn; did you mean 'CsvEx"),
        ("tfx.components.Trainer", {}, "component: tfx.components.Trainer is not an ExampleGen; expected a TFX comp"),
        ("os.path", {}, "component: os.path is not an ExampleGen"),
        (
            _CSV,
            {"input_bas": "a"},
            r"arguments: tfx.components.CsvExampleGen does not take them: .* argument 'input_bas'",
        ),
        (_CSV, {"input_base": 1}, r"arguments: tfx.components.CsvExampleGen does not take them: Expected type"),
        (
            _CSV,
            {"input_base": "a", "input_config": {"split": 1}},
            'arguments.input_config: .* has no field named "split"',
        ),
    ],
)
def test_what_cannot_be_built_is_one_line_with_its_key(component: str, arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.example_gen\.{problem}") as error:
        build_source(SourceExampleGen(component=component, arguments=arguments))
    assert "\n" not in str(error.value)


class _Results:
    def __init__(self) -> None:
        self.results: dict[str, dag_runner.NodeResult] = {}

    def on_node_start(self, node_id: str) -> None:
        pass

    def on_node_end(self, result: dag_runner.NodeResult) -> None:
        self.results[result.node_id] = result


def run(folder: Path, component: str, number: int = 1, **data: Any) -> dict[str, dag_runner.NodeResult]:
    """Run the other ExampleGen on the folder `data`, and ours behind it; return their results."""
    patterns = [{"name": name, "pattern": f"{name}.*"} for name in ("train", "late")]
    arguments = {"input_base": str(folder / "data"), "input_config": {"splits": patterns}}
    declared = Data.model_validate(
        {
            "format": "tfrecord",
            "example_gen": {"component": component, "arguments": arguments},
            "splits": {"train": {"examples": "train"}, **_TAKEN, "test": {"examples": "late"}},
            **data,
        }
    )
    assert declared.example_gen is not None
    source = build_source(declared.example_gen)
    checked = build_example_gen(
        data=declared, features=FEATURES, code_fingerprint="", source=source.outputs["examples"]
    )
    (folder / "artifacts").mkdir(exist_ok=True)
    pipeline = Pipeline(
        pipeline_name="p",
        pipeline_root=str(folder / "artifacts"),
        components=[source, checked],
        enable_cache=True,
        beam_pipeline_args=build_beam_args(pipeline_config.load(CENSUS_CONFIG)),
    )
    observer = _Results()
    dag_runner.run(pipeline, SQLiteFile(folder / "metadata.sqlite"), run_id=str(number), observer=observer)
    return observer.results


def write_csv(folder: Path, train: list[str]) -> None:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "train.csv").write_text("\n".join(["x,c,y", *train]) + "\n")
    (folder / "data" / "late.csv").write_text("\n".join(["x,c,y", "7,a,0", "8,b,1", "9,,1"]) + "\n")


def write_records(folder: Path) -> None:
    """Write as tf.Example what `write_csv` writes."""
    (folder / "data").mkdir()
    for name, rows in (
        ("train", [(n, "a", n % 2) for n in range(100)]),
        ("late", [(7, "a", 0), (8, "b", 1), (9, "", 1)]),
    ):
        with tf.io.TFRecordWriter(str(folder / "data" / f"{name}.tfrecord.gz"), "GZIP") as file:
            for x, c, y in rows:
                example = tf.train.Example()
                example.features.feature["x"].int64_list.value.append(x)
                example.features.feature["y"].int64_list.value.append(y)
                if c:
                    example.features.feature["c"].bytes_list.value.append(c.encode())
                file.write(example.SerializeToString())


@pytest.mark.parametrize("component", [_CSV, _IMPORT])
def test_the_records_of_another_example_gen_are_divided_as_files_are(component: str, tmp_path: Path) -> None:
    if component == _CSV:
        write_csv(tmp_path, [f"{n},a,{n % 2}" for n in range(100)])
    else:
        write_records(tmp_path)
    results = run(tmp_path, component)
    assert [*results] == ["SourceExampleGen", "ExampleGen"]
    ((examples,),) = results["ExampleGen"].outputs.values()
    rows = examples.custom_properties[ROWS_PROPERTY].string_value
    assert rows == '{"train": 56, "test": 3, "low": 20, "eval": 24}'
    assert {result.state for result in run(tmp_path, component, 2).values()} == {dag_runner.CACHED}


def test_the_typed_checks_are_those_of_files(tmp_path: Path) -> None:
    write_csv(tmp_path, [*(f"{n},a,{n % 2}" for n in range(100)), "old,a,1"])
    with pytest.raises(
        DataError, match=r"SourceExampleGen/examples/1/Split-train/data_tfrecord-.*: record \d+: x: expected"
    ):
        run(tmp_path, _CSV)
    with pytest.raises(
        DataError, match=r"^data\.splits\.test\.examples: data\.example_gen wrote no split 'lat'; did you "
    ):
        run(tmp_path, _CSV, 2, splits={"train": {"examples": "train"}, **_TAKEN, "test": {"examples": "lat"}})


def test_it_is_compiled_for_vertex() -> None:
    config = pipeline_config.load(CENSUS_CONFIG)
    assert config.vertex is not None
    data = {
        "format": "tfrecord",
        "example_gen": {"component": _IMPORT, "arguments": {"input_base": "gs://my-bucket/records"}},
        "splits": {"train": {"examples": "train"}, "eval": {"examples": "eval"}, "test": {"examples": "eval"}},
    }
    values = {**config.model_dump(), "data": data, "vertex": {**config.vertex.model_dump(), "input_base": None}}
    job = compile_job(pipeline_config.PipelineConfig.model_validate(values))
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    assert tasks["ExampleGen"]["inputs"]["artifacts"]["source"]["taskOutputArtifact"] == {
        "producerTask": "SourceExampleGen",
        "outputArtifactKey": "examples",
    }
    assert tasks["SourceExampleGen"]["inputs"]["parameters"]["input_base"]["runtimeValue"]["constant"] == (
        "gs://my-bucket/records"
    )
    assert tasks["ExampleGen"]["cachingOptions"] == {"enableCache": True}
