"""Realised false-alarm rates against the budget, over random splits of good parts.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_budget.py [SET,...] [DETECTOR,...] [FILE]

A model is fitted on half of the good parts, drawn five times. The others are split 200 times into
calibration and test, and the share of test parts rejected is averaged. `cross-fitted` is the share
of those other parts that the models reject by their own cross-fitted thresholds, and its standard
error over the draws, which is too small, since the halves overlap. `discriminative` learns
from two labelled parts of each kind of defect as well, by which it chooses what counts how much.
A name at several budgets is that of the same fit: the budget changes what is made of its scores
alone. Windows of the good bearing are split by blocks of five that follow each other, and learned
from are those of half of the time, which begins elsewhere in each draw.
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
from makellos.vibration.signals import SignalSettings

BUDGETS, N_DRAWS, N_SPLITS, BLOCK = (0.01, 0.05, 0.1), 5, 200, 5
SETS = {
    "screws": "mvtec_screw",
    "tiles": "magnetic_tile",
    "tiles by group": "magnetic_tile/tiles.csv",
    "bearing windows": "bearing_cwru_48k/Normal.npz",
}
SIGNAL = SignalSettings(rate=48_000, channel="DE", bearing="6205", rpm=1797)


def halves(parts: list[Part], draw: int) -> tuple[list[Part], list[Part]]:
    """Return two halves that share no group."""
    names = group_names(parts)
    groups = np.random.default_rng(draw).permutation(sorted(set(names)))
    first = set(groups[: len(groups) // 2])
    return (
        [part for part, name in zip(parts, names, strict=True) if name in first],
        [part for part, name in zip(parts, names, strict=True) if name not in first],
    )


def realised(
    scores: np.ndarray, groups: list[str], budget: float, *, counted: bool = True
) -> list[float]:
    """Return the rate of every split; whole groups calibrate or are tested, and are `counted`."""
    names, rng = np.array(groups), np.random.default_rng(1)
    grouped = counted and len(set(groups)) < len(groups)
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
    return figures_of(inspector, scores, names)


def measure_windows(data: Path, folder: Path, detector: str, draw: int) -> dict[str, float]:
    """Return the figures of a fit on half of the time of one good recording."""
    start = 100 * draw // N_DRAWS
    ends = [(start, min(100, start + 50), "train"), (0, start - 50, "train")]
    ends += [(start + 50, 100, "test"), (max(0, start - 50), start, "test")]
    rows = [f"{data},good,{split},{a}%,{b}%" for a, b, split in ends if a < b]
    manifest, model = folder / "half.csv", folder / "half.makellos"
    manifest.write_text("\n".join(["path,label,split,start,end", *rows]), encoding="utf-8")
    fit(manifest, model, detector=detector, false_alarms=min(BUDGETS), signal=SIGNAL)
    inspector = Inspector(model)
    scores: list[float] = []
    names: list[str] = []
    for number, part in enumerate(find_parts(manifest).test()):
        found = inspector.inspect_part(part).recording
        if found is None:
            raise RuntimeError(f"{part.name} cannot be read.")
        scores += [window.score or 0.0 for window in found.windows]
        names += [f"{number} {i // BLOCK}" for i in range(len(found.windows))]
    return figures_of(inspector, np.array(scores), names, counted=False)


def figures_of(
    inspector: Inspector, scores: np.ndarray, names: list[str], *, counted: bool = True
) -> dict[str, float]:
    """Return mean rates over splits, and the rate and promise of the model's own threshold."""
    figures: dict[str, float] = {"good_parts": len(scores), "groups": len(set(names))}
    for budget in BUDGETS:
        own = inspector.calibration.with_budget(budget)
        aside = sum(name in set(sorted(set(names))[: len(set(names)) // 2]) for name in names)
        units = len(set(names)) // 2 if counted and len(set(names)) < len(names) else aside
        figures |= {
            f"mean_rate_at_{budget}": float(
                np.mean(realised(scores, names, budget, counted=counted))
            ),
            f"promise_at_{budget}": max(budget, 1 / (units + 1)),
            f"cross_fitted_rate_at_{budget}": float(np.mean(scores > own.threshold)),
            f"cross_fitted_promise_at_{budget}": own.false_alarms,
        }
    return figures


def main() -> None:
    root = Path(os.environ.get("MAKELLOS_DATA", ""))
    given = [*sys.argv[1:], "", "", ""][:3]
    sets = given[0].split(",") if given[0] else list(SETS)
    asked = given[1].split(",") if given[1] else []
    results = {}
    for name in sets:
        if not os.environ.get("MAKELLOS_DATA") or not (root / SETS[name]).exists():
            print(f"{name}: left out, MAKELLOS_DATA does not hold {SETS[name]}")
            continue
        windows = name == "bearing windows"
        usual = ["pyod"] if windows else ["patchcore", "discriminative"]
        for detector in asked or usual:
            row = f"{name}, {detector}"
            drawn = []
            for draw in range(N_DRAWS):
                with TemporaryDirectory() as folder:
                    work = measure_windows if windows else measure
                    drawn.append(work(root / SETS[name], Path(folder), detector, draw))
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
