"""StatisticsGen: the artifact of the stock component, several times as fast.

TFDV's own generators compute the statistics. They get batches of many thousand rows, read by TensorFlow's threads, in
one pass of one small Beam job over the shards of all splits. The values of a column are counted in sketches of bounded
size, which are exact for a column of at most `COUNTED_VALUES` different ones.

TFDV's histograms and median of numbers are interpolated between quantiles of a sketch. They are kept for readers of
TFDV's statistics. Beside them, `custom_stats` of each column of numbers have true counts and quantiles that occur in it
(components/histograms.py reads them).

With a column of weights, TFDV's generators count all a second time by weight, into TFDV's own `weighted_` fields.

Derived columns are computed in each batch, as in the Transform graph. They have TFX's mark of columns that no example
has (schemas/curated/derived_features.py).

The component takes the arguments of stock StatisticsGen. A schema, options of TFDV, samples, sharded output and records
other than tf.Example are handed to the stock executor.
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
from tfx.components.statistics_gen import executor as stock
from tfx.components.statistics_gen.stats_artifact_utils import BINARY_PB_BASENAME, load_statistics
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils

from cli.errors import DataError
from components.artifact_files import list_files
from components.config import STOCK, Implementation
from components.histograms import COUNTED_VALUES, WRITTEN_BINS, build_custom_stats
from components.sensitive_statistics import mark_sensitive
from components.statistics_gen.record_batches import read_record_batches
from components.statistics_gen.tfdv_histograms import use_in_tfdv
from components.stock_executor import explain_unreadable, log_handover
from components.value_counts import ValueCounts, count_values, create_empty, merge
from schemas.curated.derived_features import mark_derived
from schemas.features import ColumnType, DerivedColumn

_TYPES = {
    pa.float32(): statistics_pb2.FeatureNameStatistics.FLOAT,
    pa.int64(): statistics_pb2.FeatureNameStatistics.INT,
}
use_in_tfdv()
# For each generator, what it has seen.
Accumulators = list[Any]


class StatisticsExecutor(stock.Executor):
    """Reads every shard of every split once, or hands the work to the stock executor."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the statistics of each split of `examples`.

        Raises:
          DataError: a shard cannot be read, or a split has none.
          ValueError: no split is left; as the stock executor raises.
        """
        weight = exec_properties.get("weight") or None
        sensitive = json.loads(exec_properties.get("sensitive_columns") or "[]")
        derived = _read_derived(exec_properties)
        statistics = artifact_utils.get_single_instance(output_dict["statistics"])
        reason = _explain_stock(input_dict, exec_properties)
        if reason and derived:
            raise ValueError(
                f"StatisticsGen: derived_columns are not computed, because {reason}; remove one of the two"
            )
        is_stock = bool(reason) or exec_properties.get("implementation") == STOCK
        if is_stock:
            if reason:
                log_handover("StatisticsGen", reason)
            super().Do(input_dict, output_dict, {**exec_properties, **_build_weight_option(exec_properties, weight)})
            if not derived:
                _mark_written(statistics, sensitive)
                return
        self._log_startup(input_dict, output_dict, exec_properties)
        first, *_ = examples = input_dict["examples"]
        excluded = json_utils.loads(exec_properties.get(standard_component_specs.EXCLUDE_SPLITS_KEY) or "null") or []
        splits = [name for name in artifact_utils.decode_split_names(first.split_names) if name not in excluded]
        if not splits:
            raise ValueError(f"StatisticsGen: {first.uri}: no split is left; its splits are '{first.split_names}'")
        _describe(statistics, splits, first.span)
        shards = [(split, path) for split in splits for path in _list_split_files(examples, split)]
        column_types = json.loads(exec_properties.get("column_types") or "null")
        delimiters = json.loads(exec_properties.get("delimiters") or "{}")
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(shards)
                | "Spread" >> beam.Reshuffle()
                | "Take" >> beam.ParDo(_Take(column_types, delimiters, derived, weight))
                | "Merge" >> beam.CombinePerKey(partial(_merge, weight=weight))
                | "Write"
                >> beam.Map(
                    _write,
                    weight=weight,
                    folder=statistics.uri,
                    sensitive=sensitive,
                    derived=derived,
                    adds_to_stock=is_stock,
                )
            )


def _read_derived(exec_properties: dict[str, Any]) -> dict[str, DerivedColumn]:
    columns = json.loads(exec_properties.get("derived_columns") or "{}")
    return {name: DerivedColumn.from_json(column) for name, column in columns.items()}


def _write_derived(derived: Mapping[str, DerivedColumn]) -> str:
    return json.dumps({name: column.as_json() for name, column in derived.items()}, sort_keys=True)


def _explain_stock(input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any]) -> str:
    """Return why the stock executor has to do the work; empty if this one can."""
    if input_dict.get(standard_component_specs.SCHEMA_KEY):
        return "a schema is given"
    options = exec_properties.get(standard_component_specs.STATS_OPTIONS_JSON_KEY)
    if options and json.loads(options) != json.loads(tfdv.StatsOptions().to_json()):
        return "stats_options are given"
    if json_utils.loads(exec_properties.get(standard_component_specs.SAMPLE_RATE_BY_SPLIT_KEY) or "null"):
        return "sample rates are given"
    if exec_properties.get(standard_component_specs.SHARDED_STATS_OUTPUT_KEY):
        return "sharded output is asked for"
    return explain_unreadable(input_dict[standard_component_specs.EXAMPLES_KEY])


def _build_weight_option(exec_properties: dict[str, Any], weight: str | None) -> dict[str, str]:
    """Return the stock executor's options with the column of weights, if one is given."""
    if weight is None:
        return {}
    text = exec_properties.get(standard_component_specs.STATS_OPTIONS_JSON_KEY)
    options = tfdv.StatsOptions.from_json(text) if text else tfdv.StatsOptions()
    options.weight_feature = weight
    return {standard_component_specs.STATS_OPTIONS_JSON_KEY: options.to_json()}


