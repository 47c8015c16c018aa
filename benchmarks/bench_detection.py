"""Detection quality of every detector and preset on the real sets that MAKELLOS_DATA holds.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_detection.py [OUTPUT.json]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from makellos import evaluate, fit
from makellos.detectors import detectors

SETS = ("mvtec_screw", "magnetic_tile")
KEYS = ("image_auroc", "pixel_auroc", "aupro", "false_alarm_rate", "miss_rate", "fit_seconds")


def measure(data: Path, name: str, preset: str, folder: Path) -> dict[str, object]:
    model = folder / "model.makellos"
    fit(data, model, detector=name, preset=preset)
    figures = evaluate(model, data)
    row = {key: round(float(figures[key]), 3) for key in KEYS}
    return {"set": data.name, "detector": name, "preset": preset, **row}


def main() -> None:
    root = Path(os.environ.get("MAKELLOS_DATA", ""))
    rows = []
    for data in (root / name for name in SETS):
        if not os.environ.get("MAKELLOS_DATA") or not data.is_dir():
            print(f"{data.name}: left out, MAKELLOS_DATA does not hold it")
            continue
        for name, cls in detectors().items():
            for preset in ("balanced", *cls.presets):
                with TemporaryDirectory() as folder:
                    rows.append(measure(data, name, preset, Path(folder)))
                print(rows[-1], flush=True)
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/detection.json")
    target.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
