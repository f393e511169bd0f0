"""The cost of the request log: one server, in which it is switched off and on.

    make run && python -m benchmarks.request_log        # needs wrk: apt-get install wrk

Two processes of one program differ by up to a fifth for as long as they run, so that a ratio is of one process. Each
round starts a server for each sample, one after the other, and switches its log. A block measures it with the log off,
off again and on, in random order, for a second each, at 64 connections as fast as it answers. After each switch comes
a second of load that is not measured. What the last state left is done by then, and a measurement has as much
work of the requests before as it leaves of its own. Without a switch, the measurement before is such a second.

A ratio is that of the medians of a round. `off, again` has the ratios of chance. The median of the rounds has an
interval that needs no distribution: two of the ordered ratios, chosen by the binomial distribution. The processor time
of a request is that of the server and the process that writes its log.
"""

import contextlib
import json
import math
import random
import re
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
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
# States of a feature in a block, the base of the ratios first.
_OFF, _CHANCE, _ON = _STATES = "off", "off, again", "on"
_SAMPLES = 0.1, 1.0
_CONFIDENCE = 0.95
_BLOCKS = 5
# A row of the log waits at most 0.6 s to be sent, and 0.2 s to be written.
_SETTLE_SECONDS = 1
_WARM_UP_SECONDS = 2


