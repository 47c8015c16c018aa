"""The runtimes that compute a detector's graph without PyTorch: OpenVINO and ONNX Runtime.

Runtime and precision are always chosen by us. Left alone OpenVINO takes bf16 on a processor with
AMX, and a score then depends on the machine it was computed on.
"""

from __future__ import annotations

import ctypes
import importlib.util
import io
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ConfigurationError, MissingRuntimeError, ModelFileError, suggest
from makellos.inspection.compiled import (
    cache_folder,
    compiled_key,
    keep_compiled,
    kept_compiled,
)
from makellos.inspection.graph_check import check_graph
from makellos.inspection.runtimes import import_onnxruntime, import_openvino

__all__ = [
    "Engine",
    "EngineChoice",
    "available_engines",
    "default_workers",
    "limit_cores",
    "missing_engines",
    "open_engine",
    "usable_here",
]

_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # what may keep it from using a processor
IR = ".xml"  # the suffix of OpenVINO's own format, which no model file holds
RECONSTRUCTION = "reconstruction"  # output of graphs that give the nearest good part
Precision = Literal["bf16", "f32"]
Batch = NDArray[np.float32]


@dataclass(frozen=True, order=True)
class EngineChoice:
    """Name a runtime and the precision it computes in."""

    runtime: str
    precision: str

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


