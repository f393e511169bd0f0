"""CsvExampleGen with the arguments of the stock component; with declared features, the fast one of this project."""

from typing import Any

from tfx import components
from tfx.components.example_gen import utils
from tfx.dsl.components.base import base_node
from tfx.proto import example_gen_pb2, range_config_pb2

from components.example_gen.component import build_example_gen
from components.stock_executor import log_handover
from schemas.data import TRAIN_SPLIT, CsvOptions, Data, FileSplit, HashSplit, Split
from schemas.features import FeatureSet


def CsvExampleGen(  # noqa: N802 (TFX names components like classes)
    input_base: str | None = None,
    input_config: example_gen_pb2.Input | Any | None = None,
    output_config: example_gen_pb2.Output | Any | None = None,
    range_config: range_config_pb2.RangeConfig | Any | None = None,
    *,
    features: FeatureSet | None = None,
    csv: CsvOptions | None = None,
    ignored_columns: tuple[str, ...] = (),
    max_bad_rows: int = 0,
    code_fingerprint: str = "",
) -> base_node.BaseNode:
    """Return a component that reads CSV files: stock CsvExampleGen, or with `features` the fast one.

    The stock one does what the fast one does not support, with a line in the log. The fast one looks for spans
    and versions when it is built, and not when it runs.

    Args:
      input_base: Folder of the files.
      input_config: Names and patterns of the splits in it; one split of all files if omitted.
      output_config: Hash buckets of the rows; if omitted, `train` and `eval` by 2 to 1.
      range_config: Span of the files, whose patterns have `{SPAN}` or `{YYYY}-{MM}-{DD}`; the latest one if omitted.
      features: Declared columns. If omitted, the stock component guesses the types of the columns.
      csv: How the files are written; needs `features`.
      ignored_columns: Columns that are not read; needs `features`.
      max_bad_rows: Number of rows that may be dropped because they do not fit; needs `features`.
      code_fingerprint: Fingerprint of this code, so that a change of it invalidates the cache.

    Raises:
      ValueError: `csv`, `ignored_columns` or `max_bad_rows` is given, and the work is that of the stock component.
    """
    own_options = csv is not None or bool(ignored_columns) or max_bad_rows > 0
    if features is None:
        if own_options:
            raise ValueError("CsvExampleGen: csv, ignored_columns and max_bad_rows need features")
        return components.CsvExampleGen(input_base, input_config, output_config, range_config)
    reason = _explain_stock(input_config, output_config, range_config)
    if reason and own_options:
        raise ValueError(f"CsvExampleGen: csv, ignored_columns and max_bad_rows are not for stock TFX, and {reason}")
    if reason:
        log_handover("CsvExampleGen", f"{reason}; it guesses the types of the columns")
        return components.CsvExampleGen(input_base, input_config, output_config, range_config)
    inputs = input_config or utils.make_default_input_config()
    data = Data(
        base=input_base or "",
        splits=_build_splits(inputs, output_config or utils.make_default_output_config(inputs)),
        span=None if range_config is None else range_config.static_range.start_span_number,
        csv=csv or CsvOptions(),
        ignored_columns=ignored_columns,
        max_bad_rows=max_bad_rows,
    )
    component: base_node.BaseNode = build_example_gen(data=data, features=features, code_fingerprint=code_fingerprint)
    return component.with_id("CsvExampleGen")


def _explain_stock(input_config: Any, output_config: Any, range_config: Any) -> str:
    """Return why the fast component cannot do the work; empty if it can."""
    for name, message, kind in (
        ("input_config", input_config, example_gen_pb2.Input),
        ("output_config", output_config, example_gen_pb2.Output),
        ("range_config", range_config, range_config_pb2.RangeConfig),
    ):
        if message is not None and not isinstance(message, kind):
            return f"{name} is a runtime parameter"
    if range_config is not None:
        static = range_config.static_range
        if not range_config.HasField("static_range") or static.start_span_number != static.end_span_number:
            return "range_config is not a static range of one span"
    inputs = input_config or utils.make_default_input_config()
    split_config = (output_config or utils.make_default_output_config(inputs)).split_config
    if split_config.partition_feature_name:
        return "partition_feature_name divides the rows"
    names = [split.name for split in split_config.splits]
    if names and (len(inputs.splits) != 1 or TRAIN_SPLIT not in names):
        return f"the hash buckets divide several inputs, or none of them is '{TRAIN_SPLIT}'"
    return ""


def _build_splits(inputs: example_gen_pb2.Input, outputs: example_gen_pb2.Output) -> dict[str, Split]:
    """Return the splits that TFX's messages describe: those of the inputs, or hash buckets of one input."""
    buckets = {split.name: split.hash_buckets for split in outputs.split_config.splits}
    if not buckets:
        return {split.name: FileSplit(files=split.pattern) for split in inputs.splits}
    total = sum(buckets.values())
    return {
        TRAIN_SPLIT: FileSplit(files=inputs.splits[0].pattern),
        **{
            name: HashSplit(source=TRAIN_SPLIT, fraction=count / total)
            for name, count in buckets.items()
            if name != TRAIN_SPLIT
        },
    }
