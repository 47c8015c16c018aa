"""How near each stage of an inspection comes to what this machine can do at best.

Usage: python benchmarks/bench_roofline.py [MODEL FOLDER]... [--isa AVX2] [--json FILE]

Without a model the presets balanced and fast are fitted on the screws that MAKELLOS_DATA holds, or
on rendered ones. All cores work at once, each on pictures of its own, as `inspect` does; times are
wall time per picture. A stage's roof is the time that its arithmetic would take at the matrix rate
of its precision, or its bytes at the rate of a large copy, whichever is longer. Bytes that stay in
a cache move faster than that, so that a stage may pass its roof. `--isa` asks OpenVINO to leave
out what newer processors can do; products of matrices in f32, which it leaves to another library,
stay as they are.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import makellos
from makellos.data.layouts import walk_parts
from makellos.data.pictures import Picture, read_picture
from makellos.inspection.inspector import Inspector
from makellos.inspection.model_file import GRAPH, ModelFile
from makellos.sets.synthetic_screws import write_screws

CORES = os.cpu_count() or 1
REPEATS = 3
N_PICTURES = 24
COPIED = 256 << 20  # bytes, far more than caches hold
BYTES = {"f32": 4, "bf16": 2, "f16": 2, "i32": 4, "i64": 8, "u8": 1, "i8": 1, "boolean": 1}
MATRIX = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul")


@dataclass
class Stage:
    """Add up the work and the milliseconds of a stage, per picture and on all cores."""

    gflop: float = 0.0
    megabytes: float = 0.0
    ms: float = 0.0
    roof_ms: float = 0.0

    def add(self, gflop: float, megabytes: float, ms: float, roof_ms: float) -> None:
        self.gflop += gflop
        self.megabytes += megabytes
        self.ms += ms
        self.roof_ms += roof_ms

    def row(self) -> dict[str, float]:
        share = self.roof_ms / self.ms if self.ms else math.nan
        return {**vars(self), "percent_of_roof": 100 * share}


def main() -> None:
    """Measure the machine, then each stage with each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("given", nargs="*", type=Path, metavar="MODEL FOLDER")
    parser.add_argument("--isa", help="what OpenVINO may use at most, such as AVX2")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/roofline.json"))
    options = parser.parse_args()
    if options.isa and os.environ.get("ONEDNN_MAX_CPU_ISA") != options.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = options.isa
        # It is read when a process begins.
        raise SystemExit(subprocess.run([sys.executable, *sys.argv], check=False).returncode)
    report: dict[str, Any] = {"cores": CORES, "isa": options.isa, "models": {}}
    with models(options.given) as found:
        precisions = ("f32", "i8") if options.isa else ("f32", "bf16", "i8")
        report["machine"] = machine(walk_parts(found[0][1])[:N_PICTURES], precisions)
        print_machine(report["machine"])
        for model, folder in found:
            stages = measure(model, folder, report["machine"], plain=bool(options.isa))
            report["models"][model.stem] = stages
            print_stages(model.stem, stages)
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


@contextmanager
def models(given: Sequence[Path]) -> Iterator[list[tuple[Path, Path]]]:
    """Give pairs of a model and a folder of pictures, those given or new ones."""
    if given:
        yield list(zip(given[::2], given[1::2], strict=True))
        return
    with TemporaryDirectory() as folder:
        screws = Path(os.environ.get("MAKELLOS_DATA", folder)) / "mvtec_screw"
        if not screws.is_dir():
            screws = Path(folder) / "screws"
            write_screws(screws, n_train=40, n_test_good=20, n_per_defect=10, size=768)
        found = []
        for preset in ("balanced", "fast"):
            model = Path(folder) / f"{preset}.makellos"
            makellos.fit(screws, model, detector="patchcore", preset=preset)
            found.append((model, screws / "test"))
        yield found


