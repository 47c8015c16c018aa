"""Lots made of the good screws: what a model promises for a lot that it has never seen.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_lots.py [FOLDER]

Every lot has a gray level, a scale and a sharpness of its own. A model learns from nine of them,
and meets four others. FOLDER keeps what was made and fitted; without it a temporary one is used.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos import Inspector, calibrate, find_parts, fit
from makellos.data.parts import Part
from makellos.inspection.model_file import read_model

N_OLD, N_NEW, N_OF_OLD, N_FIRST, N_LATER = 9, 4, 24, 20, 16


def change(picture: NDArray[np.uint8], lot: int, draw: int) -> NDArray[np.uint8]:
    """Return a picture as a lot shows it: brighter or darker, larger or smaller, sharper or not."""
    rng = np.random.default_rng([draw, lot, 18])
    gain, offset = rng.uniform(0.75, 1.2), rng.uniform(-15, 15)
    scale, blur = rng.uniform(0.92, 1.08), rng.uniform(-0.6, 1.6)
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, scale)
    found = cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    soft = cv2.GaussianBlur(found, (0, 0), abs(blur) + 0.05).astype(np.float32)
    sharp = found.astype(np.float32)
    changed = soft if blur > 0 else sharp - blur * (sharp - soft)
    shown: NDArray[np.uint8] = np.clip(gain * changed + offset, 0, 255).astype(np.uint8)
    return shown


def write(part: Part, lot: int, draw: int, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), change(np.asarray(part.read(), np.uint8), lot, draw))
    return target


def make_lots(data: Path, folder: Path, draw: int) -> None:
    """Write the lots and the manifests: `old.csv`, `known.csv`, `new.csv` and a folder per lot."""
    parts = find_parts(data).parts
    rng = np.random.default_rng([draw, 0])
    train = [part for part in parts if part.is_good and part.split == "train"]
    test = [part for part in parts if part.is_good and part.split == "test"]
    bad = [part for part in parts if not part.is_good]
    train, test, bad = (
        [some[i] for i in rng.permutation(len(some))] for some in (train, test, bad)
    )
    rows: list[tuple[str, str, str, str]] = []  # path, label, lot, role
    for lot in range(N_OLD + N_NEW):
        old = lot < N_OLD
        n = N_OF_OLD if old else N_FIRST
        for part in [train.pop() for _ in range(n)]:
            path = write(part, lot, draw, folder / f"lot{lot:02d}" / part.path.name)
            rows.append((str(path), "good", f"lot{lot:02d}", "old" if old else "first"))
    later = train + test
    for i, part in enumerate([*later[: N_NEW * N_LATER], *bad]):
        lot = N_OLD + i % N_NEW
        name = f"{part.label}_{part.split}_{part.path.name}"
        path = write(part, lot, draw, folder / f"later{lot:02d}" / name)
        rows.append((str(path), part.label, f"lot{lot:02d}", "later"))
    for name, roles in (("old", ("old",)), ("known", ("old", "first")), ("new", ("later",))):
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["path", "label", "group"])
            table.writerows([row[:3] for row in rows if row[3] in roles])


def scores_of(model: Path, manifest: Path, target: Path) -> list[tuple[str, str, float]]:
    """Return lot, label and score of each part; `target` keeps them."""
    if not target.exists():
        parts = find_parts(manifest).parts
        found = Inspector(model).inspect_many([part.path for part in parts])
        rows = [(part.group, part.label, row.score) for part, row in zip(parts, found, strict=True)]
        target.write_text(json.dumps(rows))
    kept = json.loads(target.read_text())
    return [(str(lot), str(label), float(score)) for lot, label, score in kept]


def figures(
    rows: list[tuple[str, str, float]], threshold_of: Callable[[str], float]
) -> tuple[float, float]:
    """Return the shares of good parts rejected and of damaged ones missed."""
    good = [score > threshold_of(lot) for lot, label, score in rows if label == "good"]
    bad = [score <= threshold_of(lot) for lot, label, score in rows if label != "good"]
    return float(np.mean(good)), float(np.mean(bad))


def oddest(scores: list[float], groups: list[str], budget: float) -> float:
    """Return the threshold where every part of a group shares its weight (HCP)."""
    n_groups, above = len(set(groups)), 1.0
    for score, group in sorted(zip(scores, groups, strict=True), reverse=True):
        above += 1 / groups.count(group)
        if above / (n_groups + 1) > budget + 1e-9:
            return score
    return -math.inf


def measure(folder: Path) -> list[list[str]]:
    """Return the rows of the table."""
    old, known = folder / "old.makellos", folder / "known.makellos"
    if not old.exists():
        fit(folder / "old.csv", old, false_alarms=0.1)
    if not known.exists():
        # Without groups: its promise is for parts of the lots that it learned from.
        rows = list(csv.reader((folder / "known.csv").open(newline="")))
        with (folder / "plain.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(row[:2] for row in rows)
        fit(folder / "plain.csv", known, false_alarms=0.1)
    of_old = scores_of(old, folder / "new.csv", folder / "old.json")
    of_known = scores_of(known, folder / "new.csv", folder / "known.json")
    record = read_model(old).manifest.calibration
    found: list[list[str]] = []

    def add(name: str, budget: float, rates: tuple[float, float]) -> None:
        found.append([name, f"{budget:.0%}", f"{rates[0]:.1%}", f"{rates[1]:.0%}"])

    worst = oddest(record.scores, record.groups or [], 0.1)
    add("nine lots, the oddest decides", 0.1, figures(of_old, lambda _: worst))
    drawn = record.calibration().threshold
    add("nine lots, a part drawn from each", 0.1, figures(of_old, lambda _: drawn))
    lots = sorted({lot for lot, _, _ in of_old})
    for budget in (0.1, 0.05, 0.01):
        limits = {}
        for lot in lots:
            target = folder / f"of_{lot}.makellos"
            made = calibrate(old, folder / lot, false_alarms=budget, output=target)
            limits[lot] = made.threshold
        twenty = figures(of_old, limits.__getitem__)
        add("nine lots, and the first twenty of the lot", budget, twenty)
        limit = calibrate(known, false_alarms=budget).threshold
        add(
            "a model that knew the lot",
            budget,
            figures(of_known, dict.fromkeys(lots, limit).__getitem__),
        )
    return found


def main() -> None:
    root = os.environ.get("MAKELLOS_DATA")
    if not root:
        print("MAKELLOS_DATA does not name a folder with mvtec_screw")
        return
    with TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        folder.mkdir(exist_ok=True, parents=True)
        if not (folder / "new.csv").exists():
            make_lots(Path(root) / "mvtec_screw", folder, 0)
        print("| calibrated by | promised | good rejected | missed |\n|---|---|---|---|")
        for row in measure(folder):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
