from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.layers import Dropout, MemberHeads, Members, PiecewiseLinear, Squash, compute_bin_edges


def test_edges_are_quantiles_of_the_values() -> None:
    np.testing.assert_array_equal(compute_bin_edges(np.arange(1001.0), 4), [0, 250, 500, 750, 1000])


def test_with_fewer_values_than_edges_each_value_is_an_edge() -> None:
    np.testing.assert_array_equal(compute_bin_edges(np.array([3.0, 1, 1, 7]), 5), [1, 3, 7, 7, 7, 7])
    np.testing.assert_array_equal(compute_bin_edges(np.array([2.0]), 2), [2, 2, 2])


def test_a_frequent_value_is_an_edge_and_the_others_share_the_rest() -> None:
    values = np.concatenate([np.zeros(900), np.arange(1, 101.0)])
    edges = compute_bin_edges(values, 5)
    assert edges[0] == 0 and edges[1] == 1 and edges[-1] == 100
    # Plain quantiles would have four edges at zero.
    assert len(np.unique(edges)) == 6


def encode(numbers: list[list[float]], columns: tuple[int, ...], edges: list[list[float]]) -> Any:
    layer = PiecewiseLinear(columns, bins=2, dimension=2)
    layer.build((None, len(numbers[0])))
    layer.edges.assign(edges)
    layer.kernel.assign([[[1.0, 10.0], [100.0, 1000.0]]] * len(columns))
    return layer(tf.constant(numbers)).numpy()


def test_a_number_becomes_the_share_of_each_bin_below_it() -> None:
    numbers = [[x] for x in (-5.0, 0.0, 0.5, 1.0, 2.5, 4.0, 99.0)]
    expected = [[0, 0], [0, 0], [0.5, 5], [1, 10], [51, 510], [101, 1010], [101, 1010]]
    np.testing.assert_allclose(encode(numbers, (0,), [[0, 1, 4]]), expected)


def test_columns_have_bins_of_their_own_and_bins_without_width_give_nothing() -> None:
    encoded = encode([[9.0, 1.0, 3.0]], (1, 2), [[0, 1, 1], [3, 3, 3]])
    np.testing.assert_allclose(encoded, [[1, 10, 0, 0]])


def test_a_squashed_number_is_bounded_and_small_ones_stay() -> None:
    numbers = [0.0, 0.01, 3.0, -3.0, 1e6, -1e30, 3e38]
    expected = [0, 0.01, 3 / 2**0.5, -3 / 2**0.5, 3, -3, 3]
    np.testing.assert_allclose(Squash(3.0)(tf.constant(numbers)).numpy(), expected, rtol=1e-4)


def test_members_differ_in_random_signs_and_repeat_with_the_seed() -> None:
    keras.utils.set_random_seed(1)
    outputs = Members(8)(tf.ones([2, 30])).numpy()
    assert outputs.shape == (2, 8, 30)
    assert {*outputs.ravel().tolist()} == {-1.0, 1.0}
    assert len(np.unique(outputs[0], axis=0)) == 8
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(Members(8)(tf.ones([2, 30])).numpy(), outputs)


def test_each_member_has_a_head_of_its_own() -> None:
    layer = MemberHeads(2)
    layer.build((None, 3, 4))
    hidden = np.random.default_rng(1).normal(size=(5, 3, 4)).astype(np.float32)
    outputs = layer(hidden).numpy()
    for member in range(3):
        expected = hidden[:, member] @ layer.kernel.numpy()[member]
        np.testing.assert_allclose(outputs[:, member], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1_001, 200), (100, 8, 250), (3, 1)])
def test_dropout_drops_its_share_and_keeps_the_mean(shape: tuple[int, ...]) -> None:
    keras.utils.set_random_seed(1)
    layer = Dropout(0.2)
    dropped = layer(tf.ones(shape), training=True).numpy()
    factor = 256 / (256 - 51)
    assert {*np.unique(dropped).tolist()} <= {0.0, np.float32(factor)}
    if dropped.size > 10_000:
        assert (dropped == 0).mean() == pytest.approx(51 / 256, abs=0.005)
        assert dropped.mean() == pytest.approx(1, abs=0.005)
        # Neither rows nor columns repeat.
        assert len(np.unique(dropped.reshape(len(dropped), -1), axis=0)) == len(dropped)
        assert (layer(tf.ones(shape), training=True).numpy() != dropped).any()
    np.testing.assert_array_equal(layer(tf.ones(shape)).numpy(), np.ones(shape))
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(Dropout(0.2)(tf.ones(shape), training=True).numpy(), dropped)


@pytest.mark.parametrize(
    "layer",
    [PiecewiseLinear((0, 1), 4, 2), Squash(3.0), Members(3), keras.Sequential([Members(3), MemberHeads(2, "l2")])],
)
def test_layers_are_made_again_from_their_configs(layer: Any) -> None:
    numbers = tf.constant([[0.5, -1.0]])
    expected = layer(numbers)
    again = type(layer).from_config(layer.get_config())
    again(numbers)
    again.set_weights(layer.get_weights())
    np.testing.assert_allclose(again(numbers).numpy(), expected.numpy())
