"""Histograms by numpy, against TFDV's own code."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tensorflow_data_validation.utils import quantiles_util
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx_bsl import sketches

from components.statistics_gen.tfdv_histograms import build_equal_width_histogram, build_quantiles_histogram

_RANDOM = np.random.default_rng(7)
_INF = np.inf
COLUMNS = {
    "normal": _RANDOM.normal(3, 2, 5_000),
    "tail": _RANDOM.lognormal(5, 2, 5_000),
    "zeros": np.where(_RANDOM.random(5_000) < 0.7, 0, _RANDOM.gamma(2, 40, 5_000)),
    "few values": _RANDOM.integers(0, 4, 5_000).astype(float),
    "negative zeros": _RANDOM.integers(-2, 2, 500).astype(float) * 0.0,
    "two values": np.array([1.0, 2.0]),
    "constant": np.full(50, 7.5),
    "one value": np.array([-3.0]),
    "infinities": np.concatenate([[-_INF] * 40, _RANDOM.normal(size=900), [_INF] * 60]),
    "positive infinity": np.concatenate([_RANDOM.normal(size=9), [_INF]]),
    "no finite value": np.array([-_INF, _INF]),
    "too far apart": np.array([-1.7e308, 0.0, 1.7e308]),
    "no value": np.array([np.nan]),
}


def assert_equal(actual: statistics_pb2.Histogram, expected: statistics_pb2.Histogram) -> None:
    assert (actual.type, len(actual.buckets)) == (expected.type, len(expected.buckets))
    for field in ("low_value", "high_value", "sample_count"):
        ours, theirs = ([getattr(bucket, field) for bucket in histogram.buckets] for histogram in (actual, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-9, err_msg=field)


def quantiles(values: Any, buckets: int) -> tuple[Any, Any]:
    sketch = sketches.QuantilesSketch(0.001, 1 << 20, 1)
    sketch.AddValues(pa.array(values))
    actual, counts = sketch.GetQuantilesAndCumulativeWeights(buckets)
    return actual.flatten().to_numpy(zero_copy_only=False), counts.flatten().to_numpy(zero_copy_only=False)


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "no value"])
@pytest.mark.parametrize("buckets", [3, 1_000])
def test_histograms_are_those_of_tfdv(name: str, buckets: int) -> None:
    values = COLUMNS[name]
    edges, counts = quantiles(values, buckets)
    assert_equal(build_quantiles_histogram(edges, counts), quantiles_util.generate_quantiles_histogram(edges, counts))
    finite = values[np.isfinite(values)]
    extremes = (finite.min(), finite.max()) if len(finite) else (_INF, -_INF)
    asked = (edges, counts, *extremes, 10, int((values == _INF).sum()))
    assert_equal(build_equal_width_histogram(*asked), quantiles_util.generate_equi_width_histogram(*asked))
