"""The model server with a shadow, and with a split, beside the same server without, in interleaved rounds.

    make run && python -m benchmarks.shadow        # needs wrk: apt-get install wrk

The candidate has the champion's own graph, so that a request costs the same with either. Rounds and intervals are
those of `benchmarks.request_log`.
"""

import contextlib
import json
import random
import re
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.request_log import find_interval
from benchmarks.serving import read_champion, start_server, wrk
from serving.registry import GOLDEN_FILE, Candidate, LocalRegistry

_CONNECTIONS = 64
_BASE = "neither"
_FLAGS: Mapping[str, Sequence[str]] = {
    _BASE: (),
    "shadow 0.2": ("--shadow", "candidate=0.2"),
    "split 0.1": ("--split", "candidate=0.1"),
}


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=12, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=8, show_default=True, help="Length of a measurement.")
@click.option("--connections", type=click.IntRange(1), default=_CONNECTIONS, show_default=True)
def main(registry: Path, model: str, rounds: int, seconds: int, connections: int) -> None:
    """Measure p99 and requests a second with a shadow and with a split, and print the ratios."""
    version, row = read_champion(LocalRegistry(registry, model))
    body = json.dumps({"instances": [row]})
    with contextlib.ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = _push_twice(version, temporary, model)
        urls = {}
        for name, flags in _FLAGS.items():
            process, urls[name] = start_server(folder, 1, *flags)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
            wrk(f"{urls[name]}/predict", body, connections, 2)
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
        shuffle = random.Random(1)
        for number in range(rounds):
            for name in shuffle.sample(sorted(urls), len(urls)):
                measured[name].append(wrk(f"{urls[name]}/predict", body, connections, seconds))
            click.echo(f"round {number + 1} of {rounds}", err=True)
        counts = {name: _read_counts(url) for name, url in urls.items()}
    Console(width=120).print(_table(measured, counts, connections))


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


def _read_counts(url: str) -> str:
    """Return the rows of the shadow and those that it dropped, or the requests of the split's smaller part."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()

    def read(name: str) -> int | None:
        values = re.findall(rf"^model_server_{name} (\S+)$", text, re.MULTILINE)
        return int(float(values[0])) if values else None

    asked, dropped = read(r'shadow_rows_total\{version="2"\}'), read("shadow_dropped_rows_total")
    requests = read(r'split_requests_total\{other="2",outcome="answered",version="2"\}')
    if dropped is not None:
        return f"{asked or 0:,} rows, {dropped:,} dropped"
    return f"{requests:,} requests" if requests is not None else ""


def _table(measured: Mapping[str, list[dict[str, float]]], counts: Mapping[str, str], connections: int) -> Table:
    title = f"single rows, {connections} connections, {len(measured[_BASE])} rounds"
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("", "p99 ms", "requests/s", "p99, ratio", "requests/s, ratio", "candidate"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, results in measured.items():
        cells = [f"{np.median([result[key] for result in results]):,.2f}" for key in ("p99", "rate")]
        for key in ("p99", "rate"):
            ratios = [result[key] / base[key] for result, base in zip(results, measured[_BASE], strict=True)]
            cells.append("" if name == _BASE else str(find_interval(ratios)))
        table.add_row(name, *cells, counts[name])
    return table


if __name__ == "__main__":
    main()
