"""Pixel metrics against scikit-learn and against AUPRO by definition."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pixel_reference import aupro_of_regions, exact_aupro, exact_f1, exact_f1_max
from sklearn import metrics as oracle

from makellos.errors import ConfigurationError, InputError
from makellos.evaluation import PixelFigures, PixelMetrics, Resampling, pixel_figures
from makellos.evaluation import pixels as pixels_module
from makellos.evaluation.sketches import SketchPool

TOLERANCE = 1e-4


@st.composite
def pictures(draw):
    """A few small maps, with ties or without, and masks with regions that touch at corners."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ties = draw(st.booleans())
    maps, masks = [], []
    for index in range(draw(st.integers(1, 5))):
        shape = tuple(rng.integers(2, 12, size=2))
        scores = rng.integers(0, 4, size=shape) if ties else rng.normal(size=shape)
        mask = rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.4, 0.9]))
        if index == 0:
            mask.flat[:2] = (True, False)
        maps.append((scores + 0.7 * mask).astype(np.float32))
        masks.append(mask if mask.any() or draw(st.booleans()) else None)
    return maps, masks


def ravel(maps, masks):
    """All pixels of all pictures: scores and whether they are damaged."""
    damaged = [
        np.zeros(m.size) if k is None else k.ravel() for m, k in zip(maps, masks, strict=True)
    ]
    return np.concatenate([m.ravel() for m in maps]), np.concatenate(damaged).astype(bool)


@settings(deadline=None)
@given(pictures())
def test_small_pictures_equal_the_oracles(given_pictures):
    maps, masks = given_pictures
    scores, damaged = ravel(maps, masks)
    figures = pixel_figures(maps, masks)
    assert figures.pixel_auroc == pytest.approx(oracle.roc_auc_score(damaged, scores))
    assert figures.pixel_ap == pytest.approx(oracle.average_precision_score(damaged, scores))
    assert figures.aupro == pytest.approx(exact_aupro(maps, masks))
    assert figures.aupro_5 == pytest.approx(exact_aupro(maps, masks, 0.05))
    assert figures.pixel_f1_max == pytest.approx(exact_f1_max(scores, damaged))
    assert figures.seg_f1 is None


