"""The command promotes, rejects and rolls back by what real servers measured, and the registry keeps the reason."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.errors import DataError
from serving.registry import Candidate, LocalRegistry
from serving.rollout.__main__ import main
from serving.rollout.evidence import LiveQuality, read_quality
from tests.serving.models import ROW, export_model, golden
from tests.serving.running import RunningServer, ask, registry_of
from tests.serving.server.test_shadow import QUICK, wait_for_metric

pytestmark = pytest.mark.integration


def _push(registry: LocalRegistry, model: Path, origin: str, *, promote: bool) -> int:
    candidate = Candidate("shop", run_id="run-1", folder=model, golden=golden(model).to_json(), origin=origin)
    return LocalRegistry(registry.folder.parent, registry.name, promotes=promote).push(candidate).version


def _send(server: RunningServer, count: int) -> None:
    body = json.dumps({"instances": [ROW]}).encode()
    for number in range(count):
        headers = {"x-split-key": f"customer-{number}", "x-request-id": f"request-{number}"}
        assert ask(urllib.request.Request(f"{server.url}/predict", body, headers))[0] == 200


def _run(*flags: str) -> Any:
    outcome = CliRunner().invoke(main, [*flags])
    assert "Traceback" not in outcome.output
    return outcome


def test_a_candidate_is_promoted_on_record(tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    _push(registry, export_model(tmp_path / "1", -5.0), "a", promote=True)
    # Nearly the same model: no decision changes.
    _push(registry, export_model(tmp_path / "2", -5.001), "b", promote=False)
    place = ("--model-dir", str(registry.folder))
    with RunningServer(*place, "--split", "candidate=0.5", "--shadow", "candidate=1", *QUICK) as server:
        flags = (*place, "--server", server.url, "--min-requests", "20")
        # So few requests have wide intervals.
        bounds = ("--max-more-errors", "0.3", "--max-latency-ratio", "50", "--max-changed", "0.3")
        outcome = _run(*flags, *bounds, "--yes")
        assert outcome.exit_code == 0
        assert outcome.stdout.splitlines()[-1].startswith("waits: errors not judged: 0 requests of the split and 0 ")
        _send(server, 80)
        answered = server.get("/metrics")[1].split('model_server_rows_total{version="1"} ')[1].split()[0]
        wait_for_metric(server, 'shadow_rows_total{version="2"}', float(answered))
        outcome = _run(*flags, *bounds)
        assert "promote of version 2: errors kept: " in outcome.stdout
        assert outcome.stdout.endswith("; add --yes to do it\n")
        assert registry.read_champion() == 1
        document = json.loads(_run(*flags, *bounds, "--yes", "--json").stdout)
    assert (document["action"], document["changed"], document["serving"]) == ("promote", True, 2)
    assert registry.read_champion() == 2
    event = registry.read_history()[-1]
    assert event["action"] == "promote"
    assert event["reason"].startswith("rule: errors kept: 0.000% of ")


def test_a_candidate_that_decides_otherwise_is_rejected_and_stays_so(tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    _push(registry, export_model(tmp_path / "1", -5.0), "a", promote=True)
    other = export_model(tmp_path / "2", -50.0)
    _push(registry, other, "b", promote=False)
    place = ("--model-dir", str(registry.folder))
    with RunningServer(*place, "--shadow", "candidate=1", *QUICK) as server:
        _send(server, 30)
        wait_for_metric(server, 'shadow_rows_total{version="2"}', 30)
        outcome = _run(*place, "--server", server.url, "--min-requests", "20", "--yes")
    assert "reject of version 2: decisions exceeded: 100.00% of 30 changed; at most 5.00%\n" in outcome.stdout
    assert (registry.read_champion(), registry.read_labels()) == (1, {"champion": 1})
    # Trained again from the same, with another hash.
    (other / "extra.txt").write_text("again")
    note = (
        LocalRegistry(registry.folder.parent, registry.name)
        .push(Candidate("shop", run_id="run-2", folder=other, golden=golden(other).to_json(), origin="b"))
        .note
    )
    assert "as version 2, which " in note
    assert " rejected at " in note
    assert registry.read_labels() == {"champion": 1, "candidate": 3}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "registry" / "shop-model"
    flags = ("--model-dir", str(folder), "--server", "http://127.0.0.1:9")
    file = tmp_path / "outcomes.json"
    metrics = {name: {"value": 1.0, "interval": [0.9, 1.1]} for name in ("accuracy", "calibration")}
    group = {"version": 2, "week": "", "slice": "overall", "rows": 500, "metrics": metrics}
    file.write_text(json.dumps({"metrics": ["accuracy"], "groups": [group], "side_by_side": []}))
    quality = ("--judge", "quality", "--outcomes", str(file))
    for more, code, message in (
        (flags, 2, "shop-model is not a folder; expected the model's, in its registry"),
        ((*flags, "--judge", "quality"), 2, "--outcomes: the file and --judge quality belong together"),
        (
            (*flags, *quality, "--metric", "calibration"),
            2,
            "--metric: 'calibration' has no direction; expected one of ",
        ),
        ((*flags, *quality, "--metric", "auc"), 2, "has no 'auc'; expected one of accuracy, calibration"),
    ):
        outcome = _run(*more)
        assert (outcome.exit_code, message in outcome.stderr) == (code, True), outcome.stderr
    folder.mkdir(parents=True)
    for more, code, message in (
        (flags, 3, "http://127.0.0.1:9/metrics: has no metrics: "),
        (("--model-dir", str(folder), "--server", "localhost"), 2, "--server: localhost is not an address"),
    ):
        outcome = _run(*more)
        assert (outcome.exit_code, message in outcome.stderr) == (code, True), outcome.stderr


def test_outcomes_are_read_from_the_document_of_oncall(tmp_path: Path) -> None:
    """They are those of the time in which both versions answered: the champion had other traffic before."""
    file = tmp_path / "outcomes.json"
    metrics = {"auc": {"value": 0.8, "interval": [0.78, 0.82]}, "accuracy": {"value": None, "interval": None}}
    better = {"auc": {"value": 0.9, "interval": [0.89, 0.91]}}
    groups = [
        {"version": 1, "week": "", "slice": "overall", "rows": 9000, "metrics": better},
        {"version": 2, "week": "", "slice": "overall", "rows": 500, "metrics": metrics},
    ]
    pair = {"groups": [{"version": 1, "rows": 400, "metrics": metrics}, {"version": 2, "rows": 500, "metrics": better}]}
    file.write_text(json.dumps({"metrics": ["auc"], "groups": groups, "side_by_side": [pair]}))
    shared = {1: LiveQuality(400, 0.8, 0.78, 0.82), 2: LiveQuality(500, 0.9, 0.89, 0.91)}
    assert read_quality(file) == ("auc", {frozenset((1, 2)): shared})
    assert read_quality(file, "accuracy") == ("accuracy", {frozenset((1, 2)): {}})
    file.write_text("{}")
    with pytest.raises(DataError, match=r"outcomes\.json: is not a document of python -m oncall outcomes --json"):
        read_quality(file)
