"""Time and memory of a fit over the number of pictures, beside what was forecast.

Good parts are noisy copies of few rendered screws, shifted and under changing light, made in a
temporary folder; each fit is a process of its own:

    python benchmarks/bench_fit.py --numbers 300,1000,3000,10000 --memory 4G --json fit.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.sets.synthetic_screws import write_screws

_N_BASE, _NOISES = 40, 64


def main() -> None:
    asked = _asked()
    rows = []
    with TemporaryDirectory(dir=asked.folder) as temporary:
        folder = Path(temporary)
        bases, noises = _bases(folder / "screws", asked.size), _noises(asked.size)
        for number in sorted(int(each) for each in asked.numbers.split(",")):
            _grow(folder / "set" / "good", number, bases, noises)
            row = _fit(folder / "set", folder / "m.makellos", asked)
            rows.append({"n_pictures": number, "side": asked.size, **row})
            print(json.dumps(rows[-1]), flush=True)
            if asked.json is not None:
                asked.json.write_text(json.dumps(rows, indent=1) + "\n")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", default="300,1000,3000")
    parser.add_argument("--size", type=int, default=256, help="pixels of a side")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--memory", help="bound that is given to the fit")
    parser.add_argument("--folder", type=Path, help="where the pictures are written")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _bases(folder: Path, size: int) -> list[NDArray[np.uint8]]:
    write_screws(folder, n_train=_N_BASE, n_test_good=1, n_per_defect=0, size=size)
    files = sorted((folder / "train" / "good").iterdir())
    return [np.asarray(cv2.imread(str(file)), np.uint8) for file in files]


def _noises(size: int) -> NDArray[np.int16]:
    """Return noise that no two pictures share the place of."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 9, (_NOISES, size, size)).astype(np.float32)
    return np.array([cv2.GaussianBlur(each, (0, 0), 0.8) for each in coarse]).astype(np.int16)


def _grow(
    folder: Path, number: int, bases: list[NDArray[np.uint8]], noises: NDArray[np.int16]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(list(folder.iterdir())), number):
        rng = np.random.default_rng(i)
        shift, place = rng.integers(-8, 9, 2), rng.integers(0, noises.shape[1], 2)
        shown = np.roll(bases[i % len(bases)], shift, (0, 1)) * rng.uniform(0.95, 1.05)
        noise = np.roll(noises[rng.integers(_NOISES)], place, (0, 1))
        shown = np.clip(shown + noise[:, :, np.newaxis], 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:06d}.jpg"), shown, [cv2.IMWRITE_JPEG_QUALITY, 90])


def _fit(data: Path, model: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Fit in a process of its own; return seconds, peak memory, and what was forecast."""
    report = model.with_suffix(".json")
    command = ["fit", str(data), "-o", str(model), "--preset", asked.preset, "--json", str(report)]
    command += ["--memory", asked.memory] if asked.memory else []
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "makellos", *command], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"makellos {' '.join(command)} ended with {status}")
    foreseen = json.loads(report.read_text())["forecast"] or {}
    return {
        "seconds": round(seconds, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "forecast_seconds": foreseen.get("seconds"),
        "forecast_mb": round(foreseen.get("memory_bytes", 0) / (1 << 20)),
        "memory": asked.memory,
        "load": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
