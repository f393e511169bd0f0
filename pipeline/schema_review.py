"""`python -m pipeline schema`: what the schema would have to be for the data of a run, and taking that over."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from cli.errors import ConfigError
from cli.state_files import write_atomically
from components.example_validator.validation import update_schema
from components.gate.comparison import ComparedShift
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run import artifact_lookup
from pipeline.run.run_distances import compare_run, find_pushed_train
from pipeline.run.run_root import RunRoot
from schemas.curated.changes import Change, find_changes, rewrite
from schemas.curated.derived_features import find_curated
from schemas.curated.schema_file import check_schema, load_schema


@dataclass(frozen=True)
class Review:
    """The changes that a run's data asks of a schema.

    Attributes:
      run_id: run with the statistics.
      path: the schema file.
      proposed: the schema that has no anomalies in any split.
      changes: differences from the file.
      shifts: features that moved beyond the gate's thresholds, which no change of a schema takes over.
    """

    run_id: str
    path: Path
    proposed: schema_pb2.Schema
    changes: list[Change]
    shifts: list[ComparedShift]


def review(config: PipelineConfig, root: RunRoot, run: str, features: tuple[str, ...]) -> Review:
    """Compare the curated schema with the data of a run.

    Args:
      config: config with the schema.
      root: run root of the run.
      run: a run id, or `latest`.
      features: take over changes of these alone; empty for all.

    Raises:
      ConfigError: the config has no schema file, or there is no such run or feature.
      DataError: the run has no statistics.
    """
    if config.data.schema_file is None:
        raise ConfigError(
            "data.schema_file: the config names none, so a schema is inferred in each run and there is nothing to "
            "review; name one to curate it"
        )
    artifacts = artifact_lookup.find_run(root, run)
    before = load_schema(config.data.schema_file)
    names = [feature.name for feature in before.feature]
    for name in features:
        if name not in names:
            raise ConfigError(f"--feature {name}: the schema has no such feature; it has {', '.join(names)}")
    statistics = artifacts.read_statistics()
    after = _update(before, {split: find_curated(of_split, before) for split, of_split in statistics.items()})
    if features:
        after = _select_features(before, after, features)
    push = artifact_lookup.find_latest_push(root, config.push.model_name, before=artifacts.run_id)
    compared = compare_run(config, artifacts, statistics, find_pushed_train(push))
    return Review(
        artifacts.run_id,
        Path(config.data.schema_file),
        after,
        find_changes(before, after, config.sensitive_columns),
        [c for c in compared if c.shift.exceeded and (not features or c.shift.feature in features)],
    )


def accept(config: PipelineConfig, reviewed: Review) -> None:
    """Write the proposed schema into its file; comments outside the changed features stay.

    Raises:
      ConfigError: the config could not use it; the file is as it was.
    """
    text = rewrite(reviewed.path.read_text(encoding="utf-8"), reviewed.proposed)
    check_schema(str(reviewed.path), reviewed.proposed, config.feature_set)
    try:
        is_complete = text_format.Parse(text, schema_pb2.Schema()) == reviewed.proposed
    except text_format.ParseError:
        is_complete = False
    if not is_complete:
        raise ConfigError(f"{reviewed.path}: is written in a way that cannot be edited; take the changes over by hand")
    write_atomically(reviewed.path, text)


def _update(
    schema: schema_pb2.Schema, statistics: dict[str, statistics_pb2.DatasetFeatureStatistics]
) -> schema_pb2.Schema:
    for split in statistics.values():
        schema = update_schema(schema, split)
    return schema


def _select_features(
    before: schema_pb2.Schema, after: schema_pb2.Schema, features: tuple[str, ...]
) -> schema_pb2.Schema:
    """Return `before` with the given features, and the domains they use, as in `after`."""
    chosen = schema_pb2.Schema()
    chosen.CopyFrom(before)
    domains = {feature.domain for feature in after.feature if feature.name in features}
    for side, updated, names in (
        (chosen.feature, after.feature, {*features}),
        (chosen.string_domain, after.string_domain, domains),
    ):
        new = {item.name: item for item in updated}
        for item in side:
            if item.name in names and item.name in new:
                item.CopyFrom(new[item.name])
    return chosen
