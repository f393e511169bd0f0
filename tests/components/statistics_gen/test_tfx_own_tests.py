"""TFX's own executor tests of StatisticsGen, from the installed package, with this project's executor.

docs/how-to/components.md lists the tests that TFX itself does not run.
"""

import pytest
from tfx.components.statistics_gen import executor, executor_test

from components.statistics_gen.component import StatisticsExecutor

# `slow`, so that these files, the longest of the proofs, are among the first.
pytestmark = [pytest.mark.proof, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class TestStatisticsGen(executor_test.ExecutorTest):
    @pytest.fixture(autouse=True)
    def _replace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(executor, "Executor", StatisticsExecutor)
