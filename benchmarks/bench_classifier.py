"""Labelled defects of magnetic tiles, by tile and at random: verdict and type, by the command line.

By tile no tile has pictures on both sides. At random most test tiles have some in training, which
flatters.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_classifier.py
           [--targets verdict,type] [--splits by_tile,at_random] [--set KEY=VALUE]... [--json FILE]
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


def measure(data: Path, target: str, folder: Path, settings: list[str]) -> dict[str, object]:
    """Return the figures of a fit and an evaluation, each a process of its own."""
    model, figures = folder / "model.makellos", folder / "figures.json"
    options = [option for each in (f"target={target}", *settings) for option in ("--set", each)]
    started = time.perf_counter()
    fitting = ["fit", str(data), "-o", str(model), "--detector", "classifier"]
    _run(*fitting, "--false-alarms", "0.05", *options)
    seconds = time.perf_counter() - started
    _run("evaluate", str(model), str(data), "--json", str(figures))
    found = json.loads(figures.read_text(encoding="utf-8"))
    where = found["localisation"] or {"peak_inside": None, "by_defect": {}}
    return {
        "target": target,
        **{name: found[name] for name in ("image_auroc", "balanced_accuracy", "macro_f1", "ece")},
        **{name: found[name] for name in ("false_alarm_rate", "miss_rate")},
        "interval": found["intervals"]["image_auroc"],
        "peak_inside": where["peak_inside"],
        "peak_by_defect": {
            name: [each["peak_inside"], each["n"]] for name, each in where["by_defect"].items()
        },
        "fit_seconds": round(seconds),
        "ms_per_part": found["inspect_ms_per_part"],
    }


def _run(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "makellos", *arguments], check=True, stdout=subprocess.DEVNULL
    )


def _manifest(root: Path, split: str, folder: Path) -> Path:
    by_tile = root / "magnetic_tile" / "by_tile.csv"
    if split == "by_tile":
        return by_tile
    _run("data", "split", str(by_tile), "-o", str(folder / "at_random.csv"), "--by", "part")
    return folder / "at_random.csv"


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", default="verdict,type")
    parser.add_argument("--splits", default="by_tile,at_random")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("classifier.json"))
    asked = parser.parse_args()
    root = Path(os.environ["MAKELLOS_DATA"])
    rows = []
    for split in asked.splits.split(","):
        for target in asked.targets.split(","):
            with TemporaryDirectory() as folder:
                data = _manifest(root, split, Path(folder))
                row = {"split": split, **measure(data, target, Path(folder), asked.settings)}
            rows.append(row)
            print(json.dumps(row))
            asked.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
