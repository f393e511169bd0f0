"""What a user may choose about data, evaluation and push. Imports no TensorFlow and no TFX."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Discriminator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, Tag, model_validator

from schemas.declaration import Declaration, did_you_mean

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,127}$")]
SplitName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
MetricName = Literal["auc", "pr_auc", "log_loss", "accuracy", "precision", "recall", "calibration", "example_count"]
TRAIN_SPLIT, EVAL_SPLIT = "train", "eval"
# The share of a split that an inferred schema wants in the categories of `train`.
INFERRED_MIN_DOMAIN_MASS = 0.99


class FileSplit(Declaration):
    """A split that is read from files."""

    files: str
    """A path or glob pattern below `data.base`; `.gz` files are decompressed."""


class HashSplit(Declaration):
    """A split that takes a share of another's rows, chosen by a hash of the row's content."""

    share_of: SplitName
    """The split whose rows are shared out; the rows taken are no longer in it."""
    share: Annotated[float, Field(gt=0, lt=1)]
    """The share of the rows. The same row always falls on the same side, whatever file it is in."""


def _split_kind(split: object) -> str:
    return (
        "by hash" if isinstance(split, HashSplit) or (isinstance(split, dict) and "share_of" in split) else "by files"
    )


Split = Annotated[
    Annotated[FileSplit, Tag("by files")] | Annotated[HashSplit, Tag("by hash")], Discriminator(_split_kind)
]


class Data(Declaration):
    """Where the rows are, and how they are divided."""

    format: Literal["csv"] = "csv"
    base: str
    """The folder of the data; relative to the config's own folder."""
    splits: dict[SplitName, Split]
    """`train` and `eval` are required: fitting reads `train`, early stopping watches `eval`."""
    missing_values: tuple[str, ...] = ("",)
    """What stands for a missing value in the files."""
    ignored_columns: tuple[str, ...] = ()
    """Columns of the files that are not read; any other undeclared column is refused."""
    schema_file: str | None = None
    """A curated schema (text format); relative to the config's own folder. Left out, one is inferred from
    `train`: a value that is missing undeclared stops the run, and so do categories that `train` does not have, once
    they are more than 1% of a split; numbers may be any."""

    @model_validator(mode="after")
    def _splits_fit(self) -> "Data":
        for needed in (TRAIN_SPLIT, EVAL_SPLIT):
            if needed not in self.splits:
                raise ValueError(f"splits needs '{needed}'; found: {', '.join(self.splits) or 'none'}")
        for name, split in self.splits.items():
            if isinstance(split, HashSplit):
                self._check_share(name, split)
            elif ".." in PurePosixPath(split.files).parts or PurePosixPath(split.files).is_absolute():
                raise ValueError(f"splits.{name}.files: '{split.files}' must lie below data.base")
        return self

    def _check_share(self, name: str, split: HashSplit) -> None:
        if not isinstance(self.splits.get(split.share_of), FileSplit):
            files = [n for n, s in self.splits.items() if isinstance(s, FileSplit)]
            hint = did_you_mean(split.share_of, files)
            raise ValueError(f"splits.{name}.share_of: '{split.share_of}' is not a split read from files; {hint}")
        total = sum(s.share for s in self.splits.values() if isinstance(s, HashSplit) and s.share_of == split.share_of)
        if total >= 1:
            raise ValueError(f"the shares of '{split.share_of}' add up to {total:g}; they must leave it some rows")


class Threshold(Declaration):
    """A bound on a metric that a model must keep to be blessed."""

    metric: MetricName
    at_least: float | None = None
    at_most: float | None = None
    slice_by: tuple[str, ...] = ()
    """Columns; every slice of them with at least `evaluation.min_examples` rows must keep the bound. Left out, the
    bound is on all rows together."""

    @model_validator(mode="after")
    def _bounded(self) -> "Threshold":
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least or at_most, or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least: {self.at_least} is above at_most: {self.at_most}")
        return self


class ChangeThreshold(Declaration):
    """How much worse than the last blessed model a metric may be, on the same rows."""

    metric: Literal["auc", "pr_auc", "log_loss", "accuracy", "precision", "recall"]
    may_worsen_by: NonNegativeFloat
    """In the metric's own unit, in its bad direction; 0 asks for a model that is no worse."""
    slice_by: tuple[str, ...] = ()


class Evaluation(Declaration):
    """What is measured, for whom, and what a model must reach to be pushed."""

    split: SplitName = "test"
    """The split that is evaluated. It is best one that nothing else reads."""
    slice_by: tuple[tuple[str, ...], ...] = ()
    """Columns, or combinations of columns, whose values are reported one by one."""
    min_examples: PositiveInt = 100
    """A slice with fewer rows is neither reported nor judged: its metrics would be noise."""
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)] = (
        "auc",
        "pr_auc",
        "log_loss",
        "accuracy",
        "precision",
        "recall",
        "calibration",
        "example_count",
    )
    thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)]
    """At least one: a pipeline without a bound would push anything."""
    compared_with_last_blessed: tuple[ChangeThreshold, ...] = ()

    @model_validator(mode="after")
    def _metrics_known(self) -> "Evaluation":
        bounds: tuple[Threshold | ChangeThreshold, ...] = (*self.thresholds, *self.compared_with_last_blessed)
        for bound in bounds:
            if bound.metric not in self.metrics:
                raise ValueError(
                    f"a threshold is on '{bound.metric}', which is not in metrics: {', '.join(self.metrics)}"
                )
            if bound.slice_by and bound.slice_by not in self.slice_by:
                raise ValueError(f"a threshold is on slices by {list(bound.slice_by)}, which is not in slice_by")
        return self


class Push(Declaration):
    """Where a blessed model goes."""

    model_name: Name
    """The folder below the registry; one pipeline owns it."""
    registry: str | None = None
    """The registry's folder; relative to the config's own folder. Left out, `registry` below the run root."""
    version: NonNegativeInt | None = None
    """The version to push as, refused if it exists. Left out, one more than the highest there."""
