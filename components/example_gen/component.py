"""ExampleGen: streams files or BigQuery through Arrow into tf.Example, several times as fast as the stock one.

The artifact is the stock one's: `Split-<name>/data_tfrecord-*.gz` of serialized tf.Example, with a fingerprint of the
input files (components/example_gen/driver.py). Column types are declared instead of guessed. Splits by files,
column, group and hash can be combined. A row that does not fit is rejected with its place, or counted and written
aside; the stock component drops it, or fails in Beam.

Large files are cut into pieces, and tables of BigQuery into streams. Each of them is one element in Beam; it is read by
one thread while others turn the batches before into records. What is written depends on neither the number of workers
nor that of threads.
"""

import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from google.protobuf import struct_pb2
from numpy.typing import NDArray
from tfx import types
from tfx.components.example_gen import base_example_gen_executor
from tfx.components.util import examples_utils
from tfx.dsl.components.base import executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from cli import progress
from cli.errors import DataError
from components.example_gen.blocks import Division, convert
from components.example_gen.checked_examples import CheckedExampleGen
from components.example_gen.driver import ContentExampleGen
from components.example_gen.equal_rows import choose_sampling, compare_rows, open_records
from components.example_gen.groups import check_groups, write_groups
from components.example_gen.input_fingerprint import SPAN_SEPARATOR, name_input
from components.example_gen.labels import LabelCounts, merge_label_counts, summarize_label_counts
from components.example_gen.parts import collect_rules, select_rules
from components.example_gen.shares import Shares, decide_shares
from components.example_gen.split_findings import (
    find_contradictory_labels,
    find_empty_classes,
    reject_empty_classes,
    reject_weightless,
)
from components.example_gen.split_rows import build_no_rows_error
from components.example_gen.value_findings import find_unfit_values
from components.example_records import GzipFile
from schemas.data import TRAIN_SPLIT, Data, FileSplit
from schemas.declaration import did_you_mean
from schemas.features import FeatureSet
from schemas.tables import bigquery
from schemas.tables.data_files import has_spans, inputs, matching_files, unlisted_inputs
from schemas.tables.file_kinds import is_compressed
from schemas.tables.pieces import PIECE_BYTES, Piece
from schemas.tables.precision import TableCounts
from schemas.tables.typed_columns import Columns, Table, summary, too_many_bad_rows
from serving.registry.data_time import DAY_SECONDS, DataTime

ROWS_PROPERTY = "rows"
# By split, what names its records: files of another content, such as another order of columns, may hold the same.
CONTENT_PROPERTY = "content"
# By split and column: hashes of its values, and of the rows without it, `schemas.tables.row_hash.column_hashes`.
COLUMNS_PROPERTY = "columns"
REJECTED_PROPERTY = "rejected_rows"
# Rows without a label that were left out: how many, and as JSON by the split whose files hold them.
UNLABELLED_PROPERTY, UNLABELLED_BY_SPLIT_PROPERTY = "unlabelled_rows", "unlabelled_rows_by_split"
# What was found in the rows, for the gate to judge: a JSON list of `components.policy.Anomaly`.
FINDINGS_PROPERTY = "findings"
# The labels of each split, as JSON: {split: {class: rows}}, or {split: {"rows": n, "mean": m, "std": s}} of numbers.
LABELS_PROPERTY = "labels"
# The same by weight, as JSON: the sum of the weights in place of the rows. Only with a column of weights.
WEIGHTS_PROPERTY = "weighted_labels"
# Rows that are equal in all features, as JSON: the result of `compare_rows`; `spread`, the splits
# whose copies were spread over their shares; `drawn`, the shares that train was divided into so; `grouped`, whether
# shares are taken of groups.
EQUAL_ROWS_PROPERTY = "equal_rows"
# Newest time of the rows of train, as JSON: fields of `serving.registry.data_time.DataTime`.
DATA_TIME_PROPERTY = "data_time"
REJECTS_FILE = "rejects.jsonl"
# Files may be remote.
_THREADS = 16


