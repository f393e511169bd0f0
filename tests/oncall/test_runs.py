"""`runs` and `show`: what ran, how it ended, what each node did."""

from collections.abc import Callable
from typing import Any

from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs

FIRST, SECOND, THIRD = "20260101T000000.000000", "20260102T000000.000000", "20260103T000000.000000"
Document = Callable[..., Any]


def test_runs_are_listed_with_their_state_and_cause_the_newest_first(runs: Runs, document: Document) -> None:
    first = runs.run(FIRST)
    runs.run(SECOND, cached=first, pushes=False)
    runs.run(THIRD, cached=first, fails=("Gate", "the data does not fit", 3))
    runs.run("20260104", crashes_in="Trainer")
    runs.run("20260105", crashes_in="Transform", on_record=False)
    listing = document("runs")["runs"]
    assert [(run["run"], run["state"]) for run in listing] == [
        ("20260105", "UNKNOWN"),
        ("20260104", "CRASHED"),
        (THIRD, "FAILED"),
        (SECOND, "CACHED"),
        (FIRST, "SUCCEEDED"),
    ]
    assert listing[0]["cause"].startswith("no record; executions: 6 COMPLETE, 1 RUNNING; last change 20")
    assert listing[1]["cause"].endswith("is gone: killed in Trainer")
    assert listing[2]["cause"] == "Gate: the data does not fit"
    assert listing[4]["pushed"] == f"version 1 to {runs.registry.folder}/1"


def test_the_rest_of_many_runs_is_counted(runs: Runs, oncall: Oncall, document: Document) -> None:
    for number in range(3):
        runs.run(f"2026010{number}", crashes_in="ExampleGen")
    assert [run["run"] for run in document("runs", "--limit", 1)["runs"]] == ["20260102"]
    assert "2 older runs are not shown; --limit 3 shows all" in oncall("runs", "--limit", 1).output


def test_a_run_that_goes_on_is_running_in_its_node(runs: Runs, document: Document) -> None:
    with runs.root.lock():
        runs.run(FIRST, crashes_in="Trainer")
        (run,) = document("runs")["runs"]
    assert (run["state"], run["cause"]) == ("RUNNING", "in Trainer")


def test_show_names_the_run_that_really_made_what_came_from_the_cache(runs: Runs, document: Document) -> None:
    first = runs.run(FIRST)
    second = runs.run(SECOND, cached=first, pushes=False)
    runs.run(THIRD, cached=second, pushes=False)
    run = document("show", "latest")
    made_by = {node["node"]: (node["state"], node["made_by"]) for node in run["nodes"]}
    assert made_by["Trainer"] == ("cached", FIRST)
    assert made_by["Pusher"] == ("complete", "")
    assert run["state"] == "CACHED"
    assert run["config"]["name"] == "census-income"
    assert len(run["config_hash"]) == 16


def test_show_has_the_threshold_of_the_runs_model(runs: Runs, document: Document, oncall: Oncall) -> None:
    runs.run(FIRST)
    runs.run(SECOND, until="Gate")
    text = "threshold 0.17 (false positive 1, false negative 5; chosen on 900 rows of eval)"
    assert document("show", FIRST)["decision"] == text
    assert f"decision   {text}" in " ".join(oncall("show", FIRST).output.splitlines())
    assert document("show", SECOND)["decision"] == ""


def test_show_has_the_column_that_metrics_are_weighted_by(runs: Runs, document: Document, oncall: Oncall) -> None:
    runs.run(FIRST)
    assert document("show", FIRST)["weight_column"] == "fnlwgt"
    assert "weighted   by fnlwgt" in " ".join(oncall("show", FIRST).output.splitlines())


def test_a_run_that_stopped_as_asked_is_incomplete_and_no_failure(
    runs: Runs, document: Document, oncall: Oncall
) -> None:
    runs.run(FIRST)
    stopped = runs.run(SECOND, until="Gate")
    (newest, _) = document("runs")["runs"]
    assert (newest["state"], newest["cause"]) == ("INCOMPLETE", "stopped after Gate, as asked")
    why = document("why", SECOND)
    assert (why["state"], why["node"], why["cause"]) == ("INCOMPLETE", None, "stopped after Gate, as asked")
    assert why["try"][0].startswith(f"python -m oncall resume {SECOND} ")
    assert document("show", SECOND)["until"] == "Gate"
    nodes = {node["node"]: node["state"] for node in document("show", SECOND)["nodes"]}
    assert (nodes["Gate"], nodes["Transform"]) == ("complete", "not reached")
    checked = oncall("check")
    assert checked.exit_code == 0
    assert f"{FIRST} SUCCEEDED; the newer run {SECOND} is INCOMPLETE: stopped after Gate, as asked" in checked.output
    assert oncall("doctor").exit_code == 0
    # What a later run takes from it was made by it.
    runs.run(THIRD, cached=stopped, pushes=False)
    made_by = {node["node"]: node["made_by"] for node in document("show", THIRD)["nodes"]}
    assert (made_by["ExampleGen"], made_by["Trainer"]) == (SECOND, "")