@settings(deadline=None)
@given(pictures(), st.sampled_from(["a score", "below all", "above all", "between"]))
def test_seg_f1_is_that_of_the_pixels_above_the_threshold(given_pictures, where):
    maps, masks = given_pictures
    scores, damaged = ravel(maps, masks)
    middle = float(np.sort(scores)[scores.size // 2])
    threshold = {
        "a score": middle,
        "below all": float(scores.min()) - 1,
        "above all": float("inf"),
        "between": np.nextafter(middle, np.inf),  # float64: no float32 lies between
    }[where]
    found = pixel_figures(maps, masks, threshold=threshold).seg_f1
    exact = oracle.f1_score(damaged, scores.astype(np.float64) > threshold, zero_division=0.0)
    assert found == pytest.approx(exact)
    assert found == pytest.approx(exact_f1(scores.astype(np.float64), damaged, threshold))


@settings(deadline=None)
@given(pictures(), st.sampled_from([0.01, 0.05, 0.5, 1.0]))
def test_aupro_is_integrated_to_the_limit_asked_for(given_pictures, fpr_limit):
    maps, masks = given_pictures
    aupro = pixel_figures(maps, masks, fpr_limit=fpr_limit).aupro
    assert aupro == pytest.approx(exact_aupro(maps, masks, fpr_limit))


@settings(deadline=None)
@given(pictures(), st.randoms(use_true_random=False))
def test_order_of_pictures_and_monotone_maps_change_nothing(given_pictures, random):
    maps, masks = given_pictures
    expected = pixel_figures(maps, masks)
    order = list(range(len(maps)))
    random.shuffle(order)
    shuffled = pixel_figures([maps[i] for i in order], [masks[i] for i in order])
    levels = np.unique(np.concatenate([m.ravel() for m in maps]))
    rescaled = pixel_figures([np.searchsorted(levels, m) ** 2 - 9 for m in maps], masks)
    for other in (shuffled, rescaled):
        for name in ("pixel_auroc", "pixel_ap", "aupro", "aupro_5", "pixel_f1_max"):
            assert getattr(other, name) == pytest.approx(getattr(expected, name), abs=1e-9)


def test_regions_weigh_the_same_whatever_their_size_and_join_at_corners():
    mask = np.zeros((10, 10), dtype=np.uint8)
    mask[0, 0] = mask[1, 1] = 255  # one region of 2 pixels, by their corners
    mask[5:9, 5:9] = 1  # one of 16
    found_small = np.where(mask == 255, 1.0, 0.0)
    found_large = np.where(mask == 1, 1.0, 0.0)
    # What is not found ties with all good pixels: covered share = false positive rate.
    rest = 0.3 / 2
    for anomaly_map in (found_small, found_large):
        assert pixel_figures([anomaly_map], [mask]).aupro == pytest.approx(0.5 + 0.5 * rest)


def test_good_pixels_of_good_pictures_count():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 0] = True
    anomaly_map = np.where(mask, 1.0, 0.0)
    loud_good = np.full((4, 4), 2.0)
    assert pixel_figures([anomaly_map], [mask]).aupro == 1.0
    # 16 of 31 good pixels lie above the damage, which is more than the limit.
    assert pixel_figures([anomaly_map, loud_good], [mask, None]).aupro == 0.0
    wide = pixel_figures([anomaly_map, loud_good], [mask, None], fpr_limit=1.0)
    assert wide.aupro == pytest.approx(15 / 31)
    assert wide.pixel_auroc == pytest.approx(15 / 31)


# Larger than what a sketch keeps one by one: 6 maps of 256 x 256 and rectangular regions.
SIZE = 256
BOXES = {1: [(0, 4, 0, 4)], 2: [(9, 200, 10, 150)], 3: [(20, 25, 0, 256), (100, 101, 7, 8)]}
DISTRIBUTIONS = {
    "normal": lambda rng, s: rng.normal(size=s),
    "two levels": lambda rng, s: rng.integers(0, 2, size=s),
    "256 levels": lambda rng, s: np.clip(rng.normal(100, 30, size=s), 0, 255).round(),
    "tiny range": lambda rng, s: 1.0 + rng.integers(0, 90, size=s) * 2.0**-23,
    "outlier of 1e6": lambda rng, s: rng.normal(size=s) + 1e6 * (rng.random(s) < 1e-6),
    "mostly zero": lambda rng, s: np.maximum(rng.normal(size=s) - 1.5, 0),
    "huge spread": lambda rng, s: np.exp(15 * rng.normal(size=s)),
    "heavy tail": lambda rng, s: rng.standard_cauchy(size=s),
    "constant": lambda rng, s: np.full(s, 0.25),
}


@pytest.fixture
def merge_often(monkeypatch):
    """Pool every two pictures, as a large test set does every 64."""

    def pool(*, resolution):
        return SketchPool(resolution=resolution, buffer_size=2)

    monkeypatch.setattr(pixels_module, "SketchPool", pool)


def large_pictures(make, shift, rng):
    """Maps whose damaged pixels are raised by a share of the spread, with their boxes."""
    maps, masks, regions, good = [], [], [], []
    for index in range(6):
        scale = 1.0 + 0.2 * index  # pictures differ in level, so their cells do not coincide
        scores = make(rng, (SIZE, SIZE)) * scale
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        for top, bottom, left, right in BOXES.get(index, []):
            mask[top:bottom, left:right] = True
        spread = np.quantile(scores, 0.9) - np.quantile(scores, 0.5)
        anomaly_map = (scores + shift * spread * mask).astype(np.float32)
        regions += [anomaly_map[t:b, le:r].ravel() for t, b, le, r in BOXES.get(index, [])]
        good.append(anomaly_map[~mask])
        maps.append(anomaly_map)
        masks.append(mask)
    return maps, masks, np.concatenate(good), regions


@pytest.mark.parametrize("shift", [0.0, 1.5])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_large_maps_stay_near_a_full_sort_for_any_distribution(name, shift, merge_often):
    rng = np.random.default_rng(len(name))
    maps, masks, good, regions = large_pictures(DISTRIBUTIONS[name], shift, rng)
    cut = float(np.quantile(good, 0.99))
    figures = pixel_figures(maps, masks, threshold=cut)
    scores, damaged = ravel(maps, masks)
    assert figures.aupro == pytest.approx(aupro_of_regions(good, regions), abs=TOLERANCE)
    low = aupro_of_regions(good, regions, 0.05)
    assert figures.aupro_5 == pytest.approx(low, abs=TOLERANCE)
    precision, recall, _ = oracle.precision_recall_curve(damaged, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert figures.pixel_f1_max == pytest.approx(best, abs=TOLERANCE)
    assert figures.seg_f1 == pytest.approx(exact_f1(scores, damaged, cut), abs=1e-12)
    expected = oracle.roc_auc_score(damaged, scores)
    assert figures.pixel_auroc == pytest.approx(expected, abs=TOLERANCE)
    expected = oracle.average_precision_score(damaged, scores)
    assert figures.pixel_ap == pytest.approx(expected, abs=TOLERANCE)
    backwards = pixel_figures(maps[::-1], masks[::-1])
    assert backwards.aupro == pytest.approx(figures.aupro, abs=TOLERANCE)


@pytest.mark.parametrize("rank", [0, 10, 5_000, 30_000, 200_000, 305_573, 400_000])
def test_damage_that_enters_at_one_rank_is_placed_to_the_cell(rank, merge_often):
    """Put all damage at one score: the steepest curve that there is, at any false positive rate."""
    rng = np.random.default_rng(rank)
    maps = [rng.normal(size=(512, 1024)).astype(np.float32) for _ in range(2)]
    above = np.sort(np.concatenate([m.ravel() for m in maps]))[::-1]
    mask = np.zeros((512, 1024), dtype=bool)
    mask[100:200, 100:400] = True
    maps[0][mask] = np.nextafter(above[rank], np.float32(np.inf))
    good = np.concatenate([maps[0][~mask], maps[1].ravel()])
    figures = pixel_figures(maps, [mask, None])
    exact = aupro_of_regions(good, [maps[0][mask]])
    assert figures.aupro == pytest.approx(exact, abs=TOLERANCE)
    low = aupro_of_regions(good, [maps[0][mask]], 0.05)
    assert figures.aupro_5 == pytest.approx(low, abs=TOLERANCE)
    scores, damaged = ravel(maps, [mask, None])
    best = exact_f1(scores, damaged, maps[0][mask][0], inclusive=True)
    assert figures.pixel_f1_max == pytest.approx(best, abs=TOLERANCE)
    expected = oracle.average_precision_score(damaged, scores)
    assert figures.pixel_ap == pytest.approx(expected, abs=TOLERANCE)


def test_many_tiny_regions_need_no_loop_over_regions():
    mask = np.zeros((512, 512), dtype=np.uint8)
    mask[::2, ::2] = 1
    rng = np.random.default_rng(0)
    anomaly_map = rng.normal(size=mask.shape) + mask
    exact = aupro_of_regions(anomaly_map[mask == 0], [anomaly_map[mask == 1]])
    figures = pixel_figures([anomaly_map], [mask])
    assert figures.aupro == pytest.approx(exact, abs=TOLERANCE)


def test_memory_does_not_grow_with_the_maps():
    metrics = PixelMetrics()
    rng = np.random.default_rng(0)
    tracemalloc.start()
    for _ in range(8):
        metrics.update(rng.random((1024, 1024), dtype=np.float32))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 8 * 700_000  # a map of float32 has 4.2 MB
    assert metrics.n_parts == 8


NONE = PixelFigures(None, None, None, None, None, None)


def test_what_cannot_be_computed_is_none():
    everything = np.ones((3, 3), dtype=bool)
    rng = np.random.default_rng(0)
    assert PixelMetrics().compute() == NONE
    assert pixel_figures([], []) == NONE
    assert pixel_figures([np.eye(3)], [None]) == NONE
    assert pixel_figures([np.eye(3)], [~everything]) == NONE
    assert pixel_figures([np.eye(3)], [everything]) == NONE
    intervals = PixelMetrics().intervals(Resampling(rng))
    assert set(dataclasses.astuple(intervals)) == {None}
    assert pixel_figures([np.eye(3), np.eye(3)], [everything, None]).aupro is not None


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "message"),
    [
        (np.zeros(4), None, "H x W"),
        (np.zeros((0, 4)), None, "H x W"),
        (np.zeros((2, 2), dtype=complex), None, "real numbers"),
        (np.array([[0, np.nan]]), None, "NaN or infinite"),
        (np.array([[0, np.inf]]), None, "NaN or infinite"),
        (np.array([[0, -np.inf]]), None, "NaN or infinite"),
        (np.array([[0, 1e300]]), None, "NaN or infinite"),
        (np.array([[0, np.nan]]), np.array([[0, 1]]), "NaN or infinite"),
        (np.array([[0, np.nan]]), np.array([[1, 0]]), "NaN or infinite"),
        (np.array([[np.inf, np.nan]]), np.array([[1, 1]]), "NaN or infinite"),
        (np.zeros((2, 2)), np.zeros((4, 4), dtype=bool), "Resize the anomaly"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "mask > 0.5"),
    ],
)
def test_wrong_maps_are_explained_and_leave_the_figures_alone(anomaly_map, mask, message):
    metrics = PixelMetrics()
    metrics.update(np.array([[0.0, 1.0]]), np.array([[0, 1]]))
    with pytest.raises(InputError, match=message):
        metrics.update(anomaly_map, mask)
    assert metrics.n_parts == 1
    assert metrics.compute() == PixelFigures(1.0, 1.0, 1.0, 1.0, 1.0, None)


