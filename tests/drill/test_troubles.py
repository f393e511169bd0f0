"""Troubles of runs, registry, database and server: each is made, asked about, and recovered from as the answer says."""

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.run.records import RunRecord
from serving.registry import GOLDEN_FILE, LEDGER_FILE, RELEASE_FILE, State
from tests.conftest import ROOT
from tests.drill.drill import Drill, assert_says, find_command, proposed_commands
from tests.drill.samples import assert_sample
from tests.faults import injections

pytestmark = [pytest.mark.slow, pytest.mark.proof]

Trouble = Callable[[Drill], None]
TROUBLES: dict[str, Trouble] = {}
_DAY_SECONDS = 86400.0


def trouble(number: str) -> Callable[[Trouble], Trouble]:
    """Add a trouble to the list, by its number in the drill."""

    def add(function: Trouble) -> Trouble:
        TROUBLES[f"{number}-{function.__name__}"] = function
        return function

    return add


@trouble("1")
def killed_while_another_pushes(drill: Drill) -> None:
    with drill.start("Trainer", "training.epochs=11") as (running, old):
        os.killpg(running.process.pid, signal.SIGKILL)
        running.wait()
    assert drill.run("training.epochs=12")[0] == 0
    new = drill.records()[-1].run_id
    assert drill.place.registry.read_champion() == 3
    why = drill.ask("why", old)
    assert_says(why, ["CRASHED", "killed in Trainer", f"version 3 of the newer run {new} serves", "needs --yes"])
    assert not [line for line in proposed_commands(why) if "oncall resume" in line]
    refused = drill.ask("resume", old, code=0)
    assert_says(refused, [f"would resume run {old}, and its push would replace version 3", "add --yes to do it"])
    assert (len(drill.records()), drill.place.registry.read_champion()) == (4, 3)
    assert_says(drill.ask("doctor"), ["nothing is wrong"])


@trouble("7")
def resume_names_both_runs(drill: Drill) -> None:
    with drill.start("Trainer", "training.epochs=11") as (running, old):
        os.killpg(running.process.pid, signal.SIGKILL)
        running.wait()
    assert_sample("doctor", drill.ask("doctor", code=1))
    drill.follow(find_command(drill.ask("why", "latest"), "oncall resume"))
    new = drill.records()[-1].run_id
    assert drill.place.registry.read_champion() == 3
    assert_says(drill.ask("show", old), [f"resumed by {new}"])
    assert_says(drill.ask("show", new), [f"resumes    {old}"])
    assert_says(drill.ask("why", old), [f"resumed by {new}"])


