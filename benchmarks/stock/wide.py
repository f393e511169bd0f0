"""Stock TFX up to Transform on a wide table, as its taxi template does it: an operation for each column."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx import v1 as tfx

from benchmarks.stock.pipeline import BEAM_ARGS

LABEL = "outcome"
NUM_BUCKETS = 32


def preprocessing_fn(inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Return z-scores and buckets of numbers, and IDs of strings."""
    outputs = {}
    for name, column in inputs.items():
        dense = column
        if isinstance(column, tf.SparseTensor):
            missing = "" if column.dtype == tf.string else 0
            dense = tft.sparse_tensor_to_dense_with_shape(column, [None, 1], missing)
        if dense.dtype == tf.string:
            outputs[f"{name}_xf"] = tft.compute_and_apply_vocabulary(dense, num_oov_buckets=1, vocab_filename=name)
        else:
            number = tf.cast(dense, tf.float32)
            outputs[f"{name}_xf"] = tft.scale_to_z_score(number)
            outputs[f"{name}_bucket"] = tft.bucketize(number, NUM_BUCKETS)
    return outputs


def create_stock_pipeline(data_folder: str, work_folder: str) -> tfx.dsl.Pipeline:
    """Return a pipeline of the components up to Transform, over all CSV files of a folder."""
    work = Path(work_folder).absolute()
    example_gen = tfx.components.CsvExampleGen(data_folder)
    examples = example_gen.outputs["examples"]
    statistics_gen = tfx.components.StatisticsGen(examples=examples)
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"])
    transform = tfx.components.Transform(
        examples=examples,
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="benchmarks.stock.wide.preprocessing_fn",
    )
    database = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(work / "metadata.db"))
    return tfx.dsl.Pipeline(
        pipeline_name="stock-wide",
        pipeline_root=str(work / "root"),
        components=[example_gen, statistics_gen, schema_gen, transform],
        enable_cache=False,
        metadata_connection_config=database,
        beam_pipeline_args=BEAM_ARGS,
    )
