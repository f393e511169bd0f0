"""Writes the text of a config, each choice with its reason beside it."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.init.decision import Decision
from pipeline.init.notes import Rank

# Of fewer rows a tenth is too few to tell a model with R squared 0.5 from a constant (docs/quality.md).
_SMALL_TABLE_ROWS = 1_000


def config_lines(decision: Decision) -> Iterator[str]:
    source, table = decision.source, decision.table
    path = source.base / source.train
    yield f"# {decision.name}: predicts {decision.label_column.name!r}. Written by `python -m pipeline init`; it runs."
    yield f"# It looked at {'all' if table.complete else 'the first'} {table.rows:,} rows of {path.name}."
    yield "# Every key is explained in docs/config.md. Paths are relative to this file's folder."
    yield f"name: {decision.name}"
    yield "seed: 1 # initial weights and the order of rows start from it"
    yield ""
    yield from _data(decision)
    yield ""
    yield "# `explains` is what a column by itself says about the label, measured on rows it was not learned from:"
    yield f"# the share of the label's {'entropy' if decision.label.classes else 'variance'}."
    yield "features:"
    for feature in decision.features:
        yield f"  {_flow(feature.column.name)}: {_flow(feature.declared)} # {feature.reason}"
    yield ""
    yield from _cross_lines(decision)
    yield f"label: {_flow(decision.label.declared)} # {decision.label.reason}"
    yield ""
    yield from _validation(decision)
    yield from _model(decision)
    yield from _evaluation(decision)
    yield "push:"
    yield f"  model_name: {decision.name}"


def _data(decision: Decision) -> Iterator[str]:
    source, table = decision.source, decision.table
    yield "data:"
    yield f"  format: {source.format}"
    options = source.csv.model_dump(exclude_defaults=True)
    if options:
        yield f"  csv: {_flow({k: list(v) if isinstance(v, tuple) else v for k, v in options.items()})}"
    yield f"  base: {_flow(_relative(source.base, decision.config_folder))}"
    yield "  # A row falls into a share by a hash of its features. To split by time instead, on a column:"
    yield '  #   test: {part_of: train, column: day, at_least: "2013-11-01"}'
    yield "  splits:"
    yield f"    train: {{files: {_flow(source.train)}}}"
    yield "    eval: {share_of: train, share: 0.1} # watched by early stopping"
    if source.test is None:
        yield f"    test: {{share_of: train, share: {_test_share(decision)}}} # only the Evaluator reads it"
    else:
        yield f"    test: {{files: {_flow(source.test)}}} # only the Evaluator reads it"
    yield f"  missing_values: {_flow(table.missing_values)}"
    if decision.ignored:
        yield "  ignored_columns:"
        for name, reason in decision.ignored:
            yield f"    - {_flow(name)} # {reason}"
    left_out = decision.label.rare_rows + table.ragged + table.bad_rows
    if left_out:
        what = [f"{decision.label.rare_rows:,} rows of rare classes"] if decision.label.rare_rows else []
        what += [f"{table.bad_rows:,} with a text among numbers"] if table.bad_rows else []
        what += [f"{table.ragged:,} with a wrong number of fields"] if table.ragged else []
        yield f"  max_bad_rows: {left_out} # {' and '.join(what)} are left out, counted, and kept in rejects.jsonl"
        decision.notes.add(Rank.ROWS, f"{' and '.join(what)} will be left out")
    yield f"  schema_file: {_flow(_relative(decision.schema_path, decision.config_folder))}"


def _test_share(decision: Decision) -> float:
    """The share that is judged; of a small table it is larger, or a good model cannot be told from a constant."""
    return 0.2 if decision.rows < _SMALL_TABLE_ROWS else 0.1


def _cross_lines(decision: Decision) -> Iterator[str]:
    if decision.crosses:
        yield "# Combinations that say more together than the better of the two alone; the wide part learns them."
        yield "crosses:"
        for cross in decision.crosses:
            yield f"  - {{of: {_flow(cross.names)}, num_ids: {cross.num_ids}}} # {cross.reason}"
        yield ""


def _validation(decision: Decision) -> Iterator[str]:
    yield "# Every anomaly stops the run. Drift is looked at once a model was pushed."
    yield "validation:"
    yield from _severities(decision)
    yield "  drift:"
    yield "    default: {measure: jensen_shannon, at_most: 0.1} # of `train`, against that of the last pushed model"
    yield ""


def _severities(decision: Decision) -> Iterator[str]:
    """The anomalies of features that are kept though preflight would stop on them."""
    allowed = {anomaly for feature in decision.features for anomaly in feature.allowed}
    if allowed:
        yield "  severities:"
    for anomaly in sorted(allowed):
        names = [feature.column.name for feature in decision.features if anomaly in feature.allowed]
        yield f"    - {{anomaly: {anomaly}, features: {_flow(names)}, severity: warn}}"


def _model(decision: Decision) -> Iterator[str]:
    rows = decision.rows
    small = rows < 5_000
    batch = 64 if small else 256 if rows < 100_000 else 1024
    yield "model:"
    yield f"  hidden_units: {[32, 16] if small else [128, 64]}"
    yield "  dropout: 0.2"
    yield ""
    yield "training:"
    yield f"  epochs: {20 if small else 10 if rows < 100_000 else 5} # at most: early stopping keeps the best"
    yield f"  batch_size: {batch}"
    yield "  wide_optimizer: {name: ftrl, learning_rate: 0.05}"
    yield "  deep_optimizer: {name: adam, learning_rate: 0.002, schedule: cosine}"
    yield f"  early_stopping: {{patience: {3 if small else 2}}}"
    if decision.label.classes and min(_class_shares(decision)) < 0.1 / len(decision.label.classes):
        yield "  imbalance: none # the classes are uneven; class_weights lifts recall and spoils the calibration"
    yield ""


def _class_shares(decision: Decision) -> list[float]:
    return [
        float(count) / decision.rows
        for count in np.bincount(decision.target.labels, minlength=len(decision.label.classes))
    ]


def _evaluation(decision: Decision) -> Iterator[str]:
    yield "# A model is pushed if it keeps these bounds. They ask for no more than to be better than always"
    constant = "shares of the classes" if decision.label.classes else "mean"
    yield f"# predicting the {constant}; tighten them after the first."
    yield "evaluation:"
    yield "  split: test"
    sliced = _sliced(decision)
    if sliced:
        yield f"  slice_by: {_flow([[name] for name in sliced])}"
    yield f"  min_examples: {max(20, min(100, decision.rows // 100))}"
    yield "  thresholds:"
    if decision.label.classes:
        entropy = -sum(share * math.log(share) for share in _class_shares(decision) if share)
        yield f"    - {{metric: log_loss, at_most: {entropy:.4f}}} # the entropy of the label"
    else:
        deviation = float(np.std(decision.target.labels))
        yield f"    - {{metric: rmse, at_most: {deviation:.6g}}} # the standard deviation of the label"
    yield "  compared_with_last_blessed:"
    if decision.label.classes:
        metric = "auc" if len(decision.label.classes) == 2 else "accuracy"
        yield f"    - {{metric: {metric}, may_worsen_by: 0.02}}"
    else:
        yield f"    - {{metric: rmse, may_worsen_by: {0.05 * deviation:.3g}}}"
    yield ""


def _sliced(decision: Decision) -> list[str]:
    """Up to two columns of a handful of categories."""
    few = [f for f in decision.features if f.declared["kind"].startswith("vocabulary") and f.column.distinct <= 10]
    return [feature.column.name for feature in sorted(few, key=lambda f: -f.explained)[:2]]


def _flow(value: Any) -> str:
    """YAML on one line, quoted so that it may stand between braces."""
    text = yaml.safe_dump([value], default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    return str(text.strip()[1:-1])


def _relative(path: Path, folder: Path) -> str:
    """Relative to the config's folder if both are in the working directory; absolute otherwise."""
    target_path, here = Path(os.path.abspath(path)), Path.cwd()
    if target_path.is_relative_to(here) and Path(os.path.abspath(folder)).is_relative_to(here):
        return os.path.relpath(target_path, os.path.abspath(folder))
    return str(target_path)
