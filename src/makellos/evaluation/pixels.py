"""Pixel metrics, fed one anomaly map at a time.

Pixel AUROC and pixel AP rank all pixels of all pictures. AUPRO (Bergmann et al., "The MVTec
Anomaly Detection Dataset", IJCV 129, 2021, section 5) averages the covered share of each damaged
region, a connected component of the mask (8-connectivity), over the false positive rates from 0 to
a limit, where the false positive rate counts the good pixels of all pictures, good ones included.

F1 of pixels counts a pixel as marked where the map is above a threshold, pooled over all pictures:
`pixel_f1_max` with the best threshold, `seg_f1` with one that was fixed before, the SegF1 of
Heckler-Kram et al., "The MVTec AD 2 Dataset", arXiv 2503.21622, 2025, section 4. That paper also
integrates AUPRO to 5 % (`aupro_5`). Its threshold is the mean of good validation maps and three
standard deviations; here it is whatever the caller fixed.

The areas are sums over damaged pixels. For a damaged pixel let a be the share of good pixels that
are more anomalous and b the share that are at least as anomalous; with the pixel itself as the
threshold, the false positive rate runs from a to b. So no curve over all thresholds is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.errors import InputError
from makellos.evaluation._checks import check_share
from makellos.evaluation.intervals import Resampling
from makellos.evaluation.pixel_intervals import (
    COARSE,
    COARSE_DAMAGED,
    LOW_LIMIT,
    CoarsePart,
    Marked,
    PixelIntervals,
    bootstrap_pixels,
    covered_share,
    f1_of_pixels,
)
from makellos.evaluation.sketches import (
    Keys,
    Resolution,
    Sketch,
    SketchPool,
    sketch_pixels,
    sketch_weighted,
)

__all__ = ["PixelFigures", "PixelMetrics", "pixel_figures"]

Mask = NDArray[np.bool_]

# One picture: some 47,000 samples of good pixels per million, 9,400 more per tenfold. Half a cell
# is at most 1.5e-5 of the good pixels, and 1.2e-4 of those above the threshold.
GOOD = Resolution(absolute=2.0**-15, relative=2.0**-12)
DAMAGED = Resolution(absolute=2.0**-16)
# Pooled pictures: finer, so that many merges add less than the first summary.
POOLED_GOOD = Resolution(absolute=2.0**-18, relative=2.0**-14)
POOLED_DAMAGED = Resolution(absolute=2.0**-18)


@dataclass(frozen=True)
class PixelFigures:
    """Hold pixel metrics in [0, 1]; None where good pixels or damaged pixels are missing.

    `seg_f1` is None without a threshold as well.
    """

    pixel_auroc: float | None
    pixel_ap: float | None
    aupro: float | None
    aupro_5: float | None
    pixel_f1_max: float | None
    seg_f1: float | None


class PixelMetrics:
    """Accumulate pixel metrics over anomaly maps of any size, without keeping the maps.

    Each map is summarised by sketches (see `sketches`). The figures differ from those of a full
    sort by less than 1e-4, whatever the scores look like (at an `fpr_limit` of 0.3, up to some ten
    thousand pictures), and not at all where there are fewer than 32 pictures with up to 32,768 good
    and 65,535 damaged pixels each, or few distinct scores. The order of the pictures changes
    nothing beyond that.

    Memory: up to 60 kB per picture for the intervals, and some 250 MB beside (500 MB where much of
    every picture is damaged), whatever the number and size of the maps.

    `fpr_limit` is the false positive rate, above 0 and up to 1, to which AUPRO is integrated;
    AUPRO is divided by it. Pixels above `threshold` are marked for SegF1, which is exact. Raises
    ConfigurationError for a limit that is not accepted.
    """

    def __init__(self, *, fpr_limit: float = 0.30, threshold: float | None = None) -> None:
        self._fpr_limit = check_share("fpr_limit", fpr_limit)
        self._threshold = None if threshold is None else _float32_below(threshold)
        self._good = SketchPool(resolution=POOLED_GOOD)
        self._damaged = SketchPool(resolution=POOLED_DAMAGED)
        self._parts: list[CoarsePart] = []

    @property
    def n_parts(self) -> int:
        """Return how many pictures were taken in."""
        return len(self._parts)

    def update(self, anomaly_map: ArrayLike, mask: ArrayLike | None = None) -> None:
        """Take in the anomaly map of one picture and the mask of its damage.

        `anomaly_map` is H x W, real and finite, higher is more anomalous; it is compared in
        float32. `mask` is H x W of bool or integers, not 0 where the part is damaged; None says
        that the whole picture is good, so leave out defective parts that have no mask. Raises
        InputError for anything else and then takes nothing in.
        """
        scores = _check_map(anomaly_map)
        damaged = _check_mask(mask, scores.shape)
        good_keys = _good_keys(scores, damaged)
        damage = None if damaged is None else _damage(scores, damaged)
        good_ends = np.concatenate((good_keys[:1], good_keys[-1:]))
        if not np.isfinite(good_ends).all() or (
            damage is not None and not np.isfinite(damage.keys).all()
        ):
            raise InputError(
                "The anomaly map holds values that are NaN or infinite. Expected "
                "finite numbers. Inspect the part again, or leave it out."
            )
        self._add(good_keys, damage)

    def compute(self) -> PixelFigures:
        """Return the pixel metrics of everything taken in so far."""
        good, damaged = self._good.combined(), self._damaged.combined()
        if good is None or damaged is None:
            return PixelFigures(None, None, None, None, None, None)
        return _figures(good, damaged, self._fpr_limit, self._seg_f1())

    def intervals(self, resampling: Resampling) -> PixelIntervals:
        """Return 95 % bootstrap intervals of the pixel metrics by resampling pictures.

        Pictures with and without damage are drawn separately; groups are those of the pictures in
        the order of the updates. Each picture is represented by at most some 3,000 cells: the
        spread of a resample is right to about 1e-3, and the intervals are shifted to the exact
        figures. Entries are None where `compute` gives None. Raises InputError for a wrong number
        of groups, ConfigurationError for fewer than one resample.
        """
        return bootstrap_pixels(self._parts, vars(self.compute()), self._fpr_limit, resampling)

    def _add(self, good_keys: Keys, damage: Sketch | None) -> None:
        coarse_good = coarse_damaged = None
        n_regions = n_damaged = marked_damaged = 0
        if good_keys.size:
            self._good.add(sketch_pixels(good_keys, GOOD))
            coarse_good = sketch_pixels(good_keys, COARSE)
        if damage is not None:
            n_regions, n_damaged = round(float(damage.weights[1].sum())), damage.keys.size
            marked_damaged = self._n_marked(np.sort(damage.keys))
            damaged = sketch_weighted(damage.keys, damage.weights, DAMAGED)
            coarse_damaged = sketch_weighted(damaged.keys, damaged.weights, COARSE_DAMAGED)
            self._damaged.add(damaged)
        marked = Marked(self._n_marked(good_keys), marked_damaged, n_damaged)
        self._parts.append(CoarsePart(coarse_good, coarse_damaged, n_regions, marked))

    def _n_marked(self, keys: Keys) -> int:
        if self._threshold is None:
            return 0
        return int(np.searchsorted(keys, -self._threshold, side="left"))

    def _seg_f1(self) -> float | None:
        if self._threshold is None:
            return None
        counts = np.array([part.marked for part in self._parts], dtype=np.float64).sum(axis=0)
        f1 = f1_of_pixels(hits=counts[1], alarms=counts[0], n_damaged=counts[2])
        return _bounded(float(f1))


def pixel_figures(
    anomaly_maps: Sequence[ArrayLike],
    masks: Sequence[ArrayLike | None],
    *,
    fpr_limit: float = 0.30,
    threshold: float | None = None,
) -> PixelFigures:
    """Return the pixel metrics of maps that are at hand all at once; see `PixelMetrics`.

    `masks` has one mask, or None for a good part, per map. Raises InputError for lengths that
    differ and as `PixelMetrics.update` does.
    """
    if len(anomaly_maps) != len(masks):
        raise InputError(
            f"Received {len(anomaly_maps)} anomaly maps and {len(masks)} masks. Pass one mask per "
            "map, None for good parts."
        )
    metrics = PixelMetrics(fpr_limit=fpr_limit, threshold=threshold)
    for anomaly_map, mask in zip(anomaly_maps, masks, strict=True):
        metrics.update(anomaly_map, mask)
    return metrics.compute()


def _figures(good: Sketch, damaged: Sketch, fpr_limit: float, seg_f1: float | None) -> PixelFigures:
    counts, shares = damaged.weights
    good_mass = np.concatenate(([0.0], np.cumsum(good.weights[0])))
    more_anomalous = good_mass[np.searchsorted(good.keys, damaged.keys, side="left")]
    as_anomalous = good_mass[np.searchsorted(good.keys, damaged.keys, side="right")]
    from_rate, to_rate = more_anomalous / good_mass[-1], as_anomalous / good_mass[-1]
    ranked_above = 1.0 - (from_rate + to_rate) / 2
    aupro, aupro_5 = (
        _bounded(np.sum(shares * covered_share(from_rate, to_rate, limit)) / shares.sum())
        for limit in (fpr_limit, LOW_LIMIT)
    )
    # No best threshold lies between two damaged pixels: it would only add good ones.
    run_starts = np.flatnonzero(np.concatenate(([True], damaged.keys[1:] != damaged.keys[:-1])))
    steps, alarms = np.add.reduceat(counts, run_starts), as_anomalous[run_starts]
    hits = np.cumsum(steps)
    f1 = f1_of_pixels(hits=hits, alarms=alarms, n_damaged=hits[-1])
    return PixelFigures(
        pixel_auroc=_bounded(np.sum(counts * ranked_above) / counts.sum()),
        pixel_ap=_bounded(np.sum(steps * hits / (hits + alarms)) / hits[-1]),
        aupro=aupro,
        aupro_5=aupro_5,
        pixel_f1_max=_bounded(f1.max()),
        seg_f1=seg_f1,
    )


def _float32_below(threshold: float) -> np.float32:
    """Return the highest float32 up to a threshold: as many float32 scores are above both."""
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    return np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near


def _bounded(value: float) -> float:
    # Sums of shares such as 1/3 may pass 1 by a rounding error.
    return min(max(float(value), 0.0), 1.0)


def _check_map(anomaly_map: ArrayLike) -> NDArray[np.float32]:
    given = np.asarray(anomaly_map)
    if given.ndim != 2 or given.size == 0 or given.dtype.kind not in "fiu":
        raise InputError(
            f"An anomaly map is H x W of real numbers; received {given.dtype} of shape "
            f"{given.shape}. Pass the map of one picture, resized to the size of its mask."
        )
    with np.errstate(over="ignore"):  # the check for infinite values follows
        return given.astype(np.float32, copy=False)


def _check_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> Mask | None:
    """Return the mask as bool, or None where nothing is damaged."""
    if mask is None:
        return None
    given = np.asarray(mask)
    if given.dtype.kind not in "biu":
        raise InputError(
            f"A mask holds bool or integers, not 0 where the part is damaged; received "
            f"{given.dtype}. Compare it with a threshold first, such as `mask > 0.5`."
        )
    if given.shape != shape:
        raise InputError(
            f"The mask has shape {given.shape} and the anomaly map {shape}. Resize the anomaly "
            "map to the size of the mask."
        )
    damaged = given != 0
    return damaged if damaged.any() else None


def _good_keys(scores: NDArray[np.float32], damaged: Mask | None) -> Keys:
    good = scores if damaged is None else scores[~damaged]
    keys = np.negative(good).reshape(-1)
    keys.sort()
    return keys


def _damage(scores: NDArray[np.float32], damaged: Mask) -> Sketch:
    """Return the damaged pixels with two masses: 1 each, and 1 per region, shared by its pixels."""
    picture = damaged.view(np.uint8)
    x, y, width, height = cv2.boundingRect(picture)
    box = np.s_[y : y + height, x : x + width]
    _, regions = cv2.connectedComponents(picture[box], connectivity=8, ltype=cv2.CV_32S)
    inside = damaged[box]
    region = regions[inside]
    share = 1.0 / np.maximum(np.bincount(region), 1)
    keys = np.negative(scores[box][inside])
    return Sketch(keys, np.stack((np.ones(keys.size), share[region])))
