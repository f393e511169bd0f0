"""StatisticsGen: the artifact of the stock component, several times as fast.

TFDV's own generators compute the statistics. They get batches of many thousand rows, read by TensorFlow's threads, in
one pass of one small Beam job over the shards of all splits. The values of a column are counted in sketches of bounded
size, which are exact for a column of at most `COUNTED_VALUES` different ones.

TFDV's histograms and median of numbers are interpolated between quantiles of a sketch. They are kept for readers of
TFDV's statistics. Beside them, `custom_stats` of each column of numbers have true counts and quantiles that occur in it
(components/histograms.py reads them).

With a column of weights, TFDV's generators count all a second time by weight, into TFDV's own `weighted_` fields.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_data_validation.statistics.generators.basic_stats_generator import BasicStatsGenerator
from tensorflow_data_validation.statistics.generators.stats_generator import CombinerStatsGenerator
from tensorflow_data_validation.statistics.generators.top_k_uniques_sketch_stats_generator import (
    TopKUniquesSketchStatsGenerator,
)
from tensorflow_metadata.proto.v0 import path_pb2, statistics_pb2
from tfx import types
from tfx.components.statistics_gen.stats_artifact_utils import BINARY_PB_BASENAME
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from components.artifact_files import files_in
from components.histograms import custom_stats, mark_sensitive
from components.statistics_gen.record_batches import record_batches
from components.statistics_gen.tfdv_histograms import use_in_tfdv
from components.value_counts import ValueCounts, count_values, empty, merge
from schemas.features import ColumnType

# Beyond it the number of different values is estimated, to about 1 / sqrt(COUNTED_VALUES), and a value's count may be
# short by a share of 1 / COUNTED_VALUES of all rows. 10 MB a column at most; of numbers 2 MB, for each shard at work.
COUNTED_VALUES = 1 << 16
# Bins of a column of numbers in the artifact: at most 30 kB a column and split.
WRITTEN_BINS = 1 << 10
_TYPES = {
    pa.float32(): statistics_pb2.FeatureNameStatistics.FLOAT,
    pa.int64(): statistics_pb2.FeatureNameStatistics.INT,
}
use_in_tfdv()
# For each generator, what it has seen.
Accumulators = list[Any]


class StatisticsExecutor(base_beam_executor.BaseBeamExecutor):
    """Reads every shard of every split once."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the statistics of each split of `examples`.

        Raises:
          DataError: a shard cannot be read.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        statistics = artifact_utils.get_single_instance(output_dict["statistics"])
        splits = artifact_utils.decode_split_names(examples.split_names)
        statistics.split_names = examples.split_names
        statistics.span = examples.span
        shards = [
            (split, path) for split in splits for path in files_in(artifact_utils.get_split_uri([examples], split))
        ]
        column_types = json.loads(exec_properties["column_types"])
        weight = exec_properties.get("weight") or None
        sensitive = json.loads(exec_properties["sensitive_columns"])
        delimiters = json.loads(exec_properties.get("delimiters") or "{}")
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(shards)
                | "Spread" >> beam.Reshuffle()
                | "Take" >> beam.ParDo(_Take(column_types, delimiters, weight))
                | "Merge" >> beam.CombinePerKey(partial(_merge, weight=weight))
                | "Write" >> beam.Map(_write, weight=weight, folder=statistics.uri, sensitive=sensitive)
            )


def generators(weight: str | None = None) -> list[Any]:
    """Return what the stock component runs, with its options, and true counts; values are counted in sketches.

    Args:
      weight: column of the rows' weights, TFDV's `weight_feature`; None where all weigh alike.
    """
    usual = tfdv.StatsOptions(weight_feature=weight)
    return [
        BasicStatsGenerator(
            example_weight_map=usual.example_weight_map,
            num_values_histogram_buckets=usual.num_values_histogram_buckets,
            num_histogram_buckets=usual.num_histogram_buckets,
            num_quantiles_histogram_buckets=usual.num_quantiles_histogram_buckets,
            epsilon=usual.epsilon,
        ),
        TopKUniquesSketchStatsGenerator(
            example_weight_map=usual.example_weight_map,
            num_top_values=usual.num_top_values,
            num_rank_histogram_buckets=usual.num_rank_histogram_buckets,
            num_misragries_buckets=COUNTED_VALUES,
            num_kmv_buckets=COUNTED_VALUES,
            # A metric of Beam that nobody reads, for which every value would become an object of Python.
            length_counter_sampling_rate=0.0,
        ),
        NumberCounter(),
    ]


class ColumnCounts:
    """The counts of one column of numbers, and the values that are not counted yet.

    Counting many values at once is several times as fast as a batch at a time.
    """

    def __init__(self, type_: int) -> None:
        self.type = type_
        self.counts: ValueCounts = empty()
        self._waiting: list[Any] = []
        self._rows = 0

    def add(self, values: Any) -> None:
        """Add a numpy array of numbers."""
        self._waiting.append(values)
        self._rows += len(values)
        if self._rows >= 2 * COUNTED_VALUES:
            self.fold()

    def fold(self) -> None:
        """Count the values that are not counted yet."""
        if self._waiting:
            self.counts = merge([self.counts, count_values(np.concatenate(self._waiting))], COUNTED_VALUES)
            self._waiting, self._rows = [], 0


