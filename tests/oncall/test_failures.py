"""`why`: the cause, the lines of the log that say so, what to try."""

from collections.abc import Callable
from typing import Any

import pytest

from oncall.log_excerpts import select_lines
from tests.conftest import ROOT
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs

GOOD, BAD = "20260101T000000.000000", "20260102T000000.000000"
Document = Callable[..., Any]

# What TFX and TensorFlow write in every run.
CHATTER = """\
WARNING:absl:ArtifactQuery.property_predicate is not supported.
I0000 00:00:1795577692.649190   12502 tf_record_dataset_op.cc:396] The default buffer size is 262144
W0000 00:00:1795577694.804156   11380 cache_dataset_ops.cc:330] The calling iterator did not fully read the dataset.
E0000 00:00:1795577692.372045   11380 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error
WARNING:tensorflow:From /v/lib/python3.11/site-packages/a.py:1: f is deprecated and will be removed.
Instructions for updating:
Use eager execution and:
`tf.data.TFRecordDataset(path)`
"""

# As pipeline/run/dag_runner.py and TFX leave it: the error, what it was raised from, and a warning of another thread.
LOG = """\
INFO:absl:Running launcher
Traceback (most recent call last):
  File "/x/old.py", line 1, in old
    old()
ValueError: an old error, which was handled
INFO:absl:Going on
Traceback (most recent call last):
  File "/home/me/venv/lib/python3.11/site-packages/tfx/launcher.py", line 574, in launch
    executor_output = self._run_executor(execution_info)
                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/home/me/pipeline/trainer/run.py", line 80, in run_fn
    model.fit(data)
  File "/home/me/venv/lib/python3.11/site-packages/keras/fit.py", line 12, in fit
    raise error
RuntimeError: loss is NaN
  after 3 steps

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/home/me/pipeline/pipeline/run/dag_runner.py", line 110, in _run_node
    raise failure from error
pipeline.run.dag_runner.NodeFailedError: Trainer: RuntimeError: loss is NaN
"""


def test_the_log_is_cut_down_to_our_own_frames_and_the_first_error_of_the_last_chain() -> None:
    assert select_lines(LOG) == [
        '  File "/home/me/pipeline/trainer/run.py", line 80, in run_fn',
        "    model.fit(data)",
        "RuntimeError: loss is NaN",
        "  after 3 steps",
    ]


def test_without_a_traceback_the_lines_that_tell_something_are_shown() -> None:
    assert select_lines("starting\nwriting\nOSError: No space left on device\nbye\n") == [
        "OSError: No space left on device"
    ]
    assert select_lines("one\ntwo\n") == ["one", "two"]
    assert select_lines(f"one\n{CHATTER}") == ["one"]
    assert select_lines(CHATTER) == []
    short_of_memory = (
        "W0000 00:00:1795577694.8 1 cpu_allocator.cc:82] Allocation of 8 exceeds 10% of free system memory."
    )
    assert select_lines(f"{short_of_memory}\n{CHATTER}") == [short_of_memory]
    assert select_lines("") == []


def test_frames_that_are_not_our_own_are_left_out_and_paths_are_those_of_the_checkout() -> None:
    def traceback(*paths: object) -> str:
        frames = "".join(f'  File "{path}", line 1, in f\n    f()\n' for path in paths)
        return f"Traceback (most recent call last):\n{frames}ValueError: x\n"

    driving = (ROOT / "pipeline" / "run" / "local.py", ROOT / "pipeline" / "run" / "dag_runner.py")
    ours = ['  File "components/gate/component.py", line 1, in f', "    f()", "ValueError: x"]
    assert (
        select_lines(
            traceback(*driving, "/tmp/__autograph_generated_file1.py", ROOT / "components" / "gate" / "component.py")
        )
        == ours
    )
    assert select_lines(traceback(ROOT / "other.py"))[0] == '  File "other.py", line 1, in f'
    theirs = select_lines(traceback("/v/lib/python3.11/site-packages/tfx/a.py", "/v/lib/python3.11/json/b.py"))
    assert theirs[::2] == ['  File "tfx/a.py", line 1, in f', '  File "json/b.py", line 1, in f', "ValueError: x"]


def test_never_more_than_fifteen_lines() -> None:
    frames = "".join(f'  File "/home/me/a.py", line {n}, in f\n    f()\n' for n in range(50))
    lines = select_lines(f"Traceback (most recent call last):\n{frames}E: {'x' * 10_000}\n" + "more\n" * 50)
    assert len(lines) == 14
    assert max(map(len, lines)) == 240


