"""The candidate is asked as a shadow, after the answer has gone out; what differs is counted."""

import re
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from cli.errors import ConfigError
from serving.model.predictor import Predictor
from serving.registry import Candidate, LocalRegistry
from serving.server.label_share import LabelShare
from serving.server.model_versions import ServedVersions, VersionPolicy
from tests.serving.models import ROW, export_model, push
from tests.serving.running import RunningServer, ask, registry_of

pytestmark = pytest.mark.integration

ROWS = [{**ROW, "size": float(size)} for size in range(-6, 6)]
QUICK = ("--poll", "0.1", "--no-access-log")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("exported")
    return [export_model(folder / str(offset), float(offset)) for offset in (-5, -3)]


def _push_both(folder: Path, exported: list[Path]) -> LocalRegistry:
    registry = registry_of(folder)
    push(registry, exported[0])
    push(registry, exported[1], run_id="run-2", promote=False)
    return registry


def read_metrics(server: RunningServer) -> dict[str, float]:
    """Return the metrics of the experiments by their names and labels."""
    _, text = server.get("/metrics")
    lines = re.findall(r"^model_server_((?:shadow|split)_\S+) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


def wait_for_metric(server: RunningServer, name: str, value: float) -> dict[str, float]:
    """Return the metrics once one of them has a value: the shadow is asked later than the client has its answer."""
    waiting = threading.Event()
    for _ in range(400):
        metrics = read_metrics(server)
        if metrics.get(name) == value:
            return metrics
        waiting.wait(0.025)
    raise AssertionError(f"{name} is not {value}: {metrics}")


def wait_for_error(server: RunningServer, text: str) -> None:
    """Wait until the log has a line with a text."""
    waiting = threading.Event()
    for _ in range(400):
        if any(text in line for line in server.errors):
            return
        waiting.wait(0.025)
    raise AssertionError(f"'{text}' is not in {server.errors}")


def test_differences_are_counted_and_summed_up(exported: list[Path], tmp_path: Path) -> None:
    registry = _push_both(tmp_path, exported)
    old, new = ([row["predicted_label"] for row in Predictor(model).predict(ROWS)] for model in exported)
    scores = [np.array([row["probability"] for row in Predictor(model).predict(ROWS)]) for model in exported]
    changed = sum(first != second for first, second in zip(old, new, strict=True))
    assert 0 < changed < len(ROWS)
    flags = ("--shadow", "candidate=1", "--grpc-port", "0", *QUICK)
    with RunningServer("--model-dir", str(registry.folder), *flags) as server:
        code, content = server.post("/predict", {"instances": ROWS})
        assert (code, {row["model_version"] for row in content["predictions"]}) == (200, {"1"})
        name = 'shadow_rows_total{version="2"}'
        metrics = wait_for_metric(server, name, len(ROWS))
        assert metrics['shadow_changed_decisions_total{version="2"}'] == changed
        difference = np.abs(scores[0] - scores[1])
        assert metrics['shadow_score_difference_total{version="2"}'] == pytest.approx(difference.sum(), rel=1e-4)
        assert metrics['shadow_largest_score_difference{version="2"}'] == pytest.approx(difference.max(), rel=1e-4)
        assert metrics['shadow_seconds_total{version="2"}'] > 0
        # What names the champion is compared; what names the shadow itself is not.
        assert server.post("/v1/models/shop-model/labels/champion:predict", {"instances": ROWS[:1]})[0] == 200
        assert server.post("/v1/models/shop-model/labels/candidate:predict", {"instances": ROWS[:1]})[0] == 200
        with grpc.insecure_channel(server.grpc) as channel:
            request = predict_pb2.PredictRequest()
            for column, value in ROW.items():
                kind = {"color": tf.string, "shop_name": tf.string, "rank": tf.int64}.get(column, tf.float32)
                request.inputs[column].CopyFrom(tf.make_tensor_proto([value], kind))
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
        wait_for_metric(server, name, len(ROWS) + 2)
        assert server.stop() == 0
        (event,) = [event for event in server.events if event["event"] == "shadow"]
    assert (event["version"], event["rows"], event["changed"], event["errors"]) == (2, len(ROWS) + 2, changed, 0)
    assert event["changed_share"] == pytest.approx(changed / (len(ROWS) + 2), abs=1e-6)
    assert event["largest_difference"] == pytest.approx(difference.max(), abs=1e-4)
    assert sum("shadow: version 2 is asked for 1 of the requests" in line for line in server.errors) == 1


def test_a_share_of_the_requests_is_chosen_by_their_id(exported: list[Path], tmp_path: Path) -> None:
    registry = _push_both(tmp_path, exported)
    ids = [f"request-{number}" for number in range(40)]
    # The salt is part of what restarts and workers agree on.
    chosen = [identity for identity in ids if LabelShare("candidate", 0.3).has_key("shadow", identity)]
    assert 0 < len(chosen) < len(ids)
    with RunningServer("--model-dir", str(registry.folder), "--shadow", "candidate=0.3", *QUICK) as server:
        for identity in ids:
            body = b'{"instances": [{"color": "red", "size": 1}]}'
            code, _ = ask(urllib.request.Request(f"{server.url}/predict", body, {"x-request-id": identity}))
            assert code == 200
        wait_for_metric(server, 'shadow_rows_total{version="2"}', len(chosen))


def test_a_shadow_waits_for_a_candidate_and_follows_it(exported: list[Path], tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    push(registry, exported[0])
    with RunningServer("--model-dir", str(registry.folder), "--shadow", "candidate=1", *QUICK) as server:
        assert server.post("/predict", {"instances": ROWS})[0] == 200
        assert server.post("/predict", {"instances": ROWS})[0] == 200
        assert read_metrics(server).get('shadow_rows_total{version="2"}') is None
        assert sum("shadow: waits for a version with the label candidate" in line for line in server.errors) == 1
        push(registry, exported[1], run_id="run-2", promote=False)
        for _ in range(400):
            # The first request after the version is loaded finds it.
            if server.get("/health")[1]["versions"] == [1, 2]:
                break
            threading.Event().wait(0.025)
        assert server.post("/predict", {"instances": ROWS})[0] == 200
        wait_for_metric(server, 'shadow_rows_total{version="2"}', len(ROWS))
        registry.promote()
        for _ in range(400):
            if server.get("/health")[1]["default"] == 2:
                break
            threading.Event().wait(0.025)
        assert server.post("/predict", {"instances": ROWS})[0] == 200
        wait_for_error(server, "shadow: waits for a version")
        assert read_metrics(server)['shadow_rows_total{version="2"}'] == len(ROWS)


class Doubling(tf.Module):
    """Doubles a number."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="size")])
    def call(self, size: Any) -> Any:
        return {"y": 2 * size}


class Failing(tf.Module):
    """Doubles a number, but none above 10."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="size")])
    def call(self, size: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(size, 10.0)]):
            return {"y": 2 * size + 1}


def _export(module: Any, folder: Path) -> Path:
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.call})
    return folder


