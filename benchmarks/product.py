"""The pipeline's side of a comparison: a table as `init` declares it, up to Transform, and the model that is served."""

import gc
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import peers, public_tables, quality, tables
from benchmarks.peer_program import measure_microseconds
from benchmarks.peers import Predictions, Rows
from cli.state_files import write_atomically
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.fingerprint import hash_code
from pipeline.run.run_root import RunRoot
from schemas.features import MISSING, BinaryLabel, MulticlassLabel, escape_name

_SPLITS = ("train", "eval")
_PREPARED_FILE = "prepared.json"


@dataclass(frozen=True)
class Prepared:
    """A table, ready to be trained on.

    Attributes:
      config_file: Config that `init` wrote.
      graph: URI of Transform's graph.
      examples: URI of the transformed examples.
      flags: Flags of `init` beside the label.
      rows_digest: Digest of the rows of the peers, with their split.
      code: Fingerprint of the code that prepared it.
    """

    config_file: str
    graph: str
    examples: str
    flags: list[str]
    rows_digest: str
    code: str

    @classmethod
    def read(cls, folder: Path) -> "Prepared | None":
        """Return what an earlier command prepared in a folder; None if it is missing, damaged or of another place."""
        try:
            prepared = cls(**json.loads((folder / _PREPARED_FILE).read_text()))
            files = [prepared.config_file, f"{prepared.graph}/transform_fn/saved_model.pb"]
            files += [f"{prepared.examples}/Split-{split}" for split in _SPLITS]
            files += [str(folder / name) for name in peers.ROW_FILES]
        except (OSError, TypeError, ValueError):
            return None
        return prepared if prepared.folder == folder and all(map(os.path.exists, files)) else None

    @property
    def folder(self) -> Path:
        return Path(self.config_file).parent

    @property
    def config(self) -> PipelineConfig:
        return pipeline_config.load(self.config_file)

    @property
    def rows(self) -> Rows:
        return peers.rows_of(self.config, RunRoot(self.folder))


def prepare(name: str, folder: Path) -> Prepared:
    """Run `init` with nothing but the label, and the pipeline up to Transform, unless it was done before.

    Args:
      name: Name of the table.
      folder: Folder of the config, the artifacts and the rows of the peers.

    Raises:
      StoppedError: If `init` ended without success.
      PipelineError: If a component of the pipeline did.
    """
    import components
    import pipeline
    import schemas

    code = hash_code(components, pipeline, schemas)
    prepared = Prepared.read(folder)
    if prepared is not None and prepared.code == code:
        return prepared
    # An interrupted command leaves half of it.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    flags: list[str] = []
    config_file = tables.init(name, folder)
    kind = public_tables.find(name).kind
    if kind not in (None, pipeline_config.load(config_file).label.kind):
        flags = ["--kind", str(kind)]
        config_file = tables.init(name, folder, *flags)
    config = pipeline_config.load(config_file)
    graph, examples = quality.transform(config, folder, _SPLITS)
    digest = peers.write_rows(config, peers.rows_of(config, RunRoot(folder)), folder)
    prepared = Prepared(str(config_file), graph, examples, flags, digest, code)
    write_atomically(folder / _PREPARED_FILE, json.dumps(prepared.__dict__))
    return prepared


def fit(prepared: Prepared, seed: int) -> Predictions:
    """Train as the pipeline's Trainer does, and predict `test` with the model that is served.

    Args:
      prepared: Table.
      seed: Seed of the training.

    Raises:
      PipelineError: If the training diverged.
    """
    import keras

    from serving.model.predictor import Predictor
    from trainer.run import fit as fit_network

    keras.utils.clear_session()
    gc.collect()
    config, rows = prepared.config, prepared.rows.test
    sources = quality.sources(config, (prepared.graph, prepared.examples), _SPLITS)
    started = time.monotonic()
    network, _ = fit_network(
        train=sources["train"],
        evaluation=sources["eval"],
        model=config.model,
        training=config.training,
        seed=seed,
        log_folder=None,
    )
    seconds = time.monotonic() - started
    with tempfile.TemporaryDirectory() as folder:
        _export(config, prepared.graph, network, folder)
        predictor = Predictor(folder)
        columns = {escape_name(name): _column(config, rows, name) for name in config.feature_set.raw_features}
        values, classes = _read_outputs(config, predictor.predict_columns(columns))
        times = -(-_TIMED_ROWS // rows.num_rows)
        timed = {name: column * times for name, column in columns.items()}
        microseconds = measure_microseconds(predictor.predict_columns, timed, times * rows.num_rows)
    return Predictions(values, classes, seconds, microseconds)


_TIMED_ROWS = 10_000


def _column(config: PipelineConfig, rows: pa.Table, name: str) -> list[Any]:
    """Return a column as the model takes it, with its placeholders of missing values."""
    kind = config.feature_set.column_types[name]
    if name not in rows.column_names:
        return [MISSING[kind]] * rows.num_rows
    types = {"string": pa.string(), "int": pa.int64(), "float": pa.float64()}
    return [MISSING[kind] if value is None else value for value in rows[name].cast(types[kind]).to_pylist()]


def _export(config: PipelineConfig, graph: str, network: Any, folder: str) -> None:
    import tensorflow_transform as tft

    from serving.model.literal_paths import make_literal_path
    from serving.model.served_model import ServedModel, TransformGraph
    from trainer.warm_start import name_weights

    label = config.label
    ServedModel(
        network,
        name_weights(network),
        TransformGraph(tft.TFTransformOutput(make_literal_path(graph))),
        config.feature_set,
        "",
        config.data.build_read_options(label.column, *label.inputs),
    ).export(folder)


def _read_outputs(config: PipelineConfig, outputs: Any) -> tuple[Any, list[str]]:
    """Return predictions as `Predictions` has them."""
    from serving.model.output_names import PREDICTION, PROBABILITIES, PROBABILITY

    match config.label:
        case BinaryLabel() as label:
            positive = outputs[PROBABILITY].astype(np.float64)
            return np.stack([1 - positive, positive], axis=1), [label.negative, label.positive]
        case MulticlassLabel() as label:
            shares = outputs[PROBABILITIES].astype(np.float64)
            return shares / shares.sum(axis=1, keepdims=True), list(label.classes)
        case _:
            return outputs[PREDICTION].astype(np.float64), []
