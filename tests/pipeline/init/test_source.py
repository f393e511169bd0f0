"""The folder and the patterns of train and test files, wherever they are."""

from pathlib import Path

import pytest

from cli.errors import ConfigError, DataError
from pipeline.init.source import TableSource, find_source, list_data_files

CONTENT = "x,y\n1,a\n2,b\n"


def source(data: str, test: str | None = None) -> TableSource:
    return find_source(data, test=test, delimiter=None, column_names=(), header=True)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders a/2023, a/2024 and b with files; the working directory is a."""
    for name in ("a/2023/x.csv", "a/2024/x.csv", "a/2024/[y].csv", "b/x.csv"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(CONTENT)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "2024")
    monkeypatch.chdir(tmp_path / "a")
    return tmp_path


@pytest.mark.parametrize(
    ("data", "test", "files"),
    [
        ("2023/x.csv", "2024/x.csv", ("a/2023/x.csv", "a/2024/x.csv")),
        ("2023/x.csv", "../b/x.csv", ("a/2023/x.csv", "b/x.csv")),
        ("../b/x.csv", "2024/x.csv", ("b/x.csv", "a/2024/x.csv")),
        ("../b/*.csv", "../a/2024/x*.csv", ("b/x.csv", "a/2024/x.csv")),
        ("../b", "../a/2023", ("b/x.csv", "a/2023/x.csv")),
        ("2024/[y].csv", "2024/x.csv", ("a/2024/[y].csv", "a/2024/x.csv")),
        # A link's parent is that of its target.
        ("../link/../2023/x.csv", "../b/../a/2024/x.csv", ("a/2023/x.csv", "a/2024/x.csv")),
        ("{root}/a/2023/x.csv", "../b/x.csv", ("a/2023/x.csv", "b/x.csv")),
        ("2023/x.csv", "{root}/b/x.csv", ("a/2023/x.csv", "b/x.csv")),
        ("2023/../2024/x.csv", "2023/x.csv", ("a/2024/x.csv", "a/2023/x.csv")),
    ],
)
def test_train_and_test_in_any_folders(folders: Path, data: str, test: str, files: tuple[str, str]) -> None:
    resolved = source(data.format(root=folders), test.format(root=folders))
    assert resolved.test is not None
    for pattern, file in zip((resolved.train, resolved.test), files, strict=True):
        assert ".." not in Path(pattern).parts and not Path(pattern).is_absolute()
        (path,) = list_data_files(resolved.base, pattern)
        assert Path(path).resolve() == (folders / file).resolve()


def test_a_file_in_the_working_directory_has_a_relative_base(folders: Path) -> None:
    resolved = source("2023/x.csv", "2024/x.csv")
    assert (resolved.base, resolved.train, resolved.test) == (Path(), "2023/x.csv", "2024/x.csv")
    assert source("2023/x.csv").base == Path("2023")


def test_a_file_is_of_one_split(folders: Path) -> None:
    with pytest.raises(ConfigError, match="--test 2024/x.csv: .*2024/x.csv is among the files of 2024 too"):
        source("2024", "2024/x.csv")


def test_a_missing_file_is_named_as_it_was_given(folders: Path) -> None:
    for data, test, message in (
        ("2023/no.csv", None, "2023/no.csv: no such file"),
        ("2023/x.csv", "../b/no.csv", "--test ../b/no.csv: no such file"),
    ):
        with pytest.raises(DataError) as refused:
            source(data, test)
        assert str(refused.value) == message


def test_a_folder_is_read_by_the_ending_of_its_files(tmp_path: Path) -> None:
    for month in ("01", "02"):
        (tmp_path / f"sales.2024-{month}.csv").write_text("x,y\n1,2\n")
    assert source(str(tmp_path)).train == "*.csv"
    (tmp_path / "more.csv.gz").write_text("")
    with pytest.raises(DataError) as mixed:
        source(str(tmp_path))
    assert str(mixed.value) == (
        f"{tmp_path}: holds files of 2 kinds (*.csv, *.csv.gz); name one, as in '{tmp_path}/*.csv'"
    )


def test_a_folder_of_folders_is_an_error_that_names_their_files(tmp_path: Path) -> None:
    (tmp_path / "part=1").mkdir()
    with pytest.raises(DataError) as empty:
        source(str(tmp_path))
    assert str(empty.value) == (
        f"{tmp_path}: holds no data files; name those of its folders, as in '{tmp_path}/*/*.csv'"
    )
