"""Signals end a run wherever they come, and are not lost where a library swallows what they raise."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cli.interrupts import Interrupts
from tests.run_commands import wait_until_busy

pytestmark = pytest.mark.integration


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_and_remembered_by_its_name(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt, match=number.name):
            send(number)
        assert interrupts.received == number.name
        with pytest.raises(KeyboardInterrupt, match=number.name):
            interrupts.check()


def test_an_error_that_an_interrupt_became_is_told_as_the_interrupt() -> None:
    with Interrupts() as interrupts:
        error = RuntimeError("a bundle failed")
        assert interrupts.translate_error(error) is error
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        assert repr(interrupts.translate_error(error)) == "KeyboardInterrupt('SIGTERM')"


def test_what_is_short_is_not_cut_off() -> None:
    with Interrupts() as interrupts:
        interrupts.hold()
        send(signal.SIGTERM)
        send(signal.SIGINT)
        interrupts.release()
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so_and_handlers_come_back() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        usual = signal.getsignal(signal.SIGINT)
        with Interrupts() as interrupts:
            send(signal.SIGTERM)
            assert interrupts.received == ""
            assert signal.getsignal(signal.SIGINT) is not usual
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is usual
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("last", "code", "error"),
    [
        ("pass", 0, ""),
        ("sys.exit(5)", 5, ""),
        ("sys.exit('no such run')", 1, "no such run\n"),
        ("raise ValueError('x')", 1, "ValueError: x\n"),
    ],
)
def test_a_program_that_skip_teardown_ends_as_any_other(last: str, code: int, error: str) -> None:
    lines = (
        "import atexit, sys, threading, time",
        "from cli.interrupts import skip_teardown",
        "class Left:",
        "    def __del__(self): print('removed')",
        "left = Left()",
        "atexit.register(print, 'at exit')",
        "def last():",
        f"    {last}",
        "PROGRAM",
    )
    program = "\n".join(lines)
    usual = _run(program.replace("PROGRAM", "last()"))
    at_once = _run(program.replace("PROGRAM", "with skip_teardown():\n    last()"))
    assert (at_once.returncode, at_once.stdout) == (usual.returncode, "at exit\n") == (code, "at exit\n")
    assert usual.stdout == "at exit\nremoved\n"
    assert at_once.stderr.endswith(error) and usual.stderr.endswith(error)


def test_a_program_that_skip_teardown_waits_for_its_threads() -> None:
    program = (
        "import threading, time\n"
        "from cli.interrupts import skip_teardown\n"
        "with skip_teardown():\n"
        "    threading.Thread(target=lambda: (time.sleep(0.2), print('done'))).start()\n"
    )
    assert _run(program).stdout == "done\n"


def _run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_a_process_whose_main_thread_is_in_native_code_ends_within_seconds() -> None:
    code = (
        "import hashlib, os\n"
        "from cli.interrupts import Interrupts\n"
        "with Interrupts() as interrupts:\n"
        "    interrupts.end_process = lambda: (print(interrupts.received, flush=True), os._exit(130))\n"
        "    print('begun', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        wait_until_busy(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
        assert process.stdout.read() == "SIGINT\n"
    finally:
        process.kill()
        process.wait()


def test_a_run_that_is_being_put_on_record_is_not_ended_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.interrupts._GRACE_SECONDS", 0.1)
    ended: list[str] = []
    with Interrupts() as interrupts:
        interrupts.end_process = lambda: ended.append(interrupts.received)
        interrupts.hold()
        send(signal.SIGTERM)
        time.sleep(0.3)
        interrupts.end_process = None
        interrupts.release()
    assert ended == []
