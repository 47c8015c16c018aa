"""Realised false-alarm rates against the budget, over random splits of good parts.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_budget.py

A model is fitted on half of the good parts, drawn five times. The others are split 200 times into
calibration and test, and the share of test parts rejected is averaged. `cross-fitted` is the share
of those other parts that the models reject by their own cross-fitted thresholds, and its standard
error over the draws, which is too small, since the halves overlap. `discriminative` learns
from two labelled parts of each kind of defect as well, by which it chooses what counts how much.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from makellos import Calibration, Inspector, find_parts, fit
from makellos.data.parts import Part, group_names

BUDGET, N_DRAWS, N_SPLITS = 0.05, 5, 200


def halves(parts: list[Part], draw: int) -> tuple[list[Part], list[Part]]:
    """Return two halves that share no group."""
    names = group_names(parts)
    groups = np.random.default_rng(draw).permutation(sorted(set(names)))
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


def some_of_each_kind(parts: list[Part], n: int = 2) -> list[Part]:
    """Return parts of each kind of defect, drawn at random."""
    rng, chosen = np.random.default_rng(2), []
    for kind in sorted({part.label for part in parts if not part.is_good}):
        own = [part for part in parts if part.label == kind]
        chosen += [own[i] for i in rng.permutation(len(own))[:n]]
    return chosen


def measure(data: Path, folder: Path, detector: str, draw: int) -> dict[str, float]:
    parts = find_parts(data).parts
    learn, rest = halves([part for part in parts if part.is_good], draw)
    if detector == "discriminative":
        others = {part.group for part in rest} - {None}
        learn += some_of_each_kind([part for part in parts if part.group not in others])
    manifest = folder / "half.csv"
    with manifest.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "group", "mask"])
        table.writerows(
            [part.path.resolve(), part.label, part.group or "", part.mask and part.mask.resolve()]
            for part in learn
        )
    model = folder / "half.makellos"
    fit(manifest, model, detector=detector, false_alarms=BUDGET)
    inspector = Inspector(model, workers=2)
    found = list(inspector.inspect_many([part.path for part in rest]))
    scores = np.array([row.score for row in found])
    rates = realised(scores, group_names(rest), np.random.default_rng(1))
    return {
        "good_parts": len(rest),
        "groups": len(set(group_names(rest))),
        "mean_rate": float(np.mean(rates)),
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
        for detector in ("patchcore", "discriminative"):
            row = f"{name}, {detector}"
            drawn = []
            for draw in range(N_DRAWS):
                with TemporaryDirectory() as folder:
                    drawn.append(measure(root / data, Path(folder), detector, draw))
                print(row, {key: round(value, 4) for key, value in drawn[-1].items()}, flush=True)
            results[row] = {key: float(np.mean([one[key] for one in drawn])) for key in drawn[0]}
            for key in ("mean_rate", "cross_fitted_rate"):
                error = np.std([one[key] for one in drawn], ddof=1) / np.sqrt(N_DRAWS)
                results[row][f"{key}_error"] = float(error)
            print("mean", {key: round(value, 4) for key, value in results[row].items()}, flush=True)
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/budget.json")
    target.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
