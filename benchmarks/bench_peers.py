"""Makellos and anomalib on the same pictures, with the same network, in turn on this machine.

Usage: make bench-peers ARGS="[start coreset aupro fit padim patchcore large] [--json FILE]"

The peer lives in an environment of its own, .venv-peers, which `make bench-peers` makes. Pictures
are the screws that MAKELLOS_DATA holds, or rendered ones. Both sides start as processes of their
own, one after the other, so that what else the machine does meets both; ratios are those of the
medians. The peer is tried with several sizes of a batch and numbers of workers, and its best
counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from makellos.detectors.patches.coreset import coverage

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from memory import peak_mb  # type: ignore[import-not-found]

HERE = Path(__file__).resolve().parent
PEER = HERE.parent / ".venv-peers" / "bin"
OFFLINE = {"HF_HUB_OFFLINE": "1", "OPENBLAS_CORETYPE": "", "OPENBLAS_L2_SIZE": ""}
LAYERS = ["blocks.3", "blocks.4", "blocks.5"]
N_CHANNELS = 80 + 112 + 192
PADIM_FEATURES = 100  # its default for a network of this size
BANK = 5000  # of makellos by default, per layer
Row = dict[str, Any]


def main() -> None:
    """Measure what is asked for, and print what makellos and the peer took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=list(TASKS), metavar="TASK", help="what to do")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side, in turn")
    parser.add_argument("--train", type=int, default=320, help="good pictures to learn from")
    parser.add_argument("--test", type=int, default=0, help="pictures to inspect; 0: all")
    parser.add_argument("--size", type=int, default=256, help="input of both where it is equal")
    parser.add_argument("--coresets", type=int, default=3, help="sizes of coresets, at most 3")
    parser.add_argument("--work", type=Path, help="folder that keeps models for the next time")
    parser.add_argument("--json", type=Path, default=HERE / "peers.json")
    options = parser.parse_args()
    if not (PEER / "python").is_file():
        raise SystemExit("anomalib's environment is missing. Run 'make bench-peers'.")
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        bench = Bench(options, options.work or Path(folder))
        for name in options.tasks:
            for row in TASKS[name](bench):
                rows.append(row)
                print(line(row), flush=True)
                options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


class Bench:
    """Hold what all tasks share: options, a folder, pictures, and how each side is run."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.runs, self.size, self.folder = options.runs, options.size, folder
        self.n_coresets = options.coresets
        self.screws = self._pictures(options.train, options.test)

    def _pictures(self, n_train: int, n_test: int) -> Path:
        whole = Path(os.environ.get("MAKELLOS_DATA", self.folder)) / "mvtec_screw"
        if not whole.is_dir():
            from makellos.sets.synthetic_screws import write_screws

            whole = self.folder / "rendered"
            write_screws(whole, n_train=n_train, n_test_good=40, n_per_defect=20, size=768)
        chosen = spread(sorted((whole / "train" / "good").glob("*.png")), n_train)
        target, self.test = self.folder / "screws", whole / "test"
        shutil.rmtree(target, ignore_errors=True)
        (target / "train" / "good").mkdir(parents=True)
        (target / "some").mkdir()
        for path in spread(sorted((whole / "test").rglob("*.png")), 24):
            shutil.copy(path, target / "some")
        for path in chosen:
            shutil.copy(path, target / "train" / "good")
        if n_test:
            self.test = target / "test"
            for path in spread(sorted((whole / "test").rglob("*.png")), n_test):
                (self.test / path.parent.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.test / path.parent.name)
        return target

    def ours(self, *arguments: str) -> Row:
        return process([sys.executable, "-m", "makellos", *arguments])

    def peer(self, task: str, settings: Row) -> Row:
        script = str(HERE / "peers" / "anomalib_side.py")
        return process([str(PEER / "python"), script, task, json.dumps(settings)])

    def here(self, task: str, settings: Row) -> Row:
        script = str(HERE / "peers" / "makellos_side.py")
        return process([sys.executable, script, task, json.dumps(settings)])

    def model(self, method: str, size: int) -> Path:
        return self.folder / f"{method}_{size}.makellos"

    def learn(self, method: str, size: int) -> Row:
        """Fit makellos; where sizes are equal it keeps as large a share of the patches as asked."""
        sized = ["--set", f"max_image_size={size}"]
        if method == "padim":
            sized += ["--align", "none"]  # the peer takes parts as they lie
        if method == "patchcore" and size == self.size:
            sized += ["--set", "memory_bank_size=1000000"]
        model = str(self.model(method, size))
        return self.ours("fit", str(self.screws), "-o", model, "--detector", method, *sized)

    def settings(self, method: str, size: int, **more: Any) -> Row:
        return {
            "method": method,
            "size": size,
            "layers": LAYERS,
            "n_channels": N_CHANNELS,
            "n_features": PADIM_FEATURES,
            "ratio": 0.1,
            "train": str(self.screws / "train" / "good"),
            "pictures": str(self.test),
            "batch": 32,
            "workers": 0,
            "state": str(self.folder / f"{method}_{size}.pt"),
            **more,
        }


def spread(paths: list[Path], n: int) -> list[Path]:
    """Return n of the paths, or all, evenly spread."""
    return [paths[i * len(paths) // n] for i in range(n)] if n < len(paths) else paths


def process(command: list[str]) -> Row:
    """Run a process; return its wall seconds, its peak in MB, and what its last line says."""
    environment = {k: v for k, v in {**os.environ, **OFFLINE}.items() if v}
    begun = time.perf_counter()
    with TemporaryDirectory() as folder:
        said, errors = Path(folder, "out"), Path(folder, "err")
        with said.open("wb") as out, errors.open("wb") as err:
            started = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
            watched = Watched(started.pid)
            watched.start()
            status = started.wait()
        wall = time.perf_counter() - begun
        if status:
            raise SystemExit(f"{command} ended with {status}: {errors.read_text()[-2000:]}")
        lines = said.read_text(errors="replace").strip().splitlines()
    found = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return {"wall_s": wall, "peak_mb": watched.peak_mb, **found}


class Watched(threading.Thread):
    """Read the peak of a process until it ends: what wait4 says counts its parent's memory too."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status, self.peak_mb = Path(f"/proc/{pid}/status"), 0.0

    def run(self) -> None:
        while peak := peak_mb(self._status):
            self.peak_mb = max(self.peak_mb, peak)
            time.sleep(0.02)


