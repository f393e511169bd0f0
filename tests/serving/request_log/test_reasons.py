"""Reasons of rejections are the same for rows with other values, and there are not many of them."""

import pytest

from serving.request_log.keys import write_key
from serving.request_log.reasons import Reasons, find_reason
from serving.request_log.sampling import KeySample


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("instances[3]: age: expected a finite number, found 'old'", "age: expected a finite number"),
        ("instances[0]: age: the value is missing", "age: the value is missing"),
        ("instances[7]: 'agee' is unknown; did you mean 'age'?", "'...' is unknown"),
        ("the request has 5,000 rows; at most 4,096 are taken", "the request has N rows"),
        ("the request is not JSON: unexpected character: line 1 column 2 (char 1)", "the request is not JSON"),
        ("4,090 rows are waiting already; try again later", "N rows are waiting already"),
        ("hours_2: expected an integer, found '2.5'", "hours_2: expected an integer"),
        ("instances[1]: the model rejects the values: bad shape [3]", "the model rejects the values"),
        ("internal error; see the server's log, request 5f1c", "internal error"),
        ("tags: expected at most 4 values (max_values), not 12", "tags: expected at most N values (max_values), not N"),
    ],
)
def test_a_reason_has_no_values(message: str, reason: str) -> None:
    assert find_reason(message) == reason


def test_reasons_are_bounded() -> None:
    reasons = Reasons(2)
    assert [reasons.find(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]


def test_a_sample_is_the_same_everywhere_and_has_its_share() -> None:
    keys = [str(number) for number in range(10_000)]
    tenth, fifth, everything = KeySample(0.1), KeySample(0.2), KeySample(1.0)
    sampled = [key for key in keys if tenth.has_key(key)]
    assert 900 < len(sampled) < 1100
    # A smaller sample is a part of a larger one, in this process as in any other.
    assert {*sampled} < {key for key in keys if fifth.has_key(key)}
    assert sampled[:3] == ["12", "52", "67"]
    assert all(everything.has_key(key) for key in keys[:10])


def test_a_key_is_a_string() -> None:
    values = ["a", 7, 7.0, 7.5, True, ["b"], None, "", {}, [1, 2]]
    assert [write_key(value) for value in values] == ["a", "7", "7", "7.5", "true", "b", None, None, None, None]
