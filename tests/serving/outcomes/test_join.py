"""Labels are joined to predictions once, in whatever order they come, and each odd row is counted."""

import datetime
import itertools
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.outcomes.join import find_cause, join_outcomes, open_outcomes
from serving.outcomes.store import LABEL, read_summary
from serving.registry import DECLARATION_FILE
from serving.request_log.shards import ERROR, ID, KEY, ROW, ShardDescription, describe
from tests.serving.outcomes.logs import (
    DESCRIPTION,
    START,
    build_rows,
    join,
    join_labels,
    write_labels,
    write_log,
    write_model,
)

COUNTS = ("predictions", "without_key", "labels", "repeated", "contradicted", "future", "unknown", "early", "joined")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path)
    write_log(tmp_path, "1", build_rows(["a", "b", "c", None]))
    return tmp_path


def read_joined(folder: Path) -> dict[str, str]:
    """Return the label of each joined prediction by its key."""
    log = folder / "log"
    summary = read_summary(log)
    assert summary is not None
    rows = pq.read_table(log / "outcomes" / summary.joined).to_pylist()
    assert len(rows) == len({row[KEY] for row in rows})
    return {row[KEY]: row[LABEL] for row in sorted(rows, key=lambda row: row[KEY])}


def counts(document: Any, *names: str) -> list[int]:
    return [document["counts"][name] for name in names]


def test_a_joined_row_has_inputs_outputs_and_the_label(folder: Path) -> None:
    labels = write_labels(folder / "labels.csv", "person,income", "a,>50K", "c,<=50K")
    document = join_labels(folder, labels)
    assert document["new"]
    assert document["file"]["rows"] == 2
    assert counts(document, *COUNTS) == [4, 1, 2, 0, 0, 0, 0, 0, 2]
    rows = pq.read_table(folder / "log" / "outcomes" / document["joined"]).sort_by(KEY).to_pylist()
    assert [(row["age"], row["job"], row["_outcome_label"], row["_outcome_labels_row"]) for row in rows] == [
        (20.0, None, ">50K", 2),
        (22.0, None, "<=50K", 3),
    ]
    assert rows[0]["_request_time"] == START
    assert sorted(path.name for path in (folder / "log" / "outcomes").iterdir() if path.name != ".lock") == [
        document["joined"],
        next((folder / "log" / "outcomes").glob("labels-*")).name,
        "summary.json",
    ]


def test_the_same_file_twice_changes_nothing(folder: Path) -> None:
    labels = write_labels(folder / "labels.csv", "person,income", "a,>50K")
    first = join_labels(folder, labels)
    contents = {path: path.read_bytes() for path in (folder / "log" / "outcomes").iterdir()}
    os.utime(labels, (1, 1))
    again = join_labels(folder, labels)
    assert (first["new"], again["new"]) == (True, False)
    assert again["counts"] == first["counts"]
    assert {path: path.read_bytes() for path in (folder / "log" / "outcomes").iterdir()} == contents


@pytest.mark.integration
def test_labels_and_predictions_may_come_in_any_order(tmp_path: Path) -> None:
    """Two files of labels and two shards, in all orders that differ: the same rows and counts."""
    files = {
        "old": ("person,income,known", "a,>50K,2026-11-05", "b,>50K,2026-11-05", "z,>50K,"),
        "new": ("person,income,known", "b,<=50K,2026-11-06", "a,>50K,2026-11-04", "d,<=50K,"),
    }
    shards = {"1": build_rows(["a", "b"]), "2": build_rows(["c", "d"], version=2)}
    results = []
    orders = [order for order in itertools.permutations([*files, *shards]) if order.index("1") < order.index("2")]
    for number, order in enumerate(orders):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_model(folder)
        write_log(folder, "0", build_rows(["e"], version=3))
        for name in order:
            if name in shards:
                write_log(folder, name, shards[name])
            else:
                labels = write_labels(folder / f"{name}.csv", *files[name])
                os.utime(labels, (1, 1))
                join_labels(folder, labels, "--time", "known")
        document = json.loads(join(folder, "--json").stdout)
        results.append((document["counts"], read_joined(folder)))
    assert results == [results[0]] * 12
    assert results[0][1] == {"a": ">50K", "b": "<=50K", "d": "<=50K"}
    assert counts({"counts": results[0][0]}, *COUNTS) == [5, 0, 6, 1, 1, 0, 1, 0, 3]


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
def test_without_times_the_file_that_was_changed_last_wins(folder: Path, order: tuple[str, str]) -> None:
    write_labels(folder / "first.csv", "person,income", "a,>50K", "b,>50K", "b,<=50K")
    write_labels(folder / "second.csv", "person,income", "a,<=50K")
    os.utime(folder / "first.csv", (1_000, 1_000))
    os.utime(folder / "second.csv", (2_000, 2_000))
    for name in order:
        document = join_labels(folder, folder / f"{name}.csv")
    assert read_joined(folder) == {"a": "<=50K", "b": "<=50K"}
    assert counts(document, "contradicted", "repeated") == [2, 0]
    assert document["examples"]["contradicted"] == f"{folder / 'first.csv'}: row 4"