def build_example_gen(
    *,
    data: Data,
    features: FeatureSet,
    code_fingerprint: str,
    files_are_here: bool = True,
    source: types.BaseChannel | None = None,
) -> ContentExampleGen | CheckedExampleGen:
    """Return the ExampleGen component of a config; the spans that are there now are resolved here.

    Args:
      data: location of the files, and their splits.
      features: the columns to read.
      code_fingerprint: fingerprint of this code, so that a change of it invalidates the cache.
      files_are_here: whether files can be listed now; spans can be resolved only then.
      source: records of the ExampleGen that runs first, if the config has one.
    """
    are_listed = data.reads_files and files_are_here
    patterns = inputs(data) if are_listed or has_spans(data) else unlisted_inputs(data)
    spans = [pattern.span for pattern in patterns if pattern.span is not None]
    custom_config = example_gen_pb2.CustomConfig()
    settings = {
        **Table.settings(data, features),
        "splits": collect_rules(data),
        "span": max(spans, default=None),
        "code_fingerprint": code_fingerprint,
    }
    source_split = getattr(data.splits[TRAIN_SPLIT], "source", TRAIN_SPLIT)
    train_spans = [pattern.span for pattern in patterns if pattern.split == source_split and pattern.span is not None]
    if train_spans:
        files = data.splits[source_split]
        is_date = isinstance(files, FileSplit) and "{YYYY}" in files.files
        settings["train_span"] = {"span": max(train_spans), "is_date": is_date}
    # As text: a Struct would forget the order of the shares, and with it which share a row falls into.
    struct = struct_pb2.Struct()
    struct.update({"settings": json.dumps(settings)})
    custom_config.custom_config.Pack(struct)
    patterns = [
        example_gen_pb2.Input.Split(
            name=name_input(pattern.split, pattern.span),
            pattern=pattern.pattern,
        )
        for pattern in patterns
    ]
    parameters = {
        "input_config": example_gen_pb2.Input(splits=patterns),
        "custom_config": custom_config,
        "custom_executor_spec": executor_spec.BeamExecutorSpec(TableExecutor),
    }
    component: ContentExampleGen | CheckedExampleGen = (
        ContentExampleGen(input_base=data.input_base, **parameters)
        if source is None
        else CheckedExampleGen(source, **parameters)
    )
    component.with_id("ExampleGen")
    return component


