"""Kill training by SIGKILL at random moments, resume it, and compare with a run never killed.

Usage: python benchmarks/bench_resume.py [--detector vae] [--kills 10] [--longest 25]
           [--set KEY=VALUE]... [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from makellos.sets.synthetic_screws import write_screws


def fit(data: Path, model: Path, options: list[str], *, until: float | None = None) -> bool:
    """Run ``makellos fit`` and kill it after `until` seconds; tell whether it got to its end."""
    command = [sys.executable, "-m", "makellos", "fit", str(data), "-o", str(model), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        if process.wait(until) != 0:
            raise SystemExit(f"{' '.join(command)} failed by itself.")
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


def weights(model: Path) -> bytes:
    """Return the weights that a model file holds."""
    with zipfile.ZipFile(model) as archive:
        return archive.read("weights.safetensors")


def step_of(folder: Path) -> str:
    """Say how far the last checkpoints of a run are, without reading their tensors."""
    found = []
    for path in sorted(folder.rglob("last.safetensors")):
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        state = json.loads(header["__metadata__"]["makellos"])["state"]
        found.append(f"{path.parent.name}: step {state['step']}")
    return ", ".join(found) or "no checkpoint yet"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--detector", default="vae")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--longest", type=float, default=25.0)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/resume.json"))
    given = parser.parse_args()
    settings = [option for setting in given.settings for option in ("--set", setting)]
    options = ["--detector", given.detector, *settings]
    moments = random.Random(0)  # noqa: S311 -- moments, no secrets
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_screws(folder / "screws", n_train=40, n_test_good=1, n_per_defect=1, size=128)
        whole, broken = folder / "whole.makellos", folder / "broken.makellos"
        started = time.perf_counter()
        fit(folder / "screws", whole, options)
        seconds = time.perf_counter() - started
        kills: list[float] = []
        ended = False
        while len(kills) < given.kills and not ended:
            moment = moments.uniform(4, given.longest)
            resume = ["--resume"] if kills else []
            ended = fit(folder / "screws", broken, [*options, *resume], until=moment)
            if not ended:
                kills.append(moment)
                print(f"killed after {moment:.1f} s; {step_of(Path(f'{broken}.run'))}", flush=True)
        if not ended:
            fit(folder / "screws", broken, [*options, "--resume"])
        same = weights(whole) == weights(broken)
    print(f"{len(kills)} kills, uninterrupted {seconds:.0f} s, same weights: {same}")
    row = {"detector": given.detector, "n_kills": len(kills), "same_weights": same}
    given.json.write_text(json.dumps(row, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