def test_a_label_from_the_future_waits_and_one_from_before_is_not_joined(folder: Path) -> None:
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    labels = write_labels(
        folder / "labels.csv",
        "person,income,known",
        f"a,>50K,{tomorrow.isoformat()}",
        "b,>50K,2026-11-02T00:59:59Z",
        "c,>50K,2026-11-02T02:00:00Z",
    )
    document = join_labels(folder, labels, "--time", "known")
    assert counts(document, "future", "early", "joined", "unknown") == [1, 1, 1, 0]
    assert document["examples"] == {"future": f"{labels}: row 2", "early": f"{labels}: row 3"}
    text = join(folder).stdout
    assert f"1 label from the future, to be joined in time, such as {labels}: row 2" in text
    assert "1 prediction with a label from before it, which is not joined, perhaps of another time zone" in text


def test_rows_without_a_key_or_a_label_are_counted(folder: Path) -> None:
    labels = write_labels(folder / "labels.csv", "person,income", ",>50K", "a,", "b,<=50K")
    document = join_labels(folder, labels)
    assert (document["file"]["without_key"], document["file"]["without_label"], document["file"]["rows"]) == (1, 1, 1)
    text = join(folder, labels, "--key", "person", "--model", folder / "registry" / "census-income").stdout
    assert f"{labels}: 1 label; none is new\n  1 row without a key, left out" in text


def test_labels_of_shards_that_are_gone_are_kept(folder: Path) -> None:
    """The log's budget removes shards; later files may still correct their labels."""
    join_labels(folder, write_labels(folder / "one.csv", "person,income", "a,>50K", "b,>50K"))
    (folder / "log" / "requests-1.parquet").unlink()
    write_log(folder, "2", build_rows(["d"], version=2, columns={"city": pa.array(["Rome"])}))
    two = write_labels(folder / "two.csv", "person,income", "a,<=50K", "d,>50K")
    os.utime(two, (2**32, 2**32))
    document = join_labels(folder, two)
    assert read_joined(folder) == {"a": "<=50K", "b": ">50K", "d": ">50K"}
    assert counts(document, "unknown", "joined") == [0, 3]


def test_a_stream_is_joined_and_counts_once_when_it_is_rotated(folder: Path) -> None:
    table = describe(build_rows(["x", "y"], version=2), DESCRIPTION)
    stream = folder / "log" / "requests-2.arrow"
    with pa.ipc.new_stream(str(stream), table.schema) as writer:
        writer.write_table(table)
    labels = write_labels(folder / "labels.csv", "person,income", "x,>50K")
    assert counts(join_labels(folder, labels), "predictions", "joined") == [6, 1]
    write_log(folder, "2", table)
    assert counts(json.loads(join(folder, "--json").stdout), "predictions", "joined") == [6, 1]


def test_labels_may_be_by_request_and_row(tmp_path: Path) -> None:
    write_model(tmp_path)
    log = {ID: ["r1", "r1", "r2"], ROW: [0, 1, 0], ERROR: [None, None, "bad"]}
    write_log(tmp_path, "1", build_rows([None, None, None], log=log))
    labels = write_labels(tmp_path / "labels.csv", "request,place,income", "r1,1,>50K", "r2,0,>50K", "r9,0,>50K")
    document = join_labels(tmp_path, labels, "--key", "request", "--by-id", "--row", "place")
    assert counts(document, "predictions", "joined", "unknown") == [2, 1, 2]
    rows = pq.read_table(tmp_path / "log" / "outcomes" / document["joined"]).to_pylist()
    assert [(row[ID], row[ROW]) for row in rows] == [("r1", 1)]


