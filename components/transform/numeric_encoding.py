"""Numbers as Transform encodes them: filled, scaled, in buckets; columns of one treatment share every operation."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.transform.column_quantiles import compute_column_quantiles
from components.transform.raw_matrix import select_rows
from schemas.features import Boundaries, NonzeroQuantiles, Numeric, Quantiles

# Rounding leaves the mean of equal numbers off by some 1e-16 of it, and their variance above 0. Two numbers that
# float32 tells apart differ by 6e-8 of their size: even one in a billion gives a deviation of 2e-12.
_NO_SPREAD = 1e-13
_MAX_EPSILON = 0.01
# Quantiles between which ranks are interpolated.
_NORMAL_QUANTILES = 256


class NumericEncoding:
    """The columns of numeric features, encoded.

    Attributes:
      scaled: float32 of shape [batch], by the name of the feature.
      buckets: int64 of shape [batch] in `[0, buckets.num_ids)`, by the name of the feature.
      indicators: float32 of shape [batch], 1 where the value is missing, by the name of the feature.
    """

    def __init__(self, features: Mapping[str, Numeric], raw: tf.Tensor) -> None:
        """Encode.

        Args:
          features: declarations by name.
          raw: float32 of shape [columns, batch], in the order of `features`; what is not finite is missing.
        """
        self._features = features
        self.scaled: dict[str, tf.Tensor] = {}
        self.buckets: dict[str, tf.Tensor] = {}
        self.indicators: dict[str, tf.Tensor] = {}
        if not features:
            return
        self._raw = raw
        # In float64: the square of a float32 above 1.8e19 is infinite in float32.
        self._exact = tf.cast(raw, tf.float64)
        self._filled = self._fill()
        self._numbers = tf.cast(self._filled, tf.float32)
        self._scale()
        indicated = [name for name, feature in features.items() if feature.missing_indicator]
        if indicated:
            is_missing = ~tf.math.is_finite(select_rows(raw, self._list_numbers(indicated)))
            self.indicators = dict(zip(indicated, tf.unstack(tf.cast(is_missing, tf.float32)), strict=True))
        bucketized = [name for name, feature in features.items() if feature.buckets is not None]
        if bucketized:
            ids = self._compute_bucket_ids(bucketized)
            self.buckets = dict(zip(bucketized, tf.unstack(ids), strict=True))

    def _list_numbers(self, names: Sequence[str]) -> list[int]:
        places = {name: number for number, name in enumerate(self._features)}
        return [places[name] for name in names]

    def _fill(self) -> tf.Tensor:
        """Return all columns in float64, with their own number where one is missing."""
        optional = [feature.missing is not None for feature in self._features.values()]
        if not any(optional):
            return self._exact
        # What a value is computed from in float32 is float32, wherever it comes from.
        missing = np.array([_parse_missing(feature.missing) for feature in self._features.values()], np.float32)
        fill = tf.constant(missing.astype(np.float64))
        by_mean = [number for number, feature in enumerate(self._features.values()) if feature.missing == "mean"]
        if by_mean:
            means = _compute_mean(tf.gather(self._exact, by_mean))
            fill = tf.tensor_scatter_nd_update(fill, [[number] for number in by_mean], means)
        is_kept = tf.math.is_finite(self._raw) | ~tf.constant(optional)[:, None]
        return tf.where(is_kept, self._exact, fill[:, None])

    def _scale(self) -> None:
        by_scale: dict[str, list[str]] = {}
        for name, feature in self._features.items():
            by_scale.setdefault(feature.scale, []).append(name)
        for scale, names in by_scale.items():
            if scale != "none":
                columns = tf.unstack(self._scale_columns(scale, self._list_numbers(names)))
                self.scaled |= dict(zip(names, columns, strict=True))

    def _scale_columns(self, scale: str, numbers: list[int]) -> tf.Tensor:
        exact, filled = select_rows(self._exact, numbers), select_rows(self._filled, numbers)
        match scale:
            case "z_score":
                return _compute_z_score(filled, exact)
            case "log_z_score":
                return _compute_z_score(_compute_signed_log(filled), _compute_signed_log(exact))
            case "min_max":
                low, high = _compute_extremes(select_rows(self._raw, numbers))
                return _compute_ratio(filled - low, high - low, tf.constant(0.0, tf.float64))
            case "robust":
                quartiles = self._compute_quantiles(numbers, 4)
                low, median, high = (tf.cast(quartiles[:, number : number + 1], tf.float64) for number in range(3))
                return _compute_ratio(filled - median, high - low, _NO_SPREAD * tf.abs(median))
            case "quantile_normal":
                return _compute_normal_scores(
                    tf.cast(filled, tf.float32), self._compute_quantiles(numbers, _NORMAL_QUANTILES)
                )
            case _:
                return select_rows(self._numbers, numbers)

    def _compute_quantiles(self, numbers: list[int], count: int) -> tf.Tensor:
        """Return the boundaries between so many parts of equal share, float32 of shape [columns, count - 1]."""
        raw = select_rows(self._raw, numbers)
        values = tf.where(tf.math.is_finite(raw), raw, np.nan)
        # TFT tells analyses apart by their scope.
        with tf.name_scope("quantiles"):
            boundaries = compute_column_quantiles(
                tf.transpose(values), [count] * len(numbers), min(0.1 / count, _MAX_EPSILON)
            )
        return tf.ensure_shape(boundaries, [len(numbers), count - 1])

    def _compute_bucket_ids(self, names: Sequence[str]) -> tf.Tensor:
        """Return the bucket of each value, int64 of shape [columns, batch]."""
        buckets = {name: feature.buckets for name, feature in self._features.items() if feature.buckets is not None}
        values = select_rows(self._numbers, self._list_numbers(names))
        boundaries = self._collect_boundaries(names)
        bucket = tf.searchsorted(boundaries, values, side="right", out_type=tf.int64)
        # After the boundaries of a column there are infinite ones, up to the number that the largest has.
        nonzero = np.array([isinstance(buckets[name], NonzeroQuantiles) for name in names])
        most = np.array([buckets[name].num_ids - 1 for name in names]) - nonzero
        bucket = tf.minimum(bucket, tf.constant(most[:, None], tf.int64))
        if not nonzero.any():
            return bucket
        of_nonzero = tf.where(values == 0, tf.constant(0, tf.int64), 1 + bucket)
        return tf.where(tf.constant(nonzero)[:, None], of_nonzero, bucket)

    def _collect_boundaries(self, names: Sequence[str]) -> tf.Tensor:
        """Return the boundaries of each column, float32 of shape [columns, most boundaries]; infinite after its own."""
        boundaries = {name: b.boundaries for name in names if isinstance(b := self._features[name].buckets, Boundaries)}
        learned = [name for name in names if name not in boundaries]
        parts = []
        if learned:
            parts.append(self._read_learned_boundaries(learned))
        if boundaries:
            width = max(map(len, boundaries.values()))
            padded = [[*values, *[np.inf] * (width - len(values))] for values in boundaries.values()]
            parts.append(tf.constant(padded, tf.float32))
        width = max(part.shape[1] for part in parts)
        padded_parts = [
            tf.pad(part, [[0, 0], [0, width - part.shape[1]]], constant_values=np.inf)
            if part.shape[1] < width
            else part
            for part in parts
        ]
        places = {name: place for place, name in enumerate([*learned, *boundaries])}
        together = tf.concat(padded_parts, axis=0) if len(padded_parts) > 1 else padded_parts[0]
        together.set_shape([len(names), width])
        return select_rows(together, [places[name] for name in names])

    def _read_learned_boundaries(self, names: Sequence[str]) -> tf.Tensor:
        raw = select_rows(self._raw, self._list_numbers(names))
        is_used = tf.math.is_finite(raw)
        buckets = [self._features[name].buckets for name in names]
        skips_zero = np.array([isinstance(bucket, NonzeroQuantiles) for bucket in buckets])
        if skips_zero.any():
            is_used &= (raw != 0) | ~tf.constant(skips_zero)[:, None]
        counts = [bucket.count for bucket in buckets if isinstance(bucket, Quantiles | NonzeroQuantiles)]
        # A tenth of a bucket's share: by tft.bucketize's own default of 0.01, 127 buckets would be off by a whole one.
        epsilon = min(0.1 / max(counts), _MAX_EPSILON)
        values = tf.where(is_used, raw, np.nan)
        return compute_column_quantiles(tf.transpose(values), counts, epsilon)


def _parse_missing(missing: str | float | None) -> float:
    return 0.0 if missing is None or isinstance(missing, str) else missing


def _compute_mean(values: tf.Tensor) -> tf.Tensor:
    """Return the mean of what is finite in each row, as learned from the training split; 0 of nothing."""
    return _replace_nan(tft.mean(tf.transpose(values), reduce_instance_dims=False))


def _replace_nan(moments: tf.Tensor) -> tf.Tensor:
    # TFT divides 0 by 0 where one column has no value and others have.
    return tf.where(tf.math.is_nan(moments), tf.zeros_like(moments), moments)


def _compute_signed_log(values: tf.Tensor) -> tf.Tensor:
    return tf.sign(values) * tf.math.log1p(tf.abs(values))


def _compute_z_score(values: tf.Tensor, exact: tf.Tensor) -> tf.Tensor:
    """Return z-scores by the moments of what is finite in `exact` in the training split."""
    mean = _compute_mean(exact)
    variance = _replace_nan(tft.var(tf.transpose(exact), reduce_instance_dims=False))
    mean, deviation = mean[:, None], tf.sqrt(variance)[:, None]
    return _compute_ratio(values - mean, deviation, _NO_SPREAD * tf.abs(mean))


def _compute_extremes(raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the least and the largest finite number of each row, float64 of shape [columns, 1]; 0 of nothing."""
    is_finite = tf.math.is_finite(raw)
    lows = tft.min(tf.transpose(tf.where(is_finite, raw, np.inf)), reduce_instance_dims=False)
    highs = tft.max(tf.transpose(tf.where(is_finite, raw, -np.inf)), reduce_instance_dims=False)
    bounds = [tf.where(tf.math.is_finite(bound), bound, tf.zeros_like(bound)) for bound in (lows, highs)]
    low, high = (tf.cast(bound, tf.float64)[:, None] for bound in bounds)
    return low, high


