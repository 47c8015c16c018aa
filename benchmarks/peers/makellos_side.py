"""What bench_peers.py asks of makellos in a process of its own, beside its command line.

Usage: python benchmarks/peers/makellos_side.py TASK SETTINGS

TASK is inspect, coreset or aupro; SETTINGS is JSON, and so is the last line printed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from memory import peak_mb


def main() -> None:
    task, settings = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps({"inspect": inspect, "coreset": coreset, "aupro": aupro}[task](settings)))


def inspect(settings: dict[str, Any]) -> dict[str, Any]:
    """Inspect the pictures of a folder as the command does, without the start of the process."""
    from makellos.data.layouts import walk_parts
    from makellos.evaluation import auroc
    from makellos.inspection.engines import default_workers
    from makellos.inspection.inspector import Inspector

    inspector = Inspector(settings["model"], workers=default_workers())
    paths = walk_parts(Path(settings["pictures"]))
    begun = time.perf_counter()
    found = list(inspector.inspect_many(paths))
    seconds = time.perf_counter() - begun
    scores = np.array([each.score for each in found])
    damaged = np.array([path.parent.name != "good" for path in paths])
    return {"predict_s": seconds, "n": len(paths), "image_auroc": auroc(scores, damaged)}


def coreset(settings: dict[str, Any]) -> dict[str, Any]:
    from makellos.detectors.patches.coreset import k_center

    points = np.load(settings["points"])
    n_keep = int(len(points) * settings["ratio"])
    begun = time.perf_counter()
    chosen = k_center(points, n_keep)
    seconds = time.perf_counter() - begun
    np.save(settings["chosen"], chosen)
    return {"coreset_s": seconds, "n": len(points), "kept": len(chosen)}


def aupro(settings: dict[str, Any]) -> dict[str, Any]:
    from makellos.evaluation import PixelMetrics

    maps, masks = np.load(settings["maps"]), np.load(settings["masks"])
    before = peak_mb()
    metrics, begun = PixelMetrics(), time.perf_counter()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        metrics.update(anomaly_map, mask)
    value = metrics.compute().aupro
    seconds = time.perf_counter() - begun
    return {"aupro_s": seconds, "aupro": value, "beyond_maps_mb": peak_mb() - before}


if __name__ == "__main__":
    main()
