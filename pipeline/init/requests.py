"""The choices that a user makes beforehand, as flags of `init`."""

from dataclasses import dataclass

from schemas.features import LabelKind


@dataclass(frozen=True)
class Requests:
    """What a user asks `init` for.

    Attributes:
      label: Column to predict.
      kind: Kind of the label; None to decide by evidence.
      keep: Columns that are features whatever speaks against it.
      drop: Columns that are left out.
      group: Column whose rows stay in one split.
      time: Column by which the splits are made.
      missing_values: Strings that stand for a missing value, beside those that are found.
    """

    label: str
    kind: LabelKind | None = None
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    missing_values: tuple[str, ...] = ()
