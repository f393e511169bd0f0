"""Names with characters that URIs and patterns treat specially are read as they are, here and in a bucket."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from cli.errors import DataError
from emulators.storage.server import StorageServer
from schemas.data import CsvOptions, Data
from schemas.tables import locations
from schemas.tables.data_files import list_files, resolve_inputs, split_literal_folder
from schemas.tables.readers import open_table

ODD = "a [b] c#d%20é?*"


@pytest.mark.parametrize(
    ("location", "kind", "path"),
    [
        (f"/x/{ODD}", "local", f"/x/{ODD}"),
        (f"file:///x/{ODD}", "local", f"/x/{ODD}"),
        (f"gs://anonymous@bucket/{ODD}/", "gcs", f"bucket/{ODD}"),
        ("gs://anonymous@bucket", "gcs", "bucket"),
        ("gs://anonymous@bucket/a?endpoint_override=localhost:1&scheme=http", "gcs", "bucket/a"),
        ("gs://anonymous@bucket/a?b=c", "gcs", "bucket/a?b=c"),
    ],
)
def test_nothing_in_a_name_is_decoded(location: str, kind: str, path: str) -> None:
    filesystem, file_path = locations.open_filesystem(location)
    assert (filesystem.type_name, file_path) == (kind, path)


def test_a_uri_that_names_nothing_is_rejected() -> None:
    for location in ("file://x", "unknown://x/y"):
        with pytest.raises((OSError, pa.ArrowException)):
            locations.open_filesystem(location)


@pytest.fixture(params=["local", "bucket"])
def base(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """Yield a folder with an odd name, and how it is named."""
    folder = tmp_path / "bucket" / ODD
    folder.mkdir(parents=True)
    if request.param == "local":
        yield folder, str(folder)
        return
    with StorageServer(tmp_path) as server:
        monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", server.url)
        yield folder, f"gs://anonymous@bucket/{ODD}"


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x\n1\n")


def find_files(base: str, pattern: str) -> list[str]:
    splits = {"train": {"files": pattern}, "eval": {"source": "train", "fraction": 0.1}}
    return [
        path
        for split_input in resolve_inputs(Data.model_validate({"base": base, "splits": splits}))
        for path in split_input.files
    ]


def test_a_file_of_the_literal_name_goes_before_the_pattern(base: tuple[Path, str]) -> None:
    folder, uri = base
    make(folder, "a[1].csv", "a1.csv", "sub [x]/b*.csv", "sub [x]/b2.csv", "sub x/c.csv", "a#1%20?.csv", ".hidden.csv")
    assert find_files(uri, "a[1].csv") == [f"{uri}/a[1].csv"]
    assert find_files(uri, "a[[]1].csv") == [f"{uri}/a[1].csv"]
    assert find_files(uri, "a[12].csv") == [f"{uri}/a1.csv"]
    assert find_files(uri, "sub [x]/b*.csv") == [f"{uri}/sub [x]/b*.csv"]
    assert find_files(uri, "sub [x]/b?.csv") == [f"{uri}/sub [x]/b*.csv", f"{uri}/sub [x]/b2.csv"]
    assert find_files(uri, "a#1%20?.csv") == [f"{uri}/a#1%20?.csv"]
    assert find_files(uri, "*.csv") == [f"{uri}/{name}" for name in ("a#1%20?.csv", "a1.csv", "a[1].csv")]
    assert find_files(uri, "**/c.csv") == [f"{uri}/sub x/c.csv"]
    with pytest.raises(DataError, match="no such file"):
        find_files(uri, "b*.csv")


def test_spans_below_and_in_odd_names(base: tuple[Path, str]) -> None:
    folder, uri = base
    make(folder, "s [1]/span-2/a[b].csv", "s [1]/span-3/a[b].csv", "odd[1]-7.csv", "odd1-9.csv")
    assert find_files(uri, "s [1]/span-{SPAN}/a[b].csv") == [f"{uri}/s [1]/span-3/a[b].csv"]
    assert find_files(uri, "s [1]/span-{SPAN}/*.csv") == [f"{uri}/s [1]/span-3/a[b].csv"]
    assert find_files(uri, "odd[1]-{SPAN}.csv") == [f"{uri}/odd[1]-7.csv"]


def test_what_is_found_can_be_listed_and_read(base: tuple[Path, str]) -> None:
    folder, uri = base
    make(folder, f"{ODD}.csv", "b.csv", "_SUCCESS")
    assert list_files(uri) == [f"{uri}/{ODD}.csv", f"{uri}/b.csv"]
    assert list_files(f"{uri}/{ODD}.csv") == [f"{uri}/{ODD}.csv"]
    assert list_files(f"{uri}/b.c?v") == [f"{uri}/b.csv"] if uri[0] == "/" else True
    (batch,) = open_table(f"{uri}/{ODD}.csv", "csv", CsvOptions()).read_batches()
    assert batch.columns.to_pydict() == {"x": ["1"]}


def test_the_folders_that_exist_are_no_pattern(tmp_path: Path) -> None:
    (tmp_path / ODD / "x[1]").mkdir(parents=True)
    base, rest = split_literal_folder(f"{tmp_path}/{ODD}/x[1]/y[2]/*.csv")
    assert (base, rest) == (f"{tmp_path}/{ODD}/x[1]", "y[2]/*.csv")
    assert split_literal_folder("*.csv") == ("", "*.csv")


def test_the_cause_of_an_error_of_arrow_is_short(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        pafs.LocalFileSystem().open_input_file(str(tmp_path / "rows.csv"))
    assert locations.describe_cause(caught.value) == "No such file or directory"
