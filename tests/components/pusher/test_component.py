"""Pushes of the component, and the models that it rejects."""

import json
from pathlib import Path
from typing import Any

import pytest
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from cli.errors import NotBlessedError
from components.evaluator.evaluation import SUMMARY_NAME
from components.evaluator.golden_requests import GOLDEN_NAME
from components.infra_validator.component import BLESSED_PROPERTY
from components.pusher.component import NEXT_VERSION, RegistryExecutor, check_blessing, check_infra_blessing
from serving.registry import GOLDEN_FILE, LocalRegistry, State, compute_content_hash
from serving.registry.settings import LocalRegistrySettings

GOLDEN = b'{"instances": [], "predictions": [], "tolerance": 0.001}'


def artifacts(
    folder: Path, *, blessed: int = constants.BLESSED_VALUE, of: int = 7, file: bool = True
) -> tuple[standard_artifacts.Model, standard_artifacts.ModelBlessing]:
    """Return a model with id 7 and a blessing; `of` is the model that the blessing names."""
    model = standard_artifacts.Model()
    model.id = 7
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = str(folder)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, of)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, blessed)
    if file:
        (folder / constants.BLESSED_FILE_NAME).touch()
    return model, blessing


def test_a_blessed_model_passes(tmp_path: Path) -> None:
    check_blessing(*artifacts(tmp_path))


def test_a_model_that_is_not_blessed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotBlessedError, match="is not blessed"):
        check_blessing(*artifacts(tmp_path, blessed=constants.NOT_BLESSED_VALUE))


def test_another_models_blessing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotBlessedError, match="the blessing is not that of model 7"):
        check_blessing(*artifacts(tmp_path, of=6))


def test_a_blessing_without_properties_is_refused(tmp_path: Path) -> None:
    model, _ = artifacts(tmp_path)
    with pytest.raises(NotBlessedError):
        check_blessing(model, standard_artifacts.ModelBlessing())


def test_a_blessing_whose_file_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotBlessedError, match="holds no BLESSED file"):
        check_blessing(*artifacts(tmp_path, file=False))


def infra_blessing(model: Path, blessed: int = 1) -> standard_artifacts.InfraBlessing:
    blessing = standard_artifacts.InfraBlessing()
    blessing.set_int_custom_property(BLESSED_PROPERTY, blessed)
    blessing.set_string_custom_property("content_hash", compute_content_hash(model))
    return blessing


