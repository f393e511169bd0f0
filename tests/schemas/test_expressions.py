import math

import pyarrow as pa
import pytest

from schemas.expressions import FUNCTIONS, Expression, ExpressionError, Type
from schemas.tables.expression_values import evaluate as evaluate_rows

TYPES: dict[str, Type] = {
    "tips": "number", "fare": "number", "city": "string", "start": "time", "end": "time", "monthly charge": "number",
    "opens": "time of day", "closes": "time of day",
}  # fmt: skip


def value(text: str, **row: object) -> object:
    arrow = {
        "number": pa.float64(),
        "string": pa.string(),
        "time": pa.int64(),
        "time of day": pa.int64(),
        "boolean": pa.bool_(),
    }
    expression = Expression.parse(text, TYPES)
    columns = {name: pa.array([row.get(name)], arrow[TYPES[name]]) for name in expression.columns}
    (result,) = evaluate_rows(expression, columns).to_pylist()
    return result


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("tips > 0.2 * fare", {"tips": 3.0, "fare": 10.0}, True),
        ("tips > 0.2 * fare", {"tips": 2.0, "fare": 10.0}, False),
        ("tips > 0.2 * fare", {"tips": None, "fare": 10.0}, None),
        ("tips / fare", {"tips": 1.0, "fare": 0.0}, None),
        ("log(fare)", {"fare": 0.0}, None),
        ("log1p(fare)", {"fare": 0.0}, 0.0),
        ("sqrt(fare)", {"fare": -1.0}, None),
        ("coalesce(tips, 0) + 1", {"tips": None}, 1.0),
        ("is_missing(tips)", {"tips": None}, True),
        ("haversine(fare, 0, 0, 0)", {"fare": 95.0}, None),
        ("(end - start) / 60", {"start": 60, "end": 240}, 3.0),
        ("(closes - opens) / 60", {"opens": 60, "closes": 240}, 3.0),
        ("hour(opens) < minute_of_day(closes)", {"opens": 3600, "closes": 240}, True),
        ("start < end", {"start": 60, "end": 240}, True),
        ("'far' if fare > 5 else city", {"fare": 1.0, "city": "Oslo"}, "Oslo"),
        ("'far' if fare > 5 else city", {"fare": 9.0, "city": None}, "far"),
        ("split_part(city, '/', 1)", {"city": "Europe/Oslo"}, "Oslo"),
        ("split_part(city, '/', 1)", {"city": "Oslo"}, None),
        ("substring(city, 1, 2)", {"city": "Åsgård"}, "sg"),
        ("city + '!'", {"city": "Oslo"}, "Oslo!"),
        ("column('monthly charge') * 12", {"monthly charge": 2.0}, 24.0),
        ("1 < tips <= 3", {"tips": 3.0}, True),
        ("-tips // 2", {"tips": 3.0}, -2.0),
        ("-3 % fare", {"fare": 2.0}, 1.0),
        ("round(tips)", {"tips": 2.5}, 2.0),
        ("exp(fare)", {"fare": 1000.0}, None),
        ("not contains(city, 's')", {"city": "Oslo"}, False),
    ],
)
def test_values(text: str, row: dict[str, object], expected: object) -> None:
    assert value(text, **row) == expected


def test_the_distance_of_two_cities() -> None:
    # Berlin and Paris, as many calculators have them.
    distance = value("haversine(52.52, 13.405, 48.8566, 2.3522)")
    assert isinstance(distance, float)
    assert math.isclose(distance, 877.46, abs_tol=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tipps > 1", "there is no column 'tipps'; did you mean 'tips'?"),
        ("tips + city", "'tips + city': + takes (number, number) or (string, string), found (number, string)"),
        ("log(tips, 2)", "'log(tips, 2)': log takes (number), found (number, number)"),
        ("city and tips", "'city and tips': and takes (boolean, boolean, ...), found (string, number)"),
        ("coalesce(tips, 'x')", "coalesce takes (one type, one type, ...), found (number, string)"),
        ("start + 1", "found (time, number)"),
        ("year(opens)", "'year(opens)': year takes (time), found (time of day)"),
        ("start - opens", "found (time, time of day)"),
        ("lod(tips)", "there is no function 'lod'; did you mean 'log'?"),
        ("log", "'log' is a function; expected log(...)"),
        ("(tips > 1", "is not an expression at character 1: "),
        ("tips >", "is not an expression: invalid syntax"),
        ("substring(city, tips, 1)", "operand 2 must be a constant"),
        ("1e400", "is beyond float32"),
        ("None", "expected a number, a string, True or False"),
        ("column(city)", "expected one name in quotes"),
        ("x" * 2001, "at most 2,000 are allowed"),
        ("-" * 300 + "tips", "nested deeper than 50 operations"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        Expression.parse(text, TYPES)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "tips.real",
        "city[0]",
        "[tips]",
        "(tips, fare)",
        "{tips: 1}",
        "lambda: 1",
        "f'{tips}'",
        "(tips := 1)",
        "log(x=tips)",
        "[t for t in city]",
        "tips is fare",
        "tips in (1, 2)",
        "tips @ fare",
        "tips | 1",
        "~tips",
        "1j",
        "b'x'",
        "...",
        "__builtins__",
        "eval('1')",
    ],
)
def test_the_rest_of_python_is_rejected(text: str) -> None:
    with pytest.raises(ExpressionError):
        Expression.parse(text, TYPES)


def test_every_function_has_a_phrase_or_is_an_operator() -> None:
    assert [name for name, signatures in FUNCTIONS.items() if name.isidentifier() and not signatures[0].help] == [
        "and", "or", "not",
    ]  # fmt: skip