def in_turn(runs: int, *sides: Callable[[], Row]) -> list[Row]:
    """Run sides in turn; return the median of each figure of each side."""
    taken: list[list[Row]] = [[] for _ in sides]
    for _ in range(runs):
        for i, side in enumerate(sides):
            taken[i].append(side())
    return [
        {
            key: statistics.median(each[key] for each in rows)
            if isinstance(rows[0][key], int | float)
            else rows[0][key]
            for key in rows[0]
        }
        for rows in taken
    ]


def start(bench: Bench) -> Iterator[Row]:
    """Compare the command's help, and the import that a program begins with."""
    for what, ours, peer in (
        ("--help", ["-m", "makellos", "--help"], [str(PEER / "anomalib"), "--help"]),
        (
            "import of what fits and predicts",
            ["-c", "import makellos; makellos.fit, makellos.Inspector"],
            [str(PEER / "python"), "-c", "import anomalib.engine, anomalib.models, anomalib.data"],
        ),
    ):
        process(peer)  # the first reads from the disk
        mine, theirs = in_turn(
            bench.runs,
            partial(process, [sys.executable, *ours]),
            partial(process, peer),
        )
        yield compared(what, mine, theirs, "wall_s")


def coreset(bench: Bench) -> Iterator[Row]:
    """Compare the choice of a memory bank: the same points, the same share of them."""
    for n in (10_000, 20_000, 40_000)[: bench.n_coresets]:
        points = bench.folder / "points.npy"
        np.save(points, clustered(n))
        settings: dict[str, Any] = {
            "points": str(points),
            "ratio": 0.1,
            "chosen": str(bench.folder / "chosen.npy"),
        }
        mine, theirs = in_turn(
            bench.runs if n == 10_000 else 1,
            partial(
                bench.here, "coreset", {**settings, "chosen": settings["chosen"] + ".ours.npy"}
            ),
            partial(bench.peer, "coreset", settings),
        )
        what = f"coreset, {n:,} points of 384 channels, a tenth kept"
        row = compared(what, mine, theirs, "coreset_s")
        row["coverage"] = [
            coverage(np.load(points), np.load(settings["chosen"] + end))
            for end in (".ours.npy", "")
        ]
        yield row


