"""TFX's own executor tests of Evaluator, from the installed package, with this project's executor.

docs/how-to/components.md lists the tests that do not run.
"""

import pytest
from tfx.components.evaluator import executor, executor_test

from components.evaluator.component import BatchedEvaluatorExecutor
from tests.components.inherited_tests import run_only

# `slow`, so that these files, the longest of the proofs, are among the first.
pytestmark = [pytest.mark.proof, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@run_only(
    {
        "testDoValidationeval_config_w_validation_fail",
        "testDoValidationno_baseline_model_ignore_change_threshold_validation_pass",
        "testEvalutionevaluation_w_module_path",
        "testEvalutionmodel_agnostic_evaluation",
    }
)
class TestEvaluator(executor_test.ExecutorTest):
    @pytest.fixture(autouse=True)
    def _replace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(executor, "Executor", BatchedEvaluatorExecutor)