class TableExecutor(base_example_gen_executor.BaseExampleGenExecutor):
    """Converts each piece of an input file in one Beam element, writing one shard for each split it feeds."""

    def GetInputSourceToExamplePTransform(self) -> beam.PTransform:  # noqa: N802 (TFX's name)
        raise NotImplementedError("files are written by `Do` itself")

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the splits and records on the artifact how many rows they have, and a name of their content.

        Raises:
          DataError: a file cannot be read; more rows than allowed do not fit; a group is in two splits; or a split
            would be empty.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict["examples"])
        settings = _read_settings(exec_properties)
        rows_read = _find_input(input_dict, exec_properties, settings)
        files = rows_read.files
        for path in _find_uncut(rows_read, settings["format"]):
            progress.report(
                f"{path}: is read by one worker and makes one shard, since compressed CSV cannot be cut; decompress "
                "it, or divide it into several files"
            )
        names = [*dict.fromkeys(name for name, _ in files), *settings["splits"]]
        plan = _plan(rows_read, names, settings)
        results_file = os.path.join(artifact.uri, "conversion.json")
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create([(name, index, len(files), path) for index, (name, path) in enumerate(files)])
                | "SpreadFiles" >> beam.Reshuffle()
                | "Cut" >> beam.ParDo(_CutFile(settings))
                | "SpreadPieces" >> beam.Reshuffle()
                | "Convert" >> beam.ParDo(_ConvertPiece(settings, plan, artifact.uri))
                | "Collect" >> beam.combiners.ToList()
                | "Report" >> beam.Map(_write_json, path=results_file)
            )
        results = sorted(json.loads(tf.io.gfile.GFile(results_file).read()), key=lambda result: result["shard"])
        tf.io.gfile.remove(results_file)
        _raise_errors(results)
        rejected = _write_rejects(results, os.path.join(artifact.uri, REJECTS_FILE), settings["max_bad_rows"])
        rows = _sum_rows(results, names)
        if settings["columns"]["group"]:
            check_groups(artifact.uri, list(rows), settings["columns"]["group"])
        artifact.split_names = artifact_utils.encode_split_names(list(rows))
        artifact.set_string_custom_property(ROWS_PROPERTY, json.dumps(rows))
        artifact.set_string_custom_property(CONTENT_PROPERTY, json.dumps(_hash_content(results, list(rows))))
        artifact.set_string_custom_property(COLUMNS_PROPERTY, json.dumps(_sum_column_hashes(results, list(rows))))
        columns = Columns.from_json(settings["columns"])
        labels = _sum_labels(results, "labels", names, list(columns.labels))
        reject_empty_classes(labels, sensitive=str(columns.label) in columns.sensitive)
        artifact.set_string_custom_property(LABELS_PROPERTY, json.dumps(labels))
        if columns.weight is not None:
            weights = _sum_labels(results, "weights", names, list(columns.labels))
            reject_weightless(weights, columns.weight)
            artifact.set_string_custom_property(WEIGHTS_PROPERTY, json.dumps(weights))
        equal_rows = _compare_splits(artifact.uri, names, settings, plan)
        artifact.set_string_custom_property(EQUAL_ROWS_PROPERTY, json.dumps(equal_rows))
        column = str(columns.label)
        findings = [
            *find_unfit_values(_merge_counts(results, columns)),
            *find_empty_classes(labels, column),
            *find_contradictory_labels(equal_rows, column),
        ]
        artifact.set_string_custom_property(FINDINGS_PROPERTY, json.dumps([asdict(finding) for finding in findings]))
        artifact.set_int_custom_property(REJECTED_PROPERTY, rejected)
        unlabelled = {name: sum(r["unlabelled"] for r in results if r["split"] == name) for name in plan.shares}
        artifact.set_int_custom_property(UNLABELLED_PROPERTY, sum(unlabelled.values()))
        artifact.set_string_custom_property(UNLABELLED_BY_SPLIT_PROPERTY, json.dumps(unlabelled))
        artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
        if settings["span"] is not None:
            artifact.span = settings["span"]
        artifact.set_string_custom_property(DATA_TIME_PROPERTY, json.dumps(asdict(_find_data_time(files, settings))))


def _find_data_time(files: list[tuple[str, str]], settings: dict[str, Any]) -> DataTime:
    """Return the newest time of the rows of `train`, as far as the names and times of the files have it."""
    newest_span = settings.get("train_span", {})
    span = newest_span.get("span")
    if newest_span.get("is_date"):
        return DataTime(float(span * DAY_SECONDS), "the date of the newest span", span)
    paths = [path for name, path in files if name == TRAIN_SPLIT] or [path for _, path in files]
    if any(bigquery.is_bigquery(path) for path in paths):
        return DataTime(time.time(), "the time at which BigQuery was read", span)
    newest = max(tf.io.gfile.stat(path).mtime_nsec for path in paths) / 1e9
    return DataTime(newest, f"the time of the files{'' if span is None else f' of span {span}'}", span)


def _read_settings(exec_properties: dict[str, Any]) -> dict[str, Any]:
    custom_config = example_gen_pb2.CustomConfig()
    proto_utils.json_to_proto(exec_properties["custom_config"], custom_config)
    struct = struct_pb2.Struct()
    custom_config.custom_config.Unpack(struct)
    settings: dict[str, Any] = json.loads(struct["settings"])
    return settings


@dataclass(frozen=True)
class _Input:
    """Rows that are going to be read.

    Attributes:
      files: (split, path) of every input file, or (split, URI) of every stream of BigQuery, in a stable order.
      bytes: Size of them all.
      large: Files of at least the size of a piece.
    """

    files: list[tuple[str, str]]
    bytes: int
    large: tuple[str, ...] = ()


def _find_input(
    input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any], settings: dict[str, Any]
) -> _Input:
    input_config = example_gen_pb2.Input()
    proto_utils.json_to_proto(exec_properties["input_config"], input_config)
    patterns = [(str(split.name.split(SPAN_SEPARATOR)[0]), split.pattern) for split in input_config.splits]
    if input_dict:
        (source,) = input_dict["source"]
        return _measure([(name, path) for name, split in patterns for path in _list_record_files(source, name, split)])
    base = exec_properties["input_base"]
    if bigquery.is_bigquery(base):
        return _open_tables([(name, bigquery.find_rows(base, name, pattern)) for name, pattern in patterns], settings)
    return _measure([(name, path) for name, pattern in patterns for path in matching_files(base, pattern, name)])


