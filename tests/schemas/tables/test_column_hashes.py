"""The hashes of each column: which column changed, was shuffled, or only came in another order."""

import pyarrow as pa

from oncall.provenance import InputData, compare_columns
from schemas.tables.row_hash import hash_columns

ROWS = {"age": [31, 42, 53, 64], "sex": [b"f", b"m", b"f", b"m"], "income": [b"low", b"high", b"high", b"low"]}


def _hash(columns: dict[str, list[object]]) -> dict[str, str]:
    batch = pa.RecordBatch.from_pydict(columns)
    hashes = hash_columns(batch)
    return {
        name: "".join(f"{int(h) % (1 << 32):08x}" for h in pair) for name, pair in zip(columns, hashes, strict=True)
    }


def _compare(columns: dict[str, list[object]]) -> str:
    old, new = (
        InputData(rows={"train": 4}, content={"train": name}, columns={"train": _hash(rows)})
        for name, rows in (("old", ROWS), ("new", columns))
    )
    return compare_columns(old, new)["train"]


def test_the_kind_of_change_is_named() -> None:
    assert _compare(ROWS | {"age": [31, 42, 53, 65]}) == "age: other values; all other columns are as before"
    shuffled = "income: the same values, and on other rows: shuffled. All other columns are as before"
    assert _compare(ROWS | {"income": [b"high", b"low", b"high", b"low"]}) == shuffled
    assert _compare({name: values[::-1] for name, values in ROWS.items()}) == "the same rows in another order"
    assert _compare(ROWS | {"age": [1, 2, 3, 4], "sex": [b"x"] * 4}) == "other values in age, sex; the same in income"
    assert _compare({"age": ROWS["age"], "sex": ROWS["sex"]}) == "columns that only one of them has: income"
    swapped = ROWS | {"age": [42, 31, 53, 64], "income": [b"low", b"high", b"low", b"high"]}
    assert _compare(swapped) == "each column has the same values, in other combinations: columns were shuffled"


def test_hashes_of_two_batches_add_up() -> None:
    whole = hash_columns(pa.RecordBatch.from_pydict(ROWS))
    parts = [{name: values[rows] for name, values in ROWS.items()} for rows in (slice(0, 1), slice(1, 4))]
    first, second = (hash_columns(pa.RecordBatch.from_pydict(part)) for part in parts)
    assert (first + second == whole).all()


def test_splits_whose_rows_were_drawn_again_are_compared_together() -> None:
    def divide(rows: dict[str, list[object]], cut: int) -> InputData:
        parts = {"train": slice(0, cut), "eval": slice(cut, 4)}
        divided = {split: {name: values[part] for name, values in rows.items()} for split, part in parts.items()}
        return InputData(
            rows={split: len(part["age"]) for split, part in divided.items()},
            content={split: f"{part}" for split, part in divided.items()},
            columns={split: _hash(part) for split, part in divided.items()},
        )

    renamed = ROWS | {"sex": [b"woman", b"m", b"woman", b"m"]}
    assert compare_columns(divide(ROWS, 1), divide(renamed, 2)) == {
        "train and eval together": "sex: other values; all other columns are as before"
    }
