"""Measure the pixel metrics: time, peak memory beyond the maps, and distance from a full sort.

    python benchmarks/bench_metrics.py --json metrics.json

Prints a table and writes JSON. The maps are synthetic: smooth noise at the resolution of a typical
feature grid, enlarged to full size, raised at the damage.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.evaluation import PixelFigures, PixelMetrics, Resampling, image_intervals

Maps = list[NDArray[np.float32]]
Masks = list[NDArray[np.uint8] | None]

THRESHOLD = 0.75  # of SegF1: some of the damage is above it, and little else


def main() -> None:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=160, help="number of pictures")
    parser.add_argument("--size", type=int, default=1024, help="height and width in pixels")
    parser.add_argument("--exact-maps", type=int, default=16, help="pictures of the exact check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="file to write the figures to")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    maps, masks = render(options.maps, options.size, rng)
    rows = measure(maps, masks, rng)
    rows |= distance_from_sort(maps[-options.exact_maps :], masks[-options.exact_maps :])
    print(f"{options.maps} maps of {options.size} x {options.size}")
    for name, value in rows.items():
        print(f"  {name:<32} {value:12.6g}")
    if options.json is not None:
        report = {
            "n_maps": options.maps,
            "size": options.size,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": f"{platform.system()} {platform.machine()}",
            **rows,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def render(n_maps: int, size: int, rng: np.random.Generator) -> tuple[Maps, Masks]:
    """Return maps and masks: a quarter of the pictures is good, the others have 1 to 3 regions."""
    maps: Maps = []
    masks: Masks = []
    for index in range(n_maps):
        grid = rng.gamma(4.0, 0.1, size=(64, 64)).astype(np.float32)
        anomaly_map = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        mask = None
        if index >= n_maps // 4:
            mask = np.zeros((size, size), dtype=np.uint8)
            for _ in range(rng.integers(1, 4)):
                center = rng.integers(size // 8, size - size // 8, size=2).tolist()
                axes = rng.integers(max(size // 100, 1), max(size // 12, 2), size=2).tolist()
                cv2.ellipse(mask, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
            anomaly_map += cv2.blur(mask.astype(np.float32), (31, 31)) * rng.uniform(0.1, 0.6)
        maps.append(np.ascontiguousarray(anomaly_map, dtype=np.float32))
        masks.append(mask)
    return maps, masks


def measure(maps: Maps, masks: Masks, rng: np.random.Generator) -> dict[str, float]:
    """Return seconds and peak memory of the pixel metrics and of the intervals."""
    before = peak_resident_mb()
    metrics = PixelMetrics(threshold=THRESHOLD)
    update_s = seconds(lambda: feed(metrics, maps, masks))
    compute_s = seconds(metrics.compute)
    after = peak_resident_mb()
    pixel_intervals_s = seconds(lambda: metrics.intervals(Resampling(rng)))
    defective = np.arange(1000) % 2 == 1
    scores = rng.normal(size=1000) + defective
    image_s = seconds(lambda: image_intervals(scores, defective, scores > 1, Resampling(rng)))
    return {
        "update_s": update_s,
        "compute_s": compute_s,
        "update_and_compute_s": update_s + compute_s,
        "pixel_intervals_1000_s": pixel_intervals_s,
        "image_intervals_1000_parts_s": image_s,
        **({} if before is None or after is None else {"peak_resident_mb": after - before}),
        "peak_allocated_mb": peak_allocated_mb(lambda: feed(PixelMetrics(), maps, masks).compute()),
    }


def feed(metrics: PixelMetrics, maps: Maps, masks: Masks) -> PixelMetrics:
    """Take all maps in, one at a time."""
    for anomaly_map, mask in zip(maps, masks, strict=True):
        metrics.update(anomaly_map, mask)
    return metrics


def distance_from_sort(maps: Maps, masks: Masks) -> dict[str, float]:
    """Return the differences from metrics that sort all pixels, on some of the pictures."""
    if not any(mask is not None for mask in masks):
        return {}
    fast = feed(PixelMetrics(threshold=THRESHOLD), maps, masks).compute()
    start = time.perf_counter()
    exact = exact_figures(maps, masks)
    names = [field.name for field in fields(PixelFigures)]
    differences = {f"{n}_difference": abs(getattr(fast, n) - getattr(exact, n)) for n in names}
    return {"exact_sort_s": time.perf_counter() - start, **differences}


def exact_figures(maps: Maps, masks: Masks, fpr_limit: float = 0.3) -> PixelFigures:
    """Return the pixel metrics by sorting every pixel."""
    regions, first = [], 1
    for anomaly_map, mask in zip(maps, masks, strict=True):
        if mask is None:
            regions.append(np.zeros(anomaly_map.shape, dtype=np.int32))
            continue
        n_labels, labels = cv2.connectedComponents(mask, connectivity=8)
        regions.append(np.where(labels > 0, labels + first - 1, 0))
        first += n_labels - 1
    region = np.concatenate([labels.ravel() for labels in regions])
    scores = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    order = np.argsort(-scores, kind="stable")
    ordered, region = scores[order], region[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    shares = np.where(region > 0, 1.0 / np.bincount(region)[region], 0.0) / (first - 1)
    hits, alarms = np.cumsum(region > 0)[last], np.cumsum(region == 0)[last]
    rate = np.concatenate(([0.0], alarms / alarms[-1]))
    recall = np.concatenate(([0.0], hits / hits[-1]))
    overlap = np.concatenate(([0.0], np.cumsum(shares)[last]))
    f1 = 2 * hits / (hits + alarms + hits[-1])
    marked = ordered > THRESHOLD
    found = np.sum(marked & (region > 0))
    return PixelFigures(
        pixel_auroc=trapezoid(recall, rate),
        pixel_ap=float(np.sum(np.diff(recall) * hits / (hits + alarms))),
        aupro=area_to(fpr_limit, rate, overlap),
        aupro_5=area_to(0.05, rate, overlap),
        pixel_f1_max=float(f1.max()),
        seg_f1=float(2 * found / (marked.sum() + hits[-1])),
    )


def area_to(limit: float, rate: NDArray[np.float64], overlap: NDArray[np.float64]) -> float:
    """Return the area under the overlap up to a false positive rate, divided by it."""
    below = rate < limit
    limited_rate = np.append(rate[below], limit)
    limited_overlap = np.append(overlap[below], np.interp(limit, rate, overlap))
    return trapezoid(limited_overlap, limited_rate) / limit


def trapezoid(y: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """Return the area under a piecewise linear curve."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds that work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_allocated_mb(work: Callable[[], object]) -> float:
    """Return the peak of memory that Python and numpy allocate during work, in MB."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def peak_resident_mb() -> float | None:
    """Return the largest resident size of this process so far, in MB; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
