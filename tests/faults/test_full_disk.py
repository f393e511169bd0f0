"""A disk that fills up: where data is written, in the database, in the record of the run, in the registry."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults import injections
from tests.faults.invariants import Before, check_explanation, is_blessed
from tests.faults.processes import Place
from tests.faults.small import NAME, small_config
from tests.faults.small_disk import mount_small_disk

pytestmark = [pytest.mark.slow, pytest.mark.proof]
MEGABYTES = 64
# Point and node of the fault, node that fails, cause, and exit code.
WALK: list[tuple[Callable[[str, injections.Act], None], str, str, str, int]] = [
    (injections.at_executor, "ExampleGen", "ExampleGen", "no space left on the disk: ", 6),
    (injections.at_publish, "ExampleGen", "ExampleGen", "no space left on the disk: ", 6),
    (injections.after, "ExampleGen", "History", ".json: cannot be written: No space left on device", 6),
    (injections.at_executor, "Transform", "Transform", "no space left on the disk: ", 6),
    (injections.at_executor, "Trainer", "Trainer", "no space left on the disk: ", 6),
    (injections.at_executor, "Pusher", "Pusher", f"registry/{NAME}: cannot be written: [Errno 28] No space left", 5),
]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a small disk of its own."""
    folder = tmp_path_factory.mktemp("disk")
    with mount_small_disk(folder, MEGABYTES):
        yield folder


def test_a_disk_that_fills_up_at_any_point_harms_nothing_and_the_run_continues_from_there(
    disk: Path, tmp_path: Path
) -> None:
    place = Place(small_config(tmp_path / "data"), disk / "run", outputs=tmp_path)
    assert place.run()[0] == 0
    before = Before.of(place)
    for number, (plant, node, found_at, cause, exit_code) in enumerate(WALK):
        fault = partial(plant, node, partial(injections.fill, disk))
        code, output = place.resume(fault) if number else place.run("seed=21", "data.max_bad_rows=1", fault=fault)
        if node == "Pusher" and code == 6:
            # ML Metadata could not write, either, that the push has failed.
            cause, exit_code = "no space left on the disk: ", 6
        assert code == exit_code, (node, output)
        (line,) = [line for line in output.splitlines() if line.startswith("error  ")]
        assert cause in line
        before.check()
        check_explanation(place, state="FAILED", node=found_at, cause=cause, exit_code=exit_code)
        (disk / injections.FILLER).unlink()
    code, output = place.resume()
    assert code == 0, output
    before.check_artifacts()
    assert place.registry.read_champion() == 2
    assert is_blessed(place, 2)
    assert {finding["kind"] for finding in place.oncall("doctor", code=1)["findings"]} == {"disk"}


def test_a_run_does_not_start_on_a_full_disk(disk: Path, tmp_path: Path) -> None:
    place = Place(small_config(tmp_path / "data"), disk / "other", outputs=tmp_path)
    injections.fill(disk)
    code, output = place.run()
    (disk / injections.FILLER).unlink()
    assert (code, output) == (
        6,
        f"error: {disk / 'other'}: cannot be written: No space left on device; give --run-root another folder\n"
        f"{disk / 'other' / 'refused.json'}: cannot be written: No space left on device\n"
        f"{disk / 'other' / 'alerts.json'}: cannot be written: No space left on device\n",
    )