def _list_record_files(source: types.Artifact, name: str, split: str) -> list[str]:
    """Return the files of a split that another ExampleGen has written.

    Args:
      source: Its output.
      name: Name of the split that is read from it.
      split: Name of the split in it.

    Raises:
      DataError: It has no such split, or holds no tf.Example.
    """
    splits = artifact_utils.decode_split_names(source.split_names)
    place = f"data.splits.{name}.examples"
    if split not in splits:
        raise DataError(f"{place}: data.example_gen wrote no split '{split}'; {did_you_mean(split, splits)}")
    payload = examples_utils.get_payload_format_string(source)
    if payload != "FORMAT_TF_EXAMPLE":
        raise DataError(f"{place}: data.example_gen wrote {payload}; expected FORMAT_TF_EXAMPLE")
    return matching_files(artifact_utils.get_split_uri([source], split), "*", name)


def _measure(files: list[tuple[str, str]]) -> _Input:
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = [*pool.map(lambda file: tf.io.gfile.stat(file[1]).length, files)]
    large = tuple(path for (_, path), size in zip(files, sizes, strict=True) if size >= PIECE_BYTES)
    return _Input(files, sum(sizes), large)


def _find_uncut(rows_read: _Input, format: str) -> list[str]:
    """Return the files that are worth being cut into pieces, and cannot be."""
    return [path for path in rows_read.large if format == "csv" and is_compressed(path)]


def _open_tables(tables: list[tuple[str, bigquery.TableRows]], settings: dict[str, Any]) -> _Input:
    """Open streams of tables of BigQuery, once: all that follows reads one snapshot in one order.

    Raises:
      DataError: A table cannot be read, has other columns or no rows.
    """
    columns = Columns.from_json(settings["columns"]).needed
    files: list[tuple[str, str]] = []
    size = 0
    for name, rows in tables:
        Table.from_json(rows.uri, settings).check_names()
        description = bigquery.describe(rows)
        streams = bigquery.open_streams(rows, dict.fromkeys(columns), bigquery.count_streams(description))
        if not streams:
            raise DataError(f"{rows}: holds no rows")
        files += [(name, stream.uri) for stream in streams]
        size += description.bytes
    return _Input(files, size)


def _merge_counts(results: list[dict[str, Any]], columns: Columns) -> TableCounts:
    """Add up the counts of all pieces, in their order."""
    counts = TableCounts(columns)
    for result in results:
        counts.merge(TableCounts.from_json(counts.columns, result["counts"]))
    return counts


def _write_json(value: Any, path: str) -> None:
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps(value))


def _raise_errors(results: list[dict[str, Any]]) -> None:
    errors = sorted(result["error"] for result in results if result["error"])
    if errors:
        raise DataError("\n".join(errors))


def _write_rejects(results: list[dict[str, Any]], path: str, allowed: int) -> int:
    """Write the bad rows of all files, one JSON object a line, and return how many they are.

    Raises:
      DataError: they are more than allowed.
    """
    rejected = sum(len(result["rejects"]) for result in results)
    if rejected > allowed:
        raise too_many_bad_rows([line for result in results for line in result["problems"]], allowed)
    if rejected:
        with tf.io.gfile.GFile(path, "w") as file:
            for reject in itertools.chain.from_iterable(result["rejects"] for result in results):
                file.write(json.dumps(reject, ensure_ascii=False) + "\n")
    return rejected


def _sum_rows(results: list[dict[str, Any]], names: list[str]) -> dict[str, int]:
    """Add up the rows of each split over all files; reject a split without any."""
    rows = {name: sum(result["rows"].get(name, 0) for result in results) for name in names}
    for name, count in rows.items():
        if count == 0:
            raise build_no_rows_error(name, rows)
    return rows


