"""One run of a pipeline in this process, measured: seconds, memory, bytes read and written of each component."""

import json
import threading
import time
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import psutil

from pipeline.database.binding import SQLITE_FILE
from pipeline.database.sqlite import SQLiteFile

ROOT = Path(__file__).parent.parent
CENSUS_CONFIG = ROOT / "configs" / "census.yaml"
_SAMPLE_SECONDS = 0.05


def _imported_bytes() -> Callable[[], int]:
    """Return a function that returns how many bytes the imports of this process have read since."""
    read, total = SourceFileLoader.get_data, 0

    def counting(loader: SourceFileLoader, path: str) -> bytes:
        nonlocal total
        data = read(loader, path)
        total += len(data)
        return data

    SourceFileLoader.get_data = counting  # type: ignore[method-assign, assignment]
    return lambda: total


class Meter:
    """Observes a run: of each node wall seconds, CPU seconds, peak resident bytes, bytes read and written.

    Bytes are those of all read and write calls of the process, whether or not they reach a disk, and of its children
    once they have ended. Files that are mapped into memory are not counted. The modules that this process imports are
    not counted either: they are read as byte code or as source, as other processes left them.

    Args:
      samples_memory: whether the peak is looked for, which reads, too.
    """

    def __init__(self, *, samples_memory: bool = True) -> None:
        self.measured: dict[str, dict[str, float]] = {}
        self.split_rows: dict[str, int] = {}
        self._process = psutil.Process()
        self._imported = _imported_bytes()
        self._before = self._read_usage()
        self._peak = 0
        self._running = samples_memory
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def _sample(self) -> None:
        while self._running:
            self._peak = max(self._peak, self._resident())
            time.sleep(_SAMPLE_SECONDS)

    def _resident(self) -> int:
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def _read_usage(self) -> dict[str, float]:
        times, io_counters = self._process.cpu_times(), self._process.io_counters()
        cpu = times.user + times.system + times.children_user + times.children_system
        read = io_counters.read_chars - self._imported()
        return {"cpu_seconds": cpu, "read_bytes": read, "written_bytes": io_counters.write_chars}

    def on_node_start(self, node_id: str) -> None:
        """Start the peak again."""
        self._peak = self._resident()
        self._before = self._read_usage()

    def on_node_end(self, result: Any) -> None:
        """Keep what was measured."""
        self.measured[result.node_id] = {
            "seconds": result.seconds,
            **{name: used - self._before[name] for name, used in self._read_usage().items()},
            "peak_bytes": float(max(self._peak, self._resident())),
        }
        for artifact in result.outputs.get("examples", ()):
            # The stock component does not say.
            self.split_rows = json.loads(artifact.custom_properties["rows"].string_value or "{}")

    def stop(self) -> None:
        """End the sampling."""
        self._running = False
        self._sampler.join()


def measure(which: str, folder: Path, config_file: Path, *, samples_memory: bool = True) -> dict[str, Any]:
    """Run one pipeline in this process and measure it, imports included.

    Args:
      which: `ours`, `stock`, or `stock-wide` (stock up to Transform, of a table of benchmarks/wide.py).
      folder: for what it writes.
      config_file: ours; the stock pipeline takes the data, the epochs and the batch size from it.
      samples_memory: whether the peak is looked for.
    """
    started = time.monotonic()
    from pipeline.run import dag_runner

    created = {"ours": _ours, "stock": _stock, "stock-wide": _stock_wide}
    pipeline = created[which](folder, config_file)
    imported = time.monotonic() - started
    meter = Meter(samples_memory=samples_memory)
    dag_runner.run(pipeline, SQLiteFile(folder / SQLITE_FILE), run_id="bench", observer=meter)
    meter.stop()
    total = time.monotonic() - started
    return {"start-up": imported, "total": total, "nodes": meter.measured, "split_rows": meter.split_rows}


def _ours(folder: Path, config_file: Path) -> Any:
    from pipeline.config import pipeline_config
    from pipeline.create_pipeline import create_pipeline

    config = pipeline_config.load(config_file)
    return create_pipeline(
        config,
        pipeline_root=str(folder / "artifacts"),
        registry=config.build_registry_settings(folder / "registry"),
        run_id="bench",
        enable_cache=False,
    )


def _stock_wide(folder: Path, config_file: Path) -> Any:
    from benchmarks.stock.wide import create_stock_pipeline

    return create_stock_pipeline(str(config_file.parent / "data"), str(folder))


def _stock(folder: Path, config_file: Path) -> Any:
    from benchmarks.stock.pipeline import create_stock_pipeline
    from pipeline.config import pipeline_config

    loaded = pipeline_config.load(config_file)
    data = Path(loaded.data.base)
    with (data / "train" / "train.csv").open("rb") as file:
        rows = sum(1 for _ in file) - 1
    training = loaded.training
    return create_stock_pipeline(
        data_folder=str(data),
        work_folder=str(folder),
        rows=rows,
        epochs=training.epochs,
        batch_size=training.batch_size,
    )
