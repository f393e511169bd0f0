"""The model server with a request log beside the same server without one, in interleaved rounds on one machine.

    make run && python -m benchmarks.request_log        # needs wrk: apt-get install wrk

Each round measures all servers for some seconds each, in an order of its own, at 64 connections as fast as they
answer. A ratio is that of two measurements of one round. The median of the rounds has an interval that needs no
distribution: two of the ordered ratios, chosen by the binomial distribution.
"""

import contextlib
import json
import math
import random
import re
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving import read_champion, start_server, wrk
from serving.registry import LocalRegistry

_CONNECTIONS = 64
_BASE = "no log"
_SAMPLES: Mapping[str, float] = {"sample 0.1": 0.1, "sample 1.0": 1.0}
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """The median of some ratios, and the interval that has the true one with a confidence of 95 % at least."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def find_interval(ratios: Sequence[float]) -> Interval:
    """Return the median of ratios with its interval; the whole range if there are fewer than six."""
    ordered, count = sorted(ratios), len(ratios)
    left, below = 0, 0.0
    # The true median is below the k-th smallest with the chance that fewer than k of the coins show heads.
    while left < count // 2:
        below += math.comb(count, left) / 2**count
        if 2 * below > 1 - _CONFIDENCE:
            break
        left += 1
    place = max(left - 1, 0)
    return Interval(float(np.median(ordered)), ordered[place], ordered[count - 1 - place])


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=12, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=8, show_default=True, help="Length of a measurement.")
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="Rows of a request.")
def main(registry: Path, model: str, rounds: int, seconds: int, rows: int) -> None:
    """Measure p99 and rows a second with and without a request log, and print the ratios."""
    versions = LocalRegistry(registry, model)
    _, row = read_champion(versions)
    body = json.dumps({"instances": [row] * rows})
    with contextlib.ExitStack() as stack:
        urls = {_BASE: open_server(stack, versions.folder)}
        for name, sample in _SAMPLES.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            urls[name] = open_server(stack, versions.folder, "--log-requests", folder, "--sample", str(sample))
        for url in urls.values():
            wrk(f"{url}/predict", body, _CONNECTIONS, 2)
        measured = measure_rounds(urls, body, rounds, seconds)
        counts = {name: _read_counts(url) for name, url in urls.items()}
    Console(width=120).print(_table(measured, counts, rows))


def open_server(stack: contextlib.ExitStack, folder: Path, *flags: str) -> str:
    process, url = start_server(folder, 1, *flags)
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)
    return url


def measure_rounds(urls: Mapping[str, str], body: str, rounds: int, seconds: int) -> dict[str, list[dict[str, float]]]:
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
    shuffle = random.Random(1)
    for number in range(rounds):
        order = shuffle.sample(sorted(urls), len(urls))
        for name in order:
            measured[name].append(wrk(f"{urls[name]}/predict", body, _CONNECTIONS, seconds))
        click.echo(f"round {number + 1} of {rounds}", err=True)
    return measured


def _read_counts(url: str) -> tuple[int, int]:
    """Return the rows that a server has logged and dropped."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    logged, dropped = (
        sum(float(value) for value in re.findall(rf"^model_server_{name}_total\S* (\S+)$", text, re.MULTILINE))
        for name in ("logged_rows", "log_dropped_rows")
    )
    return int(logged), int(dropped)


def _table(measured: Mapping[str, Any], counts: Mapping[str, tuple[int, int]], rows: int) -> Table:
    title = f"census, {rows} row{'s' * (rows > 1)} a request, {_CONNECTIONS} connections, {len(measured[_BASE])} rounds"
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("", "p99 ms", "rows/s", "p99, ratio", "rows/s, ratio", "logged", "dropped"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, results in measured.items():
        p99, rate = (np.array([result[key] for result in results]) for key in ("p99", "rate"))
        ratios = ["", ""]
        if name != _BASE:
            base = measured[_BASE]
            ratios = [
                str(find_interval(values / np.array([result[key] for result in base])))
                for key, values in (("p99", p99), ("rate", rate))
            ]
        logged, dropped = counts[name]
        table.add_row(
            name, f"{np.median(p99):.2f}", f"{np.median(rate) * rows:,.0f}", *ratios, f"{logged:,}", f"{dropped:,}"
        )
    return table


if __name__ == "__main__":
    main()
