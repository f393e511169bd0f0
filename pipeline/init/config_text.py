"""Text of a config, each choice with its reason beside it."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from cli.counts import format_count
from pipeline.init.decision import Decision
from schemas.metrics import choose_bound

# A request of so many columns may take longer than the 100 ms of other tables.
_MANY_FEATURES, _MAX_LATENCY_MS = 1_000, 500
# More notes stand at the end of the config.
_MAX_NOTES_AT_TOP = 20


def format_config(decision: Decision) -> Iterator[str]:
    """Yield the lines of a config."""
    source, table = decision.source, decision.table
    path = source.base / source.train
    yield f"# {decision.name}: predicts {decision.label_column.name!r}. Written by `python -m pipeline init`; it runs."
    yield f"# It read {'all ' if table.complete else ''}{format_count(table.rows, 'row')} of {_join_lines(path.name)}."
    yield "# Every key is explained in docs/config.md. Paths are relative to this file's folder."
    notes = decision.notes.texts
    if len(notes) <= _MAX_NOTES_AT_TOP:
        yield from _format_notes(notes)
    else:
        yield f"# The {len(notes)} notes of `init` are at the end of this file."
    yield f"name: {decision.name}"
    yield "seed: 1 # initial weights and the order of rows start from it"
    yield ""
    yield from _format_data(decision)
    yield ""
    measure = "entropy" if decision.label.classes else "variance"
    yield f"# `explains` is the share of the label's {measure} that a column explains by itself, measured on other rows"
    yield "# than those it was learned from."
    yield "features:"
    for feature in decision.features:
        yield f"  {_to_yaml(feature.column.name)}: {_to_yaml(feature.declared)} # {_join_lines(feature.reason)}"
    yield ""
    yield from _format_crosses(decision)
    yield f"label: {_to_yaml(decision.label.declared)} # {_join_lines(decision.label.reason)}"
    yield ""
    yield from _format_validation(decision)
    yield from _format_model(decision)
    yield from _format_evaluation(decision)
    if len(decision.features) >= _MANY_FEATURES:
        reason = f"a row of {format_count(len(decision.features), 'feature')} takes longer"
        yield f"infra_validation: {{max_latency_ms: {_MAX_LATENCY_MS}}} # {reason}"
        yield ""
    yield "push:"
    yield f"  model_name: {decision.name}"
    if len(notes) > _MAX_NOTES_AT_TOP:
        yield ""
        yield from _format_notes(notes)


def _format_notes(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield "# Please check, the most important first:"
    yield from (f"# - {_join_lines(note)}" for note in notes)


def _join_lines(text: str) -> str:
    """Return a text that no line break ends."""
    return " ".join(text.splitlines())


def _format_data(decision: Decision) -> Iterator[str]:
    source, table = decision.source, decision.table
    yield "data:"
    yield f"  format: {source.format}"
    options = table.csv.model_dump(exclude_defaults=True)
    if options:
        yield f"  csv: {_to_yaml({k: list(v) if isinstance(v, tuple) else v for k, v in options.items()})}"
    yield f"  base: {_to_yaml(_make_relative(source.base, decision.config_folder))}"
    yield from _format_splits(decision)
    yield f"  missing_values: {_to_yaml(table.missing.anywhere)}"
    if decision.ignored:
        yield "  ignored_columns:"
        for name, reason in decision.ignored:
            yield f"    - {_to_yaml(name)} # {_join_lines(reason)}"
    sensitive = [n for n in decision.requests.sensitive if n in (*decision.read_only_columns, decision.requests.weight)]
    if sensitive:
        yield f"  sensitive_columns: {_to_yaml(sensitive)}"
    if decision.left_out:
        effect = f"{decision.left_out} are dropped, counted, and kept in rejects.jsonl"
        yield f"  max_bad_rows: {decision.left_out_rows} # {effect}"
    yield f"  schema_file: {_to_yaml(_make_relative(decision.schema_path, decision.config_folder))}"


def _format_splits(decision: Decision) -> Iterator[str]:
    source, plan = decision.source, decision.plan
    if plan.time is None:
        yield "  # A row falls into a share by a hash of its features; `init --time COLUMN` splits by time instead."
    yield "  splits:"
    yield f"    train: {{files: {_to_yaml(source.train)}}}"
    for name, (declared, text) in plan.declared.items():
        yield f"    {name}: {_to_yaml(declared)} # {text}"
    if source.test is not None:
        yield f"    test: {{files: {_to_yaml(source.test)}}} # only the Evaluator reads it"
    if decision.requests.group is not None:
        yield f"  group_column: {_to_yaml(decision.requests.group)} # all rows with one value are in one split"
    if decision.requests.weight is not None:
        yield f"  weight_column: {_to_yaml(decision.requests.weight)} # how much a row counts; docs/how-to/weights.md"


def _format_crosses(decision: Decision) -> Iterator[str]:
    if decision.crosses:
        yield "# Combinations that explain more together than the better of the two alone; the wide part learns them."
        yield "crosses:"
        for cross in decision.crosses:
            yield f"  - {{features: {_to_yaml(cross.names)}, num_ids: {cross.num_ids}}} # {_join_lines(cross.reason)}"
        yield ""


def _format_validation(decision: Decision) -> Iterator[str]:
    yield "# Every anomaly stops the run. Drift is measured once a model was pushed."
    yield "validation:"
    yield from _format_severities(decision)
    yield "  drift:"
    yield "    default: {measure: jensen_shannon, threshold: 0.1} # of `train`, against that of the last pushed model"
    yield ""


def _format_severities(decision: Decision) -> Iterator[str]:
    """Yield the severities of features that are kept though preflight would stop on them."""
    allowed = {anomaly for feature in decision.features for anomaly in feature.allowed}
    if allowed:
        yield "  severities:"
    for anomaly in sorted(allowed):
        names = [feature.column.name for feature in decision.features if anomaly in feature.allowed]
        yield f"    - {{anomaly: {anomaly}, features: {_to_yaml(names)}, severity: warn}}"


def _format_model(decision: Decision) -> Iterator[str]:
    network = decision.network
    for name, section in (("model", network.model), ("training", network.training)):
        yield f"{name}:"
        for key, choice in section.items():
            yield f"  {key}: {_to_yaml(choice.value)}{f' # {choice.reason}' if choice.reason else ''}"
        yield ""


def _format_evaluation(decision: Decision) -> Iterator[str]:
    metric = choose_bound(decision.label.kind)
    yield "# A model is pushed if it is significantly better than the constant predictor (docs/quality.md), and hardly"
    yield f"# worse than the last one. To ask for more, add `thresholds: [{{metric: {metric}, lower_bound: 0.8}}]`."
    yield "evaluation:"
    yield "  split: test"
    sliced = _choose_slices(decision)
    if sliced:
        yield f"  slice_by: {_to_yaml([[name] for name in sliced])}"
    yield f"  min_rows_per_slice: {max(20, min(100, decision.rows // 100))}"
    yield "  change_thresholds:"
    yield f"    - {{metric: {metric}, max_regression: 0.02}}"
    yield ""


def _choose_slices(decision: Decision) -> list[str]:
    """Return up to two columns of a handful of categories."""
    few = [f for f in decision.features if f.declared["kind"].startswith("vocabulary") and f.column.distinct <= 10]
    few = [feature for feature in few if "sensitive" not in feature.declared]
    return [feature.column.name for feature in sorted(few, key=lambda f: -f.explained)[:2]]


def _to_yaml(value: Any) -> str:
    """Return YAML on one line, quoted so that it may stand between braces."""
    text = yaml.dump(
        [value], Dumper=_Dumper, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False
    )
    return str(text.strip()[1:-1])


class _Dumper(yaml.SafeDumper):
    """Writes strings with line breaks on one line."""


def _represent_string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if len(value.splitlines()) > 1 or value != value.strip() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_string)


def _make_relative(path: Path, folder: Path) -> str:
    """Return a path from the config's folder if both are in the working directory, else an absolute one."""
    target_path, here = Path(os.path.abspath(path)), Path.cwd()
    if target_path.is_relative_to(here) and Path(os.path.abspath(folder)).is_relative_to(here):
        return os.path.relpath(target_path, os.path.abspath(folder))
    return str(target_path)
