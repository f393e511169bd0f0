"""The wait after a start and after failures."""

from pathlib import Path

import pytest

from cli.errors import RunRootError
from pipeline.retrain.attempts import Attempt, Attempts, compute_wait, count_failures
from pipeline.retrain.config import Retrain
from pipeline.run.run_root import RunRoot

RETRAIN = Retrain(new_span=True, min_interval_hours=24, max_backoff_days=14)


def attempts(*codes: int | None) -> list[Attempt]:
    return [Attempt(started=float(number), reason="", exit_code=code) for number, code in enumerate(codes, 1)]


def test_the_wait_doubles_with_each_failure_up_to_the_limit() -> None:
    hours = [compute_wait(RETRAIN, failures) / 3600 for failures in (0, 1, 2, 3, 4, 9999)]
    assert hours == [24, 48, 96, 192, 336, 336]
    # An interval that is longer than the limit stays as it is.
    assert compute_wait(Retrain(new_span=True, min_interval_hours=1000), 0) == 3_600_000


@pytest.mark.parametrize(
    ("codes", "succeeded_at", "failures"),
    [
        ((), 0.0, 0),
        ((0,), 0.0, 0),
        ((1, 0, 3, 4), 0.0, 2),
        # One that was killed has no exit code; one that a person ended is none.
        ((0, None, 130), 0.0, 1),
        # A run that a person started has succeeded since.
        ((1, 1, 1), 3.5, 0),
        ((1, 1, 1), 2.5, 1),
    ],
)
def test_failures_count_since_the_last_success(
    codes: tuple[int | None, ...], succeeded_at: float, failures: int
) -> None:
    assert count_failures(attempts(*codes), succeeded_at) == failures


def test_attempts_are_kept_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    assert Attempts.read(root).attempts == []
    Attempts(attempts=attempts(*[1] * 60)).write(root)
    assert len(Attempts.read(root).attempts) == 50
    (tmp_path / "retrain.json").write_text("{")
    with pytest.raises(RunRootError, match=r"retrain\.json: is damaged, .*; restore it, or move it away"):
        Attempts.read(root)