def test_a_failed_run_has_node_cause_lines_and_advice(runs: Runs, document: Document, oncall: Oncall) -> None:
    runs.run(GOOD)
    runs.run(BAD, fails=("Trainer", "Trainer: RuntimeError: loss is NaN", 1), log=LOG)
    cause = document("why", "latest")
    assert (cause["state"], cause["node"], cause["exit_code"]) == ("FAILED", "Trainer", 1)
    assert cause["cause"] == "Trainer: RuntimeError: loss is NaN"
    assert "RuntimeError: loss is NaN" in cause["lines"]
    assert cause["try"][0].startswith(f"python -m oncall diff {GOOD} {BAD} --run-root {runs.root.path}")
    result = oncall("why", "latest")
    assert result.exit_code == 0
    assert "cause      Trainer: RuntimeError: loss is NaN" in result.output


def test_the_lines_are_those_of_the_node_that_failed(runs: Runs, document: Document) -> None:
    runs.run(BAD, fails=("Gate", "no", 3), log="DataError: no\n")
    log = runs.root.locate_log(BAD)
    log.write_text("ValueError: of an earlier node\n" + log.read_text())
    record = runs.root.locate_record(BAD)
    moved = record.read_text().replace('"log_from": 9', '"log_from": 40')
    record.write_text(moved)
    assert document("why", BAD)["lines"] == ["DataError: no"]


@pytest.mark.parametrize(
    ("exit_code", "error", "expected"),
    [
        (3, "the data does not fit", "python -m oncall anomalies "),
        (4, "the model missed a threshold", "python -m oncall serving "),
        (5, "version 1 exists already", "python -m oncall serving "),
        (1, "Trainer: OSError: No space left on device", "python -m oncall doctor "),
        (1, "Trainer: ResourceExhaustedError: OOM", "free -h "),
        (1, "Trainer: ValueError: x", "python -m oncall log "),
    ],
)
def test_what_to_try_depends_on_the_kind_of_error(
    exit_code: int, error: str, expected: str, runs: Runs, document: Document
) -> None:
    runs.run(BAD, fails=("Trainer", error, exit_code))
    assert document("why", BAD)["try"][0].startswith(expected)


def test_a_model_that_was_not_blessed_says_which_thresholds_it_missed(
    runs: Runs, document: Document, oncall: Oncall
) -> None:
    runs.run(BAD, fails=("InfraValidator", "the model missed a threshold", 4))
    assert document("why", BAD)["missed"] == ["auc 0.9000; at least 0.95 expected"]
    assert document("why", BAD)["decision"].startswith("threshold 0.17 (")
    assert document("why", BAD)["warned"] == ["brier on sex=Male: undefined"]
    output = oncall("why", BAD).output
    assert "missed     auc 0.9000; at least 0.95 expected" in output
    assert "warned     brier on sex=Male: undefined" in output
    runs.root.metadata.unlink()
    assert (document("why", BAD)["missed"], document("why", BAD)["warned"]) == ([], [])


def test_a_crash_says_where_and_that_it_can_be_resumed(runs: Runs, document: Document) -> None:
    runs.run(BAD, crashes_in="Trainer", log="step 100\n")
    cause = document("why", BAD)
    assert (cause["state"], cause["node"], cause["lines"]) == ("CRASHED", "Trainer", ["step 100"])
    assert cause["try"][0].startswith(f"python -m oncall resume {BAD} ")


def test_a_run_that_succeeded_has_nothing_wrong(runs: Runs, document: Document) -> None:
    runs.run(GOOD)
    cause = document("why", GOOD)
    assert (cause["cause"], cause["node"], cause["lines"]) == ("nothing went wrong", None, [])


def test_a_log_that_is_gone_is_said(runs: Runs, oncall: Oncall) -> None:
    runs.run(BAD, fails=("Gate", "no", 3))
    runs.root.locate_log(BAD).unlink()
    assert "cannot be read: No such file or directory" in oncall("why", BAD).output


def test_a_run_without_a_record_says_what_ml_metadata_knows(runs: Runs, document: Document) -> None:
    runs.run(BAD, crashes_in="Gate", on_record=False)
    cause = document("why", "latest")
    assert cause["state"] == "UNKNOWN"
    assert "5 COMPLETE, 1 RUNNING" in cause["cause"]
