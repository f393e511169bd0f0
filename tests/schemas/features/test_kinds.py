"""Kinds of features: transformed columns, categories and ids that each declares."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from schemas.features import KINDS, BaseFeature, Feature, IdColumn, NumberColumn

QUANTILES = {"kind": "quantiles", "count": 3}
DECLARATIONS: dict[str, tuple[dict[str, Any], list[int], int]] = {
    "numeric": ({"buckets": QUANTILES}, [3], 1),
    "vocabulary": ({"max_size": 4, "oov_ids": 2}, [6], 0),
    "vocabulary_list": ({"values": ["a", "b"]}, [3], 0),
    "vocabulary_file": ({"file": "f", "values": ["a", "b"]}, [3], 0),
    "identity": ({"num_ids": 5}, [5], 0),
    "hash": ({"num_ids": 7}, [7], 0),
}


def test_a_kind_is_registered_by_the_name_that_a_config_uses() -> None:
    assert set(KINDS) == set(DECLARATIONS)


@pytest.mark.parametrize("kind", DECLARATIONS)
def test_a_kind_declares_its_transformed_columns(kind: str) -> None:
    settings, num_ids, numbers = DECLARATIONS[kind]
    feature: BaseFeature = TypeAdapter(Feature).validate_python({"kind": kind, "embedding": 2, **settings})
    assert type(feature) is KINDS[kind]
    suffix = "_bucketized" if kind == "numeric" else ""
    assert feature.id_columns("a b") == tuple(IdColumn(f"a_b{suffix}", count, True, 2) for count in num_ids)
    assert feature.number_columns("a b") == (NumberColumn("a_b", True),) * numbers
    assert feature.categories == tuple(settings.get("values", ()))
    assert feature.raw_num_ids == (5 if kind == "identity" else None)
