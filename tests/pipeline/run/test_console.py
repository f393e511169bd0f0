"""The printed view and summary of a run."""

import io
from dataclasses import replace

from rich.console import Console

from components.evaluator.summary import EvaluatorSummary
from components.example_gen.summary import ExampleGenSummary
from components.infra_validator.summary import InfraValidatorSummary
from components.schema_gen.summary import SchemaGenSummary
from pipeline.run.console import Mode, RunView, _build_metrics_tables, print_summary
from pipeline.run.records import PushResult
from pipeline.run.summary import NodeOutcome, RunSummary

SUMMARY = RunSummary(
    pipeline="p",
    run_id="r",
    exit_code=4,
    error="the model missed a threshold; it was not pushed\n  second line",
    until=None,
    nodes=[
        NodeOutcome(
            "ExampleGen",
            "cached",
            0.5,
            ExampleGenSummary(
                weights={},
                rows={"train": 29361, "eval": 3200},
                labels={"train": {"<=50K": 22021, ">50K": 7340}, "eval": {"<=50K": 3200, ">50K": 0}},
                equal_rows={
                    "one_in": 1,
                    "distinct_rows": {"train": 28492},
                    "in_train": {"train": {"rows": 29361, "in_train": 5713}, "eval": {"rows": 3200, "in_train": 0}},
                    "contradictory": {"train": {"rows": 29361, "contradictory": 1879}},
                    "spread": [],
                    "drawn": [],
                    "grouped": False,
                },
                rejected=2,
                rejects_file="/runs/rejects.jsonl",
                unlabelled=5,
                unlabelled_by_split={"train": 5},
            ),
        ),
        NodeOutcome("SchemaGen", "complete", 0.1, SchemaGenSummary(features=14)),
        NodeOutcome(
            "Evaluator",
            "complete",
            2.0,
            EvaluatorSummary(
                weight_column=None,
                blessed=False,
                failures=["auc on sex=Male 0.8421; at least 0.85 expected"],
                warnings=["auc on sex=Other: undefined, since all rows of the slice have the same class"],
                constant_predictor={"text": "log loss 0.2749 of the model against 0.5519 of the class shares of train"},
                decision={
                    "text": "threshold 0.1667 (false positive 1, false negative 5; chosen on 3,200 rows of eval)"
                },
                metrics={"overall": {"example_count": 16281.0, "auc": 0.92891, "pr_auc": None}},
                intervals={"overall": {"auc": [0.925, 0.933]}},
                without_interval={},
                changes={},
                challengers={"linear": {"text": "log loss 0.2910; the model is better by 0.0160 [0.0132, 0.0188]"}},
            ),
        ),
        NodeOutcome("Pusher", "failed", 0.0),
    ],
    schema="inferred from train",
    evaluated_split="test",
    min_rows_per_slice=100,
    push=PushResult(),
    serving="version 3 of m",
    run_root="/runs",
    log="/runs/log",
    next=["do this", "then that"],
    measures={},
    worse=["Pusher MB: 6.4, 4.0 in the last good run 1 (1.6 times that)"],
)


def create_view(mode: Mode = "plain") -> tuple[RunView, io.StringIO]:
    output = io.StringIO()
    return RunView(
        Console(file=output, width=100, force_terminal=mode == "live"), mode, ("ExampleGen", "Trainer")
    ), output


def test_the_summary_says_what_happened_and_what_to_do_next() -> None:
    output = io.StringIO()
    print_summary(Console(file=output, width=100), SUMMARY)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert lines[1].startswith("metrics on test; slices under 100 rows are left out")
    assert lines[2].split() == ["slice", "rows", "auc", "pr", "auc"]
    assert lines[3].split() == ["overall", "16,281", "0.9289", "undefined"]
    assert lines[5:] == [
        "cache    1 of 4 components reused from earlier runs",
        "data     train 29,361, eval 3,200 rows",
        "labels   >50K: train 25.0%, eval 0.0%",
        "copies   stay together (28,492 distinct rows)",
        "copies   rows in train too: eval 0.0%; within train 19.5%",
        "copies   1,879 rows of train (6.4%) equal one with another label",
        "rejects  2 bad rows left out: /runs/rejects.jsonl",
        "no label 5 rows left out (files of train 5)",
        "schema   inferred from train, 14 features",
        "warning  auc on sex=Other: undefined, since all rows of the slice have the same class",
        "95 %     AUC 0.9289 [0.9250, 0.9330]",
        "constant log loss 0.2749 of the model against 0.5519 of the class shares of train",
        "linear   log loss 0.2910; the model is better by 0.0160 [0.0132, 0.0188]",
        "decision threshold 0.1667 (false positive 1, false negative 5; chosen on 3,200 rows of eval)",
        "model    NOT blessed:",
        "         auc on sex=Male 0.8421; at least 0.85 expected",
        "warning  Pusher MB: 6.4, 4.0 in the last good run 1 (1.6 times that)",
        "error    the model missed a threshold; it was not pushed",
        "           second line",
        "pushed   nothing",
        "serving  version 3 of m",
        "log      /runs/log",
        "next     do this",
        "         then that",
    ]


