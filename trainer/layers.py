"""Layers of the network: tables of IDs, encodings of numbers, and members that share their weights."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("trainer")
class IdTable(keras.layers.Layer):
    """One table of vectors for several id columns, each with rows of its own.

    A table for each column would be the same mathematics. With one table, a lookup and an optimizer's update are one
    operation instead of dozens, which halves the time of a step.
    """

    def __init__(
        self,
        columns: Sequence[int],
        num_ids: Sequence[int],
        dimension: int,
        initializer: str,
        tables: Sequence[str] | None = None,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Args:
        columns: places of the columns in the input.
        num_ids: number of IDs of each column.
        dimension: length of a vector.
        initializer: initial values.
        tables: name of the rows of each column, which columns of one name share; if omitted, each has rows of its own.
        l2: penalty.
        **kwargs: Keras's arguments.
        """
        super().__init__(**kwargs)
        self.columns = tuple(columns)
        self.num_ids = tuple(num_ids)
        self.dimension = dimension
        self.initializer = initializer
        self.tables = tuple(tables or map(str, columns))
        self.l2 = l2

    def build(self, input_shape: Any) -> None:
        sizes = dict(zip(self.tables, self.num_ids, strict=True))
        starts = dict(zip(sizes, itertools.accumulate(sizes.values(), initial=0), strict=False))
        self._starts = [starts[table] for table in self.tables]
        self.table = self.add_weight(
            shape=(sum(sizes.values()), self.dimension),
            initializer=self.initializer,
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            name="table",
        )

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Look up IDs: int64 of shape [batch, all columns] gives float32 of shape [batch, n, dimension]."""
        return tf.gather(self.table, _select_columns(ids, self.columns) + tf.constant([self._starts], tf.int64))

    def get_config(self) -> dict[str, Any]:
        own = {"columns": self.columns, "num_ids": self.num_ids, "dimension": self.dimension, "tables": self.tables}
        return {**super().get_config(), **own, "initializer": self.initializer, "l2": self.l2}


@keras.saving.register_keras_serializable("trainer")
class BagOfIds(keras.layers.Layer):
    """The weighted sum of the vectors of several ids in each row, which `embedding_lookup_sparse` also computes."""

    def __init__(
        self,
        first_id: int,
        first_weight: int,
        width: int,
        num_ids: int,
        dimension: int,
        initializer: str,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Args:
        first_id: place of the first id in the input of ids.
        first_weight: place of its weight in the input of numbers.
        width: number of ids in each row.
        num_ids: number of different ids.
        dimension: length of a vector.
        initializer: initial values.
        l2: penalty.
        **kwargs: Keras's arguments.
        """
        super().__init__(**kwargs)
        self.first_id = first_id
        self.first_weight = first_weight
        self.width = width
        self.num_ids = num_ids
        self.dimension = dimension
        self.initializer = initializer
        self.l2 = l2

    def build(self, input_shape: Any) -> None:
        self.table = self.add_weight(
            shape=(self.num_ids, self.dimension),
            initializer=self.initializer,
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            name="table",
        )

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Add up: ids [batch, all columns] and numbers [batch, all columns] give float32 [batch, dimension]."""
        ids, numbers = inputs
        own = ids[:, self.first_id : self.first_id + self.width]
        weights = numbers[:, self.first_weight : self.first_weight + self.width]
        # Of fixed shapes, since XLA compiles the step; an id of weight 0 adds nothing.
        return tf.einsum("bw,bwd->bd", weights, tf.gather(self.table, own))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return (input_shape[0][0], self.dimension)

    def get_config(self) -> dict[str, Any]:
        own = {"first_id": self.first_id, "first_weight": self.first_weight, "width": self.width}
        sizes = {"num_ids": self.num_ids, "dimension": self.dimension}
        return {**super().get_config(), **own, **sizes, "initializer": self.initializer, "l2": self.l2}


@keras.saving.register_keras_serializable("trainer")
class OneHotIds(keras.layers.Layer):
    """Several ID columns, one-hot each, side by side."""

    def __init__(self, columns: Sequence[int], num_ids: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = tuple(columns)
        self.num_ids = tuple(num_ids)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Encode IDs: int64 of shape [batch, all columns] gives float32 of shape [batch, sum of `num_ids`]."""
        places = _compute_places(ids, self.columns, self.num_ids)
        rows = tf.shape(places, tf.int64)[0]
        at = tf.stack([tf.repeat(tf.range(rows), len(self.columns)), tf.reshape(places, [-1])], axis=1)
        encoded = tf.scatter_nd(at, tf.ones([tf.size(places)]), tf.stack([rows, sum(self.num_ids)]))
        return tf.ensure_shape(encoded, [None, sum(self.num_ids)])

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return (input_shape[0], sum(self.num_ids))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "columns": self.columns, "num_ids": self.num_ids}


