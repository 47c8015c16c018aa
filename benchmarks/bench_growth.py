"""How cost grows with pictures to learn from, memory bank, size of the pictures, and cores.

Usage: python benchmarks/bench_growth.py [fit bank size] [--json FILE] [--draw FOLDER]

Rendered screws are fitted and inspected, each time in a process of its own. `--draw` writes the
curves of the JSON as a picture, with what is not measured now taken from the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import makellos
from makellos.data.layouts import walk_parts
from makellos.sets.synthetic_screws import write_screws

N_PICTURES = (25, 50, 100, 200, 400)
BANKS = (1_000, 4_000, 16_000, 64_000)
SIZES = (128, 256, 384, 512, 768, 1024)
BLUE, ORANGE, INK = "#2563a8", "#c2600f", "#333333"
Rows = list[dict[str, Any]]


def main() -> None:
    """Measure the curves that are asked for, and draw all that are known."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(CHILDREN[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("curves", nargs="*", default=list(CURVES), metavar="CURVE")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/growth.json"))
    parser.add_argument("--draw", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    known: dict[str, Rows] = {}
    if options.json.is_file():
        known = json.loads(options.json.read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        for name in options.curves if options.curves != ["none"] else []:
            known[name] = []
            for row in CURVES[name](Path(folder)):
                known[name].append(row)
                print(name, row, flush=True)
                options.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    if options.draw:
        draw(known, options.draw / "growth.png")


def child(task: str, *arguments: object, cores: int) -> tuple[dict[str, Any], float]:
    """Run a task of this file on so many cores; return what it says and its peak in MB."""
    command = [sys.executable, __file__, "--child", task, *map(str, arguments)]
    environment = {**os.environ, "GROWTH_CORES": str(cores)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    said = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return json.loads(said.splitlines()[-1]), usage.ru_maxrss / 1024


def pinned() -> int:
    """Keep this process to the cores that it was given, before a runtime counts them."""
    cores = int(os.environ["GROWTH_CORES"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(cores))
    return cores


def fit_curve(folder: Path) -> Iterator[dict[str, Any]]:
    """Return seconds and memory of a fit by the number of pictures, presets fast and balanced."""
    parts = folder / "fit"
    write_screws(parts, n_train=max(N_PICTURES), n_test_good=2, n_per_defect=1, size=384)
    pictures = sorted((parts / "train" / "good").iterdir())
    for n in N_PICTURES:
        some = folder / f"fit_{n}"
        some.mkdir()
        for path in pictures[:n]:
            (some / path.name).write_bytes(path.read_bytes())
        said, peak = child("fit", some, folder / "fit.makellos", cores=os.cpu_count() or 1)
        yield {"n": n, "peak_mb": peak, **said}


def fit_child(parts: str, model: str) -> dict[str, float]:
    pinned()
    begun = time.perf_counter()
    makellos.fit(parts, model, detector="patchcore", preset="fast", false_alarms=0.05)
    return {"seconds": time.perf_counter() - begun}


def bank_curve(folder: Path) -> Iterator[dict[str, Any]]:
    """Return milliseconds per picture by the size of each layer's memory bank, one core and all."""
    parts = folder / "bank"
    write_screws(parts, n_train=8, n_test_good=2, n_per_defect=1, size=768)
    for bank in BANKS:
        yield {"bank": bank, **child("bank", parts, bank, cores=os.cpu_count() or 1)[0]}


def bank_child(parts: str, size: str) -> dict[str, float]:
    from makellos.detectors.patchcore import PatchCore
    from makellos.inspection.engines import available_engines, open_engine

    workers = pinned()
    found = makellos.find_parts(Path(parts))
    detector = PatchCore(rotations=1, background="count").fit(found.good())
    rng = np.random.default_rng(0)
    channels = [bank.shape[1] for bank in detector.memory_banks_]
    detector.memory_banks_ = [
        rng.standard_normal((int(size), n)).astype(np.float16) for n in channels
    ]
    detector.bank_folds_ = [np.zeros(int(size), np.intp) for _ in channels]
    graph = detector.graph_without(())
    shape = graph.preprocessing.shape
    engine = open_engine(graph.onnx, available_engines()[0], shape=shape, workers=workers)
    pictures = [rng.random((1, *shape), np.float32) for _ in range(2 * workers)]
    return {"ms": spread_ms(engine.run, pictures)}


def size_curve(folder: Path) -> Iterator[dict[str, Any]]:
    """Return parts per second by the size that the network sees, one core and all."""
    parts = folder / "size"
    write_screws(parts, n_train=24, n_test_good=6, n_per_defect=2, size=max(SIZES))
    for size in SIZES:
        model = folder / f"size_{size}.makellos"
        said, _ = child("model", parts, model, size, cores=os.cpu_count() or 1)
        for cores in range(1, (os.cpu_count() or 1) + 1):
            said, peak = child("inspect", model, parts / "test", cores=cores)
            yield {"size": size, "cores": cores, "peak_mb": peak, **said}


def model_child(parts: str, model: str, size: str) -> dict[str, float]:
    pinned()
    sized = {"max_image_size": int(size)}
    makellos.fit(parts, model, detector="patchcore", parameters=sized, false_alarms=0.05)
    return {}


def inspect_child(model: str, folder: str) -> dict[str, float]:
    from makellos.inspection.inspector import Inspector

    workers = pinned()
    inspector = Inspector(model, workers=workers)
    paths = walk_parts(Path(folder))
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        n = len(list(inspector.inspect_many(paths)))
        times.append(time.perf_counter() - begun)
    return {"parts_per_s": n / min(times), "ms": 1e3 * min(times) / n}


def spread_ms(work: Any, items: Sequence[Any]) -> float:
    """Return wall milliseconds per item, all cores working on items of their own."""
    from concurrent.futures import ThreadPoolExecutor

    times = []
    with ThreadPoolExecutor(int(os.environ["GROWTH_CORES"])) as pool:
        for _ in range(4):
            begun = time.perf_counter()
            list(pool.map(work, items))
            times.append(time.perf_counter() - begun)
    return 1e3 * min(times[1:]) / len(items)


def draw(known: dict[str, Rows], target: Path) -> None:
    """Draw the curves that are known side by side, logarithmic on both axes."""
    from matplotlib.figure import Figure

    panels = [(name, known[name]) for name in CURVES if known.get(name)]
    if not panels:
        raise SystemExit("There is no curve to draw. Measure one first.")
    figure = Figure(figsize=(3.7 * len(panels), 3.4), layout="constrained", dpi=130)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, rows) in zip(axes, panels, strict=True):
        DRAWN[name](axis, rows)
    figure.savefig(target)


def draw_fit(axis: Any, rows: Rows) -> None:
    curve(axis, [r["n"] for r in rows], [r["seconds"] for r in rows], BLUE, "")
    axis.set(title="Fit", xlabel="good pictures, preset fast", ylabel="seconds")


def draw_bank(axis: Any, rows: Rows) -> None:
    curve(axis, [r["bank"] for r in rows], [r["ms"] for r in rows], BLUE, "")
    axis.set(title="Memory bank", xlabel="patches per layer", ylabel="ms per 768×768 picture")


def draw_size(axis: Any, rows: Rows) -> None:
    counts = sorted({row["cores"] for row in rows})
    for cores, colour in zip(counts, (ORANGE, BLUE), strict=False):
        mine = [row for row in rows if row["cores"] == cores]
        label = "1 core" if cores == 1 else f"{cores} cores"
        curve(axis, [r["size"] for r in mine], [r["parts_per_s"] for r in mine], colour, label)
    axis.set(title="Size of the picture", xlabel="pixels per side", ylabel="parts per second")


def curve(axis: Any, x: Sequence[float], y: Sequence[float], colour: str, label: str) -> None:
    """Draw one curve with its points, and name it at its end."""
    axis.loglog(x, y, color=colour, marker="o", markersize=4, linewidth=1.5)
    if x:
        axis.annotate(label, (x[-1], y[-1]), (4, 5), textcoords="offset points", color=colour)
        axis.set_xticks(x, [f"{each:,}" for each in x], minor=False)
        axis.set_xticks([], minor=True)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=INK, labelsize=8)
    axis.grid(axis="y", color="#e5e5e5", linewidth=0.7)


CURVES = {"fit": fit_curve, "bank": bank_curve, "size": size_curve}
DRAWN = {"fit": draw_fit, "bank": draw_bank, "size": draw_size}
CHILDREN: dict[str, Any] = {
    "fit": fit_child,
    "bank": bank_child,
    "model": model_child,
    "inspect": inspect_child,
}


if __name__ == "__main__":
    main()
