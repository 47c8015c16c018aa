"""Between which rates a promise is realised: the distribution of the conformal threshold."""

from __future__ import annotations

import numpy as np
import pytest

from makellos.evaluation.promise import realised_range, share_of_plants
from makellos.reports.curves import promise_curve
from makellos.reports.statements import range_sentence


@pytest.mark.parametrize(("n", "budget"), [(64, 1 / 65), (99, 0.01), (320, 0.01), (9, 0.2)])
def test_the_range_is_that_of_drawn_thresholds(n: int, budget: float) -> None:
    k = max(1, int(budget * (n + 1) + 1e-9))
    scores = np.sort(np.random.default_rng(0).random((20_000, n)), axis=1)
    rates = 1 - scores[:, n - k]  # of even scores those above the k-th highest
    low, high = realised_range(n, budget)
    assert low == pytest.approx(np.quantile(rates, 0.025), rel=0.1, abs=1e-4)
    assert high == pytest.approx(np.quantile(rates, 0.975), rel=0.05)
    assert share_of_plants(n, budget, high) == pytest.approx(0.975)
    assert np.mean(rates <= budget) == pytest.approx(share_of_plants(n, budget, budget), abs=0.02)


def test_more_parts_narrow_the_range() -> None:
    widths = [high - low for low, high in (realised_range(n, 0.05) for n in (19, 99, 999))]
    assert widths == sorted(widths, reverse=True)


def test_the_sentence_says_what_more_buy() -> None:
    told = range_sentence(64, 1 / 65, "good parts")
    assert told.startswith("With 64 good parts: between 0.04")
    assert "and 5.6" in told  # 1 - 0.025 ** (1 / 64)
    assert "rejected in 95 of 100 plants; 99 can promise 1" in told
    told = range_sentence(320, 0.05, "good parts")
    assert "1280 narrow that to at most 6.3" in told.replace(",", "")


def test_the_curve_rises_to_all_plants() -> None:
    drawn = promise_curve(99, 0.01)
    first, *_, last = drawn.line.removeprefix("M").split("L")
    assert first.endswith(" 266.0")
    assert float(last.split()[1]) < 33
