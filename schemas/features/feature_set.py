"""The features of one pipeline together."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field, model_validator

from schemas.declaration import Declaration, suggest_name
from schemas.expressions import Expression, ExpressionError, Type
from schemas.features.base import BaseFeature, SharedIds
from schemas.features.columns import ColumnType, IdColumn, NumberColumn, escape_name
from schemas.features.cross import Cross
from schemas.features.derived_column import DerivedColumn
from schemas.features.id_list import IdList
from schemas.features.input import Input
from schemas.features.kinds import Feature
from schemas.features.label import Label
from schemas.features.own_column import OwnColumn

# The types that an expression of a column type may have.
_RESULT_TYPES: Mapping[ColumnType, tuple[Type, ...]] = {
    "float": ("number", "boolean"),
    "int": ("number", "boolean"),
    "string": ("string", "boolean"),
}


class FeatureSet(Declaration):
    """All features, crosses and the label of one pipeline, and the column of the rows' weights if there is one."""

    features: Annotated[dict[str, Feature], Field(min_length=1)]
    crosses: tuple[Cross, ...] = ()
    label: Label
    weight: str | None = None
    own_columns: tuple[OwnColumn, ...] = ()
    """Columns that a `preprocessing_fn` of the user's own returns beside these; set once it has run."""

    @model_validator(mode="after")
    def _check_consistent(self) -> "FeatureSet":
        if self.label.column in self.features:
            raise ValueError(f"'{self.label.column}' is the label; it cannot be a feature too")
        if self.weight is not None and self.weight in (*self.features, self.label.column):
            use = "the label" if self.weight == self.label.column else "a feature"
            raise ValueError(
                f"data.weight_column: '{self.weight}' is {use} too; a weight only scales how much a row counts: remove "
                "one of the two"
            )
        self._check_expressions()
        for cross in self.crosses:
            for name in cross.features:
                self._check_crossed(cross, name)
        self._check_shared()
        # TensorFlow 2.x rejects a signature whose arguments differ in case only.
        inputs = [escape_name(name).lower() for name in self.raw_features]
        outputs = [*(c.name for c in self.id_columns), *(c.name for c in self.number_columns), self.label.name]
        for title, names in (("inputs of the served model", inputs), ("transformed columns", outputs)):
            repeated = sorted(name for name, count in Counter(names).items() if count > 1)
            if repeated:
                raise ValueError(f"two {title} would both be named {', '.join(map(repr, repeated))}; rename one")
        return self

    def _check_expressions(self) -> None:
        used: set[str] = set()
        for name, feature in self.encoded_features.items():
            if feature.expression is None:
                continue
            try:
                expression = self.parse(feature.expression)
            except ExpressionError as error:
                raise ValueError(f"features.{name}.expression: {error}") from error
            if expression.type not in _RESULT_TYPES[feature.column_type]:
                expected = " or ".join(f"a {type_}" for type_ in _RESULT_TYPES[feature.column_type])
                raise ValueError(f"features.{name}.expression: expected {expected}, found a {expression.type}")
            if not expression.columns:
                raise ValueError(f"features.{name}.expression: uses no column, so it is the same in every row")
            used |= {*expression.columns}
        used |= {*self.label.list_inputs(self.expression_types)} if self.label.expression is not None else set()
        for name, feature in self.features.items():
            if name not in used and not feature.expand(name):
                raise ValueError(f"features.{name}: has no parts, and no expression uses it; add parts, or remove it")
            if name not in used and isinstance(feature, Input):
                raise ValueError(f"features.{name}: no expression uses this input; remove it")

    def parse(self, expression: str) -> Expression:
        """Parse an expression over the raw features.

        Raises:
          ExpressionError: It is not in the language, or uses another column.
        """
        return Expression.parse(expression, self.expression_types)

    @property
    def expression_types(self) -> dict[str, Type]:
        """Types of the columns that expressions of features may use."""
        return {name: feature.expression_type for name, feature in self.raw_features.items()}

    def _check_crossed(self, cross: Cross, name: str) -> None:
        feature = self.encoded_features.get(name)
        if feature is None:
            hint = suggest_name(name, list(self.encoded_features))
            raise ValueError(f"the cross {cross.name} uses '{name}', which is not a declared feature; {hint}")
        if feature.cross_problem:
            raise ValueError(f"the cross {cross.name} uses '{name}', {feature.cross_problem}")

    def _check_shared(self) -> None:
        """Reject features that share ids and declare them differently."""
        for table, names in self.shared_features.items():
            first = self.features[names[0]]
            own = {"wide", "missing", "missing_values", "expression", "sensitive", "description", "owner", "expires"}
            for name in names[1:]:
                other = self.features[name]
                keys = {*type(first).model_fields, *type(other).model_fields} - own
                different = sorted(key for key in keys if getattr(first, key, None) != getattr(other, key, None))
                if different:
                    raise ValueError(
                        f"features.{name}.shared: '{table}' is also of '{names[0]}', which has another {different[0]}; "
                        "features that share ids declare the same"
                    )

    def to_model_json(self) -> str:
        """Return the declarations as a model keeps them: without owners and expiry dates, whose changes train none."""
        return self.model_dump_json(exclude={"features": {"__all__": {"owner", "expires"}}})

    @property
    def shared_features(self) -> dict[str, list[str]]:
        """Names of the features that share ids, by the name that they share."""
        names: dict[str, list[str]] = {}
        for name, feature in self.features.items():
            if isinstance(feature, SharedIds) and feature.shared is not None:
                names.setdefault(feature.shared, []).append(name)
        return names

    @property
    def raw_features(self) -> Mapping[str, Feature]:
        """The features whose values are a column of the data, by its name; the others are computed from them."""
        return {name: feature for name, feature in self.features.items() if feature.expression is None}

    @property
    def list_delimiters(self) -> Mapping[str, str]:
        """The string between two values of a row, of each column of lists."""
        return {name: feature.delimiter for name, feature in self.features.items() if isinstance(feature, IdList)}

    @property
    def derived_columns(self) -> Mapping[str, DerivedColumn]:
        """The features that are computed from columns, by name."""
        return self._derive(self.features)

    @property
    def encoded_derived_columns(self) -> Mapping[str, DerivedColumn]:
        """The computed ones of `encoded_features`: derived features, and the parts of times."""
        return self._derive(self.encoded_features)

    def _derive(self, features: Mapping[str, BaseFeature]) -> dict[str, DerivedColumn]:
        return {
            name: DerivedColumn(self.parse(feature.expression), feature.column_type)
            for name, feature in features.items()
            if feature.expression is not None
        }

    @property
    def encoded_features(self) -> Mapping[str, BaseFeature]:
        """The features that Transform encodes: all, with the parts of times in the place of times."""
        return {key: part for name, feature in self.features.items() for key, part in feature.expand(name).items()}

    @property
    def id_columns(self) -> tuple[IdColumn, ...]:
        """The transformed columns of ids: features in the order of declaration, then crosses, then others."""
        crosses = (cross.build_column(cross.name, cross.num_ids) for cross in self.crosses)
        own = (column for own_column in self.own_columns for column in own_column.id_columns)
        return (*self._list_feature_ids(), *crosses, *own)

    def _list_feature_ids(self) -> Iterator[IdColumn]:
        for name, feature in self.encoded_features.items():
            yield from feature.list_id_columns(name)

    @property
    def number_columns(self) -> tuple[NumberColumn, ...]:
        """The transformed columns of numbers, in the order of declaration."""
        features = self.encoded_features.items()
        declared = (column for name, feature in features for column in feature.list_number_columns(name))
        return (*declared, *(column for own_column in self.own_columns for column in own_column.number_columns))

    @property
    def column_types(self) -> dict[str, ColumnType]:
        """Raw column names, then the label's and the weight's, with the type that their values have."""
        types: dict[str, ColumnType] = {name: feature.column_type for name, feature in self.raw_features.items()}
        weight: dict[str, ColumnType] = {} if self.weight is None else {self.weight: "float"}
        return {**types, self.label.column: self.label.column_type, **weight}

    @property
    def validated_types(self) -> dict[str, ColumnType]:
        """The columns of statistics, schema and gate: `column_types`, then derived features."""
        return {**self.column_types, **{name: column.column_type for name, column in self.derived_columns.items()}}
