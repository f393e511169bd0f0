"""The hyper-parameters that a search tries if the config names none. Imports no TensorFlow."""

from collections.abc import Mapping
from typing import Any

from schemas.features import FeatureSet
from trainer.config import Choices, Model, Range, Search, Training

Space = Mapping[str, Choices | Range]

# The weights of the last blessed model fit one shape and one meaning of the outputs.
_FIXED_BY_WARM_START = frozenset(
    {"model.hidden_units", "model.normalization", "model.members", "model.number_encoding", "model.label_scale"}
)


def choose_space(search: Search, features: FeatureSet, model: Model, training: Training, *, is_own: bool) -> Space:
    """Return the values that a search tries, by path.

    Those that the config does not name include its own values.

    Args:
      search: Settings of the search.
      features: Declaration of the features and of the label.
      model: Shape of the network.
      training: Options of the training.
      is_own: Whether the network is built by the user's own code, which need not use the options of the shape.
    """
    if search.parameters is not None:
        return search.parameters
    space: dict[str, Choices | Range] = dict(_TRAINING)
    if features.label.kind != "regression":
        space["training.label_smoothing"] = Range(low=0.0, high=0.1)
    if not is_own:
        space |= _choose_shape(features, model)
        if features.label.kind == "regression":
            space |= _REGRESSION
    left_out = set(_FIXED_BY_WARM_START) if training.warm_start else set()
    if model.architecture != "wide_and_deep" and not is_own:
        left_out.add(f"training.{'wide' if model.architecture == 'deep' else 'deep'}_optimizer.learning_rate")
    return {
        path: _include(values, get_value(path, model, training))
        for path, values in space.items()
        if path not in left_out
    }


_TRAINING: Space = {
    "training.deep_optimizer.learning_rate": Range(low=0.0003, high=0.01, log=True),
    "training.wide_optimizer.learning_rate": Range(low=0.005, high=0.2, log=True),
    "training.ema_momentum": Choices(choices=(0.0, 0.99)),
}
_DEEP: Space = {
    "model.hidden_units": Choices(choices=([64, 32], [128, 64], [256, 256])),
    "model.dropout": Range(low=0.0, high=0.5),
    "model.embedding_dropout": Range(low=0.0, high=0.3),
    "model.normalization": Choices(choices=("batch", "layer", "none")),
    "model.members": Choices(choices=(1, 8)),
}
_NUMBERS: Space = {
    "model.number_encoding": Choices(choices=("number", "piecewise_linear")),
    "model.squash": Choices(choices=(None, 3.0)),
}
_REGRESSION: Space = {"model.label_scale": Choices(choices=("z_score", "log_z_score", "quantile"))}


def _choose_shape(features: FeatureSet, model: Model) -> Space:
    if model.architecture == "wide":
        return {}
    has_numbers = any(column.encoding is None for column in features.number_columns)
    return {**_DEEP, **(_NUMBERS if has_numbers else {})}


def get_value(path: str, model: Model, training: Training) -> Any:
    """Return the value of a path such as `model.dropout`, as JSON has it."""
    value: Any = {"model": model.model_dump(mode="json"), "training": training.model_dump(mode="json")}
    for key in path.split("."):
        value = value[key]
    return value


def _include(values: Choices | Range, value: Any) -> Choices | Range:
    match values:
        case Choices(choices=choices):
            return values if value in choices else Choices(choices=(value, *choices))
        case Range(low=low, high=high):
            return values.model_copy(update={"low": min(low, value), "high": max(high, value)})