def test_the_map_and_the_mask_are_not_changed():
    anomaly_map = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    mask = np.eye(5, 6, dtype=np.uint8)
    before = anomaly_map.copy(), mask.copy()
    pixel_figures([anomaly_map, anomaly_map], [mask, None])
    np.testing.assert_array_equal(anomaly_map, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_views_and_other_dtypes_are_read_correctly():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 50, size=(8, 10))
    mask = rng.random((8, 10)) < 0.3
    expected = pixel_figures([scores.astype(np.float32)], [mask])
    assert pixel_figures([scores.T], [mask.T.astype(np.uint8) * 255]) == expected
    assert pixel_figures([scores.astype(np.float16)[::-1]], [mask[::-1].astype(int)]) == expected


@pytest.mark.parametrize("fpr_limit", [0.0, -0.1, 1.1, float("nan")])
def test_wrong_limits_are_explained(fpr_limit):
    with pytest.raises(ConfigurationError, match="fpr_limit"):
        PixelMetrics(fpr_limit=fpr_limit)


def test_lists_of_different_length_are_explained():
    with pytest.raises(InputError, match="1 anomaly maps and 2 masks"):
        pixel_figures([np.eye(3)], [None, None])


@settings(max_examples=25, deadline=None)
@given(pictures(), st.integers(0, 1000))
def test_intervals_hold_the_figures_and_follow_the_seed(given_pictures, seed):
    maps, masks = given_pictures
    metrics = PixelMetrics(threshold=0.5)
    for anomaly_map, mask in zip(maps, masks, strict=True):
        metrics.update(anomaly_map, mask)
    first = metrics.intervals(Resampling(np.random.default_rng(seed), n_resamples=50))
    assert first == metrics.intervals(Resampling(np.random.default_rng(seed), n_resamples=50))
    for low, high in dataclasses.astuple(first):
        assert 0.0 <= low <= high <= 1.0


