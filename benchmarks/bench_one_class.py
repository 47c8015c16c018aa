"""One class against the rest: handwritten digits, and automobiles, by the command line.

Of each digit the first 80 % are learned from (calibration parts among them); the rest of it and
others are tested.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_one_class.py
           [--detectors vae,fanogan,anogan] [--digits 0123456789] [--automobiles] [--others 1000]
           [--set KEY=VALUE]... [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

SHARE_LEARNED = 0.8


def write_digit(root: Path, digit: int, folder: Path, *, n_others: int = 1000) -> Path:
    """Write one digit of ``mnist_t10k.npz`` against the others, in the MVTec AD layout."""
    data = np.load(root / "mnist_t10k.npz")
    images, labels = data["images"], data["labels"]
    own, others = images[labels == digit], np.flatnonzero(labels != digit)
    n_learned = round(SHARE_LEARNED * len(own))
    _write(folder / "train" / "good", own[:n_learned])
    _write(folder / "test" / "good", own[n_learned:])
    chosen = np.sort(np.random.default_rng(digit).choice(others, n_others, replace=False))
    for other in sorted(set(labels[chosen].tolist())):
        _write(folder / "test" / f"digit-{other}", images[chosen[labels[chosen] == other]])
    return folder


def write_automobiles(root: Path, folder: Path) -> Path:
    """Write ``cifar10_automobile.npz`` in the MVTec AD layout."""
    data = np.load(root / "cifar10_automobile.npz")
    _write(folder / "train" / "good", data["train"])
    names = [str(name) for name in data["label_names"]]
    for label in sorted(set(data["test_labels"].tolist())):
        kind = "good" if names[label] == "automobile" else names[label]
        _write(folder / "test" / kind, data["test"][data["test_labels"] == label])
    return folder


def _write(folder: Path, pictures: NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for i, picture in enumerate(pictures):
        pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{i:04d}.png"), pixels)


def measure(detector: str, data: Path, folder: Path, settings: list[str]) -> dict[str, object]:
    """Return AUROC and times of a fit and an evaluation, each a process of its own."""
    model, figures = folder / f"{detector}.makellos", folder / "figures.json"
    options = [option for setting in settings for option in ("--set", setting)]
    fitting = ["fit", str(data), "-o", str(model), "--detector", detector, *options]
    seconds = [_run(*fitting), _run("evaluate", str(model), str(data), "--json", str(figures))]
    found = json.loads(figures.read_text(encoding="utf-8"))
    return {
        "detector": detector,
        "set": data.name,
        "image_auroc": round(found["image_auroc"], 4),
        "accuracy": round(found["accuracy"], 4),
        "optimistic_accuracy": round(found["optimistic_accuracy"], 4),
        "fit_seconds": round(seconds[0], 1),
        "evaluate_seconds": round(seconds[1], 1),
        "ms_per_part": found["inspect_ms_per_part"],
    }


def _run(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "makellos", *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--detectors", default="vae,fanogan,anogan")
    parser.add_argument("--digits", default="0123456789")
    parser.add_argument("--others", type=int, default=1000)
    parser.add_argument("--automobiles", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/one_class.json"))
    given = parser.parse_args()
    root = Path(os.environ["MAKELLOS_DATA"])
    rows: list[dict[str, object]] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        sets = [
            write_digit(root, int(digit), folder / f"digit-{digit}", n_others=given.others)
            for digit in given.digits
        ]
        if given.automobiles:
            sets.append(write_automobiles(root, folder / "automobiles"))
        for detector in given.detectors.split(","):
            mine = []
            for data in sets:
                mine.append(measure(detector, data, folder, given.settings))
                print(mine[-1], flush=True)
            digits = [float(str(row["image_auroc"])) for row in mine if row["set"] != "automobiles"]
            if digits:
                mean = statistics.fmean(digits)
                print(f"{detector}: mean AUROC of {len(digits)} digits {mean:.4f}", flush=True)
            rows += mine
            given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