def test_plain_lines_follow_a_run() -> None:
    view, output = create_view()
    with view:
        view.on_node_start("ExampleGen")
        view.on_node_end("ExampleGen", "complete", 2.04, "3 rows")
        view.on_node_start("Trainer")
        view.show_progress("epoch 1 of 2")
        view.on_node_end("Trainer", "failed", 1.0, "")
    assert [line.partition("] ")[2] for line in output.getvalue().splitlines()] == [
        "loading TFX and TensorFlow",
        "ExampleGen started",
        "ExampleGen complete in 2.0 s: 3 rows",
        "Trainer started",
        "Trainer epoch 1 of 2",
        "Trainer failed in 1.0 s",
    ]


def test_the_live_view_ends_with_every_component() -> None:
    view, output = create_view("live")
    with view:
        view.on_node_start("ExampleGen")
        view.on_node_end("ExampleGen", "cached", 0.5, "3 rows")
    last = output.getvalue().rpartition("component")[2]
    assert "cached" in last
    assert "3 rows" in last
    assert "waiting" in last


def test_silent_is_silent() -> None:
    view, output = create_view("silent")
    with view:
        view.on_node_start("ExampleGen")
        view.on_node_end("ExampleGen", "complete", 1.0, "")
    assert output.getvalue() == ""


def test_the_json_document_has_the_fields_of_each_summary() -> None:
    document = SUMMARY.as_json()
    assert document["nodes"][0] == {"id": "ExampleGen", "state": "cached", "seconds": 0.5}
    assert document["facts"]["SchemaGen"] == {"features": 14}
    assert document["facts"]["Evaluator"]["metrics"] == {
        "overall": {"example_count": 16281.0, "auc": 0.92891, "pr_auc": None}
    }
    assert [*document["facts"]] == ["ExampleGen", "SchemaGen", "Evaluator"]


def test_a_narrow_terminal_shortens_the_names_of_slices_and_no_number() -> None:
    names = (
        "auc",
        "pr_auc",
        "log_loss",
        "accuracy",
        "precision",
        "recall",
        "calibration",
        "mean_cost",
        "example_count",
    )
    slices = ("overall", "education=Some-college x race=Amer-Indian-Eskimo")
    metrics = {slice_name: dict.fromkeys(names, 1234.56789) for slice_name in slices}
    for width in (40, 60, 80, 200):
        output = io.StringIO()
        for table in _build_metrics_tables(metrics, width, is_weighted=False):
            Console(file=output, width=width).print(table)
        text = output.getvalue()
        assert "…" not in text
        assert (text.count("1234.5679"), text.count("1,235")) == (16, 2), text
        for title in ("calibration", "mean cost", "log loss"):
            assert title in text
        # The end of a name tells slices of a column apart.
        assert f"Eskimo{' ' if width < 200 else ''}" in text
        assert max(map(len, text.splitlines())) <= width


def test_the_record_keeps_the_result_of_a_replay() -> None:
    assert SUMMARY.recorded_texts == {}
    replay = {"version": 3, "rows": 200, "changed": 4}
    validated = NodeOutcome("InfraValidator", "complete", 1.0, InfraValidatorSummary(16, 1.0, 2.0, 300.0, replay))
    texts = replace(SUMMARY, nodes=[*SUMMARY.nodes, validated]).recorded_texts
    assert texts == {"replay": "2.00% of 200 decisions of version 3 changed"}
