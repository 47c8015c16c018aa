"""Realised false-alarm rates against the budget, over random splits of good parts.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_budget.py

A model is fitted once on half of the good parts. The others are split 200 times into calibration
and test, and the share of test parts rejected is averaged. `cross-fitted` is the share of those
other parts that the fitted model rejects by its own cross-fitted threshold.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from makellos import Calibration, Inspector, fit
from makellos.data.parts import Part, find_parts, group_names

BUDGET, N_SPLITS = 0.05, 200


def halves(parts: list[Part]) -> tuple[list[Part], list[Part]]:
    """Return two halves that share no group."""
    names = group_names(parts)
    groups = np.random.default_rng(0).permutation(sorted(set(names)))
    first = set(groups[: len(groups) // 2])
    return (
        [part for part, name in zip(parts, names, strict=True) if name in first],
        [part for part, name in zip(parts, names, strict=True) if name not in first],
    )


def realised(scores: np.ndarray, groups: list[str], rng: np.random.Generator) -> list[float]:
    """Return the rate of every split; whole groups calibrate or are tested."""
    names = np.array(groups)
    grouped = len(set(groups)) < len(groups)
    rates = []
    for _ in range(N_SPLITS):
        order = rng.permutation(np.unique(names))
        aside = np.isin(names, order[: len(order) // 2])
        calibration = Calibration(scores[aside], BUDGET, names[aside].tolist() if grouped else None)
        rates.append(float((scores[~aside] > calibration.threshold).mean()))
    return rates


def measure(data: Path, folder: Path) -> dict[str, float]:
    parts = [part for part in find_parts(data).parts if part.is_good]
    learn, rest = halves(parts)
    manifest = folder / "half.csv"
    with manifest.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "group"])
        table.writerows([part.path.resolve(), "good", part.group or ""] for part in learn)
    model = folder / "half.makellos"
    fit(manifest, model, false_alarms=BUDGET)
    inspector = Inspector(model, workers=2)
    found = list(inspector.inspect_many([part.path for part in rest]))
    scores = np.array([row.score for row in found])
    rates = realised(scores, group_names(rest), np.random.default_rng(1))
    return {
        "good_parts": len(rest),
        "groups": len(set(group_names(rest))),
        "mean_rate": float(np.mean(rates)),
        "standard_error": float(np.std(rates) / np.sqrt(N_SPLITS)),
        "cross_fitted_rate": float(np.mean(scores > inspector.threshold)),
        "cross_fitted_budget": inspector.calibration.false_alarms,
    }


def main() -> None:
    root = Path(os.environ.get("MAKELLOS_DATA", ""))
    results = {}
    for name, data in (("screws", "mvtec_screw"), ("tiles by group", "magnetic_tile/tiles.csv")):
        if not os.environ.get("MAKELLOS_DATA") or not (root / data).exists():
            print(f"{name}: left out, MAKELLOS_DATA does not hold {data}")
            continue
        with TemporaryDirectory() as folder:
            results[name] = measure(root / data, Path(folder))
        print(name, {key: round(value, 4) for key, value in results[name].items()}, flush=True)
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/budget.json")
    target.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
