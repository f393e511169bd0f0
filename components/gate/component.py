"""The gate: stops the run on anomalies, which stock ExampleValidator only writes down.

Transform is put downstream of it, so nothing is trained on data that does not fit its schema. What stops, warns or
passes is the config's `validation` policy.
"""

import datetime
import json
import os
from dataclasses import replace

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from cli.errors import DataError
from components.config import DRIFT, FEW_ROWS, SKEW, Evaluation, Validation
from components.example_gen.component import EQUAL_ROWS_PROPERTY, FINDINGS_PROPERTY, LABELS_PROPERTY
from components.example_gen.split_findings import find_copied_splits, find_shared_rows
from components.example_validator.anomalies import ANOMALIES_FILE, list_anomalies, parse_anomalies
from components.expired_features import find_expired_features
from components.gate.anomaly_rows import Concerned
from components.gate.comparison import compare_all
from components.gate.derived_ids import find_derived_out_of_range
from components.min_rows import check_rows
from components.policy import Anomaly, judge
from schemas.data import TRAIN_SPLIT
from schemas.features import FeatureSet, Label


@component
def AnomalyGate(  # noqa: N802 (TFX names components like classes)
    examples: InputArtifact[standard_artifacts.Examples],
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    report: OutputArtifact[standard_artifacts.JsonValue],
    compared_splits: Parameter[str],
    policy: Parameter[str],
    requirements: Parameter[str],
    features: Parameter[str],
    pushed_statistics: InputArtifact[standard_artifacts.ExampleStatistics] = None,
) -> None:
    """Pass when nothing is found that `policy` (a Validation as JSON) stops on.

    Judges, in this order:

    1. What ExampleGen found in the rows of `examples`, and derived IDs out of their range.
    2. Whether the evaluated split has the rows of each class that `requirements` (an Evaluation as JSON) asks for.
       Then the expiry dates of `features` (a FeatureSet as JSON).
    3. The rows that splits share with `train`, and the anomalies of each split.
    4. The skew of `compared_splits` (joined by commas) against `train`.
    5. The drift of `train` against that of `pushed_statistics`, the run that was pushed last, if there is one.

    `report` holds the warnings, and what was compared.

    Raises:
      DataError: one line for each anomaly that stops: where, feature, what is wrong.
    """
    validation = Validation.model_validate_json(policy)
    expected = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    problems = [
        Anomaly(**finding) for finding in json.loads(examples.get_string_custom_property(FINDINGS_PROPERTY) or "[]")
    ]
    declared = FeatureSet.model_validate_json(features)
    problems += find_derived_out_of_range(declared, _read_derived_ids(declared, statistics))
    problems += _find_few_rows(examples, Evaluation.model_validate_json(requirements), declared.label)
    today = datetime.date.today()
    problems += find_expired_features(declared, today=today)
    equal_rows = json.loads(examples.get_string_custom_property(EQUAL_ROWS_PROPERTY))
    problems += [*find_shared_rows(equal_rows, validation), *find_copied_splits(equal_rows)]
    problems += [
        anomaly
        for split in artifact_utils.decode_split_names(anomalies.split_names)
        for anomaly in _add_row_counts(
            read_anomalies(os.path.join(anomalies.uri, f"Split-{split}")), split, statistics.uri, expected
        )
    ]
    splits = [TRAIN_SPLIT, *filter(None, compared_splits.split(","))]
    # On Vertex the artifact is always there, and empty before the first push.
    has_pushed = pushed_statistics is not None and artifact_utils.decode_split_names(pushed_statistics.split_names)
    pushed = _read_statistics(pushed_statistics.uri, TRAIN_SPLIT) if has_pushed else None
    compared = compare_all(
        {split: _read_statistics(statistics.uri, split) for split in splits},
        pushed,
        expected,
        validation,
        splits[1:],
    )
    problems += [Anomaly(c.where, c.shift.feature, c.kind, str(c.shift)) for c in compared if c.shift.exceeded]
    verdict = judge(problems, validation, today=today)
    report.value = {
        "warnings": verdict.warnings,
        "history": pushed is not None,
        "compared": {kind: sum(1 for c in compared if c.kind == kind) for kind in (SKEW, DRIFT)},
    }
    if verdict.stops:
        raise DataError(verdict.format_error())


def _read_derived_ids(
    features: FeatureSet, statistics: standard_artifacts.ExampleStatistics
) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    """Return the statistics of each split if there are derived IDs, whose range they have; otherwise none."""
    if all(features.features[name].raw_num_ids is None for name in features.derived_columns):
        return {}
    return {
        split: _read_statistics(statistics.uri, split)
        for split in artifact_utils.decode_split_names(statistics.split_names)
    }


def _find_few_rows(examples: standard_artifacts.Examples, evaluation: Evaluation, label: Label) -> list[Anomaly]:
    """Return why no model will be blessed on the evaluated split, which is known before one is trained."""
    labels = json.loads(examples.get_string_custom_property(LABELS_PROPERTY) or "{}").get(evaluation.split)
    if labels is None:
        return []
    return [
        Anomaly(evaluation.split, label.column, FEW_ROWS, f"{reason}; no model will be blessed on so few")
        for reason in check_rows(labels, label.classes, evaluation).failures
    ]


def _add_row_counts(
    anomalies: anomalies_pb2.Anomalies, split: str, statistics_uri: str, schema: schema_pb2.Schema
) -> list[Anomaly]:
    """Return the anomalies of a split, each with how many rows it is about where that is known."""
    problems = list_anomalies(anomalies, split)
    if not problems:
        return []
    concerned = Concerned(_read_statistics(statistics_uri, split), schema)
    rows = [concerned.describe_rows(problem.kind, problem.feature) for problem in problems]
    return [
        replace(problem, text=f"{problem.text}; {count}" if count else problem.text)
        for problem, count in zip(problems, rows, strict=True)
    ]


def read_anomalies(folder: str) -> anomalies_pb2.Anomalies:
    """Return what ExampleValidator found in one split."""
    with fileio.open(os.path.join(folder, ANOMALIES_FILE), "rb") as file:
        return parse_anomalies(file.read())


def _read_statistics(uri: str, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    return tfdv.load_stats_binary(os.path.join(uri, f"Split-{split}", "FeatureStats.pb"))
