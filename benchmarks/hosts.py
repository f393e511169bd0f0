"""Memory of the launcher and seconds of the components, with Beam's workers on another host and in processes here.

    python -m benchmarks.hosts                      # 100,000 and 1,000,000 rows; ten minutes on two cores, as root

The other host is that of `make test-hosts`; Prism starts one worker for each job. Worker processes of this machine are
those of `beam: {running_mode: multi_processing}`. The data is that of `make bench`, 18 columns.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from benchmarks.household import write_config, write_rows
from benchmarks.measuring import ROOT
from benchmarks.two_hosts import find_obstacle, local_runner, open_hosts

# Each run reuses what the one before has made, so that a peak is that of the components after it.
_STAGES = ("Transform", "Trainer", "Evaluator")
_ON_BEAM = ("ExampleGen", "StatisticsGen", "Transform", "Evaluator")
# Training is not measured here, and a model of one epoch may miss its thresholds.
_SHORT_TRAINING = ("--set", "training.epochs=1", "--set", "evaluation.thresholds=[]")
_MOST_GROWTH = 0.2


@click.command()
@click.option("--rows", "sizes", type=click.IntRange(10_000), multiple=True, default=(100_000, 1_000_000), metavar="N")
@click.option("--workers", type=click.IntRange(1), multiple=True, default=(1, 2), metavar="N", help="Processes here.")
def main(sizes: Sequence[int], workers: Sequence[int]) -> None:
    """Print the tables of docs/scale.md."""
    obstacle = find_obstacle()
    if obstacle:
        raise click.ClickException(obstacle)
    peaks: dict[str, list[int]] = {stage: [] for stage in _STAGES}
    with open_hosts() as hosts:
        for rows in sizes:
            with _write_data(hosts.shared, rows) as config_file:
                command = local_runner("--config", str(config_file), *_SHORT_TRAINING)
                click.echo(f"{rows:,} rows")
                remote = [*command, "--set", f"beam={json.dumps(hosts.beam)}"]
                seconds: dict[str, float] = {}
                for stage in _STAGES:
                    summary, peak = _run([*remote, "--run-root", str(config_file.parent / "run"), "--until", stage])
                    peaks[stage].append(peak)
                    seconds |= _read_seconds(summary)
                _print_seconds("another host", seconds)
                for number in workers:
                    beam = {"running_mode": "multi_processing", "workers": number}
                    root = config_file.parent / f"run-{number}"
                    here = [*command, "--set", f"beam={json.dumps(beam)}", "--run-root", str(root)]
                    summary, _ = _run([*here, "--until", "Evaluator"])
                    _print_seconds(f"{number} process{'es' if number > 1 else ''} here", _read_seconds(summary))
    click.echo("peak memory of the launcher, with workers on another host")
    for stage, values in peaks.items():
        text = "".join(f"{value / 2**20:8,.0f} MB" for value in values)
        click.echo(f"  as far as {stage:12}{text}  {values[-1] / values[0] - 1:+.0%}")
    grown = [
        stage for stage in _STAGES if stage != "Trainer" and peaks[stage][-1] > (1 + _MOST_GROWTH) * peaks[stage][0]
    ]
    if grown:
        raise click.ClickException(f"the launcher's memory grows by more than {_MOST_GROWTH:.0%}: {', '.join(grown)}")


@contextmanager
def _write_data(shared: Path, rows: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        write_rows(Path(folder) / "data", rows)
        yield write_config(Path(folder) / "data")


def _run(command: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Run the pipeline; return its summary and the peak of its resident bytes, without its children."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([*command, "--json"], stdout=output, stderr=errors, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        output.seek(0)
        summary: dict[str, Any] = json.loads(output.read() or "{}")
        if os.waitstatus_to_exitcode(status) != 0:
            errors.seek(0)
            raise click.ClickException(f"{' '.join(command)}: {summary.get('error') or errors.read().decode()}")
    return summary, usage.ru_maxrss << 10


def _read_seconds(summary: Mapping[str, Any]) -> dict[str, float]:
    return {
        node["id"]: node["seconds"]
        for node in summary["nodes"]
        if node["id"] in _ON_BEAM and node["state"] == "complete"
    }


def _print_seconds(place: str, seconds: Mapping[str, float]) -> None:
    cells = "".join(f"  {name} {seconds[name]:.1f} s" for name in _ON_BEAM)
    click.echo(f"  {place:18}{cells}  together {sum(seconds.values()):.1f} s")


if __name__ == "__main__":
    sys.exit(main())
