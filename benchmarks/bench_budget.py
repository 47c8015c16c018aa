"""Realised false-alarm rates against the budget, over random splits of good parts.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_budget.py [SET,...] [DETECTOR,...] [FILE]

A model is fitted on half of the good parts, drawn five times. The others are split 200 times into
calibration and test, and the share of test parts rejected is averaged. `cross-fitted` is the share
of those other parts that the models reject by their own cross-fitted thresholds, and its standard
error over the draws, which is too small, since the halves overlap. `discriminative` learns
from two labelled parts of each kind of defect as well, by which it chooses what counts how much.
A name at 1 % and 5 % is that of the same fit: the budget changes what is made of its scores alone.
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

BUDGETS, N_DRAWS, N_SPLITS = (0.01, 0.05), 5, 200
SETS = {
    "screws": "mvtec_screw",
    "tiles": "magnetic_tile",
    "tiles by group": "magnetic_tile/tiles.csv",
}


def halves(parts: list[Part], draw: int) -> tuple[list[Part], list[Part]]:
    """Return two halves that share no group."""
    names = group_names(parts)
    groups = np.random.default_rng(draw).permutation(sorted(set(names)))
    first = set(groups[: len(groups) // 2])
    return (
        [part for part, name in zip(parts, names, strict=True) if name in first],
        [part for part, name in zip(parts, names, strict=True) if name not in first],
    )


def realised(scores: np.ndarray, groups: list[str], budget: float) -> list[float]:
    """Return the rate of every split; whole groups calibrate or are tested."""
    names, rng = np.array(groups), np.random.default_rng(1)
    grouped = len(set(groups)) < len(groups)
    rates = []
    for _ in range(N_SPLITS):
        order = rng.permutation(np.unique(names))
        aside = np.isin(names, order[: len(order) // 2])
        calibration = Calibration(scores[aside], budget, names[aside].tolist() if grouped else None)
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
    fit(manifest, model, detector=detector, false_alarms=min(BUDGETS))
    inspector = Inspector(model, workers=2)
    found = list(inspector.inspect_many([part.path for part in rest]))
    scores, names = np.array([row.score for row in found]), group_names(rest)
    figures: dict[str, float] = {"good_parts": len(rest), "groups": len(set(names))}
    for budget in BUDGETS:
        own = inspector.calibration.with_budget(budget)
        figures |= {
            f"mean_rate_at_{budget}": float(np.mean(realised(scores, names, budget))),
            f"cross_fitted_rate_at_{budget}": float(np.mean(scores > own.threshold)),
            f"cross_fitted_promise_at_{budget}": own.false_alarms,
        }
    return figures


def main() -> None:
    root = Path(os.environ.get("MAKELLOS_DATA", ""))
    given = [*sys.argv[1:], "", "", ""][:3]
    sets = given[0].split(",") if given[0] else list(SETS)
    detectors = given[1].split(",") if given[1] else ["patchcore", "discriminative"]
    results = {}
    for name in sets:
        if not os.environ.get("MAKELLOS_DATA") or not (root / SETS[name]).exists():
            print(f"{name}: left out, MAKELLOS_DATA does not hold {SETS[name]}")
            continue
        for detector in detectors:
            row = f"{name}, {detector}"
            drawn = []
            for draw in range(N_DRAWS):
                with TemporaryDirectory() as folder:
                    drawn.append(measure(root / SETS[name], Path(folder), detector, draw))
                print(row, {key: round(value, 4) for key, value in drawn[-1].items()}, flush=True)
            results[row] = {key: float(np.mean([one[key] for one in drawn])) for key in drawn[0]}
            for key in [key for key in drawn[0] if "_rate_" in key]:
                error = np.std([one[key] for one in drawn], ddof=1) / np.sqrt(N_DRAWS)
                results[row][f"{key}_error"] = float(error)
            print("mean", {key: round(value, 4) for key, value in results[row].items()}, flush=True)
    target = Path(given[2] or "benchmarks/budget.json")
    target.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