@pytest.mark.parametrize("ties", [False, True])
def test_intervals_equal_those_of_resampled_pictures(ties):
    rng = np.random.default_rng(5)
    maps, masks = [], []
    for index in range(12):
        mask = np.zeros((24, 24), dtype=bool)
        if index >= 4:
            mask[3:9, 5 : 8 + index] = True
        anomaly_map = rng.normal(size=(24, 24)) + mask * rng.uniform(0.2, 2.5)
        maps.append(np.floor(anomaly_map / 2) if ties else anomaly_map)
        masks.append(mask)
    metrics = PixelMetrics(threshold=1.0)
    for anomaly_map, mask in zip(maps, masks, strict=True):
        metrics.update(anomaly_map, mask)
    resampled = []
    for _ in range(400):
        drawn = np.append(rng.integers(0, 4, size=4), rng.integers(4, 12, size=8))
        chosen = [maps[i] for i in drawn], [masks[i] for i in drawn]
        resampled.append(dataclasses.astuple(pixel_figures(*chosen, threshold=1.0)))
    expected = np.quantile(resampled, [0.025, 0.975], axis=0)
    intervals = metrics.intervals(Resampling(np.random.default_rng(0)))
    found = np.array(dataclasses.astuple(intervals)).T
    np.testing.assert_allclose(found, expected, atol=0.03)
    whole = metrics.intervals(Resampling(np.random.default_rng(0), groups=["a"] * 4 + ["b"] * 8))
    figures = metrics.compute()
    for field in dataclasses.fields(whole):
        value = getattr(figures, field.name)
        assert getattr(whole, field.name) == pytest.approx((value, value)), field.name


def test_interval_of_perfect_maps_is_one_at_any_resolution():
    metrics = PixelMetrics()
    rng = np.random.default_rng(0)
    for _ in range(3):
        mask = np.zeros((300, 300), dtype=bool)
        mask[50:80, 50:90] = True
        metrics.update(rng.random((300, 300)) + 1.0 * mask, mask)
    intervals = metrics.intervals(Resampling(rng, n_resamples=20))
    np.testing.assert_allclose(intervals.aupro, 1.0, atol=1e-6)


def test_groups_need_one_entry_per_picture():
    metrics = PixelMetrics()
    metrics.update(np.eye(3), np.eye(3, dtype=bool))
    with pytest.raises(InputError, match="`groups` needs one entry per part"):
        metrics.intervals(Resampling(np.random.default_rng(0), groups=["a", "b"]))
