"""The cost of a shadow and of a split: a server of each, in which it is switched off and on.

    make run && python -m benchmarks.shadow        # needs wrk: apt-get install wrk

The candidate has the champion's own graph, so that a request costs the same with either. Rounds, blocks and
intervals are those of `benchmarks.request_log`. The processor time of a request has the shadow's in it.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from benchmarks.request_log import CONNECTIONS, Feature, MeasuredServer, measure_rounds, print_ratios
from benchmarks.serving import read_champion
from serving.registry import GOLDEN_FILE, Candidate, LocalRegistry

_FEATURES: Mapping[str, Feature] = {
    "shadow 0.2": Feature("shadow", ("--shadow", "candidate=0.2")),
    "split 0.1": Feature("split", ("--split", "candidate=0.1")),
}


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=11, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=1, show_default=True, help="Length of a measurement.")
@click.option("--connections", type=click.IntRange(1), default=CONNECTIONS, show_default=True)
def main(registry: Path, model: str, rounds: int, seconds: int, connections: int) -> None:
    """Measure p99, requests a second and processor time with a shadow and with a split, and print the ratios."""
    version, row = read_champion(LocalRegistry(registry, model))
    body = json.dumps({"instances": [row]})
    with tempfile.TemporaryDirectory() as temporary:
        folder = _push_twice(version, Path(temporary), model)
        measured, counts = measure_rounds(folder, _FEATURES, _read_counts, body, rounds, seconds, connections)
    print_ratios(f"single rows, {connections} connections, {rounds} rounds", measured, counts)


def _push_twice(version: Path, temporary: Path, model: str) -> Path:
    """Return the folder of a registry whose champion and candidate are one version, and one with another hash."""
    golden = (version / GOLDEN_FILE).read_bytes()
    for number in (1, 2):
        source = temporary / f"source-{number}"
        shutil.copytree(version, source)
        (source / "copy.txt").write_text(str(number))
        candidate = Candidate("benchmark", folder=source, golden=golden)
        LocalRegistry(temporary / "registry", model, promotes=number == 1).push(candidate)
    return temporary / "registry" / model


def _read_counts(server: MeasuredServer) -> str:
    """Return the rows of the shadow and those that it dropped, or the requests of the split's smaller part."""
    if requests := server.read_total(r'split_requests_total\{other="2",outcome="answered",version="2"\}'):
        return f"{requests:,.0f} requests"
    rows, dropped = (
        server.read_total(r'shadow_rows_total\{version="2"\}'),
        server.read_total("shadow_dropped_rows_total"),
    )
    return f"{rows:,.0f} rows, {dropped:,.0f} dropped"


if __name__ == "__main__":
    main()