@trouble("5")
def bit_flip(drill: Drill) -> None:
    (file,) = drill.place.registry.find_folder(2).glob("variables/*.data-*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    check = drill.ask("check", code=1)
    assert_says(check, ["version 2: its files are NOT those that were pushed: variables/variables.data-00000-of-00001"])
    drill.follow(find_command(check, "oncall rollback"), yes=True)
    check = drill.ask("check", code=0)
    assert_says(check, ["version 1 of census-income; rolled back from version 2 by "])


@trouble("6")
def rollback_and_cached_rerun(drill: Drill) -> None:
    assert_sample('rollback --reason "bad predictions since noon"', drill.ask("rollback", "--reason", "bad since noon"))
    drill.ask("rollback", "--reason", "bad since noon", "--yes", code=0)
    code, output = drill.run("training.epochs=9")
    assert (code, drill.place.registry.read_champion()) == (0, 1), output
    for command in ("check", "serving", "why latest"):
        output = drill.ask(*command.split())
        assert_says(output, ["rolled back from version 2 by ", "bad since noon"])


@trouble("6b")
def rollback_and_rerun_of_the_same_bytes(drill: Drill) -> None:
    drill.ask("rollback", "--reason", "bad since noon", "--yes", code=0)
    data = drill.place.config.parent / "train.csv"
    data.write_bytes(data.read_bytes())
    registry = drill.place.registry
    code, output = drill.place.run("training.epochs=9", cache=False, fault=_train_from_other_weights)
    assert (code, registry.read_champion(), registry.list_numbers()) == (0, 1, [1, 2, 3]), output
    assert_says(output, ["as the candidate: it is made of the same data, code and config as version 2", "bad since"])
    assert registry.read_state(3) is State.CANDIDATE
    assert_says(drill.ask("runs", "--all"), ["version 3"])
    # A model of another config is a new one.
    assert drill.run("training.epochs=10")[0] == 0
    assert registry.read_champion() == 4


def _train_from_other_weights() -> None:
    """Make this process train another model of the same data, code and config, as floating-point sums may."""
    import keras

    set_random_seed = keras.utils.set_random_seed
    keras.utils.set_random_seed = lambda seed: set_random_seed(seed + 1)


@trouble("7")
def read_only_registry(drill: Drill) -> None:
    registry = drill.root / "registry"
    before = [] if os.geteuid() == 0 else ["sudo", "-n"]

    def mount(*arguments: str) -> bool:
        return not subprocess.run([*before, *arguments], capture_output=True, check=False).returncode

    if not mount("mount", "--bind", str(registry), str(registry)):
        pytest.skip("nothing can be mounted here")
    try:
        assert mount("mount", "-o", "remount,ro,bind", str(registry))
        code, output = drill.run("training.epochs=12")
        assert (code, "is on a file system that is mounted read-only" in output) == (5, True), output
        doctor = drill.ask("doctor", code=1)
        assert_says(doctor, ["mounted read-only", "findmnt -T"], ["no permission"])
    finally:
        mount("umount", str(registry))
    assert_says(drill.ask("why", "latest"), ["mounted read-only", "oncall doctor"])


@trouble("8")
def version_copied_by_hand(drill: Drill) -> None:
    registry = drill.place.registry
    shutil.copytree(registry.find_folder(1), registry.find_folder(9))
    check = drill.ask("check", code=1)
    assert_says(check, ["version 9 was not pushed: it holds the files of version 1"], ["cut off"])
    assert_says(drill.ask("serving"), ["unexplained"])
    code, output = drill.run("training.epochs=12")
    assert (code, registry.read_champion(), registry.read_state(9)) == (0, 10, None), output
    undo = drill.follow(find_command(check, "oncall quarantine"), yes=True)
    assert drill.ask("check", code=0)
    assert registry.list_numbers() == [1, 2, 10]
    drill.follow(find_command(undo, "undo.sh"))
    assert registry.list_numbers() == [1, 2, 9, 10]


@trouble("8b")
def rejected_version_copied_by_hand(drill: Drill) -> None:
    registry = drill.place.registry
    drill.ask("rollback", "--reason", "bad", "--yes", code=0)
    shutil.copytree(registry.find_folder(2), registry.find_folder(9))
    doctor = drill.ask("doctor", code=1)
    assert_says(doctor, ["9: was not pushed: it holds the files of version 2", "Nothing serves it"], ["cut off", "rm "])
    assert drill.run("training.epochs=9")[0] == 0
    assert registry.read_champion() == 1
    drill.follow(find_command(doctor, "oncall quarantine"), yes=True)
    assert_says(drill.ask("doctor", code=0), ["nothing is wrong"])
    assert registry.read_champion() == 1


def _make_old_database(drill: Drill, backup: Path) -> None:
    """Put a database in its place that does not know the second run."""
    database = drill.root / "metadata.sqlite"
    shutil.copy(database, backup)
    oldest = drill.records()[0].run_id
    with sqlite3.connect(database) as connection:
        (context,) = connection.execute("SELECT id FROM Context WHERE name = ?", [oldest]).fetchone()
        (last,) = connection.execute(
            "SELECT max(execution_id) FROM Association WHERE context_id = ?", [context]
        ).fetchone()
        (artifact,) = connection.execute(
            "SELECT max(artifact_id) FROM Event WHERE execution_id <= ?", [last]
        ).fetchone()
        connection.execute("DELETE FROM Execution WHERE id > ?", [last])
        connection.execute("DELETE FROM Association WHERE execution_id > ?", [last])
        connection.execute("DELETE FROM Event WHERE execution_id > ?", [last])
        connection.execute("DELETE FROM Artifact WHERE id > ?", [artifact])
        connection.execute("DELETE FROM Attribution WHERE artifact_id > ?", [artifact])
        connection.execute("DELETE FROM Context WHERE id > ? AND name LIKE '20%'", [context])
    connection.close()


@trouble("9")
def old_database_with_a_backup(drill: Drill) -> None:
    _make_old_database(drill, drill.root / "metadata.sqlite.newest")
    new = drill.records()[1].run_id
    doctor = drill.ask("doctor", code=1)
    assert_says(doctor, ["is older than ", f"it lacks {new}", "Nothing is garbage"], ["rm ", "orphan"])
    assert_says(drill.ask("check", code=1), ["is older than "])
    gc = drill.ask("gc", "--keep-last", 1, "--yes", code=6)
    assert_says(gc, ["nothing was removed"])
    drill.follow(find_command(doctor, "metadata.sqlite.newest"))
    assert_says(drill.ask("doctor", code=0), ["nothing is wrong"])


@trouble("9")
def old_database_without_a_backup(drill: Drill) -> None:
    _make_old_database(drill, drill.root.parent / "elsewhere")
    before = sorted(path.relative_to(drill.root) for path in (drill.root / "artifacts").rglob("*"))
    doctor = drill.ask("doctor", code=1)
    output = drill.follow(find_command(doctor, "oncall quarantine"), yes=True)
    code, output = drill.run("training.epochs=9")
    assert (code, drill.place.registry.read_champion() in (2, 3)) == (0, True), output
    assert "undo" in "".join(path.name for path in (drill.root / "quarantine").rglob("undo.sh"))
    moved = [path for path in (drill.root / "quarantine").rglob("*") if path.is_file()]
    assert len(moved) > 1
    assert before


def _be_a_day_ahead() -> None:
    """Make a run of this process one of tomorrow."""
    import datetime

    from pipeline.run import local, records

    tomorrow = datetime.datetime.now() + datetime.timedelta(days=1)
    local.generate_run_id = lambda: tomorrow.strftime("%Y%m%dT%H%M%S.%f")  # type: ignore[assignment]
    now = time.time

    class Clock:
        time = staticmethod(lambda: now() + _DAY_SECONDS)

    records.time = Clock  # type: ignore[assignment]


@trouble("10")
def run_of_the_future(drill: Drill) -> None:
    code, output = drill.place.run("training.epochs=12", fault=_be_a_day_ahead)
    assert code == 0, output
    future = drill.records()[-1].run_id
    with drill.start("Trainer", "training.epochs=13") as (running, crashed):
        os.killpg(running.process.pid, signal.SIGKILL)
        running.wait()
    assert crashed < future
    check = drill.ask("check", code=1)
    assert_says(check, [f"{crashed} CRASHED", f"run {future} started 24.0 h after", "the clock of"])
    why = drill.ask("why", "latest")
    assert_says(why, [f"run        {crashed}", "CRASHED"])
    drill.follow(find_command(why, "oncall resume"))
    assert_says(drill.ask("why", "latest"), ["SUCCEEDED"])
    assert_says(drill.ask("doctor", code=1), ["clock      run "])


@trouble("12")
def config_edited(drill: Drill) -> None:
    first = drill.records()[0].run_id
    assert drill.run("training.epochs=1", "model.hidden_units=[2]", "training.batch_size=512", "seed=3")[0] in (0, 4)
    diff = drill.ask("diff", first, "latest")
    assert_says(
        diff,
        [
            "training.epochs: 8 -> 1",
            "model.hidden_units: [8] -> [2]",
            "training.batch_size: 32 -> 512",
            "seed: 20 -> 3",
        ],
    )


@trouble("13")
def artifact_deleted(drill: Drill) -> None:
    (folder,) = [path for path in (drill.root / "artifacts/ExampleGen/examples").iterdir() if path.is_dir()]
    shutil.rmtree(folder)
    doctor = drill.ask("doctor", code=1)
    assert_says(doctor, ["Examples 1: ", " is gone"])
    drill.follow(find_command(doctor, "oncall gc"))
    # Weights of two trainings may differ.
    code, output = drill.run("training.epochs=9")
    assert (code, drill.place.registry.read_champion() in (2, 3)) == (0, True), output
    assert_says(drill.ask("doctor", code=0), ["nothing is wrong"])


@trouble("14")
def copied_run_root(drill: Drill) -> None:
    copy = Drill(type(drill.place)(drill.place.config, drill.root.parent / "copied run"))
    shutil.copytree(drill.root, copy.root, symlinks=True)
    doctor = copy.ask("doctor", code=1)
    assert_says(doctor, [f"is a copy of {drill.root}"], ["mv ", "rm "])
    original = copy.follow(find_command(doctor, "oncall doctor"))
    assert_says(original, ["nothing is wrong"])
    assert_says(copy.ask("check", code=1), [f"is a copy of {drill.root}"])
    assert_says(copy.ask("gc", "--keep-last", 1, "--yes", code=6), ["nothing was removed"])
    # Used all the same, it becomes a run root of its own, and the original is as it was.
    assert copy.run("training.epochs=12")[0] == 0
    assert (copy.place.registry.read_champion(), drill.place.registry.read_champion()) == (3, 2)
    assert_says(copy.ask("doctor"), [str(drill.root)], ["mv "])
    assert_says(drill.ask("doctor", code=0), ["nothing is wrong"])


@trouble("14")
def moved_run_root(drill: Drill) -> None:
    moved = Drill(type(drill.place)(drill.place.config, drill.root.parent / "moved run"))
    drill.root.rename(moved.root)
    doctor = moved.ask("doctor", code=1)
    assert_says(doctor, [f"was moved or copied: to ML Metadata its artifacts are below {drill.root}"], ["rm "])
    moved.follow(find_command(doctor, "mv -nT"))
    assert_says(drill.ask("doctor", code=0), ["nothing is wrong"])


@trouble("15")
def log_deleted(drill: Drill) -> None:
    assert drill.run("evaluation.thresholds=[{metric: auc, lower_bound: 0.999}]")[0] == 4
    log = drill.records()[-1].log
    assert log is not None
    Path(log).unlink()
    why = drill.ask("why", "latest", code=0)
    assert_says(why, ["node       Evaluator", "at least 0.999 expected", "cannot be read: No such file"])


@trouble("11b")
def missed_threshold(drill: Drill) -> None:
    change = "evaluation.change_thresholds=[{metric: auc, max_regression: 0.0001}]"
    assert drill.run("training.epochs=1", "evaluation.thresholds=[]", change)[0] == 4
    why = drill.ask("why", "latest")
    sentence = r"auc 0\.\d{4}; at least 0\.\d{4} expected \(0\.\d{4} of version 2 minus 0\.0001\)"
    assert re.search(rf"cause      Evaluator: the model is not blessed: {sentence}", why), why
    assert_says(why, ["node       Evaluator"], ["InfraValidator: the model"])
    assert_sample("why 20261124T2219", why)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait_for_check(drill: Drill, url: str, sentence: str) -> str:
    """Ask until the server answers so; it takes seconds to load TensorFlow."""
    until = time.monotonic() + 120
    while True:
        output = drill.ask("check", "--url", url)
        if sentence in output or time.monotonic() > until:
            return output
        time.sleep(0.5)


def _serve(line: str, log: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("wb") as file:
        return subprocess.Popen(f"exec {line}", shell=True, cwd=ROOT, env=environment, stdout=file, stderr=file)


@trouble("16")
def server_down(drill: Drill) -> None:
    url = f"http://127.0.0.1:{_free_port()}"
    check = drill.ask("check", "--url", url, code=1)
    assert_says(check, ["no process of this machine listens there"], ["curl"])
    drill.followed.append(line := find_command(check, "python -m serving"))
    server = _serve(line, drill.root.parent / "server.log")
    try:
        assert_says(_wait_for_check(drill, url, "serves version 2"), ["serves version 2; version 2 is the champion"])
        server.send_signal(signal.SIGSTOP)
        check = drill.ask("check", "--url", url, code=1)
        assert_says(check, [f"process {server.pid} is stopped (SIGSTOP)"])
        drill.follow(find_command(check, f"kill -CONT {server.pid}"))
        # While it runs, the files of what it serves are changed: it holds the good bytes.
        (file,) = drill.place.registry.find_folder(2).glob("variables/*.data-*")
        file.write_bytes(file.read_bytes()[::-1])
        check = drill.ask("check", "--url", url, code=1)
        assert_says(check, ["holds the bytes of version 2 that were pushed", "are NOT those that were pushed"])
    finally:
        server.terminate()
        server.wait()


@trouble("17")
def server_pinned(drill: Drill) -> None:
    port = _free_port()
    url, log = f"http://127.0.0.1:{port}", drill.root.parent / "server.log"
    drill.ask("rollback", "--reason", "bad predictions", "--yes", code=0)
    server = _serve(f"python -m serving --model-dir {drill.place.registry.folder} --port {port} --versions 2", log)
    successor = None
    try:
        check = _wait_for_check(drill, url, "serves version 2")
        assert_sample("check --url http://localhost:8501", check)
        assert_says(
            check, ["serves version 2; version 1 is the champion; it is pinned: --versions 2", "follows no promotion"]
        )
        command = find_command(check, "kill ")
        drill.followed.append(command)
        other = drill.root.parent / "other"
        shutil.copytree(drill.root / "registry", other)
        served = drill.ask("check", "--url", url, "--registry", other, code=1)
        assert_says(served, [f"serves another model: version 2 of {drill.place.registry.folder}; expected {other}/"])
        assert f"--model-dir {other}/census-income" in find_command(served, "kill ")
        kill, _, start = command.partition(" && ")
        subprocess.run(kill, shell=True, check=True)
        server.wait()
        successor = _serve(start, log)
        assert_says(_wait_for_check(drill, url, "serves version 1"), ["serves version 1; version 1 is the champion"])
    finally:
        for process in (server, successor):
            if process is not None:
                process.terminate()
                process.wait()


@trouble("18")
def stopped_run(drill: Drill) -> None:
    with drill.start("Trainer", "training.epochs=12") as (running, run_id):
        os.kill(running.process.pid, signal.SIGSTOP)
        until = time.monotonic() + 10
        while psutil.Process(running.process.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < until
        check = drill.ask("check", code=1)
        assert_sample("check", check)
        assert_says(check, [f"{run_id} RUNNING: process {running.process.pid} is stopped", "usually "])
        why = drill.ask("why", "latest")
        assert_says(why, ["is stopped (SIGSTOP)", "last line of the log", "in Trainer for "])
        drill.follow(find_command(why, "kill -CONT"))
        assert running.wait() == 0
    assert_says(drill.ask("check", code=0), [f"{run_id} SUCCEEDED"])


def _backdate(drill: Drill, run_id: str, seconds: float, *, log: bool) -> None:
    """Make the running node, and the last line of its log, older than they are."""
    file = drill.root / "records" / f"{run_id}.json"
    record = RunRecord.model_validate_json(file.read_bytes())
    assert record.running_node is not None
    record.nodes[record.running_node].started -= seconds
    file.write_text(record.model_dump_json())
    if log:
        assert record.log is not None
        at = Path(record.log).stat().st_mtime - seconds
        os.utime(record.log, (at, at))


@trouble("18b")
def hanging_run(drill: Drill) -> None:
    waits = drill.root / "waits"
    fault = partial(
        injections.at_executor, "Trainer", injections.mark(waits, injections.wait_for(drill.root / "never"))
    )
    with drill.start("Trainer", "training.epochs=12", fault=fault) as (running, run_id):
        # What starts the executor still logs.
        running.wait_for(waits.exists)
        _backdate(drill, run_id, 600, log=True)
        sentence = "it uses no processor and logs nothing: it hangs, or waits for another system; in Trainer for 10 min"
        assert_says(drill.ask("check", code=1), [f"{run_id} RUNNING: {sentence}"])
        show = drill.ask("show", "latest", code=0)
        assert_says(show, [sentence, "usually ", "last line of the log 10 min ago"])
        drill.follow(find_command(show, f"kill {running.process.pid}"))
        assert running.wait() == 130
    why = drill.ask("why", "latest")
    assert_says(why, ["state      ABORTED", "interrupted by SIGTERM in Trainer"])
    drill.follow(find_command(why, "oncall resume"))
    assert drill.place.registry.read_champion() == 3


@trouble("18c")
def starving_run(drill: Drill) -> None:
    go = drill.root / "go"
    fault = partial(injections.at_executor, "Trainer", injections.spin_until(go))
    with drill.start("Trainer", "training.epochs=12", fault=fault) as (running, run_id):
        log = drill.root / "logs" / f"{run_id}.log"
        log.unlink()
        check = drill.ask("check", code=1)
        assert_says(check, [f"{run_id} RUNNING: its log {log} was removed; the run itself is not affected"])
        drill.follow(find_command(check, "cp /proc/"))
        assert log.stat().st_size
        _backdate(drill, run_id, 3600, log=False)
        for answer in (drill.ask("check", code=1), drill.ask("show", "latest", code=0)):
            assert re.search(r"it takes \d+ times as long as usual.*; in Trainer for 60 min", answer), answer
            assert find_command(answer, f"kill {running.process.pid}")
        go.touch()
        assert running.wait() == 0
    assert_says(drill.ask("check", code=0), [f"{run_id} SUCCEEDED"])


@trouble("14b")
def crashed_and_running(drill: Drill) -> None:
    with drill.start("Trainer", "training.epochs=12") as (running, crashed):
        os.killpg(running.process.pid, signal.SIGKILL)
        running.wait()
    with drill.start("Trainer", "training.epochs=13") as (running, active):
        check = drill.ask("check", code=1)
        table = [line for line in check.splitlines() if line.startswith("│")]
        lines = {name: line for name in (crashed, active) for line in table if name in line}
        assert_says(lines[crashed], ["CRASHED: its process", "killed in Trainer"], ["running"])
        assert_says(lines[active], ["RUNNING: in Trainer for "], ["gone"])


@trouble("19")
def misuse_of_gc(drill: Drill) -> None:
    first, second = (record.run_id for record in drill.records())
    assert drill.ask("gc", "--yes", code=2)
    assert drill.ask("gc", "--keep-last", 0, "--yes", code=2)
    before = drill.ask("diff", first, second)
    drill.ask("gc", "--keep-last", 1, "--drop-pushed", "--yes", code=0)
    assert drill.ask("check", code=0)
    after = drill.ask("diff", first, second)
    metrics = [line for line in before.splitlines() if line.startswith("metrics")]
    assert metrics
    assert metrics == [line for line in after.splitlines() if line.startswith("metrics")]


@trouble("own")
def folder_of_another_version(drill: Drill) -> None:
    registry = drill.place.registry
    shutil.rmtree(registry.find_folder(2))
    shutil.copytree(registry.find_folder(1), registry.find_folder(2))
    check = drill.ask("check", code=1)
    assert_says(check, ["version 2: its files are NOT those that were pushed", "it holds the files of version 1"])
    drill.follow(find_command(check, "oncall rollback"), yes=True)
    assert registry.read_champion() == 1


@trouble("own")
def ledger_damaged(drill: Drill) -> None:
    ledger = drill.place.registry.folder / LEDGER_FILE
    backup = ledger.read_bytes()
    ledger.write_text("{")
    check = drill.ask("check", code=1)
    assert_says(
        check,
        [
            f"{ledger}: is damaged",
            "restore it from a backup. Or move it away: then version 2, the champion in tf_serving.config",
        ],
    )
    doctor = drill.follow(find_command(check, "oncall doctor"), code=1)
    assert [line.split()[0] for line in doctor.splitlines() if not line.startswith(" ")] == ["lock", "registry"]
    # Nothing writes over it, and no version is added.
    code, output = drill.run("training.epochs=10")
    assert (code, ledger.read_text()) == (5, "{"), output
    ledger.write_bytes(backup)
    assert_says(drill.ask("doctor", code=0), ["nothing is wrong"])
    assert (drill.place.registry.read_champion(), drill.place.registry.list_numbers()) == (2, [1, 2])


@trouble("own")
def record_damaged(drill: Drill) -> None:
    file = drill.root / "records" / f"{drill.records()[-1].run_id}.json"
    file.write_text("{")
    doctor = drill.ask("doctor", code=1)
    drill.follow(find_command(doctor, "mv -nT"))
    assert_says(drill.ask("runs"), ["UNKNOWN"])


@trouble("own")
def database_truncated(drill: Drill) -> None:
    database = drill.root / "metadata.sqlite"
    database.write_bytes(database.read_bytes()[:5000])
    doctor = drill.ask("doctor", code=1)
    assert_says(doctor, ["is truncated", "from a backup"], ["rm "])
    begin = doctor.partition("Or begin again: ")[2].splitlines()[0]
    drill.follow(begin)
    # Weights of two trainings may differ.
    code, output = drill.run("training.epochs=9")
    assert (code, drill.place.registry.read_champion() in (2, 3)) == (0, True), output


@trouble("own")
def run_refused(drill: Drill) -> None:
    (drill.place.config.parent / "test.csv").rename(drill.place.config.parent / "gone.csv")
    assert drill.run()[0] == 3
    why = drill.ask("why", "latest")
    assert_says(why, ["no run was started", "test.csv"])
    (drill.place.config.parent / "gone.csv").rename(drill.place.config.parent / "test.csv")
    drill.follow(find_command(why, "--dry-run"))


@trouble("own")
def value_out_of_range(drill: Drill) -> None:
    data = drill.place.config.parent / "train.csv"
    lines = data.read_text().splitlines(keepends=True)
    # Enough rows that both splits which are drawn from the file have some.
    lines[1:21] = ["430" + line[line.index(",") :] for line in lines[1:21]]
    data.write_text("".join(lines))
    code, output = drill.run()
    assert code == 3, output
    assert_sample("anomalies latest", drill.ask("anomalies", "latest"))
    assert find_command(drill.ask("why", "latest"), "schema diff")


@trouble("own")
def output_of_a_killed_run(drill: Drill) -> None:
    folder = drill.root / "artifacts" / "Trainer" / "model" / "3"
    folder.mkdir(parents=True)
    (folder / "half").write_text("x")
    doctor = drill.ask("doctor", code=1)
    assert_says(doctor, [f"{folder}: holds no live artifact"], ["rm -r"])
    undo = drill.follow(find_command(doctor, "oncall quarantine"), yes=True)
    assert not folder.exists()
    drill.follow(find_command(undo, "undo.sh"))
    assert (folder / "half").read_text() == "x"


@trouble("own")
def other_runs_statistics(drill: Drill) -> None:
    # A failed run makes the statistics that the run which pushes reuses.
    data = drill.place.config.parent / "train.csv"
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join(lines[:-20]))
    missed = "evaluation.thresholds=[{metric: auc, lower_bound: 0.999}]"
    assert drill.run(missed)[0] == 4
    failed = drill.records()[-1].run_id
    assert drill.run()[0] == 0
    pushed = drill.records()[-1].run_id
    assert drill.run("training.epochs=10")[0] == 0
    last = drill.records()[-1].run_id
    assert_sample("report 20261124T235923", drill.ask("report", last))
    page = drill.root / "page.html"
    drill.ask("report", last, "--output", page, code=0)
    html = page.read_text()
    assert re.search(rf"pushed[^<]*(<[^>]*>)*[^<]*{re.escape(pushed)}", html), "the run that pushed is not named"
    assert not re.search(rf"pushed last[^<]*(<[^>]*>)*[^<]*{re.escape(failed)}", html)


@trouble("own")
def ledger_cut_off_after_a_rollback(drill: Drill) -> None:
    registry = drill.place.registry
    drill.ask("rollback", "--reason", "bad", "--yes", code=0)
    ledger = registry.folder / LEDGER_FILE
    ledger.write_bytes(ledger.read_bytes()[: ledger.stat().st_size // 2])
    doctor = drill.ask("doctor", code=1)
    assert_says(doctor, ["is damaged", "then version 1, the champion in tf_serving.config, serves"], ["docs/"])
    drill.follow(find_command(doctor, "mv -nT"))
    check = drill.ask("check", code=1)
    assert_says(check, ["registry.json is gone, with the history", "version 1 is the champion"])
    drill.follow(find_command(check, "serving.registry promote", "--version 1"), yes=True)
    assert registry.read_champion() == 1
    assert drill.ask("check", code=0)


@trouble("own")
def champion_edited_by_hand(drill: Drill) -> None:
    ledger = drill.place.registry.folder / LEDGER_FILE
    text = ledger.read_text().replace('"previous"', '"other"').replace('"champion"', '"previous"')
    ledger.write_text(text.replace('"other"', '"champion"'))
    check = drill.ask("check", code=1)
    assert_says(check, ["was edited by hand: version 1 is the champion, and version 2 by its history"])
    drill.follow(find_command(check, "serving.registry promote", "--version 2"), yes=True)
    assert drill.ask("check", code=0)


@trouble("own")
def golden_requests_emptied(drill: Drill) -> None:
    (drill.place.registry.find_folder(2) / GOLDEN_FILE).write_bytes(b"")
    check = drill.ask("check", code=1)
    assert_says(check, ["version 2: its files are NOT those that were pushed: assets.extra/golden.json changed"])
    drill.follow(find_command(check, "oncall rollback"), yes=True)
    assert drill.ask("check", code=0)


@trouble("own")
def release_file_emptied(drill: Drill) -> None:
    (drill.place.registry.find_folder(2) / RELEASE_FILE).write_bytes(b"")
    assert_says(drill.ask("doctor", code=1), [f"{RELEASE_FILE}: is damaged", "(champion)"], ["docs/"])
    check = drill.ask("check", code=1)
    assert_says(check, ["version 2 of census-income", f"{RELEASE_FILE}: is damaged"])
    drill.follow(find_command(check, "oncall rollback"), yes=True)
    assert_says(drill.ask("check", code=0), ["rolled back from version 2"])


@trouble("own")
def version_emptied(drill: Drill) -> None:
    path = drill.place.registry.find_folder(2)
    shutil.rmtree(path)
    path.mkdir()
    check = drill.ask("check", code=1)
    assert_says(check, [f"NOT those that were pushed: {RELEASE_FILE} is gone"], ["was not pushed", "another tool"])
    drill.follow(find_command(check, "oncall rollback"), yes=True)
    assert drill.ask("check", code=0)


@trouble("own")
def registry_gone(drill: Drill) -> None:
    shutil.rmtree(drill.root / "registry")
    second = drill.records()[1].run_id
    doctor = drill.ask("doctor", code=1)
    assert_says(doctor, [f"is gone, and run {second} pushed to it; is it mounted?"])
    assert_says(drill.ask("check", code=1), ["is gone, and run"], ["no version serves"])
    drill.follow(find_command(doctor, "oncall resume", second))
    assert drill.place.registry.read_champion() == 1
    assert drill.ask("check", code=0)


@trouble("own")
def database_of_a_newer_release(drill: Drill) -> None:
    with sqlite3.connect(drill.root / "metadata.sqlite") as connection:
        connection.execute("UPDATE MLMDEnv SET schema_version = 99")
    connection.close()
    doctor = drill.ask("doctor", code=1)
    assert_says(doctor, ["was written by a newer release", "Nothing is damaged"], ["mv ", "rm ", "begin again"])
    assert_says(drill.follow(find_command(doctor, "oncall show latest"), code=6), ["revision"])


@trouble("own")
def database_locked(drill: Drill) -> None:
    connection = sqlite3.connect(drill.root / "metadata.sqlite", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        doctor = drill.ask("doctor", code=1)
        assert_says(doctor, ["is locked by another process"], ["mv ", "backup"])
        assert_says(drill.follow(find_command(doctor, f"ps -fp {os.getpid()}")), [str(os.getpid())])
    finally:
        connection.close()
    assert_says(drill.ask("doctor", code=0), ["nothing is wrong"])


@trouble("own")
def link_to_a_missing_run_root(drill: Drill) -> None:
    drill.root.rename(drill.root.with_name("elsewhere"))
    drill.root.symlink_to("gone")
    assert_says(drill.ask("check", code=6), ["is a symbolic link to gone, which is missing"])
    drill.root.unlink()


@pytest.mark.parametrize("name", TROUBLES)
def test_the_trouble_is_found_and_recovered_from(name: str, drill: Drill) -> None:
    TROUBLES[name](drill)
