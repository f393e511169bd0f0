"""A share of the requests is chosen by a hash that any process repeats."""

import pytest

from cli.errors import ConfigError
from serving.server.label_share import LabelShare


@pytest.mark.parametrize(
    "text", ["candidate=0", "candidate=1.1", "candidate=-0.1", "candidate=nan", "candidate=", "candidate"]
)
def test_a_share_outside_its_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^--split: expected a share above 0 and at most 1, .*; found '{text}'$"):
        LabelShare.parse("--split", text)


@pytest.mark.parametrize("text", ["champion=0.1", "0.1", "=0.1", ""])
def test_an_unknown_label_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^--shadow: expected candidate or previous and a share, .*; found '{text}'$"
    ):
        LabelShare.parse("--shadow", text)


def test_the_hash_is_the_same_everywhere_and_a_larger_share_keeps_its_keys() -> None:
    keys = [f"customer-{number}" for number in range(10_000)]
    small, large = ([key for key in keys if LabelShare("candidate", share).has_key("a", key)] for share in (0.1, 0.3))
    assert small[:3] == ["customer-1", "customer-7", "customer-19"]
    assert {*small} < {*large}
    # Four standard deviations of a binomial.
    assert abs(len(small) - 1000) < 4 * 30
    assert abs(len(large) - 3000) < 4 * 46
    other = [key for key in keys if LabelShare("candidate", 0.1).has_key("b", key)]
    assert abs(len({*small} & {*other}) - 100) < 4 * 10
    assert all(LabelShare("candidate", 1.0).has_key("a", key) for key in keys)