def _compute_normal_scores(values: tf.Tensor, boundaries: tf.Tensor) -> tf.Tensor:
    """Return the normal quantiles of the ranks of values, as scikit-learn's `QuantileTransformer` does.

    Args:
      values: float32 of shape [columns, batch].
      boundaries: quantiles of each column, float32 of shape [columns, n], in ascending order.
    """
    count = boundaries.shape[1]
    right = tf.searchsorted(boundaries, values, side="right")
    left = tf.searchsorted(boundaries, values, side="left")
    low = tf.gather(boundaries, tf.maximum(right - 1, 0), batch_dims=1)
    high = tf.gather(boundaries, tf.minimum(right, count - 1), batch_dims=1)
    fraction = tf.math.divide_no_nan(values - low, high - low)
    between = tf.cast(right, tf.float32) + tf.clip_by_value(fraction, 0.0, 1.0)
    # A value that equals several boundaries has the middle of their ranks.
    equal = (tf.cast(left, tf.float32) + tf.cast(right, tf.float32) + 1) / 2
    rank = tf.where(left == right, between, equal)
    rank = tf.clip_by_value(rank, 0.5, count + 0.5)
    return tf.math.ndtri(rank / (count + 1))


def _compute_ratio(values: tf.Tensor, spread: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """Return values / spread as float32; just values, which are all 0 then, where the spread is not above the least."""
    is_spread = spread > least
    return tf.cast(values / tf.where(is_spread, spread, tf.ones_like(spread)), tf.float32)
