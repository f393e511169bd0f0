"""The command with --vertex: it submits the job with its reason, and reads how it ended, against the emulator."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.vertex import jobs
from tests import forked
from tests.vertex_fixtures import ACCOUNT, BUCKET, Bench

pytestmark = [pytest.mark.slow, pytest.mark.proof]


def test_a_job_is_submitted_for_a_reason_and_its_failure_makes_the_next_wait(
    small_census: Callable[..., Path], bench: Bench, tmp_path: Path
) -> None:
    path = small_census(rows=300)
    values = yaml.safe_load(path.read_text())
    values["vertex"] |= {
        "pipeline_root": f"gs://{BUCKET}/root",
        # It has no data, so that the first task fails.
        "input_base": f"gs://{BUCKET}/data",
        "api_endpoint": bench.server.endpoint,
        "service_account": ACCOUNT,
    }
    values["retrain"] = {"max_age_days": 30}
    path.write_text(yaml.safe_dump(values, sort_keys=False))

    def retrain(*arguments: str) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("VERTEX_API_ENDPOINT")
            flags = ("--config", str(path), "--run-root", str(tmp_path / "root"), "--vertex", "--json")
            done = forked.run("pipeline", "retrain", *flags, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    assert retrain("--dry-run")["started"] is False
    first = retrain()
    assert (first["started"], first["reason"]) == (True, "no_champion: no version serves yet")
    job_id = first["job_id"]
    vertex = bench.vertex()
    name = f"{vertex.place.parent}/pipelineJobs/{job_id}"
    assert vertex.pipelines.get_pipeline_job(name=name).labels["retrain-reason"] == "no_champion"
    deadline = time.monotonic() + 300
    while (after := retrain())["obstacle"].startswith(f"job {job_id} is "):
        assert time.monotonic() < deadline
    assert jobs.read_status(vertex, job_id).ended
    assert after["started"] is False
    assert "after 1 failure in a row" in after["obstacle"]
