"""Files of every format as typed columns, and every row that does not fit with its place."""

import gzip
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from cli.errors import DataError
from schemas.data import CsvOptions, Data, Format, ReadOptions
from schemas.features import FeatureSet
from schemas.tables.expression_values import evaluate
from schemas.tables.readers import Terms, open_table
from schemas.tables.typed_columns import Columns, Table, summarize_bad_rows
from schemas.tables.values import MAX_VALUE_BYTES, build_feature_rules

FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "age": {"kind": "numeric"},
            "grade": {"kind": "identity", "num_ids": 5, "missing": 0},
            "job": {"kind": "vocabulary", "max_size": 9, "missing": "none"},
        },
        "label": {"column": "y", "positive": "yes", "negative": "no"},
    }
)
GOOD = "age,grade,job,id,y\n39,1,clerk,a,no\n50.5,,?,b,yes\n"
PARSED = [
    {"age": 39.0, "grade": 1, "job": b"clerk", "y": b"no"},
    {"age": 50.5, "grade": None, "job": None, "y": b"yes"},
]


def data(**settings: Any) -> Data:
    splits = {"train": {"files": "*"}, "eval": {"source": "train", "fraction": 0.1}}
    return Data.model_validate(
        {"base": "/", "splits": splits, "missing_values": ["", "?"], "ignored_columns": ["id"], **settings}
    )


WEIGHTED = FEATURES.model_copy(update={"weight": "w"})


def table(path: Path, content: str | bytes | None = None, *, max_bad_rows: int = 0, **settings: Any) -> Table:
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Table.from_config(str(path), data(**settings), FEATURES, max_bad_rows=max_bad_rows)


def rows(read: Table) -> list[dict[str, Any]]:
    return [row for batch in read.read_batches() for row in batch.values.to_pylist()]


def example(**values: float | int | str) -> bytes:
    import tensorflow as tf

    def feature(value: float | int | str) -> tf.train.Feature:
        match value:
            case str():
                return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
            case int():
                return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
            case _:
                return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))

    features = {name: feature(value) for name, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()  # type: ignore[no-any-return]


def write_records(path: Path, records: list[bytes], compression: str = "") -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)


RECORDS = ({"age": 39.0, "grade": 1, "job": "clerk", "id": "a", "y": "no"}, {"age": 50.5, "id": "b", "y": "yes"})


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    assert rows(table(tmp_path / "a.csv", GOOD)) == PARSED
    assert rows(table(tmp_path / "a.csv.gz", gzip.compress(GOOD.encode()))) == PARSED
    tabs = GOOD.replace(",", "\t")
    assert rows(table(tmp_path / "a.tsv", tabs, csv={"delimiter": "\t"})) == PARSED
    header, _, body = GOOD.partition("\n")
    names = {"column_names": header.split(",")}
    assert rows(table(tmp_path / "bare.csv", body, csv=names)) == PARSED
    spaced = body.replace(",", ", ").replace("?", " ? ")
    assert rows(table(tmp_path / "spaced.csv", spaced, csv={**names, "strip_spaces": True})) == PARSED
    latin = GOOD.replace("clerk", "café").encode("latin-1")
    assert rows(table(tmp_path / "l.csv", latin, csv={"encoding": "latin-1"}))[0]["job"] == "café".encode()
    frame = pa.table({"age": [39, 50.5], "grade": [1.0, None], "job": ["clerk", None], "id": "ab", "y": ["no", "yes"]})
    pyarrow.parquet.write_table(frame.set_column(2, "job", frame["job"].dictionary_encode()), tmp_path / "a.parquet")
    assert rows(table(tmp_path / "a.parquet", format="parquet")) == PARSED
    records = [example(**values) for values in RECORDS]
    for name, compression in (("a.tfrecord", ""), ("a.tfrecord.gz", "GZIP")):
        write_records(tmp_path / name, records, compression)
        assert rows(table(tmp_path / name, format="tfrecord")) == PARSED


def test_quoted_commas_and_newlines_stay_inside_their_field(tmp_path: Path) -> None:
    parsed = rows(table(tmp_path / "a.csv", GOOD.replace("clerk", '"clerk, senior\nfull time"')))
    assert parsed[0]["job"] == b"clerk, senior\nfull time"


