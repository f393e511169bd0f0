"""No component reads or writes more for a row than it did: bytes, which do not depend on how fast the machine is."""

import json

import pytest

from benchmarks.counts import COUNTS_FILE, count_bytes

# Compressed sizes, and what TensorFlow looks up meanwhile, move a little; a pass more over the data is far above this.
_SLACK_RATIO, _SLACK_BYTES = 1.05, 3.0


@pytest.mark.slow
@pytest.mark.proof
def test_no_component_reads_or_writes_more_for_a_row_than_was_kept() -> None:
    kept, measured = json.loads(COUNTS_FILE.read_text()), count_bytes()
    assert {*measured} == {*kept}
    grown = {
        f"{node} {name}": (before, measured[node][name])
        for node, counts in kept.items()
        for name, before in counts.items()
        if measured[node][name] > before * _SLACK_RATIO + _SLACK_BYTES
    }
    assert grown == {}, "python -m benchmarks.counts; if it is worth it, --keep"
    # The counters count: what ExampleGen reads is at least the CSV.
    assert measured["ExampleGen"]["read_bytes"] > 50
