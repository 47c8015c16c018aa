"""Measure inspection on a cluster: what it costs on one node, what two bring, what a loss costs.

    python benchmarks/bench_cluster.py [--parts 20000] [--only plain,killed] [--json FILE]

Nodes are processes of Ray on this machine; those that are pinned have one core each. Times are
those of the whole command, of a cluster that runs already.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = 64  # pixels
STORE = 100 << 20
STEPS = ("plain", "node", "pinned", "killed")


def write_parts(folder: Path, n_parts: int) -> None:
    """Write pictures of a few shapes with noise of their own."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shapes = [_shape(number) for number in range(20)]
    for number in range(n_parts):
        noise = rng.normal(0, 3, (SIZE, SIZE, 3))
        picture = np.clip(shapes[number % len(shapes)] + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:06}.png"), picture)


def _shape(number: int) -> Any:
    picture = np.full((SIZE, SIZE, 3), 40, np.float32)
    cv2.circle(picture, (SIZE // 2, SIZE // 2), 20 + number, (180, 170, 160), -1)
    return picture


@contextmanager
def cluster(*cores: set[int]) -> Iterator[Any]:
    """Start a cluster with a node for each set of cores, which its processes keep to."""
    from ray.cluster_utils import Cluster

    own = os.sched_getaffinity(0)
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False},
    )
    try:
        for pinned in cores:
            os.sched_setaffinity(0, pinned)
            made.add_node(num_cpus=len(pinned), object_store_memory=STORE)
        os.sched_setaffinity(0, own)
        yield made
    finally:
        os.sched_setaffinity(0, own)
        made.shutdown()


def inspect(model: Path, parts: Path, *options: object) -> float:
    """Return how many seconds the command takes."""
    command = [sys.executable, "-m", "makellos", "inspect", str(model), str(parts)]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, *map(str, options)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(done.stderr)
    seconds = time.perf_counter() - began
    print(f"inspect {' '.join(map(str, options))}: {seconds:.1f} s", flush=True)
    return seconds


def rows_in(folder: Path) -> tuple[int, int]:
    """Return how many rows shards have, and how many different inputs."""
    from pyarrow import parquet

    names = [
        name
        for file in folder.glob("part-*.parquet")
        for name in parquet.read_table(file, columns=["input"]).column(0).to_pylist()
    ]
    return len(names), len(set(names))


def kill_midway(made: Any, out: Path, n_shards: int) -> threading.Thread:
    """Kill a node when a third of the shards is there, in a thread that is returned."""

    def kill() -> None:
        while len(list(out.glob("part-*.parquet"))) < n_shards // 3:
            time.sleep(0.05)
        made.remove_node(next(iter(made.worker_nodes)), allow_graceful=False)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def fit_model(good: Path, model: Path) -> None:
    """Fit a small model."""
    write_parts(good, 60)
    fit = ["fit", str(good), "-o", str(model), "--detector", "padim", "--align", "none"]
    fit += ["--set", f"image_size={SIZE}", "--false-alarms", "0.1"]
    subprocess.run([sys.executable, "-m", "makellos", *fit], check=True, capture_output=True)


def measure(work: Path, out: Path, n_parts: int, only: set[str]) -> dict[str, Any]:
    """Return the figures of the steps."""
    parts, model, found = work / f"parts-{n_parts}", work / "m.makellos", dict[str, Any]()
    if not parts.exists():
        write_parts(parts, n_parts)
    if not model.exists():
        fit_model(work / "good", model)
    cores = sorted(os.sched_getaffinity(0))[:2]
    if "plain" in only:
        found["plain_s"] = inspect(model, parts, "--parquet", out / "plain.parquet")
    if "node" in only:
        with cluster(set(cores)) as made:
            found["node_s"] = inspect(model, parts, "--cluster", made.address, "-o", out / "node")
        found["auto_s"] = inspect(model, parts, "--cluster", "auto", "-o", out / "auto")
    if "pinned" in only:
        for name, nodes in {"one": cores[:1], "two": cores}.items():
            with cluster(*({core} for core in nodes)) as made:
                options = ("--cluster", made.address, "-o", out / name)
                found[f"{name}_pinned_s"] = inspect(model, parts, *options)
    if "killed" in only:
        with cluster(*({core} for core in cores)) as made:
            thread = kill_midway(made, out / "killed", -(-n_parts // 313))
            options = ("--cluster", made.address, "-o", out / "killed")
            found["killed_s"] = inspect(model, parts, *options)
            thread.join(timeout=0)
            found["node_was_killed"] = not thread.is_alive()
        found["rows"], found["inputs_of_rows"] = rows_in(out / "killed")
    return found


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=20_000)
    parser.add_argument("--only", default=",".join(STEPS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", type=Path, help="where pictures and model are kept")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        place, rows = asked.work or Path(folder), Path(folder)
        found = measure(place, rows, asked.parts, set(asked.only.split(",")))
    if "plain_s" in found and "node_s" in found:
        found["overhead"] = found["node_s"] / found["plain_s"] - 1
    if "two_pinned_s" in found:
        found["two_nodes_against_one"] = found["one_pinned_s"] / found["two_pinned_s"]
    for name, value in found.items():
        print(f"{name:<24}{value:.2f}" if isinstance(value, float) else f"{name:<24}{value}")
    if asked.json is not None:
        asked.json.write_text(json.dumps({"parts": asked.parts, **found}, indent=2))


if __name__ == "__main__":
    main()