def test_the_hash_of_a_row_covers_the_features_alone(tmp_path: Path) -> None:
    (batch,) = table(tmp_path / "a.csv", GOOD).read_batches()
    relabelled = GOOD.replace("a,no", "c,yes").replace("b,yes", "d,no")
    swapped = "\n".join(",".join(reversed(line.split(","))) for line in relabelled.splitlines()) + "\n"
    for other in (relabelled, swapped, relabelled.replace("39,1,", "39.0,1.0,")):
        (same,) = table(tmp_path / "b.csv", other).read_batches()
        assert same.hashes.tolist() == batch.hashes.tolist()
    for other in (GOOD.replace("39", "38"), GOOD.replace("clerk", "cook"), GOOD.replace("39,1", "1,39")):
        (different,) = table(tmp_path / "b.csv", other).read_batches()
        assert different.hashes[0] != batch.hashes[0] and different.hashes[1] == batch.hashes[1]
    (grouped,) = table(
        tmp_path / "a.csv", GOOD.replace("b,yes", "a,yes"), ignored_columns=[], group_column="id"
    ).read_batches()
    assert len(set(grouped.group_hashes.tolist())) == 1 and grouped.hashes.tolist() == batch.hashes.tolist()


def test_integers_written_as_floats_are_integers(tmp_path: Path) -> None:
    assert rows(table(tmp_path / "a.csv", GOOD.replace("39,1,", "39,1.0,")))[0]["grade"] == 1