def _describe(statistics: types.Artifact, splits: list[str], span: int) -> None:
    """Set the properties that the stock executor sets."""
    statistics.split_names = artifact_utils.encode_split_names(splits)
    statistics.span = span
    statistics.set_string_custom_property(stock.STATS_DASHBOARD_LINK, "")
    rates = json_utils.dumps(dict.fromkeys(splits, 1.0))
    statistics.set_json_value_custom_property(stock.SAMPLE_RATE_BY_SPLIT_PROPERTY_NAME, rates)


def _list_split_files(examples: list[types.Artifact], split: str) -> list[str]:
    uris = artifact_utils.get_split_uris(examples, split)
    files = [file for uri in uris for file in list_files(uri)]
    if not files:
        raise DataError(f"StatisticsGen: split '{split}' has no files in {', '.join(uris)}; run ExampleGen again")
    return files


def build_generators(weight: str | None = None) -> list[Any]:
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
        self.counts: ValueCounts = create_empty()
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
                custom_stats=build_custom_stats(column.counts, WRITTEN_BINS),
            )
        return statistics


class _Take(beam.DoFn):
    """The statistics of one shard, from one pass over it."""

    def __init__(
        self,
        column_types: Mapping[str, ColumnType] | None,
        delimiters: Mapping[str, str],
        derived: Mapping[str, DerivedColumn],
        weight: str | None,
    ) -> None:
        self._column_types = column_types
        self._delimiters = delimiters
        self._derived = derived
        self._weight = weight

    def process(self, element: tuple[str, str]) -> Iterator[tuple[str, Accumulators]]:
        """Take a split and the path of a shard; yield the split and what the generators have seen."""
        split, path = element
        kinds = build_generators(self._weight)
        accumulators = [kind.create_accumulator() for kind in kinds]
        for batch in read_record_batches(path, self._column_types, self._delimiters, self._derived):
            accumulators = [
                kind.add_input(accumulator, batch) for kind, accumulator in zip(kinds, accumulators, strict=True)
            ]
        yield split, [kind.compact(accumulator) for kind, accumulator in zip(kinds, accumulators, strict=True)]


def _merge(shards: Iterable[Accumulators], weight: str | None) -> Accumulators:
    """Return the statistics of all shards together."""
    return [
        kind.merge_accumulators(accumulators)
        for kind, accumulators in zip(build_generators(weight), zip(*shards, strict=True), strict=True)
    ]


def _write(
    keyed: tuple[str, Accumulators],
    weight: str | None,
    folder: str,
    sensitive: Collection[str],
    derived: Mapping[str, DerivedColumn],
    *,
    adds_to_stock: bool,
) -> None:
    """Write the statistics of a split.

    Args:
      keyed: Name of the split, and the state of the generators after all rows.
      weight: Column of the rows' weights, if there is one.
      folder: Folder of the artifact.
      sensitive: Columns to mark as sensitive.
      derived: Columns to mark as derived.
      adds_to_stock: Whether the derived columns are added to those that the stock executor wrote.
    """
    split, accumulators = keyed
    statistics = stats_impl.extract_statistics_output(accumulators, build_generators(weight))
    if adds_to_stock:
        own, statistics = statistics, tfdv.load_stats_binary(_locate_file(folder, split))
        statistics.datasets[0].features.extend(f for f in own.datasets[0].features if _format_path(f) in derived)
    _mark(statistics, sensitive)
    _mark_derived(statistics, derived)
    _write_file(statistics, folder, split)


