"""Options of the model and its training. Imports no TensorFlow."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from schemas.data import ReadOptions
from schemas.decision import DecisionCosts
from schemas.declaration import Declaration
from schemas.features import FeatureSet, LabelKind, NumberEncoding
from schemas.metrics import METRICS, WatchedMetricName, describe_watchable, list_watchable
from schemas.user_code import UserCode

Activation = Literal["relu", "leaky_relu", "prelu", "elu", "gelu", "softplus", "sigmoid", "tanh"]
OptimizerName = Literal["sgd", "momentum", "adam", "adamw", "adagrad", "adadelta", "ftrl"]
ScheduleName = Literal["constant", "cosine", "exponential"]
Share = Annotated[float, Field(ge=0, lt=1)]
Normalization = Literal["batch", "batch_renorm", "layer", "none"]
Calibration = Literal["none", "temperature", "mean"]
LabelScale = Literal["z_score", "log_z_score", "quantile"]
Precision = Literal["float32", "mixed_bfloat16"]
# Path of the number of epochs, which a search may vary.
EPOCHS = "training.epochs"


class Optimizer(Declaration):
    """One optimizer and its learning rate over time."""

    name: OptimizerName
    learning_rate: PositiveFloat
    schedule: ScheduleName = "constant"
    """`cosine` falls to zero over all epochs; `exponential` falls to a hundredth over all epochs."""
    warmup_fraction: Share = 0.0
    """The share of all steps over which the learning rate first rises from zero."""
    momentum: Share = 0.9
    """Used by `momentum` only."""
    weight_decay: NonNegativeFloat = 0.004
    """Used by `adamw` only."""
    l1: NonNegativeFloat = 0.0
    """Used by `ftrl` only: pulls weights to exactly zero."""
    l2: NonNegativeFloat = 0.0
    """Used by `ftrl` only."""
    clip_norm: PositiveFloat | None = None
    """Scales all gradients of a step down together so that their global norm is at most this."""
    clip_value: PositiveFloat | None = None
    """Clips each gradient element to plus or minus this."""

    @model_validator(mode="after")
    def _check_clips(self) -> "Optimizer":
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("give clip_norm or clip_value, not both")
        return self


class PiecewiseLinearSize(Declaration):
    """Size of the piecewise-linear encoding of a number (Gorishniy et al. 2022, https://arxiv.org/abs/2203.05556)."""

    bins: Annotated[int, Field(ge=2)] = 32
    """Number of bins. Their edges are quantiles of `train`; a value that fills a bin by itself is an edge."""
    dimension: PositiveInt = 8
    """Length of the vector that the deep part gets for a number."""


class Model(Declaration):
    """The shape of the network (Cheng et al. 2016, https://arxiv.org/abs/1606.07792), or a model of your own."""

    module: str | None = None
    """Code with a TFX `run_fn(fn_args)`, or with a `build_model(features, config)` that returns a Keras model. It is a
    Python file, relative to the config's own folder, or the dotted path of an installed module. `:NAME` behind it names
    another function. If omitted, `trainer.model.build_model`. docs/how-to/own-model.md"""
    custom_config: dict[str, Any] = Field(default_factory=dict)
    """Further values that a `run_fn` finds in `fn_args.custom_config`."""
    architecture: Literal["wide_and_deep", "wide", "deep"] = "wide_and_deep"
    hidden_units: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (128, 64)
    """The width of each hidden layer of the deep part, from the input on."""
    activation: Activation = "relu"
    normalization: Normalization = "batch"
    """Normalizes the inputs of each hidden layer's activation: in training over the batch (Ioffe and Szegedy 2015), in
    serving over the rows of `train`. `batch_renorm` corrects the mean and the deviation of each batch towards those of
    all rows (Ioffe 2017, r_max 3 and d_max 5); it is for batches of few rows. `layer` normalizes each row over the
    units of the layer (Ba et al. 2016). `none` keeps the size of the inputs, which a regression may need."""
    dropout: Share = 0.0
    """The share of each hidden layer's outputs dropped while training."""
    l1: NonNegativeFloat = 0.0
    """Penalty on the absolute values of the deep part's kernels."""
    l2: NonNegativeFloat = 0.0
    """Penalty on the squares of the deep part's kernels."""
    embedding_l2: NonNegativeFloat = 0.0
    """Penalty on the squares of the deep part's embedding vectors."""
    embedding_dropout: Share = 0.0
    """The share of the deep part's inputs dropped while training."""
    number_encoding: NumberEncoding = "number"
    """How the deep part gets scaled numbers, unless `encoding` of a feature differs."""
    piecewise_linear: PiecewiseLinearSize = PiecewiseLinearSize()
    """Size of the encoding of numbers with `piecewise_linear`."""
    squash: PositiveFloat | None = None
    """Bounds scaled numbers x by x / sqrt(1 + (x / squash)^2), so that no outlier dominates. If omitted, they are used
    as they are."""
    members: Annotated[int, Field(ge=1, le=64)] = 1
    """The number of networks that share their layers and differ in the scales of their inputs and in their last layer
    (TabM-mini, Gorishniy et al. 2025, https://arxiv.org/abs/2410.24210). The prediction is their mean. Each multiplies
    the work of the hidden layers."""
    label_scale: LabelScale = "z_score"
    """The numbers that a regression learns. `z_score` is the label in standard deviations from the mean, which
    predicts means. `log_z_score` is the z-score of sign(y) * log(1 + |y|), for a label with a long tail, and predicts
    medians rather than means. `quantile` is the normal distribution's value at the label's rank in `train`."""
    clip_predictions: bool = False
    """Whether predictions of a regression are kept between the least and the greatest label of `train`."""


class EarlyStopping(Declaration):
    """Stops when the `eval` split no longer improves, and keeps the best epoch's weights."""

    metric: WatchedMetricName | None = Field(
        None, description=f"{describe_watchable()}. If omitted, the first of them."
    )
    patience: NonNegativeInt
    """Number of epochs without improvement after which the training stops."""


class Choices(Declaration):
    """One of several values."""

    choices: Annotated[tuple[Any, ...], Field(min_length=2)]
    """Any values of the key: numbers, strings, lists."""


class Range(Declaration):
    """A number between two others, both included; whole numbers if both are."""

    low: int | float
    high: int | float
    step: PositiveInt | PositiveFloat | None = None
    """If omitted, 1 for whole numbers and any for others."""
    log: bool = False
    """Whether small values are as likely as large ones, as fits learning rates."""

    @model_validator(mode="after")
    def _check_ascending(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low: {self.low} is not below high: {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must start above 0, not at {self.low}")
        if self.log and self.step is not None:
            raise ValueError("give step or log, not both")
        return self


class Search(Declaration):
    """A search for hyper-parameters: trains with many sets of values, and continues with the best ones on `eval`."""

    minutes: PositiveFloat | None = None
    """Budget of the search. A trial that is not finished by then is stopped and does not count. How many trials fit
    depends on the machine; their values depend on the seed and on the scores before. If omitted, `max_trials`."""
    max_trials: Annotated[int, Field(ge=2)] = 100
    """Number of trials at most. The first has the values of this file, if they are in the space."""
    algorithm: Literal["random", "bayesian", "hyperband"] = "bayesian"
    """`bayesian` starts like `random`, with two trials more than there are parameters. It then chooses the values that
    a Gaussian process of the scores so far prefers. `hyperband` trains many random values for a few epochs, and the
    best third of them three times as long, up to `training.epochs` (Li et al. 2018, https://arxiv.org/abs/1603.06560).
    With fewer than 3 epochs it is `random`."""
    metric: WatchedMetricName | None = None
    """Metric of the best epoch on `eval`. If omitted, the metric that early stopping watches."""
    parameters: Annotated[dict[str, Choices | Range], Field(min_length=1)] | None = None
    """Values by path in this file, such as `model.dropout: {low: 0.0, high: 0.5}` or `model.hidden_units: {choices:
    [[64], [128, 64]]}`; keys of `model` and `training` may be searched. If omitted, a space for the kind of label:
    docs/running.md#search."""

    @model_validator(mode="after")
    def _check_epochs(self) -> "Search":
        if self.algorithm == "hyperband" and EPOCHS in (self.parameters or {}):
            raise ValueError(f"parameters: hyperband chooses {EPOCHS} itself; remove it, or use another algorithm")
        return self


class GpuOptions(Declaration):
    """Options that differ where TensorFlow finds a GPU. A step takes it little longer for many times the rows."""

    batch_size: PositiveInt | None = None
    """Defaults to `training.batch_size`."""
    learning_rate_factor: PositiveFloat = 1.0
    """Factor of the learning rates of both optimizers: larger batches want larger ones."""
    precision: Precision = "float32"
    """`mixed_bfloat16` computes the hidden layers in bfloat16, for NVIDIA's Ampere and newer; weights, logits and the
    model that is saved stay float32 (https://www.tensorflow.org/guide/mixed_precision)."""


class Training(Declaration):
    """How the model is fitted to the `train` split; `eval` is watched, `test` is never read."""

    epochs: PositiveInt
    batch_size: PositiveInt = 256
    train_steps: PositiveInt | None = None
    """Value of `fn_args.train_steps` for a `run_fn` of your own."""
    eval_steps: PositiveInt | None = None
    """Value of `fn_args.eval_steps` for a `run_fn` of your own."""
    wide_optimizer: Optimizer = Optimizer(name="ftrl", learning_rate=0.1)
    deep_optimizer: Optimizer = Optimizer(name="adam", learning_rate=0.002, schedule="cosine")
    early_stopping: EarlyStopping | None = None
    ema_momentum: Share = 0.0
    """Decay of the exponential moving average of the weights, which is evaluated and served; 0 uses the weights of the
    last step. It is at most (1 + step) / (10 + step), so that the first steps are soon forgotten."""
    label_smoothing: Share = 0.0
    """The share of a label's probability that is spread over all classes while training."""
    calibration: Calibration = "none"
    """The number that is fitted after the training. For classes, `temperature` divides the logits by a number between
    0.5 and 2 that is chosen on `eval` (Guo et al. 2017, https://arxiv.org/abs/1706.04599); of few rows it stays near 1.
    For a regression of labels from 0 on, `mean` multiplies the predictions by a number that gives them the mean of the
    labels on rows of `train`. The number is 1 if the error on `eval` is larger with it. Without it, the
    predictions of a label that is learned as a logarithm or by rank are too small (compare Duan 1983, "Smearing
    Estimate")."""
    imbalance: Literal["none", "class_weights", "oversample"] = "none"
    """`class_weights` weighs all classes alike in the loss; `oversample` repeats the rarer classes.
    Both make predicted probabilities too high for the rarer classes; calibration shows it."""
    search: Search | None = None
    """If omitted, the values of this file are used as they are."""
    distribution: Literal["none", "mirrored", "multi_worker"] = "none"
    """`mirrored` divides each batch among this machine's GPUs; `multi_worker` among the machines of
    `vertex.machines.Trainer.replicas`, or by TF_CONFIG. The batch size is that of all together."""
    gpu: GpuOptions | None = None
    """If omitted, a GPU is used like a CPU."""
    warm_start: bool = False
    """Whether the network starts from the weights of the last blessed model. Its features, their vocabularies and the
    shape of the network must be the same; otherwise the run stops."""

    def choose_watched_metric(self, label: LabelKind) -> str:
        """Return the metric by which epochs are compared."""
        stopping = self.early_stopping
        return stopping.metric if stopping is not None and stopping.metric is not None else list_watchable(label)[0]


def find_undefined_metrics(label: LabelKind, class_weights: Mapping[str, float]) -> dict[str, str]:
    """Return the metrics of `list_watchable` that are undefined on a split, with the reason.

    Args:
      label: kind of the label.
      class_weights: sum of the weights of each class in the split; without weights, its rows.
    """
    absent = [name for name, weight in class_weights.items() if not weight]
    return {
        metric: f"undefined on eval, which has no row of class '{absent[0]}'"
        for metric in list_watchable(label)
        if absent and METRICS[metric].needs_both_classes
    }


@dataclass(frozen=True)
class CustomConfig:
    """The `custom_config` that TFX passes to `run_fn` and `tuner_fn`.

    Attributes:
      features: declaration of the features.
      model: shape of the network.
      training: options of the training.
      seed: seed of everything random.
      read_options: options of reading the training data.
      costs: costs of the errors of a binary label; None without declared costs.
      code: code of `model.module` with a `build_model`; None for the built-in network.
    """

    features: FeatureSet
    model: Model
    training: Training
    seed: int
    read_options: ReadOptions
    costs: DecisionCosts | None
    code: UserCode | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "CustomConfig":
        """Parse the values, which are JSON but for the seed."""
        costs = values.get("decision")
        return cls(
            features=FeatureSet.model_validate_json(values["feature_set"]),
            model=Model.model_validate_json(values["model"]),
            training=Training.model_validate_json(values["training"]),
            seed=int(values["seed"]),
            read_options=ReadOptions.model_validate_json(values["read_options"]),
            costs=None if costs is None else DecisionCosts.model_validate_json(costs),
            code=UserCode.from_json(values["user_code"]) if "user_code" in values else None,
        )


def apply_values(model: Model, training: Training, values: Mapping[str, Any]) -> tuple[Model, Training]:
    """Return the two sections with values set by path, such as `model.dropout`.

    Raises:
      ValueError: a path is not in them, or a value does not fit; names the path.
    """
    sections: dict[str, Any] = {"model": model.model_dump(), "training": training.model_dump()}
    for path, value in values.items():
        *parents, last = path.split(".")
        here: Any = sections
        for parent in parents:
            here = here.get(parent) if isinstance(here, dict) else None
        if not parents or not isinstance(here, dict) or last not in here or path.startswith("training.search"):
            raise ValueError(f"'{path}' is not a key of model or training")
        here[last] = value
    try:
        return Model.model_validate(sections["model"]), Training.model_validate(sections["training"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{', '.join(f'{p}: {v}' for p, v in values.items())}: {where}: {first['msg']}") from error


def parse_values(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in keras-tuner's own JSON, by path; choices are JSON strings there, since it has no lists.

    Without those that its Hyperband adds, such as `tuner/epochs`.
    """
    values = {path: value for path, value in hyperparameters["values"].items() if not path.startswith("tuner/")}
    return {path: json.loads(value) if isinstance(value, str) else value for path, value in values.items()}


def format_values(values: Mapping[str, Any]) -> str:
    """Format values by path for people, numbers to four digits."""
    return ", ".join(
        f"{path} {value:.4g}" if isinstance(value, float) else f"{path} {value}" for path, value in values.items()
    )