def clustered(n: int, channels: int = 384) -> np.ndarray:
    """Return points in clusters of which some are rare, as embeddings are."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, channels)) * 2
    cluster = np.minimum(rng.geometric(0.03, n) - 1, 199)
    return (centres[cluster] + rng.standard_normal((n, channels))).astype(np.float32)


def aupro(bench: Bench) -> list[Row]:
    """Compare AUPRO of 160 maps of 1024×1024: time, memory beyond the maps, and the value."""
    sys.path.insert(0, str(HERE))
    from bench_metrics import render

    maps, masks = render(160, 1024, np.random.default_rng(0))
    settings = {"maps": str(bench.folder / "maps.npy"), "masks": str(bench.folder / "masks.npy")}
    np.save(settings["maps"], np.stack(maps))
    blank = np.zeros_like(maps[0], np.uint8)
    np.save(settings["masks"], np.stack([blank if mask is None else mask for mask in masks]))
    del maps, masks
    mine, theirs = in_turn(
        1, lambda: bench.here("aupro", settings), lambda: bench.peer("aupro", settings)
    )
    row = compared("AUPRO, 160 maps of 1024×1024", mine, theirs, "aupro_s")
    row["beyond_maps_mb"] = [mine["beyond_maps_mb"], theirs["beyond_maps_mb"]]
    row["aupro"] = [mine["aupro"], theirs["aupro"]]
    return [row]


def fit(bench: Bench) -> Iterator[Row]:
    """Compare whole fits at equal input size and equal share kept."""
    for method in ("padim", "patchcore"):
        settings = bench.settings(method, bench.size)
        mine, theirs = in_turn(
            1,
            partial(bench.learn, method, bench.size),
            partial(bench.peer, "fit", settings),
        )
        n = len(list((bench.screws / "train" / "good").iterdir()))
        yield compared(f"{method}, whole fit of {n} at {bench.size}", mine, theirs, "wall_s")


def inspect(bench: Bench, method: str, size: int) -> list[Row]:
    """Compare inspection of the test pictures, start of the process left out and included."""
    settings, pictures = bench.settings(method, size), str(bench.test)
    model = str(bench.model(method, size))
    if not Path(settings["state"]).is_file():
        learned(bench, settings)
    if not Path(model).is_file():
        bench.learn(method, size)
    bench.peer("openvino", settings)  # exports
    few = {**settings, "pictures": str(bench.screws / "some")}
    ways = ((1, 0), (8, 0), (8, 2)) if size > bench.size else ((1, 0), (8, 0), (32, 0), (8, 2))
    batch, workers = min(
        ways,
        key=lambda w: bench.peer("predict", {**few, "batch": w[0], "workers": w[1]})["predict_s"],
    )
    best = {**settings, "batch": batch, "workers": workers}
    written = str(bench.folder / "rows.jsonl")
    command, mine, theirs, exported = in_turn(
        bench.runs,
        lambda: bench.ours("inspect", model, pictures, "--jsonl", written),
        lambda: bench.here("inspect", {"model": model, "pictures": pictures}),
        lambda: bench.peer("predict", best),
        lambda: bench.peer("openvino", settings),
    )
    what = f"{method} at {size}, against"
    return [
        inspected(
            f"{what} Engine.predict, batches of {batch}, {workers} workers", command, mine, theirs
        ),
        inspected(f"{what} its OpenVINO", command, mine, exported),
    ]


def inspected(what: str, command: Row, mine: Row, theirs: Row) -> Row:
    """Return a row of pictures inspected; whole processes are those of the command."""
    row = compared(what, mine, theirs, "predict_s")
    row["wall_s"] = [command["wall_s"], theirs["wall_s"]]
    row["peak_mb"] = [command["peak_mb"], theirs["peak_mb"]]
    row["pictures_per_s"] = [each["n"] / each["predict_s"] for each in (mine, theirs)]
    row["image_auroc"] = [mine["image_auroc"], theirs["image_auroc"]]
    return row


def learned(bench: Bench, settings: Row) -> None:
    """Fit the peer; at large inputs makellos chooses its bank, which would take it hours."""
    if settings["method"] == "padim" or settings["size"] <= bench.size:
        bench.peer("fit", settings)
        return
    n_points = len(list(Path(settings["train"]).iterdir())) * (settings["size"] // 16) ** 2
    points = str(bench.folder / "large.npy")
    files = {**settings, "points": points, "share": min(1.0, 100_000 / n_points)}
    bench.peer("embed", files)
    chosen = str(bench.folder / "large_chosen.npy")
    ratio = BANK / len(np.load(points, mmap_mode="r"))
    bench.here("coreset", {"points": points, "ratio": ratio, "chosen": chosen})
    bench.peer("embed", {**files, "chosen": chosen})


def compared(what: str, mine: Row, theirs: Row, key: str) -> Row:
    return {
        "what": what,
        "seconds": [mine[key], theirs[key]],
        "ratio": theirs[key] / mine[key],
        "peak_mb": [mine["peak_mb"], theirs["peak_mb"]],
        "makellos": mine,
        "anomalib": theirs,
    }


def line(row: Row) -> str:
    mine, theirs = row["seconds"]
    memory = " and ".join(f"{each:.0f}" for each in row["peak_mb"])
    cells = [row["what"], f"{mine:.3g} s", f"{theirs:.3g} s", f"{row['ratio']:.1f}", memory]
    extra = ("pictures_per_s", "image_auroc", "wall_s", "coverage", "aupro", "beyond_maps_mb")
    cells += [
        f"{name} {' and '.join(f'{each:.4g}' for each in row[name])}"
        for name in extra
        if name in row
    ]
    return f"| {' | '.join(cells)} |"


TASKS: dict[str, Callable[[Bench], Iterable[Row]]] = {
    "start": start,
    "coreset": coreset,
    "aupro": aupro,
    "fit": fit,
    "padim": lambda bench: inspect(bench, "padim", bench.size),
    "patchcore": lambda bench: inspect(bench, "patchcore", bench.size),
    "large": lambda bench: inspect(bench, "patchcore", 768),
}


if __name__ == "__main__":
    main()