class Engine(Protocol):
    """Compute a graph; one engine may be used from several threads at once.

    `batch_size` is how many parts it takes best at once: 1 for graphs, whose parts are worked on
    side by side in threads, more for a search that all parts of a batch share. `reconstructs` says
    whether the graph gives the nearest good part.
    """

    choice: EngineChoice
    batch_size: int
    reconstructs: bool

    def run(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Return the graph's outputs by name for a batch N×C×H×W in [0, 1]."""


@cache
def available_engines() -> tuple[EngineChoice, ...]:
    """Return the engines that this machine can run, the fastest first."""
    engines = []
    if importlib.util.find_spec("openvino") and not _here.lost:
        if "BF16" in _here.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            engines.append(EngineChoice("openvino", "bf16"))
        engines.append(EngineChoice("openvino", "f32"))
    if importlib.util.find_spec("onnxruntime"):
        engines.append(EngineChoice("onnxruntime", "f32"))
    if not engines and _here.lost:
        raise MissingRuntimeError(
            "OpenVINO does not work in a process forked from one that used it. Start processes "
            "with multiprocessing's 'spawn' method, or pip install onnxruntime."
        )
    if not engines:
        raise MissingRuntimeError(
            "No runtime for models is installed. Install one: pip install openvino, or "
            "pip install onnxruntime."
        )
    return tuple(engines)


def missing_engines() -> dict[EngineChoice, str]:
    """Return the engines that makellos knows but this machine cannot run, each with the reason."""
    known = [
        EngineChoice("openvino", "bf16"),
        EngineChoice("openvino", "f32"),
        EngineChoice("onnxruntime", "f32"),
    ]
    present = available_engines()
    return {each: _why_missing(each, present) for each in known if each not in present}


def _why_missing(choice: EngineChoice, present: Sequence[EngineChoice]) -> str:
    if any(each.runtime == choice.runtime for each in present):
        return f"this processor has no {choice.precision}"
    return f"{choice.runtime} is not installed"


def usable_here(choice: EngineChoice) -> EngineChoice:
    """Return an engine, or ONNX Runtime in place of an OpenVINO that a fork made unusable."""
    lost = choice.runtime == "openvino" and _here.lost
    return EngineChoice("onnxruntime", "f32") if lost else choice


def default_workers() -> int:
    """Return how many parts to work on at once: one per core, at most 4 to bound the memory."""
    return max(1, min(4, os.cpu_count() or 1))


def limit_cores(n_cores: int) -> None:
    """Let the engines that this process opens from now on compute on at most so many cores.

    A process that shares its machine with others of its kind would take all cores else.
    """
    _here.n_cores = n_cores


def open_engine(
    graph: Path | bytes,
    choice: EngineChoice,
    *,
    shape: tuple[int, ...],
    workers: int = 1,
    together: int = 1,
    identity: str = "",
) -> Engine:
    """Compile a graph for one runtime and precision.

    `graph` is an ONNX file or its bytes, or OpenVINO's own format, just written; `shape` is the
    picture's C, H, W, `workers` how many threads
    will run it at once (1: all cores serve one picture). `together` pictures are computed at once
    where the runtime gains by it, which suits small ones; each gets what it would get alone. With
    an `identity`, the hash of the graph and its weights, what OpenVINO compiled is kept for other
    processes of this user.
    Raises `ConfigurationError` for an engine that this machine does not have and for no worker,
    `ModelFileError` for a graph that is not to be trusted, cannot be compiled or does not take such
    pictures.
    """
    if workers < 1:
        raise ConfigurationError(
            f"The number of workers is {workers}; expected a whole number, at least 1."
        )
    if choice not in available_engines():
        known = [str(engine) for engine in available_engines()]
        raise ConfigurationError(
            f"This machine has no engine {choice}. {suggest(str(choice), known)}"
        )
    if choice.runtime == "openvino" and identity:
        key = _key(identity, choice, shape, workers, together)
        kept = _kept(key, choice, workers, together)
        if kept is not None:
            return _here.opened(kept)
    else:
        key = ""
    if not (isinstance(graph, Path) and graph.suffix == IR):
        check_graph(graph, shape, together)
    opener = _compiled_here if choice.runtime == "openvino" else _OnnxRuntimeEngine
    try:
        return _here.opened(opener(graph, choice, shape, workers, together, key))
    except (RuntimeError, ValueError, OSError) as error:
        raise _failed(choice, error) from error


def _failed(choice: EngineChoice, error: Exception) -> ModelFileError:
    reason = str(error).strip().splitlines()
    return ModelFileError(
        f"{choice} cannot run the graph: {reason[-1] if reason else repr(error)}. "
        "Update the runtime, or fit the model again."
    )


def _settings(choice: EngineChoice, workers: int) -> dict[str, str]:
    settings = {
        "INFERENCE_PRECISION_HINT": choice.precision,
        "NUM_STREAMS": str(workers),
        "PERFORMANCE_HINT": "LATENCY" if workers == 1 else "THROUGHPUT",
    }
    if _here.n_cores is not None:
        settings["INFERENCE_NUM_THREADS"] = str(_here.n_cores)
    return settings


def _key(
    identity: str, choice: EngineChoice, shape: tuple[int, ...], workers: int, together: int
) -> str:
    """Return what all depends on that OpenVINO compiles: graph, use, runtime and processor."""
    core = _here.core()
    processor = [
        core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    ]
    limits = [os.environ.get(name) for name in _LIMITS]
    version = core.get_versions("CPU")["CPU"].build_number
    use = choice, shape, workers, together, _here.n_cores, os.cpu_count()
    return compiled_key(identity, *use, version, *processor, *limits)


def _kept(key: str, choice: EngineChoice, workers: int, together: int) -> Engine | None:
    """Return the engine that another process compiled; None where there is none, or none works."""
    found = kept_compiled(key)
    if found is None:
        return None
    try:
        settings = _settings(choice, workers)
        compiled = _here.core().import_model(io.BytesIO(found.blob), "CPU", settings)
    except RuntimeError:  # of a file that OpenVINO does not take for its own
        return None
    return _OpenVinoEngine(compiled, found.names, choice, together)


def _compiled_here(
    graph: Path | bytes,
    choice: EngineChoice,
    shape: tuple[int, ...],
    workers: int,
    together: int,
    key: str,
) -> Engine:
    core = _here.core()
    model = core.read_model(str(graph) if isinstance(graph, Path) else graph)
    _check_inputs(
        [
            [size.get_length() if size.is_static else None for size in node.partial_shape]
            for node in model.inputs
        ],
        [node.element_type.get_type_name() for node in model.inputs],
        shape,
    )
    # Compiling adds inner names to those of the graph's outputs, and shuffles them.
    names = tuple(output.get_any_name() for output in model.outputs)
    model.reshape({model.inputs[0]: [together, *shape]})
    compiled = core.compile_model(model, "CPU", _settings(choice, workers))
    engine = _OpenVinoEngine(compiled, names, choice, together)
    if key:
        _keep(compiled, key, names)
    return engine


def _keep(compiled: Any, key: str, names: Sequence[str]) -> None:
    """Keep what was compiled for others, if it can be: whoever compiled it does without."""
    if cache_folder() is None:
        return
    try:
        blob = compiled.export_model().getvalue()
    except RuntimeError:
        return
    keep_compiled(key, blob, names)


class _OpenVinoEngine:
    batch_size = 1

    def __init__(
        self, compiled: Any, names: Sequence[str], choice: EngineChoice, together: int
    ) -> None:
        self._names = names
        self.reconstructs = RECONSTRUCTION in names
        self.choice = choice
        self._compiled = compiled
        self._requests = threading.local()
        self._together = together
        # The first run allocates, and is made by one thread while others wait.
        self._beginning = threading.Lock()
        self._has_run = False

    def run(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        n, size = len(batch), self._together
        if n % size:
            missing = np.zeros((size - n % size, *batch.shape[1:]), np.float32)
            batch = np.concatenate([batch, missing])
        rows = [self._run_once(batch[i : i + size]) for i in range(0, n, size)]
        found = {name: _joined([row[name] for row in rows]) for name in self._names}
        return {name: values[:n] for name, values in found.items()} if n % size else found

    def _run_once(self, picture: Batch) -> dict[str, NDArray[np.float32]]:
        if self._has_run:
            return self._infer(picture)
        with self._beginning:
            try:
                found = self._infer(picture)
            except RuntimeError as error:
                raise _failed(self.choice, error) from error
            self._has_run = True
        return found

    def _infer(self, picture: Batch) -> dict[str, NDArray[np.float32]]:
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        request.infer({0: picture}, share_inputs=True)
        return {
            name: np.array(request.get_output_tensor(i).data, dtype=np.float32)
            for i, name in enumerate(self._names)
        }


class _OnnxRuntimeEngine:
    batch_size = 1

    def __init__(
        self,
        graph: Path | bytes,
        choice: EngineChoice,
        shape: tuple[int, ...],
        workers: int,
        _together: int,
        _key: str,
    ) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, (_here.n_cores or os.cpu_count() or 1) // workers)
        options.log_severity_level = 3
        options.add_session_config_entry("session.load_model_format", "ONNX")
        self.choice = choice
        try:
            self._session = onnxruntime.InferenceSession(
                str(graph) if isinstance(graph, Path) else graph,
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:
            # ONNX Runtime's errors share no base class below Exception.
            raise RuntimeError(str(error)) from error
        inputs = self._session.get_inputs()
        _check_inputs(
            [[size if isinstance(size, int) else None for size in node.shape] for node in inputs],
            ["f32" if node.type == "tensor(float)" else node.type for node in inputs],
            shape,
        )
        self._input = inputs[0].name
        self._names = [output.name for output in self._session.get_outputs()]
        self.reconstructs = RECONSTRUCTION in self._names

    def run(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        rows = [
            self._session.run(self._names, {self._input: batch[i : i + 1]})
            for i in range(len(batch))
        ]
        return {name: _joined([row[i] for row in rows]) for i, name in enumerate(self._names)}


def _joined(rows: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    return np.concatenate([np.atleast_1d(row) for row in rows]).astype(np.float32, copy=False)


def _check_inputs(
    sizes: Sequence[Sequence[int | None]], types: Sequence[str], shape: tuple[int, ...]
) -> None:
    """Raise unless the one input takes float32 batches 1×C×H×W; None is a size left open."""
    wanted = (1, *shape)
    fits = (
        types == ["f32"]
        and len(sizes[0]) == len(wanted)
        and all(size in (None, expected) for size, expected in zip(sizes[0], wanted, strict=True))
    )
    if not fits:
        raise ValueError(f"its inputs are {list(zip(types, sizes, strict=True))}, not f32 {wanted}")


class _Here:
    """Hold what this process has begun: OpenVINO's core, and engines.

    None of it survives a fork, where the threads are missing that it has: `lost` says that OpenVINO
    cannot begin anew either, and an engine that were given up would wait for its threads for ever.
    """

    def __init__(self) -> None:
        self._core: Any = None
        self._setting_up = threading.Lock()
        self._engines: WeakSet[Engine] = WeakSet()
        self.lost = False
        self.n_cores: int | None = None

    def core(self) -> Any:
        """Return OpenVINO's core, which the first call makes."""
        # OpenVINO's binding looks NumPy up at its first array; two threads that make theirs at
        # once wait for each other forever. So one makes it, while the others wait for that one.
        with self._setting_up:
            if self._core is None:
                openvino = import_openvino()
                first = openvino.Tensor(np.zeros(1, np.float32))
                np.array(first.data)
                openvino.Type.f32.to_dtype()
                self._core = openvino.Core()
            return self._core

    def opened(self, engine: Engine) -> Engine:
        """Return an engine that was opened in this process."""
        self._engines.add(engine)
        return engine

    def forked(self) -> None:
        """Take in that this process was forked off."""
        self.lost = self.lost or self._core is not None
        self._setting_up = threading.Lock()
        for left in (self._core, *self._engines):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(left))  # never to be given up
        self._engines = WeakSet()
        available_engines.cache_clear()


_here = _Here()
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_here.forked)
