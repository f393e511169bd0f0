"""What a user may choose about the model and its training. Imports no TensorFlow."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from schemas.declaration import Declaration
from schemas.features import LabelKind

Activation = Literal["relu", "leaky_relu", "prelu", "elu", "gelu", "softplus", "sigmoid", "tanh"]
OptimizerName = Literal["sgd", "momentum", "adam", "adamw", "adagrad", "adadelta", "ftrl"]
ScheduleName = Literal["constant", "cosine", "exponential"]
Share = Annotated[float, Field(ge=0, lt=1)]
WatchedMetric = Literal["log_loss", "auc", "accuracy", "rmse", "mae"]
# What is measured on `eval` after each epoch; the first is watched unless another is named.
WATCHED_METRICS: Mapping[LabelKind, tuple[WatchedMetric, ...]] = {
    "binary": ("log_loss", "auc"),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("rmse", "mae"),
}


class Optimizer(Declaration):
    """One optimizer and its learning rate over time."""

    name: OptimizerName
    learning_rate: PositiveFloat
    schedule: ScheduleName = "constant"
    """`cosine` falls to zero over all epochs; `exponential` falls to a hundredth over all epochs."""
    warmup_share: Share = 0.0
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
    def _one_clip(self) -> "Optimizer":
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("give clip_norm or clip_value, not both")
        return self


class Model(Declaration):
    """The shape of the network (Cheng et al. 2016, https://arxiv.org/abs/1606.07792)."""

    parts: Literal["wide_and_deep", "wide", "deep"] = "wide_and_deep"
    hidden_units: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (128, 64)
    """The width of each hidden layer of the deep part, from the input on."""
    activation: Activation = "relu"
    batch_norm: bool = True
    """Normalises each hidden layer's inputs to its activation over the batch."""
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


class EarlyStopping(Declaration):
    """Stops when the `eval` split no longer improves, and keeps the best epoch's weights."""

    metric: WatchedMetric | None = None
    """`log_loss` or `auc` for a binary label, `log_loss` or `accuracy` for a multiclass one, `rmse` or `mae` for
    regression. Left out, the first of them."""
    patience: NonNegativeInt
    """How many epochs without improvement are waited for."""


class Training(Declaration):
    """How the model is fitted to the `train` split; `eval` is watched, `test` is never read."""

    epochs: PositiveInt
    batch_size: PositiveInt = 256
    wide_optimizer: Optimizer = Optimizer(name="ftrl", learning_rate=0.1)
    deep_optimizer: Optimizer = Optimizer(name="adam", learning_rate=0.002, schedule="cosine")
    early_stopping: EarlyStopping | None = None
    imbalance: Literal["none", "class_weights", "oversample"] = "none"
    """`class_weights` weighs all classes alike in the loss; `oversample` repeats the rarer classes.
    Both make predicted probabilities too high for the rarer classes; calibration will say so."""
