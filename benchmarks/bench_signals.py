"""Bearings of the CWRU rig: detectors of features and of pictures, from each sensor; speed.

The first half of the one good recording is learned from, the next quarter calibrates, the last is
tested with the 13 damaged bearings. Speed is seconds of signal per second of work, of a process of
its own, start included, and of the inspector alone.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_signals.py
           [--detectors pyod,patchcore] [--channels DE,FE] [--minutes 10] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

RATE, RPM, BEARING = 48_000, 1797, "6205"
KINDS = {"I": "inner race", "O": "outer race", "B": "ball", "N": None}


def manifest(rig: Path, folder: Path) -> Path:
    """Write the split of the one good recording and the list of damaged ones."""
    good = rig / "Normal.npz"
    rows = ["path,label,split,start,end"]
    for split, start, end in (("train", 0, 50), ("val", 50, 75), ("test", 75, 100)):
        rows.append(f"{good},good,{split},{start}%,{end}%")
    labels = {"I": "inner", "O": "outer", "B": "ball"}
    rows += [f"{p},{labels[p.stem[0]]},test,," for p in sorted(rig.glob("*.npz")) if p != good]
    path = folder / "cwru.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def measure(rig: Path, folder: Path, detector: str, channel: str) -> dict[str, Any]:
    """Return the figures of a fit and an evaluation by the command line."""
    data, model = manifest(rig, folder), folder / f"{detector}-{channel}.makellos"
    figures = folder / "figures.json"
    signal = ["--rate", str(RATE), "--channel", channel, "--bearing", BEARING, "--rpm", str(RPM)]
    seconds = run("fit", str(data), "-o", str(model), "--detector", detector, *signal)
    run("evaluate", str(model), str(data), "--json", str(figures))
    found = json.loads(figures.read_text(encoding="utf-8"))
    recordings = found["recordings"]
    bad = [each for name, each in recordings.items() if each["label"] != "good"]
    good = next(each for name, each in recordings.items() if each["label"] == "good")
    named = Counter(
        (KINDS[Path(name).stem[0]], each["fault"])
        for name, each in recordings.items()
        if each["label"] != "good"
    )
    return {
        "detector": detector,
        "channel": channel,
        "image_auroc": found["image_auroc"],
        "miss_rate": found["miss_rate"],
        "alarmed": sum(each["verdict"] == "reject" for each in bad),
        "good_verdict": good["verdict"],
        "good_rejected": round(good["share_rejected"] * good["n_windows"]),
        "n_good": good["n_windows"],
        "budget": found["false_alarms"],
        "named": sum(n for (truth, fault), n in named.items() if truth == fault),
        "confusion": [
            [str(truth), str(fault), n] for (truth, fault), n in sorted(named.items(), key=str)
        ],
        "fit_seconds": round(seconds, 1),
        "model": str(model),
    }


def speed(rig: Path, folder: Path, detector: str, model: str, minutes: float) -> dict[str, Any]:
    """Return seconds of signal per second of fitting and of inspecting."""
    rng = np.random.default_rng(0)
    with np.load(rig / "Normal.npz") as stored:
        signal = stored["DE"].ravel()
    n = int(60 * minutes * RATE)
    long = np.tile(signal, -(-n // len(signal)))[:n] + rng.normal(0, 1e-3, n).astype(np.float32)
    (folder / "long" / "good").mkdir(parents=True, exist_ok=True)
    np.savez(folder / "long" / "good" / "0.npz", DE=long.astype(np.float32))
    options = ["--detector", detector, "--rate", str(RATE), "--bearing", BEARING, "--rpm", str(RPM)]
    fitted = run("fit", str(folder / "long"), "-o", str(folder / "long.makellos"), *options)
    length = 0.0
    for path in rig.glob("*.npz"):
        with np.load(path) as stored:
            length += stored["DE"].size / RATE
    run_seconds = run("inspect", model, str(rig), "--csv", str(folder / "rows.csv"))
    alone = json.loads(
        subprocess.run(
            [sys.executable, __file__, "--inspector", model, str(rig)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    return {
        "fit": round(60 * minutes / fitted),
        "inspect_process": round(length / run_seconds),
        "inspect": round(length / alone["seconds"]),
        "torch": alone["torch"],
    }


def inspector_alone(model: str, rig: str) -> dict[str, Any]:
    """Return how long an inspector takes for a folder of recordings once it is open."""
    from makellos.inspection import Inspector
    from makellos.inspection.engines import default_workers

    paths = sorted(Path(rig).glob("*.npz"))
    inspector = Inspector(model, workers=default_workers())
    list(inspector.inspect_many(paths[:2]))
    best = min(_timed(inspector, paths) for _ in range(3))
    return {"seconds": best, "torch": "torch" in sys.modules}


def _timed(inspector: Any, paths: list[Path]) -> float:
    started = time.perf_counter()
    list(inspector.inspect_many(paths))
    return time.perf_counter() - started


def run(*arguments: str) -> float:
    """Run makellos as a process of its own and return its seconds."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "makellos", *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detectors", default="pyod,patchcore")
    parser.add_argument("--channels", default="DE,FE")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inspector", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inspector:
        print(json.dumps(inspector_alone(*asked.inspector)))
        return
    data = os.environ.get("MAKELLOS_DATA")
    if not data:
        print("MAKELLOS_DATA names no folder of real data; nothing is measured.")
        return
    rig, rows = Path(data) / "bearing_cwru_48k", []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for detector in asked.detectors.split(","):
            for channel in asked.channels.split(","):
                row = measure(rig, folder, detector, channel)
                if channel == asked.channels.split(",")[0]:
                    row["times_real_time"] = speed(
                        rig, folder, detector, row["model"], asked.minutes
                    )
                del row["model"]
                print(json.dumps(row), flush=True)
                rows.append(row)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
