"""Progress is reported only on long work."""

import pytest

from pipeline.init import progress
from pipeline.init.progress import ProgressLines


def test_a_line_comes_only_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines: list[str] = []
    reporter = ProgressLines(lines.append)
    for second in range(13):
        now = float(second)
        reporter.report_step(f"second {second}")
    assert lines == ["second 5", "second 10"]
