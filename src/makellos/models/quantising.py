"""Quantising a graph to 8 bits, by ranges of values that good parts gave.

Convolutions are quantised, and the other products where verdicts allow it; what follows them,
distances above all, stays in f32.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ModelFileError
from makellos.inspection.engines import Engine
from makellos.inspection.runtimes import import_onnxruntime
from makellos.storage import scratch_folder

__all__ = ["OPERATIONS", "Listening", "quantised"]

Batch = NDArray[np.float32]
# What is quantised, most first.
OPERATIONS: tuple[tuple[str, ...], ...] = (("Conv", "MatMul", "Gemm"), ("Conv",))


class Listening:
    """Be an engine that keeps the batches it was given, one part each, at most `most`."""

    def __init__(self, engine: Engine, most: int) -> None:
        self.choice, self.batch_size = engine.choice, engine.batch_size
        self.reconstructs = engine.reconstructs
        self.heard: list[Batch] = []
        self._engine, self._most = engine, most

    def run(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Return what the engine returns."""
        room = self._most - len(self.heard)
        self.heard += [each[np.newaxis].copy() for each in batch[: max(0, room)]]
        return self._engine.run(batch)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser from advising on standard error what is done here on purpose."""
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def quantised(graph: bytes, batches: Sequence[Batch], operations: Sequence[str]) -> bytes:
    """Return a graph whose `operations` compute in int8, by the ranges of batches 1×C×H×W.

    Weights have a scale for each channel. Raises `ModelFileError` where the graph cannot be
    quantised.
    """
    import_onnxruntime()
    import onnx

    q = importlib.import_module("onnxruntime.quantization")

    class Reader(q.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self, name: str) -> None:
            self._left = iter({name: batch} for batch in batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    model = onnx.load_from_string(graph)
    name = model.graph.input[0].name
    with scratch_folder() as folder, _quiet():
        given, made = folder / "f32.onnx", folder / "int8.onnx"
        given.write_bytes(graph)
        try:
            q.quantize_static(
                str(given),
                str(made),
                Reader(name),
                quant_format=q.QuantFormat.QDQ,
                op_types_to_quantize=list(operations),
                per_channel=True,
                activation_type=q.QuantType.QUInt8,
                weight_type=q.QuantType.QInt8,
            )
        except Exception as error:
            # What the quantiser raises of graphs that it does not know has no common base.
            raise ModelFileError(
                f"The graph cannot be quantised ({error!r:.200}). Export it with --precision f32."
            ) from error
        raw = made.read_bytes()
    kinds = {node.op_type for node in onnx.load_from_string(raw).graph.node}
    if "QuantizeLinear" not in kinds:
        raise ModelFileError(
            "The graph has no products that int8 would speed up. Export it with --precision f32."
        )
    return raw
