"""The network and its training, by rows, columns and kind of label."""

from typing import Any

import numpy as np
import pytest

from pipeline.init.network import Network, choose_network


def network(labels: Any, *, rows: int = 5_000, classes: int = 0, columns: int = 10) -> dict[str, Any]:
    chosen: Network = choose_network(np.asarray(labels), rows, classes, columns)
    sections = {"model": chosen.model, "training": chosen.training}
    return {f"{name}.{key}": c.value for name, section in sections.items() for key, c in section.items()}


@pytest.mark.parametrize(
    ("rows", "classes", "batch", "epochs"),
    [
        (344, 0, 64, 150),
        (2_000, 0, 64, 96),
        (5_999, 3, 64, 32),
        (6_000, 3, 128, 50),
        (50_000, 0, 256, 15),
        (200_000, 0, 512, 8),
        (344, 2, 64, 50),
        (50_000, 2, 256, 15),
        (2_000_000, 2, 512, 4),
    ],
)
def test_small_tables_are_read_more_often(rows: int, classes: int, batch: int, epochs: int) -> None:
    labels = np.arange(100) % classes if classes else np.arange(100.0)
    chosen = network(labels, rows=rows, classes=classes)
    assert (chosen["training.batch_size"], chosen["training.epochs"]) == (batch, epochs)
    assert chosen["training.early_stopping"] == {"patience": max(2, epochs // 5)}


def test_only_a_label_of_numbers_with_a_long_tail_is_learned_as_a_logarithm() -> None:
    prices = np.random.default_rng(1).lognormal(3, 2, 1_000)
    assert network(prices)["model.label_scale"] == "log_z_score"
    for labels in (prices - 1, np.sqrt(prices) + 20):
        chosen = network(labels)
        assert "model.label_scale" not in chosen
        assert chosen["model.squash"] == 3
    assert network(prices)["model.clip_predictions"] is True


def test_few_rows_of_two_classes_get_a_small_network() -> None:
    labels = np.arange(100) % 2
    chosen = choose_network(labels, 400, 2, 10, small=True).model
    assert (chosen["hidden_units"].value, chosen["dropout"].value) == ([32, 16], 0.2)
    assert "number_encoding" not in chosen


def test_a_wide_table_has_neither_members_nor_piecewise_linear_numbers() -> None:
    chosen = choose_network(np.arange(100) % 3, 8_000, 3, 250, wide=True)
    assert not {"members", "number_encoding"} & {*chosen.model}
    assert chosen.training["wide_optimizer"].value["l1"] == 0.01


def test_only_classes_are_calibrated() -> None:
    assert network([0, 1] * 50, classes=2)["training.calibration"] == "temperature"
    assert "training.calibration" not in network(np.arange(9.0))


def test_uneven_classes_are_noted() -> None:
    assert "training.imbalance" not in network([0, 1] * 50, classes=2)
    assert network([0] * 99 + [1], classes=2)["training.imbalance"] == "none"
