"""Batch inference, as its users run it: predictions are those of the signature, and nothing is lost or done twice."""

import errno
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import tensorflow as tf

from cli.errors import ConfigError, DataError, PushError
from schemas.data import ReadOptions
from schemas.features import FeatureSet, escape_name
from serving.batch import prediction_tables
from serving.batch.__main__ import main
from serving.batch.job import Job, JobState, Outcome
from serving.batch.job_runner import _parse_error
from serving.batch.predict_file import PredictFile
from serving.batch.progress import Progress
from serving.batch.storage import OutputFolder
from serving.beam.arguments import RUNNER_CLASSES
from serving.registry import Candidate, LocalRegistry
from tests import forked
from tests.conftest import ROOT
from tests.serving.models import golden_answers
from tests.vertex_fixtures import BUCKET, Bench

pytestmark = pytest.mark.integration

FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "age": {"kind": "numeric", "missing": "mean"},
            "size": {"kind": "numeric"},
            "grade": {"kind": "identity", "num_ids": 5, "missing": 0, "embedding": 2},
            "job title": {"kind": "vocabulary_list", "values": ["clerk", "nurse"], "missing": "none", "embedding": 2},
            "town": {"kind": "hash", "num_ids": 50, "embedding": 2},
        },
        "label": {"column": "y", "positive": "yes", "negative": "no"},
    }
)
HEADER = ["id", "age", "size", "grade", "job title", "town", "note"]
# The third row lacks what may be missing; `id` and `note` are no features, and there is no label.
ROWS = [
    ["a", "39", "1.5", "1", "clerk", "Oslo", "x"],
    ["", "50.5", "2", "4", "nurse", "Łódź", "y"],
    ["NA", "", "-3e2", "", "", "Oslo", "with, comma"],
    ["d", "18", "0", "2", "other", "Rome", ""],
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two versions of a model with a Transform graph; its weights are random and differ."""
    import keras
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

    from components.transform.preprocessing import preprocessing_fn
    from serving.model.served_model import ServedModel, TransformGraph
    from serving.model.signatures import DTYPES
    from trainer.config import Model
    from trainer.model import build_model
    from trainer.warm_start import name_weights

    folder = tmp_path_factory.mktemp("models")
    optional = {name for name, feature in FEATURES.features.items() if feature.missing is not None}
    spec: dict[str, Any] = {
        name: tf.io.VarLenFeature(DTYPES[kind]) if name in optional else tf.io.FixedLenFeature([], DTYPES[kind])
        for name, kind in FEATURES.column_types.items()
    }
    row = {"age": [40.0], "size": 1.0, "grade": [1], "job title": ["clerk"], "town": "Oslo", "y": "yes"}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    config = {"feature_set": FEATURES.model_dump_json()}
    with tft_beam.Context(temp_dir=str(folder / "temporary")):
        graph = ([row, {**row, "age": [20.0]}], metadata) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing_fn(inputs, custom_config=config)
        )
        _ = graph | tft_beam.WriteTransformFn(str(folder / "transform"))
    metadata_io.write_metadata(metadata, str(folder / "transform" / "metadata"))
    for version in ("2", "10"):
        keras.utils.set_random_seed(int(version))
        network = build_model(FEATURES, Model(hidden_units=(4,), normalization="none"))
        exported = folder / "exported" / version
        graph = TransformGraph(tft.TFTransformOutput(str(folder / "transform")))
        options = ReadOptions(other_columns=("id", "note", "tags"))
        ServedModel(network, name_weights(network), graph, FEATURES, "00ff", options).export(str(exported))
        instance = {escape_name(name): row[name] for name in ("size", "town")} | {"age": 40.0, "grade": 1}
        LocalRegistry(folder, "mine").push(
            Candidate("p", int(version), "r", 1, folder=exported, golden=golden_answers(exported, [instance]).to_json())
        )
    return folder / "mine"


@pytest.fixture
def batch(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process; return what it printed, or its errors where another code than 0 is expected."""

    def run(*arguments: object, code: int = 0) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert ended.value.code == code, captured
        assert "Traceback" not in captured.err
        errors = without_progress(captured.err)
        assert (captured.out if code and "--json" not in arguments else errors) == ""
        return errors if code and "--json" not in arguments else captured.out

    return run


def text(rows: list[list[str]] = ROWS, delimiter: str = ",", header: bool = True) -> str:
    lines = [HEADER, *rows] if header else rows
    quoted = [[f'"{value}"' if "," in value else value for value in line] for line in lines]
    return "".join(delimiter.join(line) + "\n" for line in quoted)


def many(count: int, start: int = 0) -> list[list[str]]:
    """Return rows that are all different."""
    towns = ("Oslo", "Rome", "Łódź")
    return [
        [f"k{n}", str(n % 90), str(n / 7), str(n % 5), ("clerk", "", "x")[n % 3], towns[n % 3], ""]
        for n in range(start, start + count)
    ]


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def by_signature(version: Path, rows: list[list[str]]) -> dict[str, Any]:
    """Return what the served signature says when it is called directly, missing values sent as serving/model/signatures.py says."""
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    _, ages, sizes, grades, jobs, towns, _ = zip(*rows, strict=True)
    outputs = signature(
        age=tf.constant([float(age) if age else float("nan") for age in ages]),
        size=tf.constant([float(size) for size in sizes]),
        grade=tf.constant([int(grade) if grade else -1 for grade in grades], tf.int64),
        job_title=tf.constant(jobs),
        town=tf.constant(towns),
    )
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def predictions(output: Path) -> pa.Table:
    """Return the folder read as one data set, as Arrow, pandas and Spark read it: in the order of the names."""
    return pyarrow.parquet.read_table(output)


def example(row: list[str]) -> bytes:
    """Return a row as a tf.Example without its missing values."""
    kinds: dict[str, Callable[[str], Any]] = {
        "age": lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=[float(v)])),
        "grade": lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(v)])),
        "other": lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode()])),
    }
    kinds["size"] = kinds["age"]
    named = dict(zip(HEADER, row, strict=True))
    feature = {n: kinds.get(n, kinds["other"])(v) for n, v in named.items() if v or n in ("id", "note")}
    # Of an ignored feature there may be several.
    feature["tags"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"1", b"2"]))
    return bytes(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def write_every_format(folder: Path) -> dict[str, int]:
    """Write ROWS in files of every kind; return the number of the first row in each."""
    write(folder / "a.csv", text())
    (folder / "a.csv.gz").write_bytes(gzip.compress(text().encode()))
    write(folder / "a.tsv", text(delimiter="\t"))
    columns = dict(zip(HEADER, (list(column) for column in zip(*ROWS, strict=True)), strict=True))
    numbers = {"age": [39, 50.5, None, 18], "size": [1.5, 2, -300, 0], "grade": [1, 4, None, 2]}
    listed = {"note": [["a", "b"], [], None, ["c"]]}
    pyarrow.parquet.write_table(pa.table({**columns, **numbers, **listed}), folder / "a.parquet")
    for name, compression in (("a.tfrecord", ""), ("data_tfrecord-00000-of-00001.gz", "GZIP")):
        with tf.io.TFRecordWriter(str(folder / name), compression) as writer:
            for row in ROWS:
                writer.write(example(row))
    return {
        "a.csv": 2,
        "a.csv.gz": 2,
        "a.tsv": 2,
        "a.parquet": 1,
        "a.tfrecord": 1,
        "data_tfrecord-00000-of-00001.gz": 1,
    }


def test_every_format_gives_the_predictions_of_the_signature(
    models: Path, batch: Callable[..., str], tmp_path: Path
) -> None:
    expected = by_signature(models / "10", ROWS)
    assert len(set(expected["probability"].tolist())) == 4
    for name, first in write_every_format(tmp_path).items():
        output = tmp_path / "out" / name
        # Keys are copied as they stand, even where the text stands for a missing value.
        keys = ("--key", "id", "--key", "note") if name != "a.parquet" else ("--key", "id")
        output_text = batch(
            tmp_path / name, output, "--model", models, *keys, "--missing-value", "", "--missing-value", "NA"
        )
        assert output_text.startswith("predicted 4 rows of 1 file with version 10 in "), name
        table = predictions(output)
        assert table.column("file").to_pylist() == [str(tmp_path / name)] * 4
        assert table.column("row").to_pylist() == list(range(first, first + 4))
        assert table.column("id").to_pylist() == ["a", "", "NA", "d"]
        if name != "a.parquet":
            assert table.column("note").to_pylist() == ["x", "y", "with, comma", ""]
        np.testing.assert_array_equal(table.column("probability").to_numpy(), expected["probability"])
        assert table.column("predicted_label").to_pylist() == [v.decode() for v in expected["predicted_label"]]
        assert table.column("model_version").to_pylist() == ["10"] * 4


def test_every_output_format_has_the_same_values(models: Path, batch: Callable[..., str], tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", text())
    for format in ("parquet", "csv", "jsonl"):
        batch(source, tmp_path / format, "--model", models / "2", "--key", "id", "--output-format", format)
    from_parquet = predictions(tmp_path / "parquet")
    (lines,) = (tmp_path / "jsonl").glob("part-*")
    from_json = [json.loads(line) for line in lines.read_text().splitlines()]
    assert (
        list(from_json[0])
        == from_parquet.schema.names
        == ["file", "row", "id", "model_version", "predicted_label", "probability", "schema_hash"]
    )
    assert [{**row, "probability": np.float32(row["probability"])} for row in from_json] == [
        {**row, "probability": np.float32(row["probability"])} for row in from_parquet.to_pylist()
    ]
    (table,) = (tmp_path / "csv").glob("part-*")
    types = {"probability": pa.float32(), "model_version": pa.string()}
    options = pyarrow.csv.ConvertOptions(column_types=types)
    assert pyarrow.csv.read_csv(table, convert_options=options).equals(from_parquet)


def test_a_folder_is_predicted_in_parts_that_keep_the_order(
    models: Path, batch: Callable[..., str], tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.csv", text(many(25)))
    write(tmp_path / "in" / "b.csv", text(many(10, start=25)))
    write(tmp_path / "in" / "_about.txt", "no data")
    whole = json.loads(
        batch(tmp_path / "in", tmp_path / "out", "--model", models, "--key", "id", "--rows-per-part", 10, "--json")
    )
    names = sorted(path.name for path in (tmp_path / "out").glob("part-*"))
    assert names == [f"part-00000-{n:06d}.parquet" for n in range(3)] + ["part-00001-000000.parquet"]
    table = predictions(tmp_path / "out")
    assert table.column("id").to_pylist() == [f"k{n}" for n in range(35)]
    assert table.column("row").to_pylist() == [*range(2, 27), *range(2, 12)]
    expected = by_signature(models / "10", many(35))["probability"]
    np.testing.assert_allclose(table.column("probability").to_numpy(), expected, rtol=1e-6)
    assert whole["rows"] == 35
    assert (whole["files"], whole["parts"], whole["rejected"], whole["reused_parts"]) == (2, 4, 0, 0)
    assert (whole["model"], whole["model_version"]) == (str(models / "10"), "10")
    assert whole["schema_hash"] and len(whole["content_hash"]) == 64
    stamp = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    again = batch(tmp_path / "in", tmp_path / "out", "--model", models, "--key", "id", "--rows-per-part", 10)
    assert again.startswith(
        f"nothing to do: {tmp_path}/out holds the predictions for 35 rows of 2 files with version 10"
    )
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()} == stamp


def test_bad_rows_stop_the_run_or_are_set_aside(models: Path, batch: Callable[..., str], tmp_path: Path) -> None:
    rows = many(6)
    rows[1][1], rows[3][2], rows[5][3] = "old", "", "1.5"
    source = write(tmp_path / "a.csv", text(rows))
    command = [source, tmp_path / "out", "--model", models, "--key", "id"]
    assert batch(*command, code=3).splitlines() == [
        f"error: {source}:3: age: expected a finite number, found 'old'; correct the row, or name the string in "
        "--missing-value if it stands for a missing value",
        f"{source}:5: size: the value is missing; correct the row: the model was trained without missing values in "
        "this column",
        f"{source}:7: grade: expected an integer, found '1.5'; correct the row, or name the string in --missing-value if "
        "it stands for a missing value",
    ]
    assert not list((tmp_path / "out").glob("part-*"))
    assert f"error: more bad rows than --max-bad-rows: 2; {source}:3: age" in batch(
        *command, "--max-bad-rows", 2, code=3
    )
    printed = batch(*command, "--max-bad-rows", 3)
    assert "predicted 3 rows of 1 file with version 10 (3 rejected: _rejects.jsonl)" in printed
    assert predictions(tmp_path / "out").column("id").to_pylist() == ["k0", "k2", "k4"]
    assert predictions(tmp_path / "out").column("row").to_pylist() == [2, 4, 6]
    rejects = [json.loads(line) for line in (tmp_path / "out" / "_rejects.jsonl").read_text().splitlines()]
    assert [(r["file"], r["row"], r["place"], r["column"]) for r in rejects] == [
        (str(source), line, f"{source}:{line}", column) for line, column in ((3, "age"), (5, "size"), (7, "grade"))
    ]
    assert rejects[0]["reason"].startswith("expected a finite number, found 'old'")


def test_bad_rows_are_counted_over_all_files(models: Path, batch: Callable[..., str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.csv", text([*many(3), ["z", "old", "1", "1", "", "Rome", ""]]))
    command = [tmp_path / "in", tmp_path / "out", "--model", models]
    refused = batch(*command, "--max-bad-rows", 1, code=3)
    assert f"more bad rows than --max-bad-rows: 1; {tmp_path}/in/a.csv:5: age" in refused
    assert f"{tmp_path}/in/b.csv:5: age" in refused
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert "6 rows of 2 files with version 10 (2 rejected" in batch(*command, "--max-bad-rows", 2)
    assert len((tmp_path / "out" / "_rejects.jsonl").read_text().splitlines()) == 2


def test_a_refused_file_is_mended_and_only_it_is_predicted_anew(
    models: Path, batch: Callable[..., str], tmp_path: Path
) -> None:
    good, bad = many(25), many(25, start=25)
    bad[22][1] = "old"
    write(tmp_path / "in" / "a.csv", text(good))
    fixed = write(tmp_path / "in" / "b.csv", text(bad))
    write(tmp_path / "in" / "c.csv", text(many(5, start=50)))
    command = [tmp_path / "in", tmp_path / "out", "--model", models, "--key", "id", "--rows-per-part", 10]
    assert f"error: {fixed}:24: age" in batch(*command, code=3)
    # Full parts before the bad row exist; files after the rejected one were not begun, whatever the order.
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-00000-*")}
    write(fixed, text(many(25, start=25)))
    summary = json.loads(batch(*command, "--json"))
    assert (summary["rows"], summary["parts"]) == (55, 7)
    assert predictions(tmp_path / "out").column("id").to_pylist() == [f"k{n}" for n in range(55)]
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-00000-*")}
    assert {name: after[name] for name in before} == before


def test_another_job_in_the_folder_is_refused_with_what_differs(
    models: Path, batch: Callable[..., str], tmp_path: Path
) -> None:
    source = write(tmp_path / "in" / "a.csv", text(many(3)))
    output = tmp_path / "out"
    batch(tmp_path / "in", output, "--model", models / "2")
    kept = predictions(output)

    def run_rejected(*flags: object, model: Path = models / "2") -> str:
        return batch(tmp_path / "in", output, "--model", model, *flags, code=5)

    message = run_rejected(model=models / "10")
    assert f"error: {output}: holds another job: --model was {models}/2 (" in message
    assert f", is {models}/10 (" in message
    assert message.endswith("). Give another OUTPUT, or remove it\n")
    assert "--key was none, is id. Give" in run_rejected("--key", "id")
    assert "--output-format was parquet, is csv. Give" in run_rejected("--output-format", "csv")
    assert "--rows-per-part was 100000, is 5. Give" in run_rejected("--rows-per-part", 5)
    assert 'the read options was {}, is {"missing_values": ["?"]}. Give' in run_rejected("--missing-value", "?")
    write(tmp_path / "in" / "b.csv", text(many(3)))
    assert f"holds another job: {tmp_path}/in/b.csv is new. Give" in run_rejected()
    (tmp_path / "in" / "b.csv").unlink()
    write(source, text(many(4)))
    assert f"holds another job: {source} has changed. Give" in run_rejected()
    source.rename(tmp_path / "in" / "c.csv")
    assert f"{source} is no longer among the input files; {tmp_path}/in/c.csv is new" in run_rejected()
    assert predictions(output).equals(kept)
    foreign = write(tmp_path / "foreign" / "letter.txt", "mine").parent
    assert "holds other files, such as letter.txt; give a folder of its own" in batch(
        tmp_path / "in", foreign, "--model", models, code=5
    )


def test_what_is_wrong_is_one_line_before_anything_is_loaded(
    models: Path, batch: Callable[..., str], tmp_path: Path
) -> None:
    source, output = write(tmp_path / "in" / "a.csv", text(many(3))), tmp_path / "out"
    write(tmp_path / "odd.xlsx", "PK\x03\x04 [Content_Types].xml")
    write(tmp_path / "mixed" / "a.csv", "")
    write(tmp_path / "mixed" / "b.parquet", "")
    misspelt = write(tmp_path / "misspelt.csv", text(many(3)).replace("grade", "grades"))
    (tmp_path / "empty").mkdir()
    model = ("--model", models)
    for arguments, code, expected in (
        ((tmp_path / "odd.xlsx", output, *model), 3, "odd.xlsx: is an Excel workbook; expected CSV,"),
        ((tmp_path / "mixed", output, *model), 2, "mixed: holds files of 2 formats: csv ("),
        ((tmp_path / "none-*.csv", output, *model), 3, "none-*.csv: no such file"),
        ((tmp_path / "empty", output, *model), 3, "empty: holds no files"),
        ((misspelt, output, *model), 3, "there is no column 'grade', which the model needs; did you mean 'grades'?"),
        (
            (source, output, *model, "--key", "idd"),
            3,
            "there is no column 'idd', which --key names; did you mean 'id'?",
        ),
        ((source, output, *model, "--key", "row"), 2, "--key row: the output already has a column of this name"),
        ((source, output, *model, "--encoding", "utf-9"), 2, "--encoding: Value error, 'utf-9' is not an encoding"),
        ((source, output, *model, "--delimiter", "||"), 2, "--delimiter: String should have at most 1 character"),
        (
            (source, output, *model, "--decimal", ",", "--thousands", ","),
            2,
            "options of CSV: thousands and decimal are both ','",
        ),
        ((source, output, *model, "--header", "--column-names", "a"), 2, "--header and --column-names: give one"),
        ((source, source, output, *model), 2, "a pattern needs quotes, so that the shell leaves it alone"),
        (
            (source, output, "--model", tmp_path / "in"),
            5,
            "in: is neither a SavedModel (no saved_model.pb) nor a folder",
        ),
        ((source, source, *model), 5, "a.csv: is a file; expected a folder to write to"),
        (
            (source, output, *model, "--format", "parquet"),
            3,
            "a.csv: is CSV or other text; expected Parquet. Set --format csv, or",
        ),
    ):
        message = batch(*arguments, code=code)
        assert message.startswith("error: ") and expected in message, message
        assert message.count("\n") == 1
    assert not output.exists()
    assert json.loads(batch(tmp_path / "empty", output, *model, "--json", code=3)) == {
        "error": f"{tmp_path}/empty: holds no files",
        "exit_code": 3,
    }


def test_models_and_beam_options_that_cannot_be_used_are_one_line(
    models: Path, batch: Callable[..., str], tmp_path: Path
) -> None:
    source, output = write(tmp_path / "a.csv", text(many(3))), tmp_path / "out"
    foreign = write(tmp_path / "foreign" / "saved_model.pb", "").parent
    message = batch(source, output, "--model", foreign, code=5)
    assert (
        "foreign/assets.extra/feature_set.json: does not exist, so the model declares no features; batch inference takes"
        in message
    )
    damaged = Path(shutil.copytree(models / "2", tmp_path / "damaged"))
    (damaged / "saved_model.pb").write_bytes(b"damaged")
    assert f"error: {damaged}: is not what was pushed: its content hash" in batch(
        source, output, "--model", damaged, code=5
    )
    unchecked = ("--model", damaged, "--allow-unvalidated")
    assert f"error: {damaged}: no model can be loaded from it: " in batch(source, output, *unchecked, code=5)
    shutil.rmtree(output)
    command = (source, output, "--model", models)
    assert "--beam-option direct_num_wrokers: is not an option of Beam; did you mean 'direct_num_workers'?" in batch(
        *command, "--beam-option", "direct_num_wrokers=2", code=2
    )
    dataflow = ("--beam", "runner=dataflow", "--", "--project", "my-project", "--region=europe-west4")
    assert (
        f"error: INPUT: the workers of --beam runner dataflow are on other machines and cannot see {source}; give a "
        "gs:// folder\n"
    ) in batch(*command, *dataflow, code=2)
    for flags, error in (
        (("--beam-option", "runner=FlinkRunner"), "--beam-option runner: is set by the key runner"),
        (
            ("--beam", "runner=flnk"),
            "--beam runner: input should be 'direct', 'prism', 'flink', 'spark', 'dataflow' or",
        ),
        (("--beam", "runnr=flink"), "--beam: unknown key 'runnr', did you mean 'runner'?"),
        (("--beam", "master=h:1"), "--beam master: is for flink and spark, and the runner is direct; remove it"),
        (("--beam", "runner=portable"), "--beam job_endpoint: is missing; portable needs HOST:PORT of a running job"),
        (
            ("--beam", "runner=prism", "--beam", "prism_binary=/no/prism"),
            "--beam prism_binary: there is no program '/no/prism'; build it with `go install",
        ),
    ):
        assert f"error: {error}" in batch(*command, *flags, code=2)
    # Nothing was predicted: another job may have the folder.
    batch(
        write(tmp_path / "bad.csv", text([["z", "old", "1", "1", "", "Rome", ""]])), output, "--model", models, code=3
    )
    batch(source, output, "--model", models / "2")


def test_a_file_without_rows_has_no_predictions(models: Path, batch: Callable[..., str], tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", text([]))
    assert "predicted 0 rows of 1 file" in batch(tmp_path / "in", tmp_path / "none", "--model", models)
    write(tmp_path / "in" / "b.csv", text(many(3)))
    assert "predicted 3 rows of 2 files" in batch(tmp_path / "in", tmp_path / "out", "--model", models, "--key", "id")
    assert predictions(tmp_path / "out").column("id").to_pylist() == ["k0", "k1", "k2"]


def test_a_full_disk_is_one_line(
    models: Path, batch: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: OutputFolder, name: str, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source, output = write(tmp_path / "a.csv", text(many(3))), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(PredictFile, "process", lambda self, element: full(self, "", b""))
        message = batch(source, output, "--model", models, code=1)
        assert message.endswith(f"OSError: [Errno 28] No space left on device; {output}/_log.txt has the traceback\n")
        assert "Traceback" in (output / "_log.txt").read_text()
    with monkeypatch.context() as patch:
        # The job is claimed; then the disk is full.
        patch.setattr(OutputFolder, "_write_local", full)
        message = batch(source, output, "--model", models, code=5)
        assert message == f"error: {output}/_outcomes/00000.failed.json: cannot be written: No space left on device\n"
    assert "predicted 3 rows" in batch(source, output, "--model", models)


def test_an_error_of_a_worker_process_is_found_in_what_beam_makes_of_it() -> None:
    traceback_name = f"{DataError.__module__}.DataError"
    text = f"bundle failed: Traceback\n  File x\n{traceback_name}: a.csv:3: bad [while running 'Predict']\n\n"
    assert _parse_error(RuntimeError(text)) == (DataError, "a.csv:3: bad")
    assert _parse_error(ConfigError("a flag [while running 'Predict-ptransform-4']")) == (ConfigError, "a flag")
    assert _parse_error(ValueError("no error of ours"))[0] is None


def test_how_the_training_data_was_read_is_the_default(models: Path, batch: Callable[..., str], tmp_path: Path) -> None:
    version = Path(shutil.copytree(models / "10", tmp_path / "10"))
    options = {"csv": {"delimiter": ";", "column_names": HEADER}, "missing_values": ["?"], "other_columns": HEADER}
    write(version / "assets.extra" / "data_options.json", json.dumps(options))
    rows = [[value.replace(",", "") or ("?" if place else "") for place, value in enumerate(row)] for row in ROWS]
    bare = write(tmp_path / "bare.csv", text(rows, ";", header=False))
    batch(bare, tmp_path / "one", "--model", version, "--allow-unvalidated")
    headed = write(tmp_path / "headed.csv", text(rows, "|").replace("?", "-"))
    flags = ("--header", "--delimiter", "|", "--missing-value", "-")
    batch(headed, tmp_path / "two", "--model", version, "--allow-unvalidated", *flags)
    expected = by_signature(version, ROWS)["probability"]
    for name, rows_of in (("one", [1, 2, 3, 4]), ("two", [2, 3, 4, 5])):
        table = predictions(tmp_path / name)
        np.testing.assert_array_equal(table.column("probability").to_numpy(), expected)
        assert table.column("row").to_pylist() == rows_of


def start(*arguments: object) -> forked.Command:
    """In a session of its own, as a terminal's Ctrl-C reaches the processes of one."""
    return forked.Command("serving.batch", *map(str, arguments))


def wait_for_parts(output: Path, count: int, process: forked.Command) -> None:
    deadline = time.monotonic() + 60
    while len(list(output.glob("part-*"))) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_ends_with_an_error_has_its_exit_code(models: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "")
    done = start(tmp_path / "a.csv", tmp_path / "out", "--model", models).finish()
    assert without_progress(done.stderr) == f"error: {tmp_path}/a.csv: holds no rows; expected a header and rows\n"
    assert done.returncode == 3


def without_progress(printed: str) -> str:
    """Return what was printed but the lines of progress, which a slow machine prints once or more often."""
    progress = re.compile(r"loading the model|[\d,]+ rows, [\d,]+ rows/s, ")
    return "".join(line for line in printed.splitlines(keepends=True) if not progress.match(line))


@pytest.mark.proof
def test_a_run_that_is_killed_and_one_that_is_interrupted_are_gone_on_with(
    models: Path, batch: Callable[..., str], tmp_path: Path
) -> None:
    for index in range(2):
        write(tmp_path / "in" / f"{index}.csv", text(many(150_000, start=index * 150_000)))
    command = [tmp_path / "in", tmp_path / "out", "--model", models, "--key", "id", "--rows-per-part", 1_000]
    killed = start(*command)
    wait_for_parts(tmp_path / "out", 5, killed)
    os.kill(killed.pid, signal.SIGKILL)
    assert without_progress(killed.finish().stderr) == ""
    after_kill = len(list((tmp_path / "out").glob("part-*")))
    interrupted = start(*command)
    wait_for_parts(tmp_path / "out", after_kill + 5, interrupted)
    assert "another run is writing there" in batch(*command, code=5)
    os.killpg(interrupted.pid, signal.SIGINT)
    done = interrupted.finish()
    assert (done.returncode, done.stdout, without_progress(done.stderr)) == (
        130,
        "",
        "interrupted; finished parts are kept: run the same command again to continue\n",
    )
    reused = len(list((tmp_path / "out").glob("part-*")))
    assert reused < 300
    (tmp_path / "out" / "_unfinished-of-a-killed-run").touch()
    summary = json.loads(batch(*command, "--json"))
    assert (summary["rows"], summary["parts"], summary["reused_parts"]) == (300_000, 300, reused)
    batch(tmp_path / "in", tmp_path / "whole", *command[2:])
    assert predictions(tmp_path / "out").equals(predictions(tmp_path / "whole"))
    assert not list((tmp_path / "out").glob("_unfinished*"))


@pytest.mark.proof
def test_two_workers_write_what_one_writes(models: Path, batch: Callable[..., str], tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / "in" / f"{index}.csv", text(many(50, start=index * 50)))
    two = start(tmp_path / "in", tmp_path / "two", "--model", models, "--workers", 2, "--json")
    done = two.finish()
    assert (done.returncode, done.stderr) == (0, "")
    assert (json.loads(done.stdout)["rows"], json.loads(done.stdout)["files"]) == (150, 3)
    batch(tmp_path / "in", tmp_path / "one", "--model", models)
    assert predictions(tmp_path / "two").equals(predictions(tmp_path / "one"))


def test_a_bucket_to_a_bucket(
    models: Path, batch: Callable[..., str], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the JSON API of Cloud Storage."""
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", os.environ["STORAGE_EMULATOR_HOST"])
    bucket = bench.server.emulator.storage / BUCKET
    shutil.copytree(models / "2", bucket / "models" / "2")
    write(bucket / "in" / "a.csv", text(many(5)))
    write(bucket / "in" / "b.csv", text(many(5, start=5)))
    root = f"gs://anonymous@{BUCKET}"
    command = (f"{root}/in/*.csv", f"{root}/out", "--model", f"gs://{BUCKET}/models/2", "--key", "id")
    assert "predicted 10 rows of 2 files with version 2 in " in batch(*command)
    table = predictions(bucket / "out")
    assert table.column("id").to_pylist() == [f"k{n}" for n in range(10)]
    assert table.column("file").to_pylist()[0] == f"{root}/in/a.csv"
    assert "nothing to do" in batch(*command)
    # What Dataflow would get, run here.
    rehearsed = "pipeline.vertex.dataflow.RehearsedDataflowRunner"
    monkeypatch.setitem(RUNNER_CLASSES, "dataflow", rehearsed)
    dataflow = {"dry_run": "True", "project": "my-project", "region": "europe-west4"}
    dataflow |= {"temp_location": f"gs://{BUCKET}/temp"}
    options = [f"--{name}={value}" for name, value in dataflow.items()]
    beam_flags = ("--beam", "runner=dataflow", "--beam", "sdk_image=image:1")
    batch(command[0], f"{root}/dataflow", *command[2:], *beam_flags, "--", *options)
    assert predictions(bucket / "dataflow").equals(table)
    assert "no such file" in batch(f"{root}/in/c.csv", *command[1:], code=3)
    odd = "in [1]#%20é?*"
    write(bucket / odd / f"{odd}.csv", text(many(3)))
    write(bucket / odd / "[x]" / "b.csv", text(many(2, start=3)))
    for source, rows in ((odd, 3), (f"{odd}/{odd}.csv", 3), (f"{odd}/[x]/*.csv", 2), (f"{odd}/**/*.csv", 5)):
        assert f"predicted {rows} rows" in batch(
            f"{root}/{source}", f"{root}/out {rows} {odd}{len(source)}", *command[2:]
        )
    (file,) = predictions(bucket / f"out 2 {odd}{len(f'{odd}/[x]/*.csv')}").column("file").unique().to_pylist()
    assert file == f"{root}/{odd}/[x]/b.csv"
    assert (
        "error: gs://anonymous@elsewhere/out/_job.json: cannot be written: The bucket elsewhere does not exist."
        in batch(command[0], "gs://anonymous@elsewhere/out", *command[2:], code=5)
    )


class Columns:
    """A model with outputs of every kind."""

    version, schema_hash = "7", "s"

    def __init__(self, **outputs: Any) -> None:
        self.outputs = outputs

    def predict_columns(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        return {name: np.asarray(values) for name, values in self.outputs.items()}


def predict_block(model: Any, keys: tuple[str, ...] = ()) -> pa.Table:
    block = pa.table({"feature:x": pa.array([1.0, 2.0], pa.float32()), "row": [1, 2], "key:id": ["a", "b"]})
    features = FeatureSet.model_validate(
        {"features": {"x": {"kind": "numeric"}}, "label": {"column": "y", "kind": "regression"}}
    )
    return prediction_tables.predict_block(block, "f", keys, model, features)


def test_outputs_of_several_values_are_lists_and_json_in_csv() -> None:
    table = predict_block(
        Columns(
            probabilities=np.array([[0.1, 0.9], [0.5, 0.25]], np.float32),
            classes=np.array([[b"no", b"yes"]] * 2, object),
            count=np.array([1, 2]),
            model_version=np.array([b"9", b"9"], object),
        )
    )
    rows = [json.loads(line) for line in prediction_tables.serialize(table, "jsonl").splitlines()]
    place = {"file": "f", "row": 1}
    assert rows[0] == {**place, "probabilities": [0.1, 0.9], "classes": ["no", "yes"], "count": 1, "model_version": "9"}
    assert rows[1]["probabilities"] == [0.5, 0.25]
    first, second = pyarrow.csv.read_csv(io.BytesIO(prediction_tables.serialize(table, "csv"))).to_pylist()
    assert (first["probabilities"], first["classes"]) == ("[0.1, 0.9]", '["no", "yes"]')
    assert second["probabilities"] == "[0.5, 0.25]"
    read = pyarrow.parquet.read_table(io.BytesIO(prediction_tables.serialize(table, "parquet")))
    assert read.column("classes").to_pylist() == [["no", "yes"]] * 2
    assert read.schema.field("probabilities").type == pa.list_(pa.float32())


def test_a_prediction_that_is_not_finite_stops_with_its_row() -> None:
    with pytest.raises(DataError, match="f: row 2: the model's p is not a finite number"):
        predict_block(Columns(p=np.array([0.5, np.nan], np.float32)))


def test_a_model_that_fails_or_answers_otherwise_is_refused() -> None:
    with pytest.raises(ConfigError, match="--key id: the model has an output of this name"):
        predict_block(Columns(id=[1, 2]), keys=("id",))
    with pytest.raises(PushError, match=r"the model's output 'p' has shape \[3\] for 2 rows"):
        predict_block(Columns(p=[1, 2, 3]))

    class Failing(Columns):
        def predict_columns(self, columns: Mapping[str, Any]) -> dict[str, Any]:
            raise tf.errors.InvalidArgumentError(None, None, "indices out of range\nmore")

    with pytest.raises(PushError, match="^the model failed: indices out of range$"):
        predict_block(Failing())


class Terminal(io.StringIO):
    def __init__(self, live: bool) -> None:
        super().__init__()
        self.live = live

    def isatty(self) -> bool:
        return self.live


@pytest.fixture
def plain_seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("serving.batch.progress._PLAIN_SECONDS", 0.05)
    monkeypatch.setattr("serving.batch.progress._LIVE_SECONDS", 0.05)
    yield


@pytest.mark.parametrize("live", [False, True])
def test_progress_counts_rows_of_parts_and_of_finished_files(live: bool, tmp_path: Path, plain_seconds: None) -> None:
    files = [{"path": name, "bytes": 1, "modified": "1"} for name in ("a", "b")]
    job = Job.model_validate(
        {
            "inputs": files, "model": "m", "content_hash": "h", "format": "csv", "reading": {}, "keys": [],
            "output_format": "csv", "rows_per_part": 1000,
        }
    )  # fmt: skip
    state = JobState(OutputFolder(str(tmp_path)))
    state.folder.write(job.format_part_name(0, 0), b"")
    terminal = Terminal(live)
    with Progress(state, job, terminal):
        time.sleep(0.2)
        state.folder.write(job.format_part_name(0, 1), b"")
        state.finish(0, Outcome(path="a", rows=1500, parts=2))
        state.folder.write(job.format_part_name(1, 0), b"")
        time.sleep(0.2)
    printed = terminal.getvalue()
    assert "loading the model; 1,000 rows are predicted already" in printed
    assert "2,500 rows, " in printed and " rows/s, 1 of 2 files" in printed
    assert ("\r" in printed) == live
    assert printed.endswith("\r\x1b[K" if live else "files\n")


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serving.batch", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for needed in ("Examples:", "--max-bad-rows", "Exit codes:", "130  interrupted", "_rejects.jsonl"):
        assert needed in done.stdout