@dataclass(frozen=True)
class MeasuredServer:
    """A server of one process."""

    url: str
    process: psutil.Process

    def measure(self, body: str, seconds: float, connections: int) -> dict[str, float]:
        """Return requests a second, milliseconds of percentiles, and microseconds of processor time a request.

        The number of rows in a call of the model is among them, too.
        """
        calls, before = self._read_calls(), self._read_cpu_seconds()
        result = wrk(f"{self.url}/predict", body, connections, seconds)
        cpu = (self._read_cpu_seconds() - before) / (result["rate"] * seconds)
        rows, count = (after - earlier for after, earlier in zip(self._read_calls(), calls, strict=True))
        return {**result, "cpu": cpu * 1e6, "call": rows / count}

    def describe_writer(self) -> str:
        """Return the memory of the process that writes the log; empty without one."""
        sizes = [process.memory_full_info() for process in self.process.children()]
        return "".join(f"writer uss {each.uss / 1e6:.0f} MB, rss {each.rss / 1e6:.0f} MB" for each in sizes)

    def read_total(self, pattern: str) -> float:
        """Return the sum of the server's metrics whose name and labels match a pattern."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^model_server_{pattern} (\S+)$", text, re.MULTILINE))

    def _read_calls(self) -> tuple[float, float]:
        """Return the rows that the model was called with, and the calls."""
        return self.read_total("batch_rows_sum"), self.read_total("batch_rows_count")

    def _read_cpu_seconds(self) -> float:
        """Return the time of the server, and of the process that writes its log."""
        times = [process.cpu_times() for process in (self.process, *self.process.children())]
        return float(sum(each.user + each.system for each in times))


@dataclass(frozen=True)
class SwitchedServer(MeasuredServer):
    """A server in which a feature is switched off and on; it starts with the feature on."""

    program: "subprocess.Popen[str]"

    def switch(self, *, is_on: bool) -> None:
        """Switch the feature, and wait until the server has done so."""
        assert self.program.stdin is not None and self.program.stdout is not None
        self.program.stdin.write("on\n" if is_on else "off\n")
        self.program.stdin.flush()
        for line in self.program.stdout:
            if json.loads(line)["event"] == "switched":
                return
        raise click.ClickException("the server has ended")


@dataclass(frozen=True)
class Feature:
    """A feature of the server that costs something.

    Attributes:
      attribute: Attribute of the service that is None if the feature is off.
      flags: Flags of the server that turn it on.
    """

    attribute: str
    flags: Sequence[str]


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
@click.option("--rounds", type=click.IntRange(1), default=11, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=1, show_default=True, help="Length of a measurement.")
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="Rows of a request.")
def main(registry: Path, model: str, rounds: int, seconds: int, rows: int) -> None:
    """Measure p99, requests a second and processor time with and without a request log, and print the ratios."""
    versions = LocalRegistry(registry, model)
    _, row = read_champion(versions)
    body = json.dumps({"instances": [row] * rows})
    with tempfile.TemporaryDirectory() as folder:
        features = {
            f"sample {sample}": Feature(
                "request_log", ("--log-requests", f"{folder}/{sample}", "--sample", str(sample))
            )
            for sample in _SAMPLES
        }
        measured, counts = measure_rounds(versions.folder, features, _read_counts, body, rounds, seconds)
    title = f"census, {rows} row{'s' * (rows > 1)} a request, {CONNECTIONS} connections, {rounds} rounds"
    print_ratios(title, measured, counts)


@contextlib.contextmanager
def open_server(folder: Path, *flags: str) -> Iterator[MeasuredServer]:
    """Yield a server of the versions in a folder."""
    with _run_server(folder, flags, ("serving",)) as (process, url):
        yield MeasuredServer(url, psutil.Process(process.pid))


@contextlib.contextmanager
def open_switched_server(folder: Path, feature: Feature) -> Iterator[SwitchedServer]:
    """Yield a server of the versions in a folder, in which a feature can be switched."""
    program = ("benchmarks.switched_server", feature.attribute)
    with _run_server(folder, feature.flags, program) as (process, url):
        yield SwitchedServer(url, psutil.Process(process.pid), process)


@contextlib.contextmanager
def _run_server(
    folder: Path, flags: Sequence[str], program: Sequence[str]
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    process, url = start_server(folder, 1, "--drain", "0", *flags, program=program)
    with process:
        try:
            yield process, url
        finally:
            process.terminate()
            process.wait(60)


def measure_rounds(
    folder: Path,
    features: Mapping[str, Feature],
    read_counts: Callable[[MeasuredServer], str],
    body: str,
    rounds: int,
    seconds: int,
    connections: int = CONNECTIONS,
) -> tuple[dict[str, dict[str, list[dict[str, float]]]], dict[str, str]]:
    """Return the measurements of each feature in each state, one a round, and its counts in the last round.

    Args:
      folder: Folder of the versions.
      features: Features by name; each has a server of its own.
      read_counts: Returns the counts of a server.
      body: Body of the requests.
      rounds: Number of rounds.
      seconds: Length of each measurement.
      connections: Connections of a measurement.
    """
    measured: dict[str, dict[str, list[dict[str, float]]]]
    measured = {name: {state: [] for state in _STATES} for name in features}
    counts = {}
    shuffle = random.Random(1)
    for number in range(rounds):
        for name, feature in features.items():
            with open_switched_server(folder, feature) as server:
                for state, results in _measure_blocks(server, body, seconds, connections, shuffle).items():
                    medians = {key: float(np.median([result[key] for result in results])) for key in results[0]}
                    measured[name][state].append(medians)
                counts[name] = read_counts(server)
        click.echo(f"round {number + 1} of {rounds}", err=True)
    return measured, counts


def _measure_blocks(
    server: SwitchedServer, body: str, seconds: int, connections: int, shuffle: random.Random
) -> dict[str, list[dict[str, float]]]:
    """Return the measurements of a server in each state, one a block."""
    server.measure(body, _WARM_UP_SECONDS, connections)
    was_on = True
    results: dict[str, list[dict[str, float]]] = {state: [] for state in _STATES}
    for _ in range(_BLOCKS):
        for state in shuffle.sample(_STATES, len(_STATES)):
            if (is_on := state == _ON) != was_on:
                server.switch(is_on=is_on)
                server.measure(body, _SETTLE_SECONDS, connections)
                was_on = is_on
            results[state].append(server.measure(body, seconds, connections))
    # As it started: a feature that is off is not closed.
    server.switch(is_on=True)
    return results


def _read_counts(server: MeasuredServer) -> str:
    """Return the rows that a server has logged and dropped, and the memory of the process that writes them."""
    logged, dropped = (server.read_total(rf"{name}_total\S*") for name in ("logged_rows", "log_dropped_rows"))
    return f"{logged:,.0f} rows, {dropped:,.0f} dropped\n{server.describe_writer()}"


def print_ratios(
    title: str, measured: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]], counts: Mapping[str, str]
) -> None:
    """Print the medians of each state, and the intervals of its ratios to the server with the feature off.

    Args:
      title: Title of the table.
      measured: Measurements of each feature in each state, one a round.
      counts: Counts of each feature in the last round.
    """
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("", ""):
        table.add_column(heading)
    for heading in ("p99 ms", "requests/s", "CPU us", "rows a call"):
        table.add_column(heading, justify="right")
    for heading in ("p99, ratio", "requests/s, ratio", "CPU, ratio", "last round"):
        table.add_column(heading, justify="right")
    for name, states in measured.items():
        for state, results in states.items():
            base = states[_OFF]
            medians = (
                f"{np.median([result[key] for result in results]):,.{digits}f}"
                for key, digits in (("p99", 2), ("rate", 0), ("cpu", 0), ("call", 0))
            )
            ratios = (
                ""
                if results is base
                else str(find_interval([a[key] / b[key] for a, b in zip(results, base, strict=True)]))
                for key in ("p99", "rate", "cpu")
            )
            table.add_row(
                name if results is base else "", state, *medians, *ratios, counts[name] if state == _ON else ""
            )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
