"""TFX's Evaluator for a model that a `run_fn` of the user's own has exported, with this project's summary beside it.

TFMA calls the signature that `evaluation.model_spec` names. There is no constant predictor, since nothing is known of
what the model predicts.
"""

import os
from typing import Any

from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components.evaluator import constants, executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from components.config import Evaluation, TfmaMetric
from components.evaluator import component
from components.evaluator.baseline import PIPELINE_PROPERTY
from components.evaluator.evaluation import add_thresholds, slicing_specs, summarize_tfma
from components.evaluator.tfma_metrics import metric_config

_ALWAYS = TfmaMetric(class_name="ExampleCount")


class SummarizingExecutor(executor.Executor):
    """Evaluates and blesses as stock Evaluator does, and writes the summary."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write TFMA's results, the summary and golden requests to `evaluation`, and the verdict to `blessing`.

        TFMA would fail all thresholds on slices that are too small; here they are neither judged nor reported.
        """
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties["eval_config"], config)
        min_rows = config.options.min_slice_size.value
        config.options.ClearField("min_slice_size")
        super().Do(input_dict, output_dict, {**exec_properties, "eval_config": proto_utils.proto_to_json(config)})
        evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
        summary = summarize_tfma(evaluation.uri, min_rows=min_rows)
        summary.write(evaluation.uri)
        component.write_golden_of_any(input_dict, output_dict, exec_properties)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        _bless(blessing, blessed=not summary.failures)
        blessing.set_string_custom_property(PIPELINE_PROPERTY, exec_properties["pipeline"])


def _bless(blessing: types.Artifact, *, blessed: bool) -> None:
    """Replace the verdict of stock Evaluator."""
    for name in (constants.BLESSED_FILE_NAME, constants.NOT_BLESSED_FILE_NAME):
        path = os.path.join(blessing.uri, name)
        if fileio.exists(path):
            fileio.remove(path)
    value = constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    with fileio.open(os.path.join(blessing.uri, name), "w") as file:
        file.write("")


class Evaluator(component.Evaluator):
    """Evaluator with an `eval_config`, judged by the rows of each slice."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(SummarizingExecutor)


def own_eval_config(evaluation: Evaluation, label: str) -> config_pb2.EvalConfig:
    """Return TFMA's config for a model of the user's own.

    Args:
      evaluation: Section of the config.
      label: Column of the label, unless `evaluation.model_spec` names another.
    """
    spec = evaluation.model_spec
    fields = {**spec.model_dump(exclude_none=True), "label_key": spec.label_key or label}
    metrics = []
    for metric in (_ALWAYS, *evaluation.tfma_metrics):
        metrics.append(metric_config(metric, is_batched=False))
        add_thresholds(metrics[-1], metric.name, evaluation)
    return config_pb2.EvalConfig(
        # TFMA adds the baseline where there is one, and names both.
        model_specs=[config_pb2.ModelSpec(**fields)],
        slicing_specs=slicing_specs(evaluation),
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
        options=config_pb2.Options(min_slice_size={"value": evaluation.min_rows_per_slice}),
    )
