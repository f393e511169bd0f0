"""Parts of a training step: the input alone, the network alone, both, and the operations that take longest.

    python -m benchmarks.steps                  # a minute; docs/performance.md
    python -m benchmarks.steps --members 8      # and how much longer a step of several members is

The data is that of `make bench`. The operations are those of TensorFlow's profiler in one epoch
(https://www.tensorflow.org/guide/profiler).
"""

import contextlib
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.household import write_config, write_rows
from benchmarks.quality import transform_splits
from cli.terminal import redirect_output
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig

if TYPE_CHECKING:
    from trainer.input import Source, TrainingRows

_OPERATIONS = 10
_STEPS, _TURNS = 96, 5


@click.command()
@click.option("--rows", default=300_000, show_default=True, help="Of both splits together.")
@click.option(
    "--members", default=0, help="Compare a step of so many members with a step of one, by layers of 256 units."
)
def main(rows: int, members: int) -> None:
    """Print the milliseconds of a step, and of its longest operations."""
    with tempfile.TemporaryDirectory() as folder, redirect_output(Path(folder) / "log") as terminal:
        data = Path(folder) / "data"
        write_rows(data, rows)
        config = pipeline_config.load(write_config(data))
        sources = transform_splits(config, Path(folder), "eval")
        for line in _measure_steps(config, sources["train"], Path(folder)):
            terminal.write(line + "\n")
        for normalization in ("none", "layer", "batch") if members else ():
            terminal.write(_compare_members(config, sources["train"], members, normalization, Path(folder)) + "\n")


def _measure_steps(config: PipelineConfig, source: "Source", folder: Path) -> Iterator[str]:
    from trainer.input import read_training_rows

    training = config.training
    rows = read_training_rows(source, training, seed=config.seed, cache_folder=str(folder))
    steps = rows.steps_per_epoch
    network = _network(config, rows)
    batch = next(iter(rows.batches))
    yield f"{steps:,} steps an epoch, {training.batch_size:,} rows each"

    def fit(batches: Any) -> None:
        network.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)

    import tensorflow as tf

    repeated = tf.data.Dataset.from_tensors(batch).repeat()
    ways: dict[str, Callable[[], None]] = {
        "input alone": lambda: _exhaust(rows.batches, steps),
        "network alone, one batch again and again": lambda: fit(repeated),
        "both": lambda: fit(rows.batches),
    }
    for name, run in ways.items():
        # Once to trace and to fill the cache.
        run()
        yield f"{_seconds(run) / steps * 1e3:8.2f} ms a step  {name}"
    yield f"of both, the {_OPERATIONS} longest operations, of all threads:"
    for name, seconds in _operations(ways["both"], folder).most_common(_OPERATIONS):
        yield f"{seconds / steps * 1e3:8.2f} ms a step  {name}"


def _compare_members(config: PipelineConfig, source: "Source", members: int, normalization: str, folder: Path) -> str:
    """Return the ratio of a step of several members to a step of one, each in turn."""
    import tensorflow as tf

    from trainer.input import read_training_rows

    training = config.training.model_copy(update={"batch_size": 256})
    config = config.model_copy(update={"training": training})
    cache = folder / f"compared_{normalization}"
    cache.mkdir()
    rows = read_training_rows(source, training, seed=config.seed, cache_folder=str(cache))
    repeated = tf.data.Dataset.from_tensors(next(iter(rows.batches))).repeat()
    networks = []
    for count in (1, members):
        model = config.model.model_copy(update={"members": count, "hidden_units": (256, 256), "dropout": 0.1})
        model = model.model_copy(update={"normalization": normalization})
        networks.append(_network(config.model_copy(update={"model": model}), rows))
    seconds: list[list[float]] = [[], []]
    for _ in range(_TURNS):
        for network, measured in zip(networks, seconds, strict=True):
            run = partial(network.fit, repeated, steps_per_epoch=_STEPS, verbose=0)
            measured.append(_seconds(run))
    single, several = (min(measured) / _STEPS * 1e3 for measured in seconds)
    return (
        f"{several:.2f} ms a step of {members} members, {single:.2f} of one: {several / single:.1f} times "
        f"(256 rows a step, normalization: {normalization})"
    )


def _network(config: PipelineConfig, rows: "TrainingRows") -> Any:
    from trainer.model import build_model, compile_model

    network = build_model(config.feature_set, config.model)
    kind, steps = config.label.kind, rows.steps_per_epoch * config.training.epochs
    compile_model(network, config.training, kind, steps=steps, steps_together=rows.steps_together)
    return network


def _exhaust(batches: Any, steps: int) -> None:
    for _ in itertools.islice(batches, steps):
        pass


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _operations(run: Callable[[], None], folder: Path) -> Counter[str]:
    """Return the seconds by kind of operation, as TensorFlow's profiler sees them; what holds others is left out."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    profile = folder / "profile"
    with tf.profiler.experimental.Profile(str(profile)), contextlib.redirect_stdout(sys.stderr):
        run()
    (file,) = profile.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace()
    space.ParseFromString(file.read_bytes())
    seconds_by_name: Counter[str] = Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name, _, kind = plane.event_metadata[event.metadata_id].name.partition(":")
            # An operation is `name:Kind`; spans of the runtime have other names.
            if kind.isidentifier() and "::" not in name:
                seconds_by_name[kind] += event.duration_ps / 1e12
    return seconds_by_name


if __name__ == "__main__":
    main()
