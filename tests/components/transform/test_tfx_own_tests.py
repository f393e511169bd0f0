"""TFX's own executor tests of Transform, from the installed package, with this project's executor.

docs/how-to/components.md lists the tests that TFX itself does not run.
"""

import pytest
from tfx.components.transform import executor, executor_test

from components.transform.component import BatchedExecutor

# `slow`, so that these files, the longest of the proofs, are among the first.
pytestmark = [pytest.mark.proof, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class TestTransform(executor_test.ExecutorTest):
    @pytest.fixture(autouse=True)
    def _replace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(executor, "Executor", BatchedExecutor)