BAD = [
    (GOOD.replace("a,no", "a,no,1"), ":2: expected 5 fields, found 6: '39,1,clerk,a,no,1'"),
    (GOOD.replace(",a,no", ""), ":2: expected 5 fields, found 3: '39,1,clerk'"),
    (GOOD.replace("39", "NaN"), ":2: age: expected a finite number, found 'NaN'; correct the row, or name"),
    (GOOD.replace("39", "inf"), ":2: age: expected a finite number, found 'inf'; correct the row, or name"),
    (GOOD.replace("50.5", "old"), ":3: age: expected a finite number, found 'old'; correct the row, or name"),
    (GOOD.replace("50.5", "2026-01-31"), ":3: age: expected a finite number, found '2026-01-31'"),
    (GOOD.replace("39,1,", "39,1.5,"), ":2: grade: expected an integer, found '1.5'; correct the row, or name"),
    (GOOD.replace("50.5", "?"), ":3: age: the value is missing; correct the row, or declare what a missing value"),
    (GOOD.replace("b,yes", "b,"), ":3: y: the label is missing; correct or remove the row"),
    (GOOD.replace("yes", "yes."), ":3: y: expected 'no' or 'yes', found 'yes.'"),
    (GOOD.replace("clerk", '"a\nb"').replace("50.5", "old"), ":4: age: expected a finite number, found 'old'"),
    (GOOD.replace("clerk", "x" * (MAX_VALUE_BYTES + 1)), ":2: job: the value has 1,048,577 bytes; at most 1,048,576"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_row_that_does_not_fit_is_named_with_its_line_and_left_out(
    content: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.csv"
    read = table(path, content)
    good = rows(read)
    (line,) = summarize_bad_rows(read)
    assert line.startswith(f"{path}{message}")
    assert "\n" not in line
    assert len(good) == 1


def test_a_time_in_another_format_is_named_with_the_setting(tmp_path: Path) -> None:
    declared = {"features": {"at": {"kind": "timestamp", "parts": {"hour": {}}}}, "label": FEATURES.label.model_dump()}
    path = tmp_path / "times.csv"
    path.write_text("at,y\n2024-02-29,yes\n29.02.2024,no\n2023-02-29,no\n")
    read = Table.from_config(str(path), data(ignored_columns=[]), FeatureSet.model_validate(declared), max_bad_rows=9)
    list(read.read_batches())
    assert summarize_bad_rows(read) == [
        f"{path}:3: at: expected a date or a time such as 2024-02-29 or 2024-02-29T13:45:00+01:00, found '29.02.2024'; "
        "correct the row, or declare how times are written under features.at.format",
        f"{path}:4: at: expected a day that exists, found '2023-02-29'; "
        "correct the row, or name the string in data.missing_values if it stands for a missing value",
    ]


def test_bad_rows_are_counted_by_kind_and_the_lines_after_them_are_right(tmp_path: Path) -> None:
    good = "39,1,clerk,a,no\n"
    content = "age,grade,job,id,y\n" + good * 3 + "1,2\n" + good * 2 + "old,1,x,a,no\n" + good + "new,1,x,a,no\n1\n"
    read = table(tmp_path / "a.csv", content, max_bad_rows=10)
    assert len(rows(read)) == 6
    lines = [line.removeprefix(str(tmp_path / "a.csv")) for line in summarize_bad_rows(read)]
    assert sorted(line.split(" ")[0] for line in lines) == [":5:", ":8:"]
    assert {bad.row for bad in read.bad_rows} == {5, 8, 10, 11}
    assert any("found 'old'" in line and "(and 1 more like it)" in line for line in lines)


def test_reading_ends_soon_after_too_many_bad_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.tables.readers.BLOCK_BYTES", 1 << 14)
    content = "age,grade,job,id,y\n" + "old,1,clerk,a,no\n" * 50_000
    read = table(tmp_path / "a.csv", content, max_bad_rows=5)
    list(read.read_batches())
    assert 5 < len(read.bad_rows) < 25_000


REFUSED = [
    (
        GOOD.replace("age,", "", 1).replace("39,", "").replace("50.5,", ""),
        ": there is no column 'age', which the config declares",
    ),
    (
        GOOD.replace("grade", "grades"),
        ": there is no column 'grade', which the config declares; did you mean 'grades'?",
    ),
    (GOOD.replace("id", "ident"), ": column 'ident' is not declared; declare it under features, or name it in"),
    (GOOD.replace("id", "age"), ": the header names 'age' twice"),
    ("", ": holds no rows; expected a header and rows"),
    ("age,grade,job,id,y\n", ": holds no rows; expected rows with age, grade, job, y"),
    (
        GOOD.replace("clerk", "caf\xe9").encode("latin-1"),
        ":2: is not text in utf-8; convert the file to UTF-8, or name",
    ),
    (
        GOOD.replace("clerk", '"' + "x" * 10_000_000 + '"'),
        ":2: holds a value of 10,000,000 characters; a row may have 4,194,304 bytes",
    ),
]


@pytest.mark.parametrize(("content", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_a_file_that_does_not_fit_is_refused_in_one_line(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    with pytest.raises(DataError) as refused:
        rows(table(path, content))
    assert str(refused.value).startswith(f"{path}{message}")
    assert "\n" not in str(refused.value)


def test_a_truncated_compressed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv.gz"
    with pytest.raises(DataError, match=r"cut.csv.gz: cannot be read: Truncated compressed stream"):
        rows(table(path, gzip.compress((GOOD * 50).encode())[:-20]))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.csv: cannot be read"):
        table(tmp_path / "none.csv").check_names()


def test_a_damaged_tfrecord_is_refused_with_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    write_records(path, [example(**RECORDS[0])] * 3)
    whole = path.read_bytes()
    size = len(whole) // 3
    flipped = bytearray(whole)
    flipped[size + 20] ^= 4
    longer = bytearray(whole)
    longer[size] ^= 1
    for content, message in (
        (whole[:-3], f"is damaged at byte {2 * size}, after record 2: ends inside a record"),
        (whole[: size + 5], f"is damaged at byte {size}, after record 1: ends inside the head of a record"),
        (bytes(flipped), f"is damaged at byte {size}, after record 1: the checksum of a record does not fit"),
        (bytes(longer), f"is damaged at byte {size}, after record 1: the checksum of a record's length does not fit"),
        (gzip.compress(whole)[:-12], "cannot be read after record 1 "),
        (b"", "holds no records"),
    ):
        with pytest.raises(DataError) as refused:
            rows(table(path, content, format="tfrecord"))
        assert str(refused.value).startswith(f"{path}: {message}")


A_LIST = "expected one value, found a list of 2; declare the column as a list or a vector"


def test_records_that_are_no_examples_or_have_several_values_are_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    path = tmp_path / "a.tfrecord"
    write_records(path, [example(**RECORDS[0]), struct.pack("<QQ", 7, 7)])
    with pytest.raises(DataError, match="record 2: is not a tf.Example"):
        rows(table(path, format="tfrecord"))
    many = tf.train.Example.FromString(example(**RECORDS[0]))
    many.features.feature["job"].bytes_list.value.append(b"two")
    write_records(path, [example(**RECORDS[0]), many.SerializeToString()])
    read = table(path, format="tfrecord")
    assert len(rows(read)) == 1
    assert summarize_bad_rows(read) == [f"{path}: record 2: job: {A_LIST}"]


def test_a_record_with_another_type_is_read_as_far_as_it_fits_and_else_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    first, last = RECORDS
    write_records(path, [example(**values) for values in (first, {**first, "age": 39}, {**first, "age": "old"}, last)])
    read = table(path, format="tfrecord", max_bad_rows=1)
    assert rows(read) == [PARSED[0], *PARSED]
    assert summarize_bad_rows(read) == [
        f"{path}: record 3: age: expected a finite number, found 'old'; correct the row, or name the string in "
        "data.missing_values if it stands for a missing value"
    ]


def test_parquet_that_is_damaged_or_nested_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(DataError, match="a.parquet: cannot be read: Parquet magic bytes not found"):
        rows(table(path, b"PAR1\x15\x04" + GOOD.encode(), format="parquet"))
    nested = pa.table({"age": [1.0], "grade": [1], "job": [["a", "b"]], "id": ["a"], "y": ["no"]})
    pyarrow.parquet.write_table(nested, path)
    read = table(path, format="parquet")
    assert rows(read) == []
    assert summarize_bad_rows(read) == [f"{path}: row 1: job: {A_LIST}"]
    typed = pa.table({"age": ["old", "1"], "grade": [1, 2], "job": ["a", "b"], "id": ["a", "b"], "y": ["no", "yes"]})
    pyarrow.parquet.write_table(typed, path)
    read = table(path, format="parquet")
    assert len(rows(read)) == 1
    assert summarize_bad_rows(read)[0].startswith(f"{path}: row 1: age: expected a finite number, found 'old'")


def of_a_model(path: Path, content: str | None = None, *, format: Format = "csv", **options: Any) -> Table:
    """Return the features of GOOD with `id` copied: no label, and any other column may be there."""
    if content is not None:
        path.write_text(content)
    terms = Terms(missing_values="--missing-value", declares="the model needs", for_missing="the model takes none")
    csv = CsvOptions(**options)
    rules = build_feature_rules(FEATURES, ReadOptions(csv=csv, missing_values=("", "?")))
    reader = open_table(str(path), format, csv, only=[*rules, "id"], terms=terms)
    return Table(reader, Columns(rules, ignored=None, copied=["id"]))


def test_rows_without_a_label_among_other_columns(tmp_path: Path) -> None:
    content = "id,other,age,grade,job,other\n?,x,39,1,clerk,1\n,y,50.5,,?,2\n"
    spaced = content.replace(",", " , ")
    frame = pa.table(
        {
            "id": ["?", ""],
            "other": [[1, 2], None],
            "job": ["clerk", "?"],
            "grade": pa.array([1, None], pa.int8()),
            "age": [39, 50.5],
        }
    )
    pyarrow.parquet.write_table(frame, tmp_path / "a.parquet")
    examples = [example(**{**v, "id": i, "other": "x"}) for v, i in zip(RECORDS, ("?", ""), strict=True)]
    write_records(tmp_path / "a.tfrecord", examples)
    for read, rows in (
        (of_a_model(tmp_path / "a.csv", content), [2, 3]),
        (of_a_model(tmp_path / "b.csv", spaced, strip_spaces=True), [2, 3]),
        (of_a_model(tmp_path / "a.parquet", format="parquet"), [1, 2]),
        (of_a_model(tmp_path / "a.tfrecord", format="tfrecord"), [1, 2]),
    ):
        (batch,) = read.read_batches()
        assert batch.values.to_pylist() == [
            {"age": 39.0, "grade": 1, "job": b"clerk"},
            {"age": 50.5, "grade": None, "job": None},
        ]
        assert batch.copied["id"].to_pylist() == ["?", ""], read.path
        assert batch.rows.tolist() == rows
        assert batch.labels is None


def test_good_rows_keep_their_numbers_and_copied_texts(tmp_path: Path) -> None:
    read = of_a_model(tmp_path / "a.csv", "id,age,grade,job\na,1,1,x\nb,old,1,x\nc,?,1,x\nd,2,1,x\n")
    read.max_bad_rows = 2
    (batch,) = read.read_batches()
    assert batch.rows.tolist() == [2, 5]
    assert batch.copied["id"].to_pylist() == ["a", "d"]
    assert [line.removeprefix(read.path) for line in summarize_bad_rows(read)] == [
        ":3: age: expected a finite number, found 'old'; correct the row, or name the string in --missing-value if it "
        "stands for a missing value",
        ":4: age: the value is missing; the model takes none",
    ]


def test_a_column_the_model_needs_is_missed_under_its_terms(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no column 'grade', which the model needs; did you mean 'grades'"):
        list(of_a_model(tmp_path / "a.csv", "id,age,grades,job,x,x\na,1,1,x,1,1\n").read_batches())
    with pytest.raises(DataError, match="the header names 'job' twice"):
        list(of_a_model(tmp_path / "a.csv", "id,age,grade,job,job\na,1,1,x,1\n").read_batches())


def test_an_ignored_column_may_hold_lists(tmp_path: Path) -> None:
    import tensorflow as tf

    nested = pa.table({"age": [39.0], "grade": [1], "job": ["clerk"], "id": [["a", "b"]], "y": ["no"]})
    pyarrow.parquet.write_table(nested, tmp_path / "a.parquet")
    assert rows(table(tmp_path / "a.parquet", format="parquet")) == PARSED[:1]
    many = tf.train.Example.FromString(example(**RECORDS[0]))
    many.features.feature["id"].bytes_list.value.append(b"two")
    write_records(tmp_path / "a.tfrecord", [many.SerializeToString()])
    assert rows(table(tmp_path / "a.tfrecord", format="tfrecord")) == PARSED[:1]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_header_in_another_encoding_is_one_line(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("höhe,income\n3,x\n", encoding=encoding)
    with pytest.raises(DataError, match=r"a\.csv:1: is not text in utf-8; convert the file to UTF-8, or name its"):
        open_table(str(path), "csv", CsvOptions()).read_names()


def write_weighted(path: Path, *weights: str, max_bad_rows: int = 0) -> Table:
    path.write_text("age,grade,job,y,w\n" + "".join(f"39,1,clerk,no,{weight}\n" for weight in weights))
    return Table.from_config(str(path), data(weight_column="w"), WEIGHTED, max_bad_rows=max_bad_rows)


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        ("-0.5", "expected a number of at least 0, found '-0.5'"),
        ("", "the value is missing"),
        ("nan", "expected a finite number, found 'nan'"),
        ("inf", "expected a finite number, found 'inf'"),
        ("?", "expected a finite number, found '?'"),
    ],
)
def test_a_weight_that_is_missing_negative_or_no_number_is_a_bad_row(weight: str, reason: str, tmp_path: Path) -> None:
    read = write_weighted(tmp_path / "a.csv", "2", weight, "0")
    assert [row["w"] for row in rows(read)] == [2.0, 0.0]
    remedy = "the row counts by its weight: correct or remove the row"
    assert summarize_bad_rows(read) == [f"{tmp_path}/a.csv:3: w: {reason}; {remedy}"]


def test_rows_that_differ_in_weight_alone_are_equal(tmp_path: Path) -> None:
    (batch,) = write_weighted(tmp_path / "a.csv", "1", "7").read_batches()
    assert batch.hashes[0] == batch.hashes[1]


def test_a_file_without_the_declared_weights_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,grade,job,y\n39,1,clerk,no\n")
    read = Table.from_config(str(tmp_path / "a.csv"), data(weight_column="w"), WEIGHTED, max_bad_rows=0)
    with pytest.raises(DataError, match=r"a\.csv: there is no column 'w', which the config declares"):
        rows(read)


def test_a_column_with_the_name_of_a_derived_feature_is_not_read(tmp_path: Path) -> None:
    years = {"kind": "numeric", "expression": "age - 18", "missing": "mean"}
    declared = FeatureSet.model_validate(
        {"features": {"age": {"kind": "numeric"}, "years": years}, "label": FEATURES.label.model_dump()}
    )
    path = tmp_path / "a.csv"
    path.write_text("age,years,y\n39,words,no\n")
    undeclared = Table.from_config(str(path), data(), declared, max_bad_rows=0)
    with pytest.raises(DataError, match="column 'years' is not declared; .*name it in data.ignored_columns"):
        rows(undeclared)
    read = Table.from_config(str(path), data(ignored_columns=["years"]), declared, max_bad_rows=0)
    (batch,) = read.read_batches()
    assert batch.values.to_pylist() == [{"age": 39.0, "y": b"no"}]
    (expression,) = read.columns.derived_features.values()
    assert evaluate(expression, {"age": batch.values.column("age")}).to_pylist() == [21.0]