class NumberCounter(CombinerStatsGenerator):
    """Counts the values of each column of numbers: custom_stats that TFDV's readers pass over."""

    def __init__(self) -> None:
        super().__init__("NumberCounter")

    def create_accumulator(self) -> dict[str, ColumnCounts]:
        """Return counts of no columns."""
        return {}

    def add_input(self, accumulator: dict[str, ColumnCounts], input_record_batch: pa.RecordBatch) -> Any:
        """Add the values of a batch."""
        for name, column in zip(input_record_batch.schema.names, input_record_batch.columns, strict=True):
            type_ = _TYPES.get(getattr(column.type, "value_type", None))
            if type_ is not None:
                accumulator.setdefault(name, ColumnCounts(type_)).add(column.flatten().to_numpy())
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[str, ColumnCounts]]) -> Any:
        """Return the counts of all shards together."""
        merged: dict[str, ColumnCounts] = {}
        for accumulator in accumulators:
            for name, other in self.compact(accumulator).items():
                column = merged.setdefault(name, ColumnCounts(other.type))
                column.counts = merge([column.counts, other.counts], COUNTED_VALUES)
        return merged

    def compact(self, accumulator: dict[str, ColumnCounts]) -> Any:
        """Count the values that are not counted yet."""
        for column in accumulator.values():
            column.fold()
        return accumulator

    def extract_output(self, accumulator: dict[str, ColumnCounts]) -> statistics_pb2.DatasetFeatureStatistics:
        """Return the custom statistics of each column."""
        statistics = statistics_pb2.DatasetFeatureStatistics()
        for name, column in accumulator.items():
            statistics.features.add(
                path=path_pb2.Path(step=[name]),
                type=column.type,
                custom_stats=custom_stats(column.counts, WRITTEN_BINS),
            )
        return statistics


class _Take(beam.DoFn):
    """The statistics of one shard, from one pass over it."""

    def __init__(
        self, column_types: Mapping[str, ColumnType], delimiters: Mapping[str, str], weight: str | None
    ) -> None:
        self._column_types = column_types
        self._delimiters = delimiters
        self._weight = weight

    def process(self, element: tuple[str, str]) -> Iterator[tuple[str, Accumulators]]:
        """Take a split and the path of a shard; yield the split and what the generators have seen."""
        split, path = element
        kinds = generators(self._weight)
        accumulators = [kind.create_accumulator() for kind in kinds]
        for batch in record_batches(path, self._column_types, self._delimiters):
            accumulators = [
                kind.add_input(accumulator, batch) for kind, accumulator in zip(kinds, accumulators, strict=True)
            ]
        yield split, [kind.compact(accumulator) for kind, accumulator in zip(kinds, accumulators, strict=True)]


def _merge(shards: Iterable[Accumulators], weight: str | None) -> Accumulators:
    """Return the statistics of all shards together."""
    return [
        kind.merge_accumulators(accumulators)
        for kind, accumulators in zip(generators(weight), zip(*shards, strict=True), strict=True)
    ]


def _write(keyed: tuple[str, Accumulators], weight: str | None, folder: str, sensitive: Collection[str]) -> None:
    split, accumulators = keyed
    statistics = stats_impl.extract_statistics_output(accumulators, generators(weight))
    for feature in statistics.datasets[0].features:
        if ".".join(feature.path.step) in sensitive:
            mark_sensitive(feature)
    path = os.path.join(folder, f"Split-{split}", BINARY_PB_BASENAME)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(statistics.SerializeToString(deterministic=True))


class StatisticsGenSpec(types.ComponentSpec):
    """The inputs and outputs of the stock StatisticsGen that are used here."""

    PARAMETERS: ClassVar = {
        "column_types": component_spec.ExecutionParameter(type=str),
        "weight": component_spec.ExecutionParameter(type=str, optional=True),
        "sensitive_columns": component_spec.ExecutionParameter(type=str),
        "delimiters": component_spec.ExecutionParameter(type=str, optional=True),
        "code_fingerprint": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS: ClassVar = {"statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics)}


class StatisticsGen(base_beam_component.BaseBeamComponent):
    """Takes the statistics of every split, as TFDV does."""

    SPEC_CLASS = StatisticsGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(StatisticsExecutor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        column_types: Mapping[str, ColumnType],
        weight: str | None = None,
        sensitive_columns: Collection[str] = (),
        delimiters: Mapping[str, str] = MappingProxyType({}),
        code_fingerprint: str,
    ) -> None:
        """Args:
        examples: in TFRecord.
        column_types: the columns of the examples, and the type of each.
        weight: column of the rows' weights, by which all is counted a second time; None where all weigh alike.
        sensitive_columns: the columns that are marked, so that no page shows their values.
        delimiters: the string between two values of a row, of each column of lists; each value counts.
        code_fingerprint: fingerprint of this code, so that a change of it invalidates the cache.
        """
        spec = StatisticsGenSpec(
            examples=examples,
            column_types=json.dumps(column_types, sort_keys=True),
            weight=weight,
            sensitive_columns=json.dumps(sorted(sensitive_columns)),
            delimiters=json.dumps(delimiters, sort_keys=True),
            code_fingerprint=code_fingerprint,
            statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
        )
        super().__init__(spec=spec)
