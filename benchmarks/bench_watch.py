"""Pictures dropped into a watched folder while what inspects them is killed: none lost or twice.

Screws are rendered, a model is fitted, and pictures appear in a folder at a steady rate, each
written in two halves. `makellos watch` is killed (SIGKILL) at random moments and started again.
At the end the history is compared with what was written.

Usage: python benchmarks/bench_watch.py [--pictures 2000] [--rate 20] [--kills 10] [--stay]
           [--size 256] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from makellos.store import Filter, Store

CLI = [sys.executable, "-m", "makellos"]


def make(folder: Path, size: int) -> tuple[Path, list[Path]]:
    """Return a model and pictures to write, of rendered screws."""
    screws, model = folder / "screws", folder / "screws.makellos"
    rendered = ["data", "synth", "-o", str(screws), "--n-train", "60", "--size", str(size)]
    fitted = ["fit", str(screws), "-o", str(model), "--preset", "fast", "--false-alarms", "0.05"]
    for verb in (rendered, [*fitted, "--set", "image_size=128"]):
        subprocess.run([*CLI, *verb], check=True, capture_output=True)
    return model, sorted((screws / "test").rglob("*.png"))


def drop(folder: Path, number: int, source: Path) -> None:
    """Let a picture that is like no other appear, in two halves."""
    picture = np.asarray(cv2.imread(str(source)))
    noise = np.random.default_rng(number).normal(0, 2, picture.shape)
    changed = np.clip(picture + noise, 0, 255).astype(np.uint8)
    data = cv2.imencode(".png", changed)[1].tobytes()
    with (folder / f"{number:05d}.png").open("wb", buffering=0) as stream:
        stream.write(data[: len(data) // 2])
        time.sleep(0.005)
        stream.write(data[len(data) // 2 :])


def measure(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Return what was written, stored, lost and stored twice."""
    model, sources = make(folder, given.size)
    camera, done, address = folder / "camera", folder / "done", folder / "station"
    camera.mkdir()
    command = [*CLI, "watch", str(model), str(camera), "--store", str(address)]
    command += [] if given.stay else ["--done", str(done)]
    rng = random.Random(0)  # noqa: S311 -- moments of a benchmark
    kills = sorted(
        rng.uniform(0.02, 0.98) * given.pictures / given.rate for _ in range(given.kills)
    )
    started, process = time.monotonic(), subprocess.Popen(command, stdout=subprocess.DEVNULL)
    n_kills = 0
    for number in range(given.pictures):
        drop(camera, number, sources[number % len(sources)])
        if kills and time.monotonic() - started > kills[0]:
            kills.pop(0)
            n_kills += 1
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(max(0.0, started + (number + 1) / given.rate - time.monotonic()))
    written = time.monotonic() - started
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([*command, "--once"], check=True, capture_output=True)
    store, before, rows = Store.open(address), None, Counter[str]()
    while page := store.history(Filter(), before=before, limit=500):
        rows.update(part.input for part in page)
        before = page[-1].id
    store.close()
    return {
        "pictures": given.pictures,
        "rate": round(given.pictures / written, 1),
        "kills": n_kills + 1,
        "rows": sum(rows.values()),
        "lost": given.pictures - len(rows),
        "twice": sum(n > 1 for n in rows.values()),
        "files_left": len(list(camera.glob("*.png"))),
        "files_done": len(list(done.glob("*.png"))) if done.exists() else 0,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--stay", action="store_true", help="leave files where they are")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/watch.json"))
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = measure(given, Path(folder))
    print(found)
    given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if found["lost"] or found["twice"]:
        sys.exit("parts were lost, or stored twice")


if __name__ == "__main__":
    main()
