"""The peers: what they are given, how they are fitted and judged, and one that is not installed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmarks import peer_program, peers
from benchmarks.peers import SCIKIT_LEARN, PeerError, Predictions, Rows
from pipeline.config import pipeline_config
from schemas.features import BinaryLabel, Label, MulticlassLabel, RegressionLabel
from tests.conftest import CENSUS_CONFIG

_BINARY = BinaryLabel(column="income", positive=">50K", negative="<=50K")


def test_a_column_is_a_number_if_all_its_values_are() -> None:
    assert peers._has_numbers(pa.chunked_array([["1", "-2.5e3", None]]))
    assert not peers._has_numbers(pa.chunked_array([["1", "two"]]))


def test_rows_are_numbers_and_strings_by_position_with_the_label_last(tmp_path: Path) -> None:
    config = pipeline_config.load(CENSUS_CONFIG)
    fitted = pa.table({"age": ["39", None], "sex": ["Male", None], "income": [">50K", "<=50K"]})
    test = pa.table({"sex": ["Female"], "income": [">50K"]})
    digest = peers.write_rows(config, Rows(fitted, test), tmp_path)
    columns = pyarrow.parquet.read_table(tmp_path / "fitted.parquet").to_pydict()
    assert columns == {"x0": [39.0, pytest.approx(np.nan, nan_ok=True)], "x1": ["Male", ""], "label": [">50K", "<=50K"]}
    (missing,) = pyarrow.parquet.read_table(tmp_path / "test.parquet")["x0"].to_pylist()
    assert np.isnan(missing)
    assert peers.write_rows(config, Rows(fitted, test), tmp_path) == digest
    assert peers.write_rows(config, Rows(fitted, fitted), tmp_path) != digest


def test_categories_are_those_that_were_fitted() -> None:
    fitted = pd.DataFrame({"x0": [1.0, 2.0, 3.0], "x1": ["b", "a", ""]})
    encoded, test = peer_program.encode_categories(fitted, pd.DataFrame({"x0": [4.0, 5.0], "x1": ["a", "unseen"]}))
    assert list(encoded["x1"].cat.categories) == list(test["x1"].cat.categories) == ["a", "b"]
    assert encoded["x1"].isna().tolist() == [False, False, True]
    assert test["x1"].isna().tolist() == [False, True]


@pytest.mark.parametrize(("distinct", "kind"), [(255, "category"), (256, "float64")])
def test_too_many_categories_are_codes(distinct: int, kind: str) -> None:
    fitted = pd.DataFrame({"x0": [f"job {number:03}" for number in range(distinct)]})
    encoded, test = peer_program.encode_few_categories(fitted, pd.DataFrame({"x0": ["job 001", "unseen"]}))
    assert (encoded["x0"].dtype.name, test["x0"].dtype.name) == (kind, kind)
    assert test["x0"].isna().tolist() == [False, True]


@pytest.mark.integration
@pytest.mark.proof
@pytest.mark.parametrize(
    ("label", "names", "least"),
    [
        (_BINARY, ("<=50K", ">50K"), 0.9),
        (MulticlassLabel(kind="multiclass", column="income", classes=("a", "b", "c")), ("a", "b", "c"), 0.8),
        (RegressionLabel(kind="regression", column="income"), (), 0.9),
    ],
)
def test_scikit_learn_is_fitted_and_judged_by_the_metric_of_the_label(
    label: Label, names: tuple[str, ...], least: float, tmp_path: Path
) -> None:
    config = pipeline_config.load(CENSUS_CONFIG)
    numbers = np.random.default_rng(0).uniform(0, 3, 600)
    labels = [names[int(number * len(names) / 3)] if names else f"{number**2}" for number in numbers]
    table = pa.table({"age": [str(number) for number in numbers], "sex": ["Male", "Female"] * 300, "income": labels})
    rows = Rows(table[:400], table[400:])
    config = config.model_copy(update={"label": label})
    peers.write_rows(config, rows, tmp_path)
    predictions = peers.fit(SCIKIT_LEARN, peers.install(SCIKIT_LEARN), tmp_path, label, seed=1)
    score = peers.judge(label, rows.test, predictions)
    assert score.rows == 200
    assert score.value > least
    assert tuple(predictions.classes) == names
    assert predictions.train_seconds > 0
    assert predictions.microseconds > 0
    assert 0 <= peers.standard_error(label, rows.test, predictions) < 0.1


def test_shares_are_judged() -> None:
    shares = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    labels = np.array([0, 1, 1])
    accuracy = peers.score("accuracy", labels, shares)
    assert (accuracy.value, accuracy.rows) == (pytest.approx(2 / 3), 3)
    assert accuracy.loss == pytest.approx(-np.log([0.9, 0.8, 0.4]).mean())
    assert peers.score("auc", labels, shares[:, 1]).value == 1
    r2 = peers.score("r2", np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
    assert (r2.value, r2.loss) == (pytest.approx(0.5), pytest.approx(3**-0.5))


def test_the_share_of_the_positive_value_is_found_by_its_name() -> None:
    test = pa.table({"income": [">50K", "<=50K"]})
    shares = np.array([[0.8, 0.2], [0.1, 0.9]])
    assert peers.judge(_BINARY, test, Predictions(shares, [">50K", "<=50K"], 0, 0)).value == 1
    assert peers.judge(_BINARY, test, Predictions(shares, ["<=50K", ">50K"], 0, 0)).value == 0


def test_a_class_that_was_not_fitted_is_named() -> None:
    with pytest.raises(PeerError) as unknown:
        peers.judge(_BINARY, pa.table({"income": ["other"]}), Predictions(np.ones((1, 2)) / 2, ["<=50K", ">50K"], 0, 0))
    assert str(unknown.value) == "income: the class 'other' of test is in no row of train and eval"


@pytest.mark.integration
def test_a_program_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PeerError) as failed:
        peers.fit(SCIKIT_LEARN, peers.install(SCIKIT_LEARN), tmp_path, _BINARY)
    assert str(failed.value).startswith("scikit-learn failed: FileNotFoundError: ")


@pytest.mark.integration
def test_a_peer_that_cannot_be_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    for _ in range(2):
        with pytest.raises(PeerError) as failed:
            peers.install("lightgbm", tmp_path / "peers")
        assert str(failed.value).startswith("LightGBM is not installed: ")
        assert "\n" not in str(failed.value)
        assert "network was disabled" in str(failed.value)


def test_every_peer_is_pinned_with_hashes() -> None:
    pinned = peers.REQUIREMENTS.read_text()
    assert set(peers.PEERS) == set(peer_program.PEERS)
    for peer in peers.PEERS:
        assert f"\n{peer}=={peers.version(peer)}" in f"\n{pinned}" or peer == SCIKIT_LEARN
    assert pinned.count("==") < pinned.count("--hash=sha256:")
