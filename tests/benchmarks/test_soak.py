"""The soak of the model server: a short one, and the counts that it must reject."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.soak import Tally, soak
from tests.serving.models import export_model, push
from tests.serving.running import registry_of

_FLAT = [400 << 20] * 40
_PASSED = {"seconds": [0.01], "rows": 1, "swaps": 1, "kills": 1, "resident_bytes": _FLAT, "exit_code": 0}


@pytest.mark.integration
@pytest.mark.proof
def test_a_short_soak_loses_no_valid_request(tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry")
    push(registry, export_model(tmp_path / "model"))
    tally = asyncio.run(soak(registry.find_folder(1), "shop-model", 8))
    assert tally.list_breaches() == []
    assert min(tally.swaps, tally.kills, tally.garbage[400], tally.slow_bytes) > 0, tally


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        ({"losses": ["status 500", "x"]}, "2 valid requests were lost: status 500"),
        ({"seconds": []}, "no request was answered"),
        ({"kills": 0}, "expected hot swaps and killed workers, found none"),
        ({"garbage": Counter({400: 9, 500: 1})}, "garbage was answered with {500: 1}; expected 4xx"),
        ({"resident_bytes": [*_FLAT[:30], *[440 << 20] * 10]}, "memory is not flat: 461 MB at the end, bound 453 MB"),
        ({"resident_bytes": []}, "memory is not flat"),
        ({"exit_code": None}, "SIGTERM: expected exit code 0, found None"),
    ],
)
def test_a_soak_that_breaks_a_rule_names_it(change: dict[str, object], breach: str) -> None:
    assert Tally(**_PASSED).list_breaches() == []  # type: ignore[arg-type]
    (only,) = Tally(**{**_PASSED, **change}).list_breaches()  # type: ignore[arg-type]
    assert only.startswith(breach)
