"""TFX's own executor tests of Transform, from the installed package, with this project's executor.

docs/how-to/components.md lists the tests that do not run.
"""

from typing import Any

import pytest
from tfx.components.transform import executor, executor_test
from tfx.types import standard_component_specs

from components.transform.component import BatchedTransformExecutor
from tests.components.inherited_tests import run_only

# `slow`, so that these files, the longest of the proofs, are among the first.
pytestmark = [pytest.mark.proof, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

_STOCK = executor.Executor
_STOCK_TESTS = {
    "test_do_with_cache_no_1st_input_cache",
    "test_do_with_duplicate_preprocessing_fn",
    "test_do_with_multiple_artifacts_single_output_artifact",
    "test_do_with_no_preprocessing_fn",
    "test_do_with_preprocessing_fn_and_stats_updater_fn",
}
_FAST_TESTS = {
    "test_do_with_custom_splits",
    "test_do_with_empty_analyze_splits",
    "test_do_with_empty_transform_splits",
    "test_do_with_materialization_disabled",
    "test_do_with_module_file",
    "test_do_with_preprocessing_fn",
    "test_do_with_preprocessing_fn_and_none_custom_config",
    "test_do_with_preprocessing_fn_custom_config",
}
_STATISTICS = (
    standard_component_specs.PRE_TRANSFORM_STATS_KEY,
    standard_component_specs.PRE_TRANSFORM_SCHEMA_KEY,
    standard_component_specs.POST_TRANSFORM_ANOMALIES_KEY,
    standard_component_specs.POST_TRANSFORM_STATS_KEY,
    standard_component_specs.POST_TRANSFORM_SCHEMA_KEY,
)


class _Replaced:
    """Replaces the stock executor; no test case itself, whose tests would run."""

    @pytest.fixture(autouse=True)
    def _replace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(executor, "Executor", BatchedTransformExecutor)


@run_only(_STOCK_TESTS)
class TestHandedOver(_Replaced, executor_test.ExecutorTest):
    """Tests with what the fast executor hands over: wrong arguments, statistics, the cache, several artifacts."""


@run_only(_FAST_TESTS)
class TestFast(_Replaced, executor_test.ExecutorTest):
    """Tests of the rest, without statistics and cache, of which the stock executor does nothing."""

    @pytest.fixture(autouse=True)
    def _reject_stock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: Any) -> None:
            raise AssertionError("the stock executor was called")

        monkeypatch.setattr(_STOCK, "Do", fail)

    def _use_force_tf_compat_v1(self) -> bool:
        return False

    def setUp(self) -> None:
        super().setUp()
        self._exec_properties[standard_component_specs.DISABLE_STATISTICS_KEY] = True
        for key in (*_STATISTICS, standard_component_specs.UPDATED_ANALYZER_CACHE_KEY):
            del self._output_dict[key]

    def _verify_transform_outputs(self, **options: Any) -> None:
        super()._verify_transform_outputs(**{**options, "store_cache": False, "disable_statistics": True})
