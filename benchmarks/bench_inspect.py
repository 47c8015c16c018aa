"""Speed of `makellos inspect` against decoding alone, and of the first verdict of a cold process.

Usage: python benchmarks/bench_inspect.py [MODEL FOLDER [RUNS]]

Without a model one is fitted on the screws that MAKELLOS_DATA holds, or on rendered ones.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from makellos.data.layouts import walk_parts
from makellos.sets.synthetic_screws import write_screws


def decode_seconds(paths: list[Path]) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda path: cv2.imread(str(path)) is None, paths))
    return time.perf_counter() - started


def run(command: list[str]) -> tuple[float, float]:
    """Return the wall seconds and the peak resident MB of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command} ended with status {status}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    if len(sys.argv) > 2:
        measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 5)
        return
    with TemporaryDirectory() as folder:
        screws = Path(os.environ.get("MAKELLOS_DATA", folder)) / "mvtec_screw"
        if not screws.is_dir():
            screws = Path(folder) / "screws"
            write_screws(screws, n_train=40, n_test_good=60, n_per_defect=20)
        model = Path(folder) / "screws.makellos"
        # In a process of its own: what this one holds would count to those that it starts.
        run([sys.executable, "-m", "makellos", "fit", str(screws), "-o", str(model)])
        measure(str(model), screws / "test", 5)


def measure(model: str, folder: Path, runs: int) -> None:
    paths = walk_parts(folder)
    decode_seconds(paths)
    rows = []
    with TemporaryDirectory() as out:
        command = [sys.executable, "-m", "makellos", "inspect", model]
        for _ in range(runs):
            decoding = decode_seconds(paths)
            whole, peak = run([*command, str(folder), "--jsonl", f"{out}/rows.jsonl"])
            first, _ = run([*command, str(paths[0]), "--jsonl", f"{out}/row.jsonl"])
            rows.append(
                {
                    "decode_ms": decoding / len(paths) * 1e3,
                    "inspect_ms": whole / len(paths) * 1e3,
                    "ratio": whole / decoding,
                    "peak_mb": peak,
                    "first_verdict_s": first,
                }
            )
            print({key: round(value, 2) for key, value in rows[-1].items()}, flush=True)
    medians = {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
    print("median", medians)
    Path("benchmarks/inspect.json").write_text(
        json.dumps({"runs": rows, "median": medians}, indent=1)
    )


if __name__ == "__main__":
    main()
