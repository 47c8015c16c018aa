"""Aggregation of a map to a score against sorting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import ValidationError

from makellos.inspection import Aggregation

maps = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.floats(0, 100, width=32),
)
shares = st.floats(0.001, 1.0)
NAMES = ["maximum", "top_k_mean", "quantile"]


@given(maps)
def test_maximum_is_the_default_and_exact(anomaly_map: NDArray[np.float32]) -> None:
    score = Aggregation()(anomaly_map)
    assert isinstance(score, float)
    assert score == max(anomaly_map.ravel().tolist())


@given(maps, shares)
def test_top_k_mean_averages_the_largest(anomaly_map: NDArray[np.float32], share: float) -> None:
    largest = sorted(anomaly_map.ravel().tolist(), reverse=True)
    k = max(1, round(share * len(largest)))
    score = Aggregation(name="top_k_mean", parameter=share)(anomaly_map)
    assert score == pytest.approx(sum(largest[:k]) / k, rel=1e-5, abs=1e-6)


@given(maps, shares)
def test_quantile_interpolates_between_ranks(
    anomaly_map: NDArray[np.float32], share: float
) -> None:
    ordered = sorted(anomaly_map.ravel().tolist())
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    expected = ordered[low] + (place - low) * (ordered[high] - ordered[low])
    score = Aggregation(name="quantile", parameter=share)(anomaly_map)
    assert score == pytest.approx(expected, rel=1e-5, abs=1e-4)


@given(maps, shares, st.sampled_from(NAMES), st.floats(0.1, 4.0))
def test_mean_is_added(
    anomaly_map: NDArray[np.float32], share: float, name: str, weight: float
) -> None:
    plain = Aggregation.model_validate({"name": name, "parameter": share})
    both = Aggregation.model_validate({"name": name, "parameter": share, "mean_weight": weight})
    expected = plain(anomaly_map) + weight * float(np.mean(anomaly_map, dtype=np.float64))
    assert both(anomaly_map) == pytest.approx(expected, rel=1e-6)


@given(maps, shares, st.sampled_from(NAMES))
def test_place_in_the_map_does_not_matter(
    anomaly_map: NDArray[np.float32], share: float, name: str
) -> None:
    aggregation = Aggregation.model_validate({"name": name, "parameter": share})
    turned = anomaly_map[::-1, ::-1].T
    assert aggregation(turned) == pytest.approx(aggregation(anomaly_map), rel=1e-6)
    assert aggregation(anomaly_map) <= anomaly_map.max() * (1 + 1e-6)


@given(maps, shares, st.sampled_from(NAMES))
def test_more_anomalous_anywhere_is_never_a_lower_score(
    anomaly_map: NDArray[np.float32], share: float, name: str
) -> None:
    aggregation = Aggregation.model_validate({"name": name, "parameter": share})
    higher = anomaly_map.copy()
    higher[0, 0] += 1
    assert aggregation(higher) >= aggregation(anomaly_map) * (1 - 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_without_a_number_is_not_passed_over(name: str) -> None:
    aggregation = Aggregation.model_validate({"name": name, "parameter": 0.5})
    anomaly_map = np.ones((4, 4), np.float32)
    anomaly_map[2, 1] = np.nan
    assert np.isnan(aggregation(anomaly_map))


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "median"},
        {"name": "quantile", "parameter": 0.0},
        {"name": "quantile", "parameter": 1.01},
        {"name": "top_k_mean", "parameter": float("nan")},
        {"name": "maximum", "mean_weight": -1.0},
        {"name": "maximum", "mean_weight": float("nan")},
        {"name": "maximum", "k": 3},
    ],
)
def test_fields_out_of_range(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Aggregation.model_validate(fields)