def machine(paths: Sequence[Path], precisions: Sequence[str]) -> dict[str, Any]:
    """Return what the machine does at best, on all cores."""
    pictures = [path.read_bytes() for path in paths]
    ms = spread_ms(lambda encoded: cv2.imdecode(np.frombuffer(encoded, np.uint8), -1), pictures)
    pixels = float(np.prod(read_picture(paths[0]).shape[:2]))
    rates, kinds = {}, {}
    for precision in precisions:
        rates[f"openvino {precision}"], kinds[precision] = openvino_rate(precision)
    rates["numpy f32"] = numpy_rate()
    return {
        "gflops": rates,
        "kernels": kinds,
        "copy_gb_per_s": copy_rate(),
        "decode_ms": ms,
        "decode_megapixels_per_s": float(pixels) / ms / 1e3,
    }


def openvino_rate(precision: str) -> tuple[float, str]:
    """Return GFLOP/s of products of large matrices, and the kernel that computed them."""
    import openvino
    from openvino import opset13 as ops

    def rounded(node: Any, levels: int) -> Any:
        ends = [ops.constant(np.float32(value)) for value in (-4.0, 4.0)]
        return ops.fake_quantize(node, *ends, *ends, levels)

    best, kernel = 0.0, ""
    for n in (1024, 2048):
        rng = np.random.default_rng(0)
        given = ops.parameter([n, n], np.float32)
        left, right = given, ops.constant(rng.standard_normal((n, n)).astype(np.float32))
        if precision == "i8":
            left, right = rounded(left, 256), rounded(right, 255)
        model = openvino.Model(
            [ops.matmul(left, right, transpose_a=False, transpose_b=False)], [given], "product"
        )
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "NUM_STREAMS": str(CORES),
            "PERF_COUNT": "YES",
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        batch = rng.standard_normal((n, n)).astype(np.float32)
        for node in profiled(compiled, [batch] * 4 * CORES):
            if node["kind"] in MATRIX:
                rate = 2 * n**3 / (node["least_ms"] * 1e6) * CORES
                best, kernel = max((best, kernel), (rate, node["kernel"]))
    return best, kernel


def numpy_rate(n: int = 2048) -> float:
    """Return GFLOP/s of numpy's product of large matrices."""
    left = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32)
    return 2 * n**3 / best_seconds(lambda: left @ left) / 1e9


