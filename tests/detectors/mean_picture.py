"""A small detector with a graph of its own, and a way to make graphs by hand. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import Detector, Graph, parameter
from makellos.detectors.graphs import GraphBuilder
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.preprocessing import Preprocessing

CELL = 4


def empty_graph(channels: int, height: int, width: int, *, name: str = "picture") -> bytes:
    """Return a graph with an input N×C×H×W and `layer_0`, the same."""
    sizes = ["n", channels, height, width]
    picture = helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
    output = helper.make_tensor_value_info("layer_0", TensorProto.FLOAT, sizes)
    node = helper.make_node("Identity", [name], ["layer_0"])
    graph = helper.make_graph([node], "empty", [picture], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def cells(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return N×C×h×w means of cells of 4×4 pixels."""
    n, c, h, w = batch.shape
    return batch.reshape(n, c, h // CELL, CELL, w // CELL, CELL).mean((3, 5))


class MeanPicture(Detector):
    """Score a cell by how far it is from the mean of good parts, in standard deviations."""

    name = "mean_picture"
    summary = "the mean picture of good parts"

    image_size: int = parameter(128, "Side of the input.", within=(32, 1024))
    floor: float = parameter(0.01, "Added to each deviation.", within=(1e-6, 1.0))
    center: str = parameter("mean", "What is learned.", choices=("mean", "median"))
    blur: bool = parameter(default=True, meaning="Average the map over 3×3 cells.")

    presets: ClassVar[dict[str, dict[str, Any]]] = {"fast": {"image_size": 64}}

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self.preprocessing_ = Preprocessing(height=self.image_size, width=self.image_size)
        seen = []
        for i, part in enumerate(parts):
            seen.append(cells(self.preprocessing_(part.read()))[0])
            progress("reading", i + 1, len(parts))
        self.mean_ = np.median(seen, axis=0) if self.center == "median" else np.mean(seen, axis=0)
        self.deviation_ = np.std(seen, axis=0) + self.floor

    def _build_graph(self) -> Graph:
        return self.graph_of(lambda builder, anomaly_map: anomaly_map)

    def graph_of(self, change: Callable[[GraphBuilder, str], str], name: str = "picture") -> Graph:
        """Return the graph with a change to its map N×1×h×w before it is finished."""
        side = self.image_size // CELL
        builder = GraphBuilder(empty_graph(3, self.image_size, self.image_size, name=name))
        attributes = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
        means = builder.add("AveragePool", "layer_0", attributes=attributes)
        moved = builder.add("Sub", means, builder.constant(self.mean_[None].astype(np.float32)))
        gain = builder.constant((1 / self.deviation_)[None].astype(np.float32))
        scaled = builder.add("Mul", moved, gain)
        squares = builder.add("Mul", scaled, scaled)
        attributes = {"axes": [1], "keepdims": 1}
        distance = builder.root(builder.add("ReduceMean", squares, attributes=attributes))
        smooth = change(builder, builder.local_mean(distance, 3 if self.blur else 1))
        onnx_graph = builder.finish(smooth, side, side)
        return Graph(onnx_graph, self.preprocessing_, Aggregation())
