"""The folder of a pipeline's runs."""

import os
from pathlib import Path

import pytest

from pipeline.run_root import RunRoot, new_run_id
from schemas.errors import RunRootError


def test_two_runs_cannot_share_a_run_root_at_once(tmp_path: Path) -> None:
    with (
        RunRoot(tmp_path).locked(),
        pytest.raises(RunRootError, match="another run is using it"),
        RunRoot(tmp_path).locked(),
    ):
        pass
    with RunRoot(tmp_path).locked():
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_run_root_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunRootError, match="cannot be written: Permission denied"), RunRoot(tmp_path).locked():
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_its_place_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("mine")
    with pytest.raises(RunRootError, match="artifacts: cannot be written: File exists"), RunRoot(tmp_path).locked():
        pass
    assert (tmp_path / "artifacts").read_text() == "mine"


def test_run_ids_sort_by_time() -> None:
    ids = [new_run_id() for _ in range(20)]
    assert ids == sorted(ids)
