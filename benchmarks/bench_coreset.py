"""Coverage and time of the batched k-center selection against the plain greedy loop."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from makellos.detectors.patches.coreset import coverage, k_center

SIZES = ((20_000, 64, 1_000), (40_000, 112, 2_000), (80_000, 64, 2_000), (320_000, 64, 2_000))


def plain_greedy(points: NDArray[np.float32], n_keep: int) -> NDArray[np.intp]:
    """Return greedy k-center picks, one pass over all points for each."""
    squares = np.einsum("ij,ij->i", points, points)
    center = points.mean(0)
    kept = [int(np.argmax(squares - 2 * points @ center))]
    nearest = np.full(len(points), np.inf, np.float32)
    while len(kept) < n_keep:
        last = points[kept[-1]]
        np.minimum(nearest, squares - 2 * points @ last + last @ last, out=nearest)
        kept.append(int(np.argmax(nearest)))
    return np.array(kept)


def main() -> None:
    rows = []
    for n_points, n_channels, n_keep in SIZES:
        rng = np.random.default_rng(0)
        # Patches lie in clusters of unequal size on a few directions, as embeddings do.
        centers = rng.normal(size=(40, n_channels)) * rng.gamma(1.0, size=n_channels)
        which = rng.choice(40, n_points, p=rng.dirichlet(np.ones(40)))
        points = (centers[which] + 0.5 * rng.standard_t(5, (n_points, n_channels))).astype(
            np.float32
        )
        started = time.perf_counter()
        plain = plain_greedy(points, n_keep)
        middle = time.perf_counter()
        ours = k_center(points, n_keep)
        ended = time.perf_counter()
        rows.append(
            {
                "points": n_points,
                "channels": n_channels,
                "kept": n_keep,
                "plain_s": round(middle - started, 2),
                "batched_s": round(ended - middle, 2),
                "coverage_ratio": round(coverage(points, ours) / coverage(points, plain), 4),
            }
        )
        print(rows[-1], flush=True)
    Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/coreset.json").write_text(
        json.dumps(rows, indent=1)
    )


if __name__ == "__main__":
    main()
