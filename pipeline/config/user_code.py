"""The code of the user's own that a config names. Imports no TensorFlow; the user's modules may."""

import importlib

from cli.errors import ConfigError
from cli.terminal import quiet_stderr
from pipeline.config.pipeline_config import PipelineConfig
from schemas.user_code import UserCode, is_run_fn, load_preprocessing_fn, load_training_function

_METRICS_WITHOUT_LABELS = ("ExampleCount", "WeightedExampleCount", "MeanPrediction")
_LOADERS = {"transform.module": load_preprocessing_fn, "model.module": load_training_function}


def read_code(config: PipelineConfig) -> dict[str, UserCode]:
    """Return the code by the key that names it, without running it.

    Raises:
      ConfigError: A file cannot be read, or no such package is installed.
    """
    references = {"transform.module": config.transform.module, "model.module": config.model.module}
    return {key: UserCode.read(key, reference) for key, reference in references.items() if reference is not None}


def describe_code(config: PipelineConfig) -> list[str]:
    """Return how each piece of the user's code travels to Vertex AI and to Dataflow's workers, one line each.

    Raises:
      ConfigError: A file cannot be read, or no such package is installed.
    """
    codes = [*read_code(config).values()]
    codes += [
        UserCode.read("evaluation.metrics", metric.class_name)
        for metric in config.evaluation.tfma_metrics
        if metric.is_own
    ]
    codes += [
        UserCode.read(f"extra_components.{number}", extra.component.rpartition(".")[0])
        for number, extra in enumerate(config.extra_components)
    ]
    runners = {config.beam.runner, *(options.runner for options in config.beam.components.values())}
    places = "vertex.image and in beam.sdk_image or beam.setup_file" if "dataflow" in runners else "vertex.image"
    return [_describe(code, places) for code in codes]


def _describe(code: UserCode, places: str) -> str:
    if code.text is not None:
        return f"{code.key}: the file {code.module} travels in the job, as text"
    package = code.module.partition(".")[0]
    return f"{code.key}: {code.module} does not travel; the package {package} must be in {places}"


def check_code(config: PipelineConfig) -> None:
    """Import the code and check that it has the functions; check that metrics of other classes can be built.

    Raises:
      ConfigError: A module cannot be imported, or has no such function or metric.
    """
    # The user's modules and TFMA import TensorFlow, for these configs only.
    with quiet_stderr():
        for key, code in read_code(config).items():
            _LOADERS[key](code)
        if config.evaluation.tfma_metrics:
            metrics = importlib.import_module("components.evaluator.tfma_metrics")
            metrics.check_metrics(config.evaluation.tfma_metrics, config.feature_set.column_types)
        is_own = has_own_run_fn(config)
    if is_own and config.evaluation.named_metrics:
        names = ", ".join(config.evaluation.named_metrics)
        raise ConfigError(
            f"evaluation.metrics: {names}: measured on models of this project only; for a run_fn of your own name "
            "classes of TFMA, such as BinaryAccuracy"
        )
    if is_own and config.monitoring.request_log is not None:
        raise ConfigError(
            "monitoring.request_log: model.module has a run_fn of your own, whose requests are logged as tensors, "
            "expected a model with declared features; remove it, and name the log in infra_validation.replay.log"
        )
    if is_own:
        _check_label_of_own_model(config)
    if is_own and config.training.search is not None:
        raise ConfigError(
            "training.search: searches values of the built-in training; search inside your run_fn (model.module)"
        )


def _check_label_of_own_model(config: PipelineConfig) -> None:
    """Check that TFMA's metrics get numbers as labels; classes are strings in the examples.

    Raises:
      ConfigError: They would get strings.
    """
    key = config.evaluation.model_spec.label_key or config.label.column
    reading = [
        metric.name
        for metric in config.evaluation.tfma_metrics
        if not metric.is_own and metric.class_name not in _METRICS_WITHOUT_LABELS
    ]
    if reading and key == config.label.column and config.feature_set.label.classes:
        raise ConfigError(
            f"evaluation.model_spec.label_key: '{key}' has strings in the examples, and {', '.join(reading)} takes "
            "numbers; name the label that your preprocessing_fn returns, and the signature that computes it: "
            f"model_spec: {{label_key: {key}_xf, preprocessing_function_names: [transform_features]}}"
        )


def has_own_run_fn(config: PipelineConfig) -> bool:
    """Return whether `model.module` trains and exports the model itself.

    Raises:
      ConfigError: The module cannot be imported, or has no such function.
    """
    code = read_code(config).get("model.module")
    return code is not None and is_run_fn(load_training_function(code))
