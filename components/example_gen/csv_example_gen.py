"""CsvExampleGen with the arguments of the stock component; with declared features, the fast one of this project."""

from typing import Any

from tfx import components
from tfx.components.example_gen import utils
from tfx.dsl.components.base import base_node
from tfx.proto import example_gen_pb2, range_config_pb2

from components.example_gen.component import example_gen
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

    Args:
      input_base: Folder of the files.
      input_config: Names and patterns of the splits in it; one split of all files if omitted.
      output_config: Hash buckets of the rows; if omitted, `train` and `eval` by 2 to 1.
      range_config: Range of the spans, for stock CsvExampleGen.
      features: Declared columns. If omitted, the stock component guesses the types of the columns.
      csv: How the files are written; needs `features`.
      ignored_columns: Columns that are not read; needs `features`.
      max_bad_rows: Number of rows that may be dropped because they do not fit; needs `features`.
      code_fingerprint: Fingerprint of this code, so that a change of it invalidates the cache.

    Raises:
      ValueError: An argument is not supported together with `features`, or needs it.
    """
    if features is None:
        if csv is not None or ignored_columns or max_bad_rows:
            raise ValueError("CsvExampleGen: csv, ignored_columns and max_bad_rows need features")
        return components.CsvExampleGen(input_base, input_config, output_config, range_config)
    for name, message, kind in (
        ("input_config", input_config, example_gen_pb2.Input),
        ("output_config", output_config, example_gen_pb2.Output),
    ):
        if message is not None and not isinstance(message, kind):
            raise ValueError(
                f"CsvExampleGen: with features, {name} has to be a message of TFX, not a runtime parameter"
            )
    if range_config is not None:
        raise ValueError("CsvExampleGen: range_config is not supported with features; the latest span is read")
    data = Data(
        base=input_base or "",
        splits=_splits(input_config or utils.make_default_input_config(), output_config),
        csv=csv or CsvOptions(),
        ignored_columns=ignored_columns,
        max_bad_rows=max_bad_rows,
    )
    component: base_node.BaseNode = example_gen(data=data, features=features, code_fingerprint=code_fingerprint)
    return component.with_id("CsvExampleGen")


def _splits(inputs: example_gen_pb2.Input, outputs: example_gen_pb2.Output | None) -> dict[str, Split]:
    """Return the splits that TFX's messages describe.

    Raises:
      ValueError: They are of another kind than hash buckets of one input with `train`.
    """
    outputs = outputs or utils.make_default_output_config(inputs)
    buckets = {split.name: split.hash_buckets for split in outputs.split_config.splits}
    if outputs.split_config.partition_feature_name:
        raise ValueError("CsvExampleGen: partition_feature_name is not supported with features; rows are hashed")
    if not buckets:
        return {split.name: FileSplit(files=split.pattern) for split in inputs.splits}
    if len(inputs.splits) != 1 or TRAIN_SPLIT not in buckets:
        raise ValueError(f"CsvExampleGen: with features, hash buckets divide one input, and one is '{TRAIN_SPLIT}'")
    total = sum(buckets.values())
    return {
        TRAIN_SPLIT: FileSplit(files=inputs.splits[0].pattern),
        **{
            name: HashSplit(source=TRAIN_SPLIT, fraction=count / total)
            for name, count in buckets.items()
            if name != TRAIN_SPLIT
        },
    }
