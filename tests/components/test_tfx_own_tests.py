"""TFX's own executor tests, from the installed package, with the executors of this project in the place of its own.

docs/how-to/components.md lists the tests that TFX itself does not run.
"""

import pytest
from tfx.components.evaluator import executor as evaluator
from tfx.components.evaluator import executor_test as evaluator_tests
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.components.statistics_gen import executor_test as statistics_gen_tests
from tfx.components.transform import executor as transform
from tfx.components.transform import executor_test as transform_tests

from components.evaluator.component import BatchedExecutor as EvaluatorExecutor
from components.statistics_gen.component import StatisticsExecutor
from components.transform.component import BatchedExecutor as TransformExecutor

# `slow`, so that this file, the longest of the proofs, is among the first.
pytestmark = [pytest.mark.proof, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class TestStatisticsGen(statistics_gen_tests.ExecutorTest):
    @pytest.fixture(autouse=True)
    def _replace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(statistics_gen, "Executor", StatisticsExecutor)


class TestEvaluator(evaluator_tests.ExecutorTest):
    @pytest.fixture(autouse=True)
    def _replace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluator, "Executor", EvaluatorExecutor)


class TestTransform(transform_tests.ExecutorTest):
    @pytest.fixture(autouse=True)
    def _replace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transform, "Executor", TransformExecutor)
