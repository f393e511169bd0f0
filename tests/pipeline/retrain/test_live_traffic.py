"""Live traffic is a reason to retrain only where the on-call commands judge it so."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

from cli.errors import DataError
from pipeline.config import pipeline_config
from pipeline.retrain.live_traffic import judge_drift, judge_live_quality
from tests.conftest import CENSUS_CONFIG
from tests.oncall.run_roots import Runs
from tests.oncall.test_outcomes import write_version
from tests.oncall.traffic_logs import replace, rows_of_test, train, write_log
from tests.serving.outcomes.logs import join_labels, write_model

# On-call commands, each in a process of its own.
pytestmark = pytest.mark.integration

CONFIG = pipeline_config.load(str(CENSUS_CONFIG), ["retrain={drift: true, live_quality: true}"])


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs" / "census-income")


@pytest.fixture
def drift(runs: Runs, tmp_path: Path) -> Callable[[], tuple[bool, str]]:
    train(runs.run("20260101T000000.000000"))
    return lambda: judge_drift(CONFIG, runs.root, tmp_path / "log", 1)


def test_only_a_finding_is_drift(drift: Callable[[], tuple[bool, str]], tmp_path: Path) -> None:
    rows = rows_of_test(1000)
    write_log(tmp_path / "log", rows.slice(0, 20))
    holds, text = drift()
    assert (holds, "20 rows of version 1" in text, "nothing is judged below" in text) == (False, True, True)
    hours = pc.multiply(rows.column("hours_per_week"), 4)
    write_log(tmp_path / "log", replace(rows, "hours_per_week", hours), name="2")
    holds, text = drift()
    assert holds
    assert "hours_per_week differs from the training data; hours_per_week: " in text


def test_a_log_that_cannot_be_read_is_no_reason(drift: Callable[[], tuple[bool, str]], tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "requests-1.parquet").write_text("no shard")
    with pytest.raises(DataError, match=r"^retrain: traffic cannot be judged, so nothing is retrained: .*not a shard"):
        drift()


@pytest.mark.parametrize(("shuffled", "holds"), [(0.0, False), (0.3, True)])
def test_worse_outcomes_are_a_reason(runs: Runs, tmp_path: Path, shuffled: float, *, holds: bool) -> None:
    write_model(tmp_path)
    runs.run("run-1", auc=0.92)
    log = tmp_path / "log"
    labels = write_version(tmp_path, 1, shuffled)
    assert judge_live_quality(CONFIG, runs.root, log, 1) == (False, f"{log}: no labels were joined yet")
    join_labels(tmp_path, labels)
    judged, text = judge_live_quality(CONFIG, runs.root, log, 1)
    assert judged is holds
    if holds:
        assert text.startswith("version 1; live AUC 0.8")
    else:
        assert text == "version 1 is not significantly worse; 1,200 predictions have a label"