def _compute_places(ids: tf.Tensor, columns: tuple[int, ...], num_ids: tuple[int, ...]) -> tf.Tensor:
    """Return the places of the IDs of some columns in a table that has the rows of one column after the other's."""
    selected = _select_columns(ids, columns)
    starts = itertools.accumulate(num_ids[:-1], initial=0)
    return selected + tf.constant([list(starts)], tf.int64)


@keras.saving.register_keras_serializable("trainer")
class SumOfColumns(keras.layers.Layer):
    """Sum over the columns of a table's vectors: [batch, n, dimension] gives [batch, dimension]."""

    def call(self, weights: tf.Tensor) -> tf.Tensor:
        """Add up the columns."""
        return tf.reduce_sum(weights, axis=1)


@keras.saving.register_keras_serializable("trainer")
class Squash(keras.layers.Layer):
    """Numbers whose size is bounded: x / sqrt(1 + (x / limit)^2), which is near x for small x and below `limit`."""

    def __init__(self, limit: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = limit

    def call(self, numbers: tf.Tensor) -> tf.Tensor:
        """Squash numbers of any shape."""
        # In this order nothing overflows: (x / limit)^2 of 1e30 is infinite in float32.
        return self.limit * tf.math.tanh(tf.math.asinh(numbers / self.limit))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limit": self.limit}


@keras.saving.register_keras_serializable("trainer")
class PiecewiseLinear(keras.layers.Layer):
    """Piecewise-linear encoding of numbers (Gorishniy et al. 2022, https://arxiv.org/abs/2203.05556), section 3.2.

    The range of a column is divided into bins by edges e_0 <= ... <= e_T. A number x becomes T numbers, the share of
    each bin that is below it: clip((x - e_(t-1)) / (e_t - e_(t-1)), 0, 1). A linear layer of each column and a ReLU
    follow. A number beyond the edges has the encoding of the outermost edge, so that nothing is extrapolated.
    """

    def __init__(self, columns: Sequence[int], bins: int, dimension: int, **kwargs: Any) -> None:
        """Args:
        columns: places of the columns in the input.
        bins: number of bins of each column.
        dimension: length of a column's vector.
        **kwargs: Keras's arguments.
        """
        super().__init__(**kwargs)
        self.columns = tuple(columns)
        self.bins = bins
        self.dimension = dimension

    def build(self, input_shape: Any) -> None:
        count = len(self.columns)
        # Edges of normalized numbers, until `set_edges` gets the rows.
        initial = np.tile(np.linspace(-3, 3, self.bins + 1, dtype=np.float32), (count, 1))
        self.edges = self.add_weight(
            shape=(count, self.bins + 1),
            initializer=lambda shape, dtype: tf.constant(initial, dtype),
            trainable=False,
            name="edges",
        )
        normal = keras.initializers.RandomNormal(stddev=self.bins**-0.5)
        self.kernel = self.add_weight(shape=(count, self.bins, self.dimension), initializer=normal, name="kernel")
        self.bias = self.add_weight(shape=(count, 1, self.dimension), initializer="zeros", name="bias")

    def set_edges(self, numbers: np.ndarray) -> None:
        """Learn the edges from rows of the train split, float32 of shape [rows, all columns]."""
        self.edges.assign(np.stack([compute_bin_edges(numbers[:, column], self.bins) for column in self.columns]))

    def call(self, numbers: tf.Tensor) -> tf.Tensor:
        """Encode: float32 of shape [batch, all columns] gives [batch, columns * dimension]."""
        values = tf.transpose(_select_columns(numbers, self.columns))[:, :, None]
        edges = tf.convert_to_tensor(self.edges)[:, None, :]
        low, width = edges[:, :, :-1], edges[:, :, 1:] - edges[:, :, :-1]
        # No number has a share of a bin without width.
        shares = tf.clip_by_value(tf.math.divide_no_nan(values - low, width), 0.0, 1.0)
        encoded = tf.nn.relu(tf.matmul(shares, self.kernel) + self.bias)
        return tf.reshape(tf.transpose(encoded, [1, 0, 2]), [-1, len(self.columns) * self.dimension])

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return (input_shape[0], len(self.columns) * self.dimension)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "columns": self.columns, "bins": self.bins, "dimension": self.dimension}


