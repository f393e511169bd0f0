"""The command as cron calls it: it runs for a reason, waits, and never tries data again that the gate rejected."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import filelock
import ml_metadata
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tests import forked
from tests.pipeline.staleness.test_configs import DAYS


@pytest.mark.slow
def test_runs_start_for_a_reason_and_not_on_rejected_data(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census(rows=3000)
    header, *rows = (config.parent / "train.csv").read_text().splitlines(keepends=True)
    (config.parent / "day-1.csv").write_text("".join([header, *rows]))
    root = tmp_path / "root"
    flags = ["--config", str(config), "--run-root", str(root), "--set", DAYS, "--set", "evaluation.split=eval"]
    flags += ["--set", "evaluation.thresholds=[]", "--set", "training.epochs=2"]
    # A millisecond, so that no test waits.
    flags += ["--set", "retrain={new_span: true, min_interval_hours: 0.0000003, max_backoff_days: 0.0000001}"]

    missing = forked.run("pipeline", "retrain", *flags[:-2])
    assert missing.returncode == 2
    assert "retrain: missing; name at least one condition there, such as new_span: true" in missing.stderr

    first = forked.run("pipeline", "retrain", *flags, "--json")
    assert first.returncode == 0, first.stdout + first.stderr
    document = json.loads(first.stdout)
    assert (document["started"], document["reason"]) == (True, "no_champion: no version serves yet")
    record = json.loads((root / "records" / f"{document['run_id']}.json").read_text())
    assert record["reason_to_run"] == document["reason"]
    assert record["measures"]["Trainer seconds"] > 0
    printed = forked.run("oncall", "show", "latest", "--run-root", str(root))
    assert "reason     no_champion: no version serves yet" in printed.stdout
    properties = read_run_properties(root, document["run_id"])
    assert properties["retrain_reason"].string_value == document["reason"]
    assert json.loads(properties["measures"].string_value) == record["measures"]
    release = json.loads(next((root / "registry").glob("*/1/assets.extra/release.json")).read_text())
    assert release["data"]["span"] == 1
    assert release["data"]["source"] == "the time of the files of span 1"
    check = forked.run("oncall", "check", "--run-root", str(root))
    assert re.search(
        r"version 1 is 0\.\d hours old: data until .* UTC, by the time of the files of span 1", check.stdout
    )

    idle = forked.run("pipeline", "retrain", *flags)
    assert idle.returncode == 0
    assert idle.stdout.splitlines() == [
        "does not hold  new_span: span 1 is the latest, and version 1 was trained on 1",
        "nothing was started: no condition holds",
    ]
    assert forked.run("pipeline", "retrain", *flags, "--quiet").stdout == ""

    # The gate rejects the next day.
    (config.parent / "day-2.csv").write_text("".join([header, *(row.replace("Private", "Privat") for row in rows)]))
    stopped = forked.run("pipeline", "retrain", *flags)
    assert stopped.returncode == 3, stopped.stdout + stopped.stderr
    assert "starts a run: new_span: span 2 is new; version 1 was trained on 1" in stopped.stdout
    again = forked.run("pipeline", "retrain", *flags)
    assert again.returncode == 0
    assert "Gate rejected this very data" in again.stdout
    assert len(list((root / "records").glob("*.json"))) == 2

    # Of two crons at once, one decides.
    with filelock.FileLock(root / ".retrain.lock"):
        second = forked.run("pipeline", "retrain", *flags)
    assert second.returncode == 0
    assert "nothing was started: another retraining of" in second.stdout


def read_run_properties(root: Path, run_id: str) -> dict[str, mlmd.Value]:
    """Return the custom properties of a run in ML Metadata."""
    connection = mlmd.ConnectionConfig()
    connection.sqlite.filename_uri = str(root / "metadata.sqlite")
    connection.sqlite.connection_mode = 1
    store = ml_metadata.MetadataStore(connection)
    return dict(store.get_context_by_type_and_name("pipeline_run", run_id).custom_properties)