def _hash_content(results: list[dict[str, Any]], names: list[str]) -> dict[str, str]:
    """Name the records of each split, shard by shard; the same records have the same name."""
    shards = {name: [result["content"][name] for result in results if name in result["content"]] for name in names}
    return {name: hashlib.sha256(" ".join(contents).encode()).hexdigest()[:12] for name, contents in shards.items()}


def _sum_column_hashes(results: list[dict[str, Any]], names: list[str]) -> dict[str, dict[str, str]]:
    """Add up the hashes of each column over all shards; the same rows in another order have the same."""
    by_split: dict[str, dict[str, str]] = {}
    for name in names:
        sums: dict[str, list[int]] = {}
        for result in results:
            for column, pair in result["columns"].get(name, {}).items():
                sums[column] = [(a + b) % (1 << 64) for a, b in zip(sums.get(column, [0, 0]), pair, strict=True)]
        # Half of each is enough to tell two columns apart, and thousands of columns have to be kept. The lower halves
        # of two splits add up to that of both together.
        by_split[name] = {
            column: "".join(f"{value % (1 << 32):08x}" for value in pair) for column, pair in sums.items()
        }
    return by_split


def _sum_labels(
    results: list[dict[str, Any]], kind: str, names: list[str], classes: list[str]
) -> dict[str, dict[str, float]]:
    """Add up the labels of each split over all files; `kind` is "labels", or "weights" for the same by weight."""
    pieces = {name: [result[kind][name] for result in results if name in result[kind]] for name in names}
    return {
        name: summarize_label_counts(merge_label_counts(counts, classes), classes) for name, counts in pieces.items()
    }


@dataclass(frozen=True)
class _Source:
    """One element in Beam: a piece of a file, or a whole one, and what its shards are called."""

    split: str
    path: str
    shard: str
    piece: Piece | None = None


def _cut(element: tuple[str, int, int, str], settings: dict[str, Any]) -> list[_Source]:
    """Return the pieces that a file is read in."""
    split, index, count, path = element
    shard = f"{index:05d}-of-{count:05d}"
    try:
        pieces = Table.from_json(path, settings).reader.pieces()
    except DataError:
        # The conversion of the whole file raises it again, and returns it as a result.
        pieces = []
    return [_Source(split, path, f"{shard}-{number:05d}", piece) for number, piece in enumerate(pieces)] or [
        _Source(split, path, shard)
    ]


@dataclass(frozen=True)
class _Plan:
    """Decisions that all pieces share.

    Attributes:
      shares: division of each split's rows, by the split that files are read for.
      numbers: number of each split, by name.
      one_in: number of rows of which one is compared with others.
    """

    shares: dict[str, Shares]
    numbers: dict[str, int]
    one_in: int

    @property
    def spread(self) -> list[str]:
        """The splits whose copies are spread over their shares."""
        return [split for split, taken in self.shares.items() if taken.are_spread]


def _plan(rows_read: _Input, names: list[str], settings: dict[str, Any]) -> _Plan:
    files = rows_read.files
    elements = [(name, index, len(files), path) for index, (name, path) in enumerate(files)]

    def decide(split: str) -> Shares:
        mine = [element for element in elements if element[0] == split]
        sources = (source for element in mine for source in _cut(element, settings))
        return decide_shares(
            select_rules(settings["splits"], split),
            grouped=settings["columns"]["group"] is not None,
            whole=(Table.from_json(path, settings) for *_, path in mine),
            pieces=lambda: ((s.shard, Table.from_json(s.path, settings, s.piece)) for s in sources),
        )

    numbers = {name: number for number, name in enumerate(names)}
    one_in = choose_sampling(rows_read.bytes)
    return _Plan({name: decide(name) for name in dict.fromkeys(name for name, _ in files)}, numbers, one_in)


def _compare_splits(uri: str, names: list[str], settings: dict[str, Any], plan: _Plan) -> dict[str, Any]:
    """Compare the rows of all splits."""
    rules, grouped = settings["splits"], settings["columns"]["group"] is not None
    by_source = {
        split: [split, *(name for name, rule in select_rules(rules, split).items() if "fraction" in rule)]
        for split in plan.shares
    }
    share_names = [name for name in by_source[TRAIN_SPLIT] if name != TRAIN_SPLIT] if TRAIN_SPLIT in plan.spread else []
    shared_out = {split: splits for split, splits in by_source.items() if len(splits) > 1}
    compared = compare_rows(uri, names, shared_out, plan.one_in)
    return {**compared, "spread": plan.spread, "drawn": share_names, "grouped": grouped}