def compute_bin_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the edges of bins that hold about the same number of rows, float32 of shape [bins + 1].

    A value that fills a bin by itself is an edge, such as the zero of a column that is mostly zero. The other edges are
    quantiles of the other values. With fewer values than edges, the last edge repeats.

    Args:
      values: numbers of shape [rows], at least one.
      bins: number of bins.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) > bins + 1:
        is_frequent = counts * bins > len(values)
        rest = values[~np.isin(values, distinct[is_frequent])]
        between = np.linspace(0, 1, bins + 1 - int(is_frequent.sum()))
        # Values of the column: an interpolated edge between two of them would separate nothing.
        quantiles = np.quantile(rest, between, method="nearest") if len(rest) else []
        distinct = np.unique(np.concatenate([distinct[is_frequent], quantiles]))
    return np.pad(distinct, (0, bins + 1 - len(distinct)), mode="edge").astype(np.float32)


@keras.saving.register_keras_serializable("trainer")
class Dropout(keras.layers.Layer):
    """Dropout (Srivastava et al. 2014) that draws a byte for each unit, a quarter of the random numbers of Keras's.

    The share of dropped units is the rate rounded to 1/256, and what is kept is scaled up accordingly.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop units of inputs of any shape; in serving, return the inputs."""
        dropped = min(round(256 * self.rate), 255)
        if not training or not dropped:
            return inputs
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        size = tf.size(inputs)
        words = tf.random.stateless_uniform([(size + 3) // 4], seed, minval=None, maxval=None, dtype=tf.uint32)
        draws = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], tf.shape(inputs))
        mask = tf.cast(draws >= tf.constant(dropped, tf.uint8), inputs.dtype)
        return inputs * (mask * (256 / (256 - dropped)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("trainer")
class Members(keras.layers.Layer):
    """Several inputs made of one, each scaled by numbers of its own: TabM-mini (https://arxiv.org/abs/2410.24210).

    The layers that follow are shared by all members. The scales start as random signs, which makes the members differ.
    """

    def __init__(self, members: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.members = members

    def build(self, input_shape: Any) -> None:
        self.scales = self.add_weight(shape=(self.members, input_shape[-1]), initializer=_draw_signs, name="scales")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Scale: [batch, n] gives [batch, members, n]."""
        return inputs[:, None, :] * self.scales

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "members": self.members}


@keras.saving.register_keras_serializable("trainer")
def _draw_signs(shape: Sequence[int], dtype: Any = None) -> tf.Tensor:
    draws = keras.random.uniform(shape, -1.0, 1.0, dtype=dtype)
    return tf.where(draws < 0, -tf.ones_like(draws), tf.ones_like(draws))


@keras.saving.register_keras_serializable("trainer")
class MemberHeads(keras.layers.Layer):
    """A linear layer for each member: [batch, members, n] gives [batch, members, outputs]."""

    def __init__(self, outputs: int, kernel_regularizer: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.outputs = outputs
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        _, members, units = input_shape
        # The limit of one member: Glorot's formula would take the members for inputs.
        limit = (6 / (units + self.outputs)) ** 0.5
        self.kernel = self.add_weight(
            shape=(members, units, self.outputs),
            initializer=keras.initializers.RandomUniform(-limit, limit),
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        self.bias = self.add_weight(shape=(members, self.outputs), initializer="zeros", name="bias")

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """Return the logits of each member."""
        return tf.einsum("bki,kio->bko", hidden, tf.convert_to_tensor(self.kernel)) + self.bias

    def get_config(self) -> dict[str, Any]:
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), "outputs": self.outputs, "kernel_regularizer": regularizer}


def _select_columns(columns: tf.Tensor, places: tuple[int, ...]) -> tf.Tensor:
    return columns if places == tuple(range(columns.shape[1])) else tf.gather(columns, places, axis=1)
