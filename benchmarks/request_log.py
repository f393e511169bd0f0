"""The model server with a request log beside the same server without one, in interleaved rounds on one machine.

    make run && python -m benchmarks.request_log        # needs wrk: apt-get install wrk

Each round starts all servers, since two processes of one program differ by up to a tenth for as long as they run. It
measures each server seven times for a second, in orders of their own, at 64 connections as fast as they answer, and
takes the medians. A ratio is that of two servers of one round. The median of the rounds has an interval that
needs no distribution: two of the ordered ratios, chosen by the binomial distribution. The processor time of a request
is that of the server and the process that writes its log, and depends least on what else the machine does. A second
server without a log has the ratios of chance.
"""

import contextlib
import json
import math
import random
import re
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.serving import read_champion, start_server, wrk
from serving.registry import LocalRegistry

CONNECTIONS = 64
# Names of the servers, the base of the ratios first; samples of their logs.
_SAMPLES: Mapping[str, float | None] = {"no log": None, "no log, again": None, "sample 0.1": 0.1, "sample 1.0": 1.0}
_CONFIDENCE = 0.95
_MEASUREMENTS = 7
_WARM_UP_SECONDS = 2


@dataclass(frozen=True)
class MeasuredServer:
    """A server of one process."""

    url: str
    process: psutil.Process

    def measure(self, body: str, seconds: float, connections: int) -> dict[str, float]:
        """Return requests a second, milliseconds of percentiles, and microseconds of processor time a request."""
        before = self._read_cpu_seconds()
        result = wrk(f"{self.url}/predict", body, connections, seconds)
        cpu = (self._read_cpu_seconds() - before) / (result["rate"] * seconds)
        return {**result, "cpu": cpu * 1e6}

    def describe_writer(self) -> str:
        """Return the memory of the process that writes the log; empty without one."""
        sizes = [process.memory_full_info() for process in self.process.children()]
        return "".join(f"writer uss {each.uss / 1e6:.0f} MB, rss {each.rss / 1e6:.0f} MB" for each in sizes)

    def _read_cpu_seconds(self) -> float:
        """Return the time of the server, and of the process that writes its log."""
        times = [process.cpu_times() for process in (self.process, *self.process.children())]
        return float(sum(each.user + each.system for each in times))


@dataclass(frozen=True)
class MedianInterval:
    """The median of some ratios, and the interval that has the true one with a confidence of 95 % at least."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def find_interval(ratios: Sequence[float]) -> MedianInterval:
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
    return MedianInterval(float(np.median(ordered)), ordered[place], ordered[count - 1 - place])


@click.command()
@click.option("--registry", type=click.Path(path_type=Path), default=Path("runs/census-income/registry"))
@click.option("--model", default="census-income", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=12, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=1, show_default=True, help="Length of a measurement.")
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="Rows of a request.")
def main(registry: Path, model: str, rounds: int, seconds: int, rows: int) -> None:
    """Measure p99, rows a second and processor time with and without a request log, and print the ratios."""
    versions = LocalRegistry(registry, model)
    _, row = read_champion(versions)
    body = json.dumps({"instances": [row] * rows})

    def start(stack: contextlib.ExitStack) -> dict[str, MeasuredServer]:
        servers = {}
        for name, sample in _SAMPLES.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            flags = () if sample is None else ("--log-requests", folder, "--sample", str(sample))
            servers[name] = open_server(stack, versions.folder, *flags)
        return servers

    measured, counts = measure_rounds(start, _read_counts, body, rounds, seconds)
    title = f"census, {rows} row{'s' * (rows > 1)} a request, {CONNECTIONS} connections, {rounds} rounds"
    print_ratios(title, measured, counts)


def open_server(stack: contextlib.ExitStack, folder: Path, *flags: str) -> MeasuredServer:
    process, url = start_server(folder, 1, *flags)
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)
    return MeasuredServer(url, psutil.Process(process.pid))


def measure_rounds(
    start: Callable[[contextlib.ExitStack], Mapping[str, MeasuredServer]],
    read_counts: Callable[[MeasuredServer], str],
    body: str,
    rounds: int,
    seconds: int,
    connections: int = CONNECTIONS,
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """Return the measurements of each server, one a round, and its counts in the last round.

    Args:
      start: Starts the servers; what it gives to the stack ends with the round.
      read_counts: Returns the counts of a server.
      body: Body of the requests.
      rounds: Number of rounds.
      seconds: Length of each measurement.
      connections: Connections of a measurement.
    """
    measured: dict[str, list[dict[str, float]]] = {}
    counts = {}
    shuffle = random.Random(1)
    for number in range(rounds):
        with contextlib.ExitStack() as stack:
            servers = start(stack)
            for server in servers.values():
                server.measure(body, _WARM_UP_SECONDS, connections)
            results: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
            for _ in range(_MEASUREMENTS):
                for name in shuffle.sample(list(servers), len(servers)):
                    results[name].append(servers[name].measure(body, seconds, connections))
            for name, several in results.items():
                medians = {key: float(np.median([result[key] for result in several])) for key in several[0]}
                measured.setdefault(name, []).append(medians)
            counts = {name: read_counts(server) for name, server in servers.items()}
        click.echo(f"round {number + 1} of {rounds}", err=True)
    return measured, counts


def _read_counts(server: MeasuredServer) -> str:
    """Return the rows that a server has logged and dropped, and the memory of the process that writes them."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    logged, dropped = (
        sum(float(value) for value in re.findall(rf"^model_server_{name}_total\S* (\S+)$", text, re.MULTILINE))
        for name in ("logged_rows", "log_dropped_rows")
    )
    return f"{logged:,.0f} rows, {dropped:,.0f} dropped\n{server.describe_writer()}" if logged or dropped else ""


def print_ratios(title: str, measured: Mapping[str, list[dict[str, float]]], counts: Mapping[str, str]) -> None:
    """Print the medians of each server, and the intervals of the ratios to the first one.

    Args:
      title: Title of the table.
      measured: Measurements of each server, one a round.
      counts: Counts of each server in the last round.
    """
    table = Table(box=None, title=title, title_justify="left")
    for heading in (
        "",
        "p99 ms",
        "requests/s",
        "CPU us",
        "p99, ratio",
        "requests/s, ratio",
        "CPU, ratio",
        "last round",
    ):
        table.add_column(heading, justify="right" if heading else "left")
    keys = ("p99", "rate", "cpu")
    base = next(iter(measured.values()))
    for name, results in measured.items():
        medians = [f"{np.median([result[key] for result in results]):,.{2 * (key == 'p99')}f}" for key in keys]
        ratios = [
            "" if results is base else str(find_interval([a[key] / b[key] for a, b in zip(results, base, strict=True)]))
            for key in keys
        ]
        table.add_row(name, *medians, *ratios, counts[name])
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