def _mark_written(artifact: types.Artifact, sensitive: Collection[str]) -> None:
    """Mark the sensitive columns in what the stock executor wrote."""
    for split in artifact_utils.decode_split_names(artifact.split_names) if sensitive else ():
        statistics = load_statistics(artifact, split).proto()
        _mark(statistics, sensitive)
        _write_file(statistics, artifact.uri, split)


def _mark(statistics: statistics_pb2.DatasetFeatureStatisticsList, sensitive: Collection[str]) -> None:
    for feature in statistics.datasets[0].features:
        if _format_path(feature) in sensitive:
            mark_sensitive(feature)


def _mark_derived(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, derived: Mapping[str, DerivedColumn]
) -> None:
    for feature in statistics.datasets[0].features:
        if _format_path(feature) in derived:
            mark_derived(feature, derived[_format_path(feature)].expression)


def _format_path(feature: statistics_pb2.FeatureNameStatistics) -> str:
    return ".".join(feature.path.step)


def _locate_file(folder: str, split: str) -> str:
    return os.path.join(folder, f"Split-{split}", BINARY_PB_BASENAME)


def _write_file(statistics: statistics_pb2.DatasetFeatureStatisticsList, folder: str, split: str) -> None:
    path = _locate_file(folder, split)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(statistics.SerializeToString(deterministic=True))


class StatisticsGenSpec(standard_component_specs.StatisticsGenSpec):
    """The spec of stock StatisticsGen, with the optional parameters of this one."""

    PARAMETERS: ClassVar = {
        **standard_component_specs.StatisticsGenSpec.PARAMETERS,
        "column_types": component_spec.ExecutionParameter(type=str, optional=True),
        "implementation": component_spec.ExecutionParameter(type=str, optional=True),
        "weight": component_spec.ExecutionParameter(type=str, optional=True),
        "sensitive_columns": component_spec.ExecutionParameter(type=str, optional=True),
        "delimiters": component_spec.ExecutionParameter(type=str, optional=True),
        "derived_columns": component_spec.ExecutionParameter(type=str, optional=True),
        "code_fingerprint": component_spec.ExecutionParameter(type=str, optional=True),
    }


class StatisticsGen(base_beam_component.BaseBeamComponent):
    """Takes the statistics of every split, as TFDV does; a replacement of stock StatisticsGen in any pipeline."""

    SPEC_CLASS = StatisticsGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(StatisticsExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        schema: types.BaseChannel | None = None,
        stats_options: tfdv.StatsOptions | None = None,
        exclude_splits: list[str] | None = None,
        *,
        column_types: Mapping[str, ColumnType] | None = None,
        weight: str | None = None,
        sensitive_columns: Collection[str] = (),
        delimiters: Mapping[str, str] = MappingProxyType({}),
        derived_columns: Mapping[str, DerivedColumn] = MappingProxyType({}),
        implementation: Implementation = "fast",
        code_fingerprint: str | None = None,
    ) -> None:
        """Args:
        examples: examples of any format that TFX reads; tf.Example is read fast.
        schema: schema for TFDV; with it, the stock executor does the work.
        stats_options: options of TFDV; likewise.
        exclude_splits: names of splits without statistics.
        column_types: the columns to read, and the type of each. If omitted, all columns, as the records have them.
        weight: column of the rows' weights, by which all is counted a second time; None where all weigh alike.
        sensitive_columns: the columns that are marked, so that no page shows their values.
        delimiters: the string between two values of a row, of each column of lists; each value counts.
        derived_columns: columns that are computed from those of `column_types`.
        implementation: `stock` takes the statistics by the stock executor; marks and derived columns are added.
        code_fingerprint: fingerprint of this code, so that a change of it invalidates the cache.
        """
        if derived_columns and column_types is None:
            raise ValueError("StatisticsGen: derived_columns need column_types, which name the columns to read")
        spec = StatisticsGenSpec(
            examples=examples,
            schema=schema,
            stats_options_json=stats_options.to_json() if stats_options else None,
            exclude_splits=json_utils.dumps(exclude_splits or []),
            column_types=None if column_types is None else json.dumps(column_types, sort_keys=True),
            weight=weight,
            implementation=implementation,
            sensitive_columns=json.dumps(sorted(sensitive_columns)) if sensitive_columns else None,
            delimiters=json.dumps(delimiters, sort_keys=True) if delimiters else None,
            derived_columns=_write_derived(derived_columns) if derived_columns else None,
            code_fingerprint=code_fingerprint,
            statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
        )
        super().__init__(spec=spec)
