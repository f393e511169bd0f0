"""Placeholders in golden requests; test_component.py has the requests of an evaluation."""

from typing import Any

import tensorflow as tf

from components.evaluator.golden_requests import mask_records
from schemas.sensitive import MASK
from tests.serving.models import example


def read(record: bytes) -> dict[str, Any]:
    features = tf.train.Example.FromString(record).features.feature
    return {name: list(getattr(value, str(value.WhichOneof("kind"))).value) for name, value in features.items()}


def test_sensitive_values_become_placeholders_near_the_others() -> None:
    rows = [{"place": f"CANARY-{n}", "amount": 52_000.0 + 100 * n, "id": 7, "x": float(n)} for n in range(10)]
    records = mask_records([*map(example, rows), example({"x": 1.0})], dict.fromkeys(["place", "amount", "id"], MASK))
    assert [read(record) for record in records[:10]] == [
        {"place": [MASK.encode()], "amount": [50_000.0], "id": [0], "x": [float(n)]} for n in range(10)
    ]
    # What is missing stays so.
    assert read(records[10]) == {"x": [1.0]}


def test_without_sensitive_columns_records_are_the_same() -> None:
    assert read(mask_records([example({"place": "a", "x": 1.5})], {})[0]) == {"place": [b"a"], "x": [1.5]}
