"""Time of an inspection and recall of the nearest distance as the memory bank grows.

Usage: python benchmarks/bench_bank.py [FOLDER]

Patches of the good screws that MAKELLOS_DATA holds, or of rendered ones, in twelve turns, are
thinned to memory banks of 1,000 to 1,000,000 patches per layer as a coreset is, cell by cell. In
FOLDER the patches are kept for another run. Times are those of one thread; recall is counted on
test screws that neither the bank nor the search has seen, every fourth patch of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import no_progress
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder, empty_graph
from makellos.detectors.patchcore import PatchCore
from makellos.detectors.patches.cell_graph import distance_by_cells
from makellos.detectors.patches.cells import Cells, balanced_cells, learn_cells
from makellos.detectors.patches.coreset import k_center, spacings
from makellos.detectors.patches.rotations import views
from makellos.inspection.engines import EngineChoice, available_engines, open_engine
from makellos.sets.synthetic_screws import write_screws

SIZES = (1_000, 10_000, 100_000, 1_000_000)
N_TURNS, N_HELD_OUT, N_ASKED, EVERY = 12, 6, 4, 4
THIN = 512  # candidates that a coreset is chosen from at once

Floats = NDArray[np.float32]


def main() -> None:
    with TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        folder.mkdir(parents=True, exist_ok=True)
        screws = Path(os.environ.get("MAKELLOS_DATA", temporary)) / "mvtec_screw"
        if not screws.is_dir():
            write_screws(screws, n_train=306, n_test_good=4, n_per_defect=1)
        good = parts_in(screws / "train" / "good")
        tested = parts_in(screws / "test" / "good")[: N_ASKED // 2]
        for kind in sorted((screws / "test").iterdir())[1 : 1 + N_ASKED // 2]:
            tested += parts_in(kind)[:1]
        detector = PatchCore(rotations=1).fit(good[:12])
        pools = pools_of(detector, good[N_HELD_OUT:], folder)
        rows = [row_of(detector, pools, good[:N_HELD_OUT], tested, size) for size in SIZES]
    Path("benchmarks/bank.json").write_text(json.dumps(rows, indent=1))


def parts_in(folder: Path) -> list[Part]:
    return [Part(source=path, name=path.name) for path in sorted(folder.glob("*.png"))]


def standardised(detector: PatchCore, parts: Sequence[Part]) -> list[list[Floats]]:
    """Return the patches of each part, per layer patches×channels."""
    scaling = list(zip(detector.means_, detector.scales_, strict=True))
    return [
        [(x - mean) / scale for x, (mean, scale) in zip(embeddings, scaling, strict=True)]
        for embeddings in detector.embedder_.stream(parts, no_progress)
    ]


def pools_of(detector: PatchCore, parts: Sequence[Part], folder: Path) -> list[NDArray[np.float16]]:
    """Return patches per layer that banks are chosen from, as many of each layer."""
    files = [folder / f"pool_{name}.npy" for name in range(len(detector.means_))]
    if all(file.is_file() for file in files):
        return [np.load(file) for file in files]
    shapes, looks = detector.embedder_.shapes, views(parts, n_turns=N_TURNS)
    quota = min(h * w for _, h, w in shapes)
    pools = [np.empty((len(looks) * quota, shape[0]), np.float16) for shape in shapes]
    for i, embeddings in enumerate(detector.embedder_.stream(looks, no_progress)):
        rng = np.random.default_rng(i)
        for layer, x in enumerate(embeddings):
            drawn = x[rng.choice(len(x), quota, replace=False)]
            values = (drawn - detector.means_[layer]) / detector.scales_[layer]
            pools[layer][i * quota : (i + 1) * quota] = values
    for file, pool in zip(files, pools, strict=True):
        np.save(file, pool)
    return pools


def thinned(pool: NDArray[np.float16], size: int) -> NDArray[np.float16]:
    """Return `size` patches that are far from each other, chosen cell by cell."""
    rng = np.random.default_rng(0)
    pool = pool[np.sort(rng.permutation(len(pool))[: 4 * size])]
    cells = balanced_cells(pool, 1 << max(0, round(np.log2(len(pool) / THIN))))
    share = -(-size // len(cells))
    kept = [rows[k_center(pool[rows].astype(np.float32), share)] for rows in map(np.unique, cells)]
    chosen: NDArray[np.float16] = pool[rng.permutation(np.concatenate(kept))[:size]]
    return chosen


def row_of(
    detector: PatchCore,
    pools: Sequence[NDArray[np.float16]],
    held_out: Sequence[Part],
    tested: Sequence[Part],
    size: int,
) -> dict[str, Any]:
    started = time.process_time()
    known, asked = standardised(detector, held_out), standardised(detector, tested)
    detector.memory_banks_ = [thinned(pool, size) for pool in pools]
    detector.bank_folds_ = [np.zeros(len(bank), np.intp) for bank in detector.memory_banks_]
    thinning = time.process_time() - started
    detector.cells_, layers = [], []
    for layer, bank in enumerate(detector.memory_banks_):
        units = spacings(bank.astype(np.float32), detector.num_neighbors)
        seen = [(embeddings[layer], np.ones(len(bank), np.bool_)) for embeddings in known]
        cells = learn_cells(bank, units, seen)
        detector.cells_.append(cells)
        layers.append(quality(bank, units, cells, [x[layer] for x in asked]))
        print(size, layer, layers[-1], flush=True)
    indexing = time.process_time() - started - thinning
    row = {"size": size, "indexing_s": round(indexing, 1), "layers": layers}
    graph = detector.graph()
    for engine in available_engines():
        if engine.runtime == "openvino":
            row[str(engine)] = timed(graph, tested, engine)
    print(row, flush=True)
    return row


def quality(
    bank: NDArray[np.float16], units: Floats, cells: Cells | None, asked: Sequence[Floats]
) -> dict[str, float]:
    """Return how often the nearest is found by a graph in f32, and what is lost otherwise."""
    if cells is None:
        return {"recall": 1.0, "looked_at": 1.0}
    weights = units**-2.0
    n_patches, n_channels = asked[0].shape
    builder = GraphBuilder(empty_graph("search", {"x": ["n", n_patches, n_channels]}))
    name = distance_by_cells(builder, "x", n_patches, bank, weights, cells)
    graph = builder.with_outputs({name: ["n", n_patches, 1]})
    engine = open_engine(graph, EngineChoice("openvino", "f32"), shape=(n_patches, n_channels))
    found = np.concatenate([engine.run(x[np.newaxis])[name][0, ::EVERY, 0] for x in asked])
    exact = brute_force(np.concatenate([x[::EVERY] for x in asked]), bank, weights)
    ratio = found / exact
    return {
        "cells": len(cells.members),
        "looked_at": round(cells.n_near / len(cells.members), 4),
        "recall": round(float((ratio < 1.002).mean()), 4),
        "within_1_percent": round(float((ratio < 1.01).mean()), 4),
        "mean_excess": round(float(np.maximum(ratio - 1, 0).mean()), 5),
        "largest_excess": round(float(ratio.max() - 1), 4),
    }


def brute_force(points: Floats, bank: NDArray[np.float16], weights: Floats) -> Floats:
    least = np.full(len(points), np.inf, np.float32)
    lengths = np.square(points).sum(1)[:, np.newaxis]
    for start in range(0, len(bank), 20_000):
        rows = slice(start, start + 20_000)
        others = bank[rows].astype(np.float32)
        squares = points @ (-2 * others.T) + np.square(others).sum(1) + lengths
        np.minimum(least, (squares * weights[rows]).min(1), out=least)
    return np.sqrt(np.maximum(least, 0))


def timed(graph: Graph, tested: Sequence[Part], engine: EngineChoice) -> dict[str, float]:
    """Return the least time of an inspection, decoding and all, in ms."""
    started = time.process_time()
    scorer = graph.recipe().open(engine)
    opening = time.process_time() - started
    busy, wall = [], []
    for part in [*tested, *tested]:
        before, clock = time.process_time(), time.perf_counter()
        scorer(part.read())
        busy.append(time.process_time() - before)
        wall.append(time.perf_counter() - clock)
    return {
        "cpu_ms": round(1e3 * min(busy), 1),
        "wall_ms": round(1e3 * min(wall), 1),
        "open_cpu_s": round(opening, 1),
    }


if __name__ == "__main__":
    main()
