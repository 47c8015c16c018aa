"""Weighing: figures of maps by hand, and weights that follow what labelled parts tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.detectors.patches.layer_weights import ENOUGH, Weights, summed_up, weights_told
from makellos.inspection.aggregation import Aggregation

N_GOOD, N_DAMAGED = 200, 10


def figures_told_by(
    *, fineness: float | None = None, share: float | None = None, by_mean: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return figures in which damaged parts stand out at one fineness or share, or in the mean."""
    is_good = np.arange(N_GOOD + N_DAMAGED) < N_GOOD
    figures = np.random.default_rng(0).normal(10, 1, (len(is_good), 5, 5, 2))
    figures[..., 1] = 1 + 0.1 * figures[..., 1]
    i = slice(None) if fineness is None else [0.0, 1.0, 2.0, -1.0, -2.0].index(fineness)
    j = slice(None) if share is None else [1.0, 0.5, 0.25, 0.0, 2.0].index(share)
    figures[N_GOOD:, i, j, int(by_mean)] += 1 if by_mean else 5
    return figures, is_good


def mean_of_nine(grid: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of 3×3 neighbours, outside of which lies the mean, which is kept."""
    padded = np.pad(grid.astype(np.float64), 1, constant_values=grid.mean(dtype=np.float64))
    found = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).mean((2, 3))
    return np.asarray(found - found.mean() + grid.mean(dtype=np.float64))


def test_layers_weigh_by_powers_of_two_and_the_coarsest_by_a_quarter() -> None:
    assert Weights().of_layers(3).tolist() == [1, 1, 0.25]
    assert Weights(fineness=1).of_layers(3).tolist() == pytest.approx([12 / 7, 6 / 7, 3 / 28])
    assert Weights(fineness=-1).of_layers(3).tolist() == pytest.approx([3 / 7, 6 / 7, 3 / 7])
    assert Weights(fineness=3).of_layers(1).tolist() == [1]


def test_mean_of_the_coarsest_layer_counts_twice() -> None:
    assert Weights().of_mean(3) * Weights().of_layers(3)[-1] == 2
    assert Weights().of_mean(1) == 2


def test_figures_are_maximum_and_mean_of_the_smoothed_sum() -> None:
    rng = np.random.default_rng(1)
    layers = rng.random((2, 4, 5), np.float32)
    logits = rng.random((4, 5), np.float32)
    figures = summed_up(layers, logits)
    assert figures.shape == (5, 5, 2)
    fine = layers[0] - layers[0].mean()  # fineness 1, share 2
    smooth = mean_of_nine(4 / 3 * fine + 1 / 6 * layers[1] + 2 * (logits - logits.mean()))
    assert figures[1, 4].tolist() == pytest.approx([np.max(smooth), np.mean(smooth)])


def test_mean_is_that_of_the_coarsest_layer_whatever_the_others_say() -> None:
    layers = np.random.default_rng(2).random((3, 6, 6), np.float32)
    none = np.zeros((6, 6), np.float32)
    usual = summed_up(layers, none)[0, 0]
    brighter = layers.copy()
    brighter[:2] += np.float32(0.7)
    assert summed_up(brighter, none)[0, 0, 1] == pytest.approx(usual[1])
    wide = layers.copy()
    wide[2] += np.float32(0.7)
    assert summed_up(wide, none)[0, 0, 1] > usual[1] + 0.1
    logits = np.random.default_rng(3).random((6, 6), np.float32)
    found, expected = (summed_up(layers, each)[:, :, 1] for each in (logits, none))
    assert found == pytest.approx(expected, abs=1e-6)


def test_score_of_the_figures_is_that_of_the_aggregation() -> None:
    layers = np.random.default_rng(2).random((1, 6, 6), np.float32)
    largest, mean = summed_up(layers, np.zeros((6, 6), np.float32))[0, 0]
    smooth = mean_of_nine(layers[0]).astype(np.float32)
    found = Aggregation(mean_weight=2.0)(smooth)
    assert found == pytest.approx(largest + 2 * mean)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 2.0])
def test_network_counts_as_much_as_finds_labelled_parts(share: float) -> None:
    assert weights_told(*figures_told_by(share=share)).share == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("fineness", [-2.0, -1.0, 1.0, 2.0])
def test_layers_that_see_the_damage_count_more(fineness: float) -> None:
    told = weights_told(*figures_told_by(fineness=fineness))
    assert told.fineness == pytest.approx(fineness, abs=0.05)


def test_mean_counts_where_damage_is_wide_and_not_where_it_is_small() -> None:
    assert weights_told(*figures_told_by(by_mean=True)).mean > 10
    figures, is_good = figures_told_by()
    figures[..., 1] = np.random.default_rng(3).normal(1, 2, figures.shape[:-1])  # tells nothing
    assert weights_told(figures, is_good).mean < 1.2


def test_unit_of_the_maps_tells_nothing() -> None:
    figures, is_good = figures_told_by()
    figures[...] = figures[:, :1, :1]
    figures[N_GOOD:, :, 4, 0] += 0.3  # a little better at a share of 2
    told = weights_told(figures, is_good)
    small = weights_told(0.02 * figures, is_good)
    assert 0.8 < told.share < 1.5
    assert small.share == pytest.approx(told.share)


def test_settings_alike_make_their_mean() -> None:
    figures, is_good = figures_told_by()
    figures[...] = figures[:, :1, :1]
    figures[..., 1] = 0
    told = weights_told(figures, is_good)
    assert told == Weights(fineness=0.0, share=pytest.approx(0.75), mean=pytest.approx(6))


def test_what_is_hardly_better_hardly_counts_more() -> None:
    figures, is_good = figures_told_by()
    figures[...] = figures[:, :1, :1]
    figures[..., 1] = 0
    figures[N_GOOD:, ..., 0] -= 4  # hardly told from good ones
    shares = []
    for more in (0.0, 0.03, 0.3, 3.0):
        better = figures.copy()
        better[N_GOOD:, :, 4, 0] += more  # at a share of 2
        shares.append(weights_told(better, is_good).share)
    assert np.all(np.diff(shares) > 0)
    assert shares[1] - shares[0] < 0.25
    assert shares[-1] > 1.9


def test_part_that_no_setting_finds_decides_nothing() -> None:
    figures, is_good = (found[: N_GOOD + ENOUGH] for found in figures_told_by(share=2.0))
    figures[-1] = -30
    figures[-1, :, 3, 0] = 0  # without the network less far from the threshold, and far
    assert weights_told(figures, is_good).share == pytest.approx(2, abs=0.1)


def test_mean_may_stay_as_it_is() -> None:
    told = weights_told(*figures_told_by(by_mean=True), by_mean=False)
    assert told.mean == pytest.approx(Weights().mean)
    assert weights_told(*figures_told_by(share=2.0), by_mean=False).share > 1.9


def test_too_few_parts_tell_nothing() -> None:
    figures, is_good = figures_told_by(share=2.0)
    few = slice(N_GOOD + ENOUGH - 1)
    assert weights_told(figures[few], is_good[few]) == Weights()
    assert weights_told(figures[N_GOOD:], is_good[N_GOOD:]) == Weights()


def test_good_parts_that_are_all_alike_are_no_error() -> None:
    figures, is_good = figures_told_by(share=2.0)
    figures[is_good] = 1.0
    assert np.isfinite(weights_told(figures, is_good).share)