def test_a_shadow_that_fails_is_counted_and_nobody_notices(tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    for number, module in enumerate([Doubling(), Failing()], start=1):
        candidate = Candidate("shop", run_id=f"run-{number}", folder=_export(module, tmp_path / str(number)))
        LocalRegistry(registry.folder.parent, registry.name, promotes=number == 1).push(candidate)
    flags = ("--allow-unvalidated", "--shadow", "candidate=1", *QUICK)
    with RunningServer("--model-dir", str(registry.folder), *flags) as server:
        path = "/v1/models/shop-model:predict"
        assert server.post(path, {"instances": [1.0, 20.0]}) == (200, {"predictions": [2.0, 40.0]})
        assert server.post(path, {"instances": [3.0]}) == (200, {"predictions": [6.0]})
        wait_for_metric(server, 'shadow_errors_total{version="2"}', 2)
        metrics = wait_for_metric(server, 'shadow_rows_total{version="2"}', 1)
        assert metrics['shadow_score_difference_total{version="2"}'] == 1
        wait_for_error(server, "shadow: version 2 has no answer: ")


def test_a_shadow_with_other_inputs_is_not_asked(exported: list[Path], tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    push(registry, exported[0])
    candidate = Candidate("shop", run_id="run-2", folder=_export(Doubling(), tmp_path / "other"))
    LocalRegistry(registry.folder.parent, registry.name, promotes=False).push(candidate)
    flags = ("--allow-unvalidated", "--shadow", "candidate=1", *QUICK)
    with RunningServer("--model-dir", str(registry.folder), *flags) as server:
        assert server.post("/predict", {"instances": ROWS})[0] == 200
        wait_for_error(server, "shadow: version 2 is not asked: it takes other inputs than version 1")
        assert read_metrics(server)["shadow_dropped_rows_total"] == 0


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--shadow", "candidate=2"), 2, "--shadow: expected a share above 0 and at most 1, such as candidate=0.2"),
        (("--split", "champion=0.1"), 2, "--split: expected candidate or previous and a share"),
        (("--split-key", "color"), 2, "--split-key color: there is no --split that it would be the key of"),
        (("--split", "candidate=0.1", "--split-key", "colour"), 2, "--split-key: 'colour' is unknown; did you mean"),
    ],
)
def test_flags_that_do_not_fit_are_refused_in_one_line(
    exported: list[Path], tmp_path: Path, flags: tuple[str, ...], code: int, message: str
) -> None:
    registry = registry_of(tmp_path)
    push(registry, exported[0])
    server = RunningServer("--model-dir", str(registry.folder), *flags)
    assert server.wait() == code
    (line,) = [line for line in server.errors if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in "".join(server.errors)


@pytest.mark.parametrize(
    ("below", "policy", "reason"),
    [("1", "champion", "1 is one version"), ("", "latest", "--versions latest has another default")],
)
def test_versions_without_a_champion_beside_them_have_no_shadow(
    exported: list[Path], tmp_path: Path, below: str, policy: str, reason: str
) -> None:
    registry = registry_of(tmp_path)
    push(registry, exported[0])
    labelled = replace(VersionPolicy.parse(policy), labels=frozenset({"candidate"}))
    with pytest.raises(ConfigError, match=f"^--shadow and --split: expected the folder of all versions, .*{reason}$"):
        ServedVersions(registry.folder / below, labelled)
