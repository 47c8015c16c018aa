"""Building blocks of detectors' graphs, added to an exported backbone.

Elementwise steps after the last matrix product stay in f32 under OpenVINO's bf16, so distances
are assembled there and only the products of embeddings and memory bank are rounded. For the same
reason maps are enlarged by repetition and smoothed by average pooling: OpenVINO counts resizing
and convolution among the operations it rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GraphBuilder", "empty_graph", "rounded_to_bf16", "with_rounded_weights"]

_OPSET, _IR_VERSION = 17, 8  # those of exported networks
Attribute = int | float | str | Sequence[int]
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def with_rounded_weights(graph: bytes) -> bytes:
    """Return an ONNX graph whose products have weights that bf16 holds exactly.

    An engine that computes in bf16 rounds them in any case, and patches embedded by it lie apart
    from those of an f32 engine, which then computes with other weights than it: an early filter
    that answers to small differences of a bright surface turns that into a third of a channel's
    standard deviation. With weights that both hold, a memory bank serves both.
    """
    import onnx

    model = onnx.load_from_string(graph)
    weights = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        each = weights.get(node.input[1]) if node.op_type in _PRODUCTS else None
        if each is not None and each.data_type == onnx.TensorProto.FLOAT:
            values = rounded_to_bf16(onnx.numpy_helper.to_array(each))
            each.CopyFrom(onnx.numpy_helper.from_array(values, each.name))
    serialised: bytes = model.SerializeToString()
    return serialised


def rounded_to_bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return finite float32 values rounded to the nearest that bf16 holds, ties to even.

    >>> rounded_to_bf16(np.array([1.0, 1.002, 1.006], np.float32)).tolist()
    [1.0, 1.0, 1.0078125]
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    odd = bits >> 16 & 1
    return ((bits + 0x7FFF + odd) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def empty_graph(name: str, inputs: Mapping[str, Sequence[int | str]]) -> bytes:
    """Return a graph with these float32 inputs, name to shape, for a builder to begin with."""
    from onnx import TensorProto, helper

    given = [
        helper.make_tensor_value_info(each, TensorProto.FLOAT, list(shape))
        for each, shape in inputs.items()
    ]
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(
        helper.make_graph([], name, given, []), opset_imports=opset, ir_version=_IR_VERSION
    )
    serialised: bytes = model.SerializeToString()
    return serialised


class GraphBuilder:
    """Extend an ONNX graph node by node; tensors are referred to by their names.

    `backbone` is the bytes of a graph with the input ``picture``.
    """

    def __init__(self, backbone: bytes) -> None:
        import onnx

        self._onnx = onnx
        self.model: Any = onnx.load_from_string(backbone)
        graph = self.model.graph
        # Above every number that an earlier builder gave a name in this graph.
        self._count = len(graph.node) + len(graph.initializer)
        self.float_kind = int(onnx.TensorProto.FLOAT)

    def constant(self, values: NDArray[Any], name: str = "") -> str:
        """Add a constant tensor and return its name, a new one unless it is given."""
        name = name or self._name("constant")
        self.model.graph.initializer.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def shape(self, *sizes: int) -> str:
        """Add a constant shape: 0 keeps an axis, -1 takes what is left."""
        return self.constant(np.array(sizes, np.int64))

    def add(
        self, operation: str, *inputs: str, attributes: Mapping[str, Attribute] | None = None
    ) -> str:
        """Add an operation and return the name of its output."""
        name = self._name(operation.lower())
        node = self._onnx.helper.make_node(operation, inputs, [name], name, **(attributes or {}))
        self.model.graph.node.append(node)
        return name

    def smallest(self, x: str, count: int, axis: int) -> str:
        """Return the places of the `count` smallest values along an axis, the smallest first."""
        name = self._name("topk")
        values = f"{name}_values"
        attributes = {"axis": axis, "largest": 0, "sorted": 1}
        inputs = [x, self.shape(count)]
        node = self._onnx.helper.make_node("TopK", inputs, [values, name], name, **attributes)
        self.model.graph.node.append(node)
        return name

    def rename(self, name: str, new: str) -> None:
        """Give the output `name` of a node another name, so that the graph can go on from it."""
        for node in self.model.graph.node:
            for names in (node.input, node.output):
                for i, found in enumerate(names):
                    if found == name:
                        names[i] = new

    def local_mean(self, x: str, size: int) -> str:
        """Average over size×size neighbours of N×C×h×w; borders count what is there.

        Of an even size the larger half lies below and to the right.
        """
        if size == 1:
            return x
        attributes: dict[str, Attribute] = {
            "kernel_shape": [size, size],
            "pads": [(size - 1) // 2] * 2 + [size // 2] * 2,
            "strides": [1, 1],
            "count_include_pad": 0,
        }
        return self.add("AveragePool", x, attributes=attributes)

    def smooth(self, x: str) -> str:
        """Average over 3×3 neighbours of N×C×h×w, outside of which lies each map's mean.

        The mean of each map stays as it is.
        """
        attributes: dict[str, Attribute] = {
            "kernel_shape": [3, 3],
            "pads": [1, 1, 1, 1],
            "strides": [1, 1],
            "count_include_pad": 1,
        }
        mean = self.add("ReduceMean", x, attributes={"axes": [2, 3], "keepdims": 1})
        pooled = self.add("AveragePool", self.add("Sub", x, mean), attributes=attributes)
        return self.add("Add", self.centred(pooled), mean)

    def standardise(self, x: str, mean: NDArray[np.float32], scale: NDArray[np.float32]) -> str:
        """Give N×C×h×w the channel-wise (x - mean) / scale as patches N×hw×C."""
        gain, offset = (1.0 / scale), (-mean / scale)
        scaled = self.add("Mul", x, self.constant(gain.reshape(1, -1, 1, 1).astype(np.float32)))
        moved = self.add(
            "Add", scaled, self.constant(offset.reshape(1, -1, 1, 1).astype(np.float32))
        )
        flat = self.add("Reshape", moved, self.shape(0, mean.size, -1))
        return self.add("Transpose", flat, attributes={"perm": [0, 2, 1]})

    def nearest_distance(
        self, patches: str, bank: NDArray[np.float16], spacings: NDArray[np.float32] | None = None
    ) -> str:
        """Return the Euclidean distance of patches N×P×C to the nearest of bank B×C, as N×P×1.

        With `spacings` (B,) the distance to each patch of the bank counts in units of its spacing.
        """
        weights = np.ones(len(bank), np.float32) if spacings is None else spacings**-2.0
        # Squares are those of what was rounded: what cancels must cancel.
        rounded = (weights[:, np.newaxis] * bank.astype(np.float32)).astype(np.float16)
        products = self.constant((-2 * rounded.T).astype(np.float16))
        to_float = {"to": int(self._onnx.TensorProto.FLOAT)}
        cross = self.add("MatMul", patches, self.add("Cast", products, attributes=to_float))
        squares = np.square(rounded.astype(np.float32)).sum(1) / weights
        total = self.add("Add", cross, self.constant(squares))
        length = self.squared_length(patches)
        if spacings is not None:
            total = self.add("Add", total, self.add("Mul", length, self.constant(weights)))
        nearest = self.add("ReduceMin", total, attributes={"axes": [2], "keepdims": 1})
        return self.root(nearest if spacings is not None else self.add("Add", nearest, length))

    def squared_length(self, x: str) -> str:
        """Return the sum of squares over the last axis of a rank-3 tensor, keeping the axis."""
        squared = self.add("Mul", x, x)
        return self.add("ReduceSum", squared, self.shape(2), attributes={"keepdims": 1})

    def root(self, x: str) -> str:
        """Return the square root, of 0 where rounding went below."""
        zero = self.constant(np.array(0, np.float32))
        return self.add("Sqrt", self.add("Max", x, zero))

    def as_map(self, distances: str, height: int, width: int, scale: float) -> str:
        """Give distances N×P×1, divided by `scale`, the shape N×1×height×width."""
        divided = self.add("Mul", distances, self.constant(np.array(1 / scale, np.float32)))
        return self.add("Reshape", divided, self.shape(0, 1, height, width))

    def centred(self, x: str) -> str:
        """Take the mean off each map of N×C×h×w."""
        mean = self.add("ReduceMean", x, attributes={"axes": [2, 3], "keepdims": 1})
        return self.add("Sub", x, mean)

    def repeat(self, x: str, size: tuple[int, int], factor: int) -> str:
        """Enlarge N×C×h×w by repeating every cell `factor` times in height and width."""
        if factor == 1:
            return x
        height, width = size
        flat = self.add("Reshape", x, self.shape(0, -1, height, 1, width, 1))
        tiled = self.add("Tile", flat, self.shape(1, 1, 1, factor, 1, factor))
        return self.add("Reshape", tiled, self.shape(0, -1, height * factor, width * factor))

    def finish(self, anomaly_map: str, height: int, width: int) -> bytes:
        """Return the graph with this N×1×height×width map as its only output ``anomaly_map``."""
        onnx = self._onnx
        shape = self.shape(0, height, width)
        node = onnx.helper.make_node("Reshape", [anomaly_map, shape], ["anomaly_map"])
        self.model.graph.node.append(node)
        return self.with_outputs({"anomaly_map": ["n", height, width]})

    def with_outputs(self, outputs: Mapping[str, Sequence[int | str]]) -> bytes:
        """Return the graph with these outputs, name to shape, alone."""
        onnx = self._onnx
        graph = self.model.graph
        del graph.output[:]
        for name, shape in outputs.items():
            kind = onnx.TensorProto.FLOAT
            graph.output.append(onnx.helper.make_tensor_value_info(name, kind, list(shape)))
        del graph.value_info[:]
        onnx.checker.check_model(self.model)
        serialised: bytes = self.model.SerializeToString()
        return serialised

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"makellos_{stem}_{self._count}"