def copy_rate() -> float:
    """Return GB/s of copying what no cache holds, read and written bytes together."""
    source = [np.ones(COPIED // CORES, np.uint8) for _ in range(CORES)]
    target = [np.zeros_like(each) for each in source]
    with ThreadPoolExecutor(CORES) as pool:
        seconds = best_seconds(lambda: list(pool.map(np.copyto, target, source)), 6)
    return 2 * COPIED / seconds / 1e9


def measure(
    model: Path, folder: Path, machine: dict[str, Any], *, plain: bool
) -> dict[str, dict[str, float]]:
    """Return work, time and roof of each stage by name; `plain` computes in f32."""
    from makellos.inspection.engines import EngineChoice

    paths = walk_parts(folder)
    paths = paths[:: max(1, len(paths) // N_PICTURES)][:N_PICTURES]
    choice = EngineChoice("openvino", "f32") if plain else None
    inspector = Inspector(model, workers=CORES, engine=choice)
    scorer = inspector.scorer
    pictures = [read_picture(path) for path in paths]
    batches = [scorer.preprocessing(picture) for picture in pictures]
    copy = machine["copy_gb_per_s"]
    stages: dict[str, Stage] = defaultdict(Stage)
    decode_ms = spread_ms(read_picture, paths)
    stages["decode"].add(0, pictures[0].nbytes / 1e6, decode_ms, machine["decode_ms"])
    moved = (pictures[0].nbytes + batches[0].nbytes) / 1e6
    prepare_ms = spread_ms(scorer.preprocessing, pictures)
    stages["pre-processing"].add(0, moved, prepare_ms, moved / copy)
    graph_stages(stages, inspector.model, inspector.engine.precision, batches, machine)
    judging = Judging(inspector, pictures, batches)
    judged_ms = spread_ms(judging, range(len(pictures)))
    again = judging.n_again / (REPEATS + 1)
    print(f"  {again:g} of {len(pictures)} pictures were computed again without what lies loose")
    stages["map to score, verdict and regions"].add(0, 0, max(0.0, judged_ms - prepare_ms), 0)

    stages["all, as inspect does it"].ms = whole_ms(inspector, paths)
    return {name: stage.row() for name, stage in stages.items()}


class Judging:
    """Do what follows the network with what it gave for each picture, computed before."""

    def __init__(
        self, inspector: Inspector, pictures: list[Picture], batches: list[NDArray[np.float32]]
    ) -> None:
        self._opened = Inspector(inspector.model, workers=CORES, engine=inspector.engine)
        scorer = self._opened.scorer
        self._pictures = pictures
        self._given = {_sample(batch): scorer.engine.run(batch) for batch in batches}
        self.n_again = 0
        self._engine = scorer.engine
        self.choice, self.batch_size = self._engine.choice, 1
        self.reconstructs = self._engine.reconstructs
        scorer.engine = self

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return what was computed; a picture that something was taken out of is computed again."""
        known = self._given.get(_sample(batch))
        if known is not None:
            return known
        self.n_again += 1
        return self._engine.run(batch)

    def __call__(self, i: int) -> None:
        self._opened.inspect(self._pictures[i])


def _sample(batch: NDArray[np.float32]) -> bytes:
    """Return pixels that tell a batch from others, at next to no cost."""
    return batch[0, 0, ::7, ::11].tobytes()


def whole_ms(inspector: Inspector, parts: Sequence[Any]) -> float:
    """Return milliseconds per picture of inspecting them all in an open process."""
    return 1e3 * best_seconds(lambda: list(inspector.inspect_many(parts))) / len(parts)


def graph_stages(
    stages: dict[str, Stage],
    model: ModelFile,
    precision: str,
    batches: Sequence[NDArray[np.float32]],
    machine: dict[str, Any],
) -> None:
    """Add the nodes of a model's graph to the stages that they belong to."""
    import openvino

    core = openvino.Core()
    with model.unpacked() as folder:
        graph = core.read_model(str(folder / GRAPH))
        graph.reshape({graph.inputs[0]: list(batches[0].shape)})
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": str(CORES),
            "PERF_COUNT": "YES",
        }
        compiled = core.compile_model(graph, "CPU", settings)
    kernels = Counter[str]()
    for node in profiled(compiled, batches):
        rate = machine["gflops"]["openvino bf16" if "bf16" in node["kernel"] else "openvino f32"]
        rate = machine["gflops"]["openvino i8"] if "i8" in node["kernel"] else rate
        roof = max(node["gflop"] / rate, node["megabytes"] / 1e3 / machine["copy_gb_per_s"]) * 1e3
        ms = node["ms"] / CORES
        stages[node["stage"]].add(node["gflop"], node["megabytes"], ms, roof)
        kernels[node["kernel"]] += node["kind"] in MATRIX
    print("  kernels:", ", ".join(f"{kernel} {n}" for kernel, n in kernels.items() if n))


def profiled(compiled: Any, batches: Sequence[NDArray[np.float32]]) -> list[dict[str, Any]]:
    """Return a row for each node that is executed: its work, and the median time on one core."""
    times: dict[str, list[float]] = defaultdict(list)

    def infer(mine: Sequence[NDArray[np.float32]]) -> list[Any]:
        request = compiled.create_infer_request()
        seen = []
        for batch in (mine[0], *mine):
            request.infer({0: batch}, share_inputs=True)
            seen.append(request.get_profiling_info())
        return seen[1:]

    with ThreadPoolExecutor(CORES) as pool:
        for seen in pool.map(infer, [batches[i::CORES] for i in range(CORES)]):
            for infos in seen:
                for info in infos:
                    times[info.node_name].append(info.real_time.total_seconds() * 1e3)
    operations = compiled.get_runtime_model().get_ordered_ops()
    network = _ancestors(operations)
    rows = []
    for operation in operations:
        name = operation.get_friendly_name()
        taken = times.get(name, [0.0])
        ms = float(np.median(taken))
        if ms > 0:
            rows.append({**_work(operation, name in network), "ms": ms, "least_ms": min(taken)})
    return rows


def _ancestors(operations: Sequence[Any]) -> set[str]:
    """Return the names of convolutions, and of what they need."""
    found: set[str] = set()
    for operation in reversed(operations):
        name = operation.get_friendly_name()
        if name in found or "Convolution" in _kind(operation):
            found.add(name)
            inputs = (each.get_source_output().get_node() for each in operation.inputs())
            found.update(each.get_friendly_name() for each in inputs)
    return found


def _work(operation: Any, of_network: bool) -> dict[str, Any]:
    kind = _kind(operation)
    sources = [each.get_source_output() for each in operation.inputs()]
    moved = sum(_bytes(each.get_node(), each) for each in sources)
    moved += sum(_bytes(operation, each) for each in operation.outputs())
    out = math.prod(operation.output(0).get_shape())
    gflop = 0.0
    if "Convolution" in kind:
        weights = sources[1].get_shape()
        gflop = 2e-9 * out * math.prod(weights) / weights[0]
    elif kind in MATRIX:
        gflop = 2e-9 * out * sources[0].get_shape()[-1]
    if not of_network:
        stage = "memory bank: products" if gflop else "memory bank: sums, minima, conversions"
    elif not gflop:
        stage = "network: normalisation, conversions"
    else:
        weights = list(sources[1].get_shape())
        wide, point = len(weights) == 5, weights[-2:] == [1, 1]
        kernel = "depthwise" if wide else "1x1" if point else "first convolution"
        stage = f"network: {kernel}"
    kernel = _said(operation, "primitiveType")
    return {
        "kind": kind,
        "stage": stage,
        "kernel": kernel,
        "gflop": gflop,
        "megabytes": moved / 1e6,
    }


def _bytes(node: Any, output: Any) -> int:
    precision = _said(node, "outputPrecisions").split(",")[0]
    return int(math.prod(output.get_shape())) * BYTES.get(precision, 4)


def _kind(operation: Any) -> str:
    return _said(operation, "layerType")


def _said(operation: Any, key: str) -> str:
    said = operation.get_rt_info()
    return str(getattr(said[key], "value", said[key])) if key in said else ""


def spread_ms(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Return wall milliseconds per item, all cores working on items of their own."""
    with ThreadPoolExecutor(CORES) as pool:
        return 1e3 * best_seconds(lambda: list(pool.map(work, items))) / len(items)


def best_seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the shortest wall time of some runs, the first of which does not count."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def print_machine(machine: dict[str, Any]) -> None:
    for name, rate in machine["gflops"].items():
        kernel = machine["kernels"].get(name.split()[-1], "") if "openvino" in name else ""
        print(f"{name:<20} {rate:8.0f} GFLOP/s  {kernel}")
    print(f"copying a large array {machine['copy_gb_per_s']:.1f} GB/s, read and written")
    print(f"decoding {machine['decode_ms']:.2f} ms a picture", flush=True)


def print_stages(name: str, stages: dict[str, dict[str, float]]) -> None:
    print(f"| {name} | GFLOP | MB | ms | roof, ms | % of the roof |\n|---|---|---|---|---|---|")
    for stage, row in stages.items():
        work = f"{row['gflop']:.2f} | {row['megabytes']:.1f}"
        roof = f"{row['roof_ms']:.2f} | {row['percent_of_roof']:.0f}" if row["roof_ms"] else "- | -"
        print(f"| {stage} | {work} | {row['ms']:.2f} | {roof} |", flush=True)


if __name__ == "__main__":
    main()
