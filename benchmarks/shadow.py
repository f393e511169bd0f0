"""The model server with a shadow, and with a split, beside the same server without, in interleaved rounds.

    make run && python -m benchmarks.shadow        # needs wrk: apt-get install wrk

The candidate has the champion's own graph, so that a request costs the same with either. Rounds and intervals are
those of `benchmarks.request_log`. The processor time of a request has the shadow's in it.
"""

import contextlib
import json
import re
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from benchmarks.request_log import CONNECTIONS, MeasuredServer, measure_rounds, open_server, print_ratios
from benchmarks.serving import read_champion
from serving.registry import GOLDEN_FILE, Candidate, LocalRegistry

# Names of the servers, the base of the ratios first, and their flags.
_FLAGS: Mapping[str, Sequence[str]] = {
    "neither": (),
    "neither, again": (),
    "shadow 0.2": ("--shadow", "candidate=0.2"),
    "split 0.1": ("--split", "candidate=0.1"),
}


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=12, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=1, show_default=True, help="Length of a measurement.")
@click.option("--connections", type=click.IntRange(1), default=CONNECTIONS, show_default=True)
def main(registry: Path, model: str, rounds: int, seconds: int, connections: int) -> None:
    """Measure p99, requests a second and processor time with a shadow and with a split, and print the ratios."""
    version, row = read_champion(LocalRegistry(registry, model))
    body = json.dumps({"instances": [row]})
    with contextlib.ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = _push_twice(version, temporary, model)

        def start(servers: contextlib.ExitStack) -> dict[str, MeasuredServer]:
            return {name: open_server(servers, folder, *flags) for name, flags in _FLAGS.items()}

        measured, counts = measure_rounds(start, _read_counts, body, rounds, seconds, connections)
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
    """Return the rows of the shadow and those that it dropped, or the requests of the split's smaller part.

    Behind them stands the mean number of rows in a call of the model: a split has calls of its own for each version.
    """
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        text = answer.read().decode()

    def read(name: str) -> int | None:
        values = re.findall(rf"^model_server_{name} (\S+)$", text, re.MULTILINE)
        return int(float(values[0])) if values else None

    asked, dropped = read(r'shadow_rows_total\{version="2"\}'), read("shadow_dropped_rows_total")
    calls = f"{(read('batch_rows_sum') or 0) / (read('batch_rows_count') or 1):.0f} rows a call"
    requests = read(r'split_requests_total\{other="2",outcome="answered",version="2"\}')
    if dropped is not None:
        return f"{asked or 0:,} rows, {dropped:,} dropped; {calls}"
    return f"{requests:,} requests; {calls}" if requests is not None else calls


if __name__ == "__main__":
    main()