class _CutFile(beam.DoFn):
    """Takes a file; yields the pieces it is read in."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings

    def process(self, element: tuple[str, int, int, str]) -> Iterator[_Source]:
        yield from _cut(element, self._settings)


class _ConvertPiece(beam.DoFn):
    """Writes a piece's rows as tf.Example records; yields the counts, or the reason of its rejection."""

    def __init__(self, settings: dict[str, Any], plan: _Plan, output_uri: str) -> None:
        self._settings = settings
        self._plan = plan
        self._output_uri = output_uri

    def process(self, source: _Source) -> Iterator[dict[str, Any]]:
        nothing: dict[str, Any] = {"error": None, "split": source.split, "shard": source.shard, "unlabelled": 0}
        nothing |= {
            "rejects": [],
            "problems": [],
            "rows": {},
            "content": {},
            "columns": {},
            "labels": {},
            "weights": {},
        }
        table = Table.from_json(source.path, self._settings, source.piece)
        counts = TableCounts(table.columns)
        try:
            written = self._convert(table, source, counts)
            counts.locate(table.reader)
            bad = table.bad_rows
            places = table.reader.places([row.row for row in bad])
            rejects = [{"place": places[b.row], "column": b.column, "reason": b.reason, "text": b.text} for b in bad]
            report = {"rejects": rejects, "problems": summary(table), "unlabelled": table.unlabelled}
            yield {**nothing, **report, **written, "counts": counts.as_json()}
        except DataError as error:
            # As a value, not an exception: Beam would bury the one line in a stack trace.
            yield {**nothing, "error": str(error)}

    def _convert(self, table: Table, source: _Source, counts: TableCounts) -> dict[str, dict[str, Any]]:
        """Write the shards, count the values; return by split the rows, what names their content, and their labels."""
        rules = select_rules(self._settings["splits"], source.split)
        division = Division(
            source.split,
            rules,
            self._plan.shares[source.split],
            source.shard,
            self._plan.numbers,
            self._plan.one_in,
        )
        files = {name: self._open_file(name, source.shard) for name in [source.split, *rules]}
        rows = dict.fromkeys(files, 0)
        columns_by_split: dict[str, dict[str, NDArray[np.uint64]]] = {}
        groups: dict[str, list[NDArray[np.uint64]]] = {name: [np.array([], np.uint64)] for name in files}
        labels: dict[str, LabelCounts] = {}
        weights: dict[str, LabelCounts] = {}
        classes = table.columns.labels
        try:
            with open_records(self._output_uri, source.shard) as compared:
                for name, block in convert(table, division, counts):
                    files[name].write(block.content, block.compressed)
                    compared.write(block.compared.tobytes())
                    rows[name] += block.rows
                    of_split = columns_by_split.setdefault(name, {})
                    for column, pair in zip(block.names, block.columns, strict=True):
                        of_split[column] = of_split.get(column, np.zeros(2, np.uint64)) + pair
                    groups[name].append(block.groups)
                    labels[name] = merge_label_counts([labels.get(name, {}), block.labels], classes)
                    if block.weights:
                        weights[name] = merge_label_counts([weights.get(name, {}), block.weights], classes)
        finally:
            for file in files.values():
                file.close()
        if table.columns.group:
            for name, hashes in groups.items():
                write_groups(self._output_uri, name, source.shard, hashes)
        content = {name: file.content for name, file in files.items()}
        columns = {name: {c: [int(h) for h in pair] for c, pair in of.items()} for name, of in columns_by_split.items()}
        return {"rows": rows, "content": content, "columns": columns, "labels": labels, "weights": weights}

    def _open_file(self, split: str, shard: str) -> GzipFile:
        folder = os.path.join(self._output_uri, f"Split-{split}")
        tf.io.gfile.makedirs(folder)
        return GzipFile(tf.io.gfile.GFile(os.path.join(folder, f"data_tfrecord-{shard}.gz"), "wb"))
