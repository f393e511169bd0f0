"""`python -m serving.registry`, as its users run it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.errors import PushError
from tests import forked
from tests.conftest import ROOT
from tests.serving.registry.vertex.own_process import push_model
from tests.vertex_fixtures import BUCKET, PROJECT, REGION, Bench

pytestmark = pytest.mark.proof


def run(bench: Bench, *arguments: str, code: int = 0) -> str:
    """Run a command and return what it printed; the environment is that of the emulator."""
    named = ["--project", PROJECT, "--region", REGION, "--model", bench.name, "--staging", f"gs://{BUCKET}/root"]
    done = forked.run("serving.registry", arguments[0], *named, *arguments[1:])
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def run_json(bench: Bench, *arguments: str) -> Any:
    return json.loads(run(bench, *arguments, "--json"))


def test_a_rollback_is_shown_first_then_done_and_recorded(bench: Bench) -> None:
    bench.push(0.1)
    bench.push(0.2, "run-2")
    assert "would rollback: version 1 of census-income would serve, and now version 2 does" in run(bench, "rollback")
    assert bench.serving() == {2: 100}
    assert "version 1 of census-income serves; before: version 2\n" in run(bench, "rollback", "--yes")
    assert bench.serving() == {1: 100}
    assert bench.aliases() == {1: ["champion", "default", "v1"], 2: ["previous", "v2"]}
    listed = run_json(bench, "list")
    assert [entry["action"] for entry in listed["history"]] == ["push", "push", "rollback"]
    assert [version["traffic_percent"] for version in listed["versions"]] == [100, 0]


def test_a_rerun_after_a_rollback_pushes_nothing_and_says_what_serves(bench: Bench) -> None:
    bench.push(0.1)
    bench.push(0.2, "run-2")
    run(bench, "rollback", "--yes")
    lines: list[str] = []
    again = bench.registry(lines.append).push(bench.candidate(0.2, "run-3"))
    assert not again.pushed
    assert bench.serving() == {1: 100}
    assert lines[-2:] == [
        "nothing to do: version 2 of census-income holds this very model already",
        "endpoint census-income serves version 1 with 100 %",
    ]


def test_a_canary_is_promoted(bench: Bench) -> None:
    bench.push(0.1)
    bench.deployment = bench.deployment.model_copy(update={"traffic_steps": (10,)})
    bench.push(0.2, "run-2")
    assert run_json(bench, "promote", "--yes")["traffic"] == {"2": 100}
    assert bench.aliases() == {1: ["previous", "v1"], 2: ["champion", "default", "v2"]}
    assert run_json(bench, "promote", "--version", "2")["changed"] is False


def test_a_rejected_version_gets_no_traffic(bench: Bench) -> None:
    bench.push(0.1)
    with pytest.raises(PushError):
        bench.push(0.2, "run-2", wrong=0.5)
    assert "version 2 failed its golden requests" in run(bench, "promote", "--version", "2", "--yes", code=5)


def test_a_version_of_another_tool_is_not_blessed(bench: Bench) -> None:
    from google.cloud import aiplatform_v1 as v1

    bench.push(0.1)
    model = v1.Model(display_name=bench.name, container_spec={"image_uri": "x"})
    request = v1.UploadModelRequest(parent=bench.place.parent, parent_model=bench.model().resource, model=model)
    bench.vertex().models.upload_model(request=request).result()
    assert "version 2 was not blessed" in run(bench, "promote", "--version", "2", "--yes", code=5)


def test_gc_keeps_what_serves_and_what_has_an_alias(bench: Bench) -> None:
    for number in range(1, 6):
        bench.push(number / 10, f"run-{number}")
    run(bench, "rollback", "--yes")
    assert "would delete 1, 2, 3" in run(bench, "gc", "--keep-last", "1")
    gone = bench.model().find_by_number(1)
    run(bench, "gc", "--keep-last", "1", "--yes")
    assert sorted(bench.aliases()) == [4, 5]
    assert gone is not None
    folder = bench.server.emulator.find_path(gone.artifact_uri)
    assert not any(path.is_file() for path in folder.rglob("*"))
    assert bench.push(0.6, "run-6").traffic == {6: 100}


def test_a_model_that_is_not_there_is_one_line(bench: Bench) -> None:
    assert "error: projects/my-project/locations/europe-west4/models/census-income: there is no such model" in run(
        bench, "list", code=5
    )
    assert "--region: expected a region such as europe-west4, found 'nowhere'" in run(
        bench, "list", "--region", "nowhere", code=2
    )


def test_an_emulator_that_is_not_there_is_not_waited_for(bench: Bench) -> None:
    assert run(bench, "list", "--api-endpoint", "localhost:1", code=5).startswith("error: no emulator answers at loc")
    for wrong in ("https://localhost:1", "localhost"):
        assert "expected HOST:PORT without https://" in run(bench, "list", "--api-endpoint", wrong, code=2)


def test_an_emulator_whose_ca_is_unknown_is_not_waited_for(bench: Bench) -> None:
    arguments = ["list", "--project", PROJECT, "--region", REGION, "--model", "x"]
    done = subprocess.run(
        [sys.executable, "-m", "serving.registry", *arguments, "--api-endpoint", bench.server.endpoint],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"},
        check=False,
        timeout=120,
    )
    assert (done.returncode, "certificate is not trusted; for an emulator, source its env.sh" in done.stderr) == (
        5,
        True,
    ), done.stderr


@pytest.mark.parametrize("method", ["UploadModel", "DeployModel", "UpdateEndpoint", "MergeVersionAliases"])
def test_a_push_that_was_killed_is_finished_by_the_next_run(bench: Bench, method: str) -> None:
    """kill -9 while a call hangs that was carried out; the lease is left behind, its holder dead."""
    bench.push(0.1)
    bench.fault(method=method, when="after", delay_seconds=6.0)
    calls = bench.server.emulator.faults.calls
    calls.clear()
    arguments = (dict(os.environ), bench.place, bench.make_model(0.2))
    push = forked.context().Process(target=push_model, args=(*arguments, "run-2"))
    push.start()
    deadline = time.monotonic() + 60
    while method not in calls:
        assert time.monotonic() < deadline and push.is_alive()
        time.sleep(0.05)
    time.sleep(0.3)
    push.kill()
    push.join()
    retry = forked.context().Process(target=push_model, args=(*arguments, "run-3"))
    retry.start()
    retry.join()
    assert retry.exitcode == 0
    assert bench.serving() == {2: 100}
    assert bench.aliases() == {1: ["previous", "v1"], 2: ["champion", "default", "v2"]}
    assert len(bench.endpoint().deployed) == 2


def test_a_lease_of_another_machine_runs_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.registry.vertex import lease

    holder = lease.Lease(bench.vertex(), bench.name, "census-income", "run-1", seconds=60.0)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "elsewhere")
        holder.__enter__()
    with pytest.raises(PushError, match=r"under way: run run-1 .* on elsewhere, since .*its lease ends in \d\d s"):
        bench.push(0.1, "run-2")
    monkeypatch.setattr(lease, "time", SimpleNamespace(**{**vars(time), "time": lambda: time.time() + 60}))
    assert bench.push(0.1, "run-2").traffic == {1: 100}


def test_the_state_survives_a_restart_of_the_emulator(bench: Bench, tmp_path: Path, tls: Path) -> None:
    from emulators.vertex.server import EmulatorServer

    bench.push(0.1)
    with EmulatorServer(tmp_path / "vertex", tls=tls, operation_seconds=0.02) as second:
        bench.server = second
        assert bench.serving() == {1: 100}