@pytest.mark.parametrize("suffix", ["parquet", "csv.gz", "tsv"])
def test_labels_may_be_of_any_format(folder: Path, suffix: str) -> None:
    import gzip

    path = folder / f"labels.{suffix}"
    if suffix == "parquet":
        times = pa.array([datetime.datetime(2026, 11, 9)], pa.timestamp("us"))
        pq.write_table(pa.table({"person": ["a"], "income": [">50K"], "known": times}), path)
    elif suffix == "tsv":
        path.write_text("person\tincome\tknown\na\t>50K\t2026-11-09\n")
    else:
        path.write_bytes(gzip.compress(b"person,income,known\na,>50K,2026-11-09\n"))
    join_labels(folder, path, "--time", "known")
    assert read_joined(folder) == {"a": ">50K"}


def test_names_of_folders_are_no_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "it's [1] *?"
    folder.mkdir()
    write_model(folder)
    write_log(folder, "1", build_rows(["a"]))
    join_labels(folder, write_labels(folder / "labels.csv", "person,income", "a,>50K"))
    assert read_joined(folder) == {"a": ">50K"}


@pytest.mark.parametrize(
    ("lines", "arguments", "code", "message"),
    [
        (("person,income", "a,rich"), (), 3, "labels.csv:2: income: expected '<=50K' or '>50K', found 'rich'"),
        (("id,income", "a,>50K"), (), 3, "labels.csv: there is no column 'person', which --key names"),
        (("person,salary", "a,>50K"), (), 3, "there is no column 'income', which --label, --time, --row or --weight"),
        (("person,income", ",>50K", ",>50K"), (), 3, "none of its 2 rows has a value in column 'person'"),
        (("person,income,known", "a,>50K,soon"), ("--time", "known"), 3, "known: expected a date or a time such as"),
        (("person,income", "a,>50K"), ("--time", "known"), 3, "there is no column 'known'"),
        (("person,income", "a,>50K"), ("--key", "income"), 2, "--key income: is the column of the label"),
        (("person,income", "a,>50K"), ("--row", "row"), 2, "--row: is for --by-id"),
        (("person,income", "a,>50K"), ("--memory", "much"), 3, "--memory much: is not a size; expected one such as"),
        (("person,income",), (), 3, "labels.csv: holds no rows"),
    ],
)
def test_a_wrong_file_is_one_line_and_changes_nothing(
    folder: Path, lines: tuple[str, ...], arguments: tuple[str, ...], code: int, message: str
) -> None:
    key = () if "--key" in arguments else ("--key", "person")
    labels = write_labels(folder / "labels.csv", *lines)
    result = join(folder, labels, *key, "--model", folder / "registry" / "census-income", *arguments)
    assert result.exit_code == code
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert message in errors[0]
    assert not (folder / "log" / "outcomes" / "summary.json").exists()
    assert not [*(folder / "log").glob("outcomes/.unfinished-*")]


def test_bad_labels_may_be_left_out(folder: Path) -> None:
    labels = write_labels(folder / "labels.csv", "person,income", "a,rich", "b,>50K")
    document = join_labels(folder, labels, "--max-bad-rows", 1)
    assert (document["file"]["bad_rows"], document["file"]["rows"]) == (1, 1)


def test_a_log_without_keys_another_folder_and_another_model_are_named(tmp_path: Path) -> None:
    write_model(tmp_path)
    labels = write_labels(tmp_path / "labels.csv", "person,income", "a,>50K")
    arguments = (labels, "--key", "person", "--model", tmp_path / "registry" / "census-income")
    (tmp_path / "log").mkdir()
    result = join(tmp_path, *arguments)
    assert (result.exit_code, "has no shard of a request log" in result.stderr) == (3, True)
    assert not [*(tmp_path / "log").iterdir()]
    write_log(tmp_path, "1", build_rows([None, None]))
    result = join(tmp_path, *arguments)
    assert (result.exit_code, "no logged prediction has a key" in result.stderr) == (3, True)
    write_log(tmp_path, "1", build_rows(["a"]), ShardDescription(model="iris", sample=1.0))
    result = join(tmp_path, *arguments)
    assert result.exit_code == 2
    assert "is 'census-income', and " in result.stderr
    assert "is a log of 'iris'; name the folder of that model" in result.stderr
    result = join(tmp_path)
    assert (result.exit_code, "has no labels yet; name a file" in result.stderr) == (3, True)
    result = join(tmp_path, labels, "--key", "person")
    assert (result.exit_code, "--model FOLDER: is missing" in result.stderr) == (2, True)


