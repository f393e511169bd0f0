"""The rows of a slice: those that Evaluator read, without the values of sensitive columns."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.example_records import frame_records, serialize_columns
from oncall.local.run_store import LocalRunStore
from oncall.web.slice_rows import MAX_ROWS, read_slice_rows
from pipeline.config import pipeline_config
from schemas.sensitive import MASK
from tests.conftest import CENSUS_CONFIG
from tests.oncall.run_roots import Artifacts, Runs
from tests.oncall.test_cli import FIRST
from tests.oncall.web.conftest import Site

BAD = "<script>alert(1)</script>"


def _config(**evaluation: Any) -> dict[str, Any]:
    config = pipeline_config.load(CENSUS_CONFIG).model_dump(mode="json")
    config["features"]["native_country"]["sensitive"] = True
    config["evaluation"] |= {"slice_by": [["sex"], ["sex", "race"]], **evaluation}
    config["evaluation"]["thresholds"], config["evaluation"]["change_thresholds"] = [], []
    return config


def _write_rows(made: Artifacts, count: int) -> Path:
    columns = pa.record_batch(
        {
            "native_country": pa.array([b"Atlantis"] * count),
            "sex": pa.array([b"Male" if place % 2 else b"Female" for place in range(count)]),
            "race": pa.array([BAD.encode() if place % 4 == 1 else b"White" for place in range(count)]),
            "age": pa.array([float(place) for place in range(count)], pa.float32()),
            "income": pa.array([b">50K"] * count),
        }
    )
    folder = Path(made["ExampleGen"]["examples"].uri) / "Split-test"
    folder.mkdir()
    file = folder / "data_tfrecord-00000-of-00001.gz"
    file.write_bytes(gzip.compress(bytes(frame_records(serialize_columns(columns)))))
    return file


@pytest.fixture
def made(runs: Runs) -> Artifacts:
    return runs.run(FIRST, overrides={"config": _config()})


def test_rows_of_a_slice_hide_sensitive_values(runs: Runs, made: Artifacts, site: Site) -> None:
    _write_rows(made, 40)
    rows = read_slice_rows(LocalRunStore(runs.root.path), FIRST, "sex=Male")
    assert (rows.split, len(rows.rows), rows.is_all) == ("test", 20, True)
    # The label comes first.
    assert rows.columns[0] == "income"
    assert rows.masked == ["native_country"]
    by_column = [dict(zip(rows.columns, row, strict=True)) for row in rows.rows]
    assert {row["sex"] for row in by_column} == {"Male"}
    assert {row["native_country"] for row in by_column} == {MASK}
    assert [row["age"] for row in by_column][:3] == ["1", "3", "5"]
    page = site.get(f"/rows?run={FIRST}&slice=sex%3DMale")
    assert "All 20 rows of test" in page.text
    assert "Sensitive columns are masked: native_country." in page.text
    assert "Atlantis" not in page.html
    assert BAD not in page.html
    # Slices of two columns, in whatever order.
    for name in (f"race={BAD} x sex=Male", f"sex=Male x race={BAD}"):
        assert len(read_slice_rows(LocalRunStore(runs.root.path), FIRST, name).rows) == 10


def test_of_many_rows_the_first_are_shown(runs: Runs, made: Artifacts) -> None:
    _write_rows(made, 3000)
    rows = read_slice_rows(LocalRunStore(runs.root.path), FIRST, "overall")
    assert (len(rows.rows), rows.is_all) == (MAX_ROWS, False)


def test_rows_that_cannot_be_shown_are_one_line(runs: Runs, made: Artifacts, site: Site) -> None:
    examples = made["ExampleGen"]["examples"].uri
    for query, message in {
        f"run={FIRST}&slice=sex%3DMale": f"{examples}: has no rows of test; were they deleted?",
        f"run={FIRST}&slice=age%3D3": "slice 'age=3': is none of run",
        "run=1999": "has no run '1999'",
    }.items():
        page = site.get(f"/rows?{query}")
        assert (page.code, message in page.text) == (200, True), page.text
    file = _write_rows(made, 40)
    file.write_bytes(file.read_bytes()[:60])
    assert f"{file}: cannot be read as TFRecords" in site.get(f"/rows?run={FIRST}").text


def test_a_config_that_does_not_fit_shows_no_row(runs: Runs, site: Site) -> None:
    made = runs.run(FIRST, overrides={"config": _config(no_such_key=1)})
    _write_rows(made, 4)
    page = site.get(f"/rows?run={FIRST}")
    assert "so its sensitive columns are not known; no row is shown" in page.text
    assert "White" not in page.html