def test_the_last_good_run_is_a_whole_one(runs: Runs, document: Document) -> None:
    runs.run(FIRST)
    runs.run(SECOND, until="Gate")
    runs.run(THIRD, fails=("Trainer", "no", 1))
    assert document("why", THIRD)["try"][0].startswith(f"python -m oncall diff {FIRST} {THIRD} ")


def test_where_only_incomplete_runs_are_on_record_none_is_whole(runs: Runs, document: Document) -> None:
    runs.run(FIRST, until="Gate")
    (newest, *_) = document("check")["checks"]
    assert (newest["ok"], newest["message"]) == (
        False,
        f"no whole run has ended on record; the newer run {FIRST} is INCOMPLETE: stopped after Gate, as asked",
    )


def test_show_says_which_nodes_were_not_reached_and_which_were_cut_off(runs: Runs, document: Document) -> None:
    runs.run(FIRST, fails=("Trainer", "Trainer: loss is NaN", 1))
    nodes = {node["node"]: node for node in document("show", FIRST)["nodes"]}
    assert (nodes["Trainer"]["state"], nodes["Trainer"]["error"]) == ("failed", "Trainer: loss is NaN")
    assert nodes["Pusher"]["state"] == "not reached"
    runs.run(SECOND, crashes_in="Trainer")
    states = {node["node"]: node["state"] for node in document("show", SECOND)["nodes"]}
    assert (states["Transform"], states["Trainer"]) == ("complete", "cut off")
    with runs.root.lock():
        runs.run(THIRD, crashes_in="Trainer")
        states = {node["node"]: node["state"] for node in document("show", THIRD)["nodes"]}
    assert states["Trainer"] == "running"


def test_a_run_without_a_record_is_shown_by_its_executions(runs: Runs, document: Document) -> None:
    runs.run(FIRST, crashes_in="Gate", on_record=False)
    run = document("show", "latest")
    assert run["state"] == "UNKNOWN"
    assert run["nodes"][-1] == {"node": "Gate", "state": "running", "error": ""}


def test_a_run_is_named_by_its_first_characters_if_they_fit_one(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST, crashes_in="ExampleGen")
    runs.run(SECOND, crashes_in="ExampleGen", on_record=False)
    assert f"run        {FIRST} of" in oncall("show", "20260101").output
    several = oncall("show", "2026")
    assert (several.exit_code, several.stderr.strip()) == (
        2,
        f"error: {runs.root.path}: '2026' is ambiguous: it matches {SECOND}, {FIRST}",
    )
    none = oncall("why", "2027")
    assert (none.exit_code, none.stderr.strip()) == (
        2,
        f"error: {runs.root.path}: has no run '2027'; the newest are: {SECOND}, {FIRST}",
    )
    assert oncall("why", "../../etc/passwd").exit_code == 2
    assert oncall("why", "").exit_code == 2


def test_an_empty_run_root_has_no_runs(runs: Runs, oncall: Oncall) -> None:
    assert oncall("runs").output == "no runs yet\n"
    assert oncall("why", "latest").exit_code == 2


def test_a_document_has_the_whole_cause_and_a_table_its_first_words(
    runs: Runs, oncall: Oncall, document: Document
) -> None:
    error = "the data does not fit its schema:\n" + "\n".join(f"  train: age: {'x' * 300} {n}" for n in range(3))
    runs.run(FIRST, fails=("Gate", error, 3))
    cause = f"Gate: {error}"
    assert document("runs")["runs"][0]["cause"] == document("why", FIRST)["cause"] == cause
    newest = document("check")["checks"][0]
    assert newest["message"] == f"{FIRST} FAILED: {cause}"
    for command in ("runs", "check"):
        table = oncall(command).output
        assert ("Gate: the data" in table, "x 0" in table, "x 1" in table) == (True, True, False), command


def test_the_command_is_shown_as_it_was_typed(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST, overrides={"command": ["local_runner.py", "--config", "a b.yaml"]})
    runs.run(SECOND, overrides={"command": ["/srv/census/oncall/__main__.py", "resume", "latest"]})
    assert "command    python local_runner.py --config 'a b.yaml'\n" in oncall("show", FIRST).output
    assert "command    python -m oncall resume latest\n" in oncall("show", SECOND).output