def test_a_model_without_declared_features_is_named(folder: Path) -> None:
    labels = write_labels(folder / "labels.csv", "person,income", "a,>50K")
    model = folder / "registry" / "census-income" / "1"
    (model / DECLARATION_FILE).unlink()
    result = join(folder, labels, "--key", "person", "--model", model)
    assert result.exit_code == 5
    assert "census-income/1: declares no features (it has no assets.extra/feature_set.json), expected" in result.stderr
    assert "for a run_fn of your own, join them to the log's Parquet files by _request_key" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_foreign_file_and_labels_of_another_kind_are_named(folder: Path) -> None:
    labels = write_labels(folder / "labels.csv", "person,income", "a,>50K")
    join_labels(folder, labels)
    result = join(folder, labels, "--key", "person", "--by-id", "--model", folder / "registry" / "census-income")
    assert result.exit_code == 3
    assert "has labels by key, and these are by id; a log has labels of one kind" in result.stderr
    (folder / "log" / "outcomes" / "labels-1.parquet").write_text("mine")
    result = join(folder)
    assert (result.exit_code, "labels-1.parquet: is not a file of labels" in result.stderr) == (3, True)


def test_ctrl_c_leaves_the_last_join_and_nothing_else(folder: Path) -> None:
    join_labels(folder, write_labels(folder / "one.csv", "person,income", "a,>50K"))
    outcomes = folder / "log" / "outcomes"
    before = read_summary(folder / "log")
    write_log(folder, "2", build_rows(["d"], version=2))

    def interrupt(text: str) -> None:
        if text == "joins them":
            # As Python's handler of the signal does; a worker of the tests ignores it.
            raise KeyboardInterrupt

    with open_outcomes(folder / "log"), pytest.raises(KeyboardInterrupt):
        join_outcomes(outcomes, "1GB", interrupt)
    assert read_summary(folder / "log") == before
    assert [*outcomes.glob(".unfinished-*")] == []
    assert counts(json.loads(join(folder, "--json").stdout), "predictions", "joined") == [5, 1]


def test_what_a_killed_process_left_is_removed_and_two_processes_wait(folder: Path) -> None:
    labels = write_labels(folder / "one.csv", "person,income", "a,>50K")
    with open_outcomes(folder / "log") as outcomes:
        result = join(folder, labels, "--key", "person", "--model", folder / "registry" / "census-income")
        assert result.exit_code == 3
        assert "another process joins labels; run the same command when it has ended" in result.stderr
        (outcomes / ".unfinished-1").mkdir()
        (outcomes / ".unfinished-1" / "spill").touch()
        (outcomes / ".unfinished-1-labels-0.parquet").write_text("half")
    assert join_labels(folder, labels)["counts"]["joined"] == 1
    assert [*outcomes.glob(".unfinished-*")] == []


def test_a_join_that_needs_more_memory_names_the_flag(folder: Path) -> None:
    labels = write_labels(folder / "one.csv", "person,income", "a,>50K")
    result = join(
        folder, labels, "--key", "person", "--model", folder / "registry" / "census-income", "--memory", "1KB"
    )
    assert result.exit_code == 3
    assert "the join needs more memory than --memory 1KB; allow more" in result.stderr
    assert [*(folder / "log" / "outcomes").glob(".unfinished-*")] == []


def test_the_cause_of_a_full_disk_is_one_plain_line() -> None:
    text = (
        'IO Error: Async write failed for range [offset=18245, size=2357]: {"exception_type":"IO","exception_message":'
        '"Could not write file \\"joined.parquet\\": No space left on device","errno":"28"}'
    )
    assert find_cause(duckdb.IOException(text)) == 'Could not write file "joined.parquet": No space left on device'
    assert find_cause(duckdb.IOException("IO Error: no\nmore")) == "IO Error: no"


def test_the_outcomes_are_for_those_who_read_the_log(tmp_path: Path) -> None:
    """The folder of the log may be one that everybody can enter."""
    write_model(tmp_path)
    log = write_log(tmp_path, "1", build_rows(["a"]))
    join_labels(tmp_path, write_labels(tmp_path / "labels.csv", "person,income", "a,>50K"))
    assert (log / "outcomes").stat().st_mode & 0o777 == 0o750