def test_a_model_that_the_server_did_not_serve_is_refused(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_text("a")
    check_infra_blessing(infra_blessing(tmp_path), tmp_path)
    for blessing, message in (
        (infra_blessing(tmp_path, blessed=0), "the model server did not serve the model as it should"),
        (standard_artifacts.InfraBlessing(), "the model server did not serve the model as it should"),
    ):
        with pytest.raises(NotBlessedError, match=message):
            check_infra_blessing(blessing, tmp_path)
    blessing = infra_blessing(tmp_path)
    (tmp_path / "saved_model.pb").write_text("b")
    with pytest.raises(NotBlessedError, match="the infra blessing is another model's"):
        check_infra_blessing(blessing, tmp_path)


def push_model(folder: Path, content: str, *, promote: bool) -> standard_artifacts.PushedModel:
    """Return what is recorded of a push of a blessed model into the registry below a folder."""
    (folder / content).mkdir(exist_ok=True)
    model, blessing = artifacts(folder / content)
    model.uri = str(folder / content / "model")
    saved = folder / content / "model" / "Format-Serving"
    saved.mkdir(parents=True, exist_ok=True)
    graph = meta_graph_pb2.MetaGraphDef.MetaInfoDef(tensorflow_version="2.21.0", tags=[content])
    saved_model = saved_model_pb2.SavedModel(meta_graphs=[meta_graph_pb2.MetaGraphDef(meta_info_def=graph)])
    (saved / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    examples, statistics = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
    examples.uri, examples.split_names = str(folder / "examples"), '["train"]'
    statistics.uri = str(folder / "statistics")
    (folder / "statistics" / "Split-train").mkdir(parents=True, exist_ok=True)
    (folder / "statistics" / "Split-train" / "FeatureStats.pb").write_bytes(b"")
    settings = LocalRegistrySettings(model_name="income", folder=str(folder / "registry"), promote=promote)
    record = standard_artifacts.PushedModel()
    record.uri = str(folder / content / "pushed")
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(folder / content)
    (folder / content / SUMMARY_NAME).write_text('{"metrics": {"overall": {"auc": 0.875}}, "failures": []}')
    (folder / content / GOLDEN_NAME).write_bytes(GOLDEN)
    inputs = {
        "model": [model],
        "model_blessing": [blessing],
        "infra_blessing": [infra_blessing(saved)],
        "examples": [examples],
        "statistics": [statistics],
        "evaluation": [evaluation],
    }
    properties = {"registry": settings.model_dump_json(), "pipeline": "census", "run_id": f"run-{content}"}
    RegistryExecutor().Do(inputs, {"pushed_model": [record]}, {**properties, "version": NEXT_VERSION})
    return record


def test_a_push_is_recorded_and_serves_at_once_or_waits(tmp_path: Path) -> None:
    registry = LocalRegistry(tmp_path / "registry", "income")
    record = push_model(tmp_path, "a", promote=True)
    assert record.get_int_custom_property("pushed") == 1
    assert record.get_string_custom_property("pushed_version") == "1"
    assert record.get_string_custom_property("pushed_destination") == str(registry.folder / "1")
    assert record.get_string_custom_property("content_hash") == compute_content_hash(registry.folder / "1")
    push_model(tmp_path, "b", promote=False)
    # As in stock TFX, the artifact holds the model.
    assert compute_content_hash(Path(record.uri)) == compute_content_hash(registry.folder / "1")
    release = registry.read_release(1)
    assert release is not None and release.metrics == {"auc": 0.875}
    assert (registry.folder / "1" / GOLDEN_FILE).read_bytes() == GOLDEN
    assert registry.read_ledger().states == {1: State.CHAMPION, 2: State.CANDIDATE}
    again = push_model(tmp_path, "b", promote=True)
    assert (again.get_int_custom_property("pushed"), registry.read_champion()) == (0, 1)


def foreign_inputs(folder: Path) -> dict[str, list[Any]]:
    """Return a blessed model without declaration, golden requests and infra blessing."""
    push_model(folder, "any", promote=True)
    model, blessing = artifacts(folder / "any")
    model.uri = str(folder / "any" / "model")
    return {"model": [model], "model_blessing": [blessing]}


def test_a_model_without_evaluation_is_pushed_with_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = standard_artifacts.PushedModel()
    record.uri = str(tmp_path / "pushed")
    settings = LocalRegistrySettings(model_name="other", folder=str(tmp_path / "registry"), promote=True)
    properties = {"registry": settings.model_dump_json(), "pipeline": "p", "run_id": "r"}
    RegistryExecutor().Do(foreign_inputs(tmp_path), {"pushed_model": [record]}, properties)
    assert (tmp_path / "registry" / "other" / "1" / "saved_model.pb").exists()
    assert "there are no golden requests; the server serves the version with --allow-unvalidated only" in caplog.text


def test_a_push_destination_is_that_of_the_stock_executor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = standard_artifacts.PushedModel()
    record.uri = str(tmp_path / "pushed")
    destination = json.dumps({"filesystem": {"base_directory": str(tmp_path / "serving")}})
    inputs = foreign_inputs(tmp_path)
    RegistryExecutor().Do(inputs, {"pushed_model": [record]}, {"push_destination": destination})
    (version,) = (tmp_path / "serving").iterdir()
    assert (version / "saved_model.pb").exists() and record.get_string_custom_property("pushed_version") == version.name
    assert "since `registry` is not given" in caplog.text


def test_a_blessing_that_nobody_gave_is_not_taken_for_one(tmp_path: Path) -> None:
    """Stock Pusher pushes without validation if Evaluator failed and its blessing does not exist."""
    inputs = {**foreign_inputs(tmp_path), "model_blessing": []}
    with pytest.raises(NotBlessedError, match="there is no model_blessing, since the component before failed"):
        RegistryExecutor().Do(
            inputs,
            {"pushed_model": [standard_artifacts.PushedModel()]},
            {"push_destination": "{}", "required_blessings": '["model_blessing"]'},
        )
