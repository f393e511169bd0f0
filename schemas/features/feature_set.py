"""The features of one pipeline together."""

from collections import Counter
from typing import Annotated

from pydantic import Field, model_validator

from schemas.declaration import Declaration, did_you_mean
from schemas.features.columns import ColumnType, IdColumn, NumberColumn, safe_name
from schemas.features.cross import Cross
from schemas.features.kinds import Feature
from schemas.features.label import Label


class FeatureSet(Declaration):
    """All features, crosses and the label of one pipeline."""

    features: Annotated[dict[str, Feature], Field(min_length=1)]
    crosses: tuple[Cross, ...] = ()
    label: Label

    @model_validator(mode="after")
    def _check_consistent(self) -> "FeatureSet":
        if self.label.column in self.features:
            raise ValueError(f"'{self.label.column}' is the label; it cannot be a feature too")
        for cross in self.crosses:
            for name in cross.features:
                self._check_crossed(cross, name)
        # TensorFlow 2.x rejects a signature whose arguments differ in case only.
        inputs = [safe_name(name).lower() for name in self.features]
        outputs = [*(c.name for c in self.id_columns), *(c.name for c in self.number_columns), self.label.name]
        for title, names in (("inputs of the served model", inputs), ("transformed columns", outputs)):
            repeated = sorted(name for name, count in Counter(names).items() if count > 1)
            if repeated:
                raise ValueError(f"two {title} would both be named {', '.join(map(repr, repeated))}; rename one")
        return self

    def _check_crossed(self, cross: Cross, name: str) -> None:
        feature = self.features.get(name)
        if feature is None:
            hint = did_you_mean(name, list(self.features))
            raise ValueError(f"the cross {cross.name} uses '{name}', which is not a declared feature; {hint}")
        if feature.cross_problem:
            raise ValueError(f"the cross {cross.name} uses '{name}', {feature.cross_problem}")

    def to_model_json(self) -> str:
        """Return the declarations as a model keeps them: without owners and expiry dates, whose changes train none."""
        return self.model_dump_json(exclude={"features": {"__all__": {"owner", "expires"}}})

    @property
    def id_columns(self) -> tuple[IdColumn, ...]:
        """The transformed columns of ids: features in the order of declaration, then crosses."""
        columns = [column for name, feature in self.features.items() for column in feature.id_columns(name)]
        return (*columns, *(cross.id_column(cross.name, cross.num_ids) for cross in self.crosses))

    @property
    def number_columns(self) -> tuple[NumberColumn, ...]:
        """The transformed numeric columns, in the order of declaration."""
        return tuple(column for name, feature in self.features.items() for column in feature.number_columns(name))

    @property
    def column_types(self) -> dict[str, ColumnType]:
        """Raw column names, the label's last, with the type that their values have."""
        types: dict[str, ColumnType] = {name: feature.column_type for name, feature in self.features.items()}
        return {**types, self.label.column: self.label.column_type}
