"""What a graph may be, checked before a runtime opens it.

Runtimes believe a graph: they read whatever file or memory it names, and compute whatever it asks
for. So this reads it first. Accepted are standard operators alone, without graphs inside of them,
constants in the graph or in the model's own weights, and sizes that are known beforehand and fit
the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ModelFileError

__all__ = ["WEIGHTS", "check_graph"]

WEIGHTS = "weights.safetensors"  # the one file that a graph may name
_STANDARD = ("", "ai.onnx")
_MOST_NODES = 100_000
_MOST_AXES = 12
_SMALL = 4096  # values of a tensor that is followed, since sizes may be made of it
_LARGEST_AXIS = 1 << 31
_ROOM = 1 << 30  # bytes that every graph may take
_ROOM_PER_PIXEL, _ROOM_PER_WEIGHT = 4096, 256  # bytes, by pixel and by byte of the weights
_MOST_ROOM = 8 << 30
_PLACE = {"location", "offset", "length"}
_MOST_CLASSES = 10_000
_LITTLE = 1 << 20  # values of a map that a picture of any size may have
# Sizes are made of other sizes by these, which give the same values wherever they are computed.
_OF_SIZES = {
    *("Add", "And", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape", "Div", "Equal", "Expand"),
    *("Floor", "Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not"),
    *("Or", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice"),
    *("Split", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where"),
}


class _RefusedError(Exception):
    """Say what is wrong with a graph, of which the sentence begins with "it"."""


@dataclass(frozen=True)
class _Tensor:
    """Hold what is known of a tensor: its kind and shape and, where it is small, its values.

    A `fixed` one does not depend on the picture; runtimes may keep it.
    """

    kind: int
    shape: tuple[int, ...]
    n_bytes: int
    values: NDArray[Any] | None = None
    fixed: bool = True


def check_graph(graph: Path | bytes, shape: tuple[int, ...] | None, together: int = 1) -> None:
    """Raise `ModelFileError` for a graph that no runtime may open.

    `graph` is an ONNX file, with its weights beside it, or its bytes; `shape` is what it takes of
    one part, C, H, W or F, where None stands for what it says itself, such as latent vectors.
    `together` parts are computed at once.
    """
    try:
        if isinstance(graph, Path):
            weights = graph.with_name(WEIGHTS)
            size = weights.stat().st_size if weights.is_file() else 0
            model, given = _parsed(graph.read_bytes()), size
        else:
            model, given = _parsed(graph), None
        for n in {1, together}:
            _check(model, n, shape, given)
    except (_RefusedError, OSError) as error:
        raise ModelFileError(
            f"The graph cannot be run: {error}. Use a model from a source that you trust, or fit "
            "the model again."
        ) from error


def _parsed(raw: bytes) -> Any:
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except Exception as error:
        # Protobuf's implementations share no base class of their errors.
        raise _RefusedError("it is not ONNX") from error
    size = model.ByteSize()
    model.DiscardUnknownFields()
    if model.ByteSize() != size:
        raise _RefusedError("it holds fields that this version of onnx does not know")
    for what, found in (
        ("functions of its own", model.functions),
        ("training steps", model.training_info),
        ("sparse constants", model.graph.sparse_initializer),
    ):
        if found:
            raise _RefusedError(f"it has {what}")
    if len(model.graph.node) > _MOST_NODES:
        raise _RefusedError(f"it has {len(model.graph.node):,} operators")
    return model


def _check(model: Any, n: int, shape: tuple[int, ...] | None, n_weights: int | None) -> None:
    """Check a graph for `n` parts at once; `n_weights` bytes lie beside it, None: no file does."""
    graph = model.graph
    versions = [each.version for each in model.opset_import if each.domain in _STANDARD]
    if len(versions) != 1:
        raise _RefusedError(f"it names {len(versions)} versions of ONNX, not one")
    tensors = {each.name: _constant(each, n_weights) for each in graph.initializer}
    if len(tensors) < len(graph.initializer):
        raise _RefusedError("it has two constants with the same name")
    inputs = [each for each in graph.input if each.name not in tensors]
    if len(inputs) != 1:
        raise _RefusedError(f"it has {len(inputs)} inputs, not one")
    given = tensors[inputs[0].name] = _input(inputs[0], n, shape)
    room = max(_ROOM, _ROOM_PER_PIXEL * math.prod(given.shape[-2:]))
    room = max(room, _ROOM_PER_WEIGHT * (n_weights or sum(t.n_bytes for t in tensors.values())))
    _follow(graph, versions[0], tensors, min(room * n, _MOST_ROOM))
    _check_names(graph, n, tensors, given)


def _constant(tensor: Any, n_weights: int | None) -> _Tensor:
    """Return a constant that holds as many values as it says, here or in the weights."""
    import onnx

    found, name = _tensor(tensor.data_type, tensor.dims), f"its constant {tensor.name[:80]!r}"
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        _check_place(tensor, found, name, n_weights)
        return found
    try:
        values = onnx.numpy_helper.to_array(tensor)
    except (TypeError, ValueError) as error:
        raise _RefusedError(f"{name} is damaged") from error
    if values.shape != found.shape:
        raise _RefusedError(f"{name} is damaged")
    return replace(found, values=values if values.size <= _SMALL else None)


def _tensor(kind: int, sizes: Sequence[int]) -> _Tensor:
    known, shape = _item_sizes(), tuple(int(size) for size in sizes)
    if kind not in known:
        raise _RefusedError(f"it has tensors of type {kind}, which hold no numbers")
    if len(shape) > _MOST_AXES or any(not 0 <= size < _LARGEST_AXIS for size in shape):
        raise _RefusedError(f"it has a tensor of shape {shape[:_MOST_AXES]}")
    return _Tensor(kind, shape, math.prod(shape) * known[kind])


@cache
def _item_sizes() -> Mapping[int, int]:
    from onnx import TensorProto as Kind

    return {
        **dict.fromkeys((Kind.BOOL, Kind.INT8, Kind.UINT8), 1),
        **dict.fromkeys((Kind.FLOAT16, Kind.BFLOAT16, Kind.INT16, Kind.UINT16), 2),
        **dict.fromkeys((Kind.FLOAT, Kind.INT32, Kind.UINT32), 4),
        **dict.fromkeys((Kind.DOUBLE, Kind.INT64, Kind.UINT64), 8),
    }


def _check_place(tensor: Any, found: _Tensor, name: str, n_weights: int | None) -> None:
    """Raise unless a constant lies in the model's weights, whole."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    if len(place) != len(tensor.external_data) or place.keys() != _PLACE:
        raise _RefusedError(f"{name} does not state its place as models do")
    if place["location"] != WEIGHTS or n_weights is None:
        raise _RefusedError(f"{name} is in {place['location'][:80]!r}, not in the weights")
    numbers = [place["offset"], place["length"]]
    if not all(text.isascii() and text.isdigit() and len(text) < 16 for text in numbers):
        raise _RefusedError(f"{name} is placed at {str(numbers)[:80]}")
    offset, length = map(int, numbers)
    if length != found.n_bytes or offset + length > n_weights:
        raise _RefusedError(f"{name} does not fit into the weights")


def _input(node: Any, n: int, shape: tuple[int, ...] | None) -> _Tensor:
    """Return the input for `n` parts; raise where the graph takes another shape."""
    import onnx

    declared = node.type.tensor_type
    said = [axis.dim_value if axis.HasField("dim_value") else None for axis in declared.shape.dim]
    wanted = (said[1:] if shape is None else list(shape)) if said else None
    fits = (
        declared.elem_type == onnx.TensorProto.FLOAT
        and wanted is not None
        and said[0] in {None, 1}
        and all(each is not None for each in wanted)
        and len(said) == len(wanted) + 1
        and all(each in (None, size) for each, size in zip(said[1:], wanted, strict=True))
    )
    if not fits or wanted is None:
        raise _RefusedError(f"its input is {said}, not float32 {['n', *(shape or 'd')]}")
    return replace(_tensor(declared.elem_type, [n, *wanted]), fixed=False)


def _follow(graph: Any, opset: int, tensors: dict[str, _Tensor], room: int) -> None:
    """Add the tensors that a graph computes; raise where those in use at once take more room."""
    last = {name: i for i, node in enumerate(graph.node) for name in node.input}
    last |= {each.name: len(graph.node) for each in graph.output}
    in_use: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        made = _computed(node, opset, tensors)
        for name, tensor in made.items():
            if name in tensors:
                raise _RefusedError(f"it computes {name[:80]!r} twice")
            tensors[name], in_use[name] = tensor, tensor.n_bytes
        taken = sum(in_use.values())
        if taken > room:
            raise _RefusedError(
                f"with its operator {node.op_type[:80]!r} it takes {taken:,} bytes, more than the "
                f"{room:,} that its input and weights account for"
            )
        for name in (*node.input, *made):
            if name in in_use and last.get(name, i) <= i and not tensors[name].fixed:
                del in_use[name]


def _computed(node: Any, opset: int, tensors: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    """Return what a node gives."""
    import onnx

    what = f"its operator {node.op_type[:80]!r}"
    if node.domain not in _STANDARD:
        raise _RefusedError(f"{what} is from {node.domain[:80]!r}, not from ONNX")
    _check_attributes(node, what)
    unknown = [name for name in node.input if name and name not in tensors]
    if unknown:
        raise _RefusedError(f"{what} takes {unknown[0][:80]!r}, which nothing computes")
    taken = {name: tensors[name] for name in node.input if name}
    try:
        types = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset, ""),
            node,
            {name: _type(tensor) for name, tensor in taken.items()},
            {
                name: onnx.numpy_helper.from_array(tensor.values, name)
                for name, tensor in taken.items()
                if tensor.values is not None
            },
            opset_imports=[onnx.helper.make_opsetid("", opset)],
        )
    except Exception as error:
        # The errors of onnx share no base class below Exception.
        raise _RefusedError(f"{what} cannot be analysed ({str(error).strip()[:200]})") from error
    fixed = all(tensor.fixed for tensor in taken.values())
    made = {
        name: replace(_inferred(types.get(name), what), fixed=fixed) for name in node.output if name
    }
    return _with_values(node, opset, taken, made)


def _check_attributes(node: Any, what: str) -> None:
    for each in node.attribute:
        if each.HasField("g") or each.graphs:
            raise _RefusedError(f"{what} runs another graph, as loops and branches do")
        odd = ("sparse_tensor", "tp", "ref_attr_name")
        if any(each.HasField(name) for name in odd) or each.sparse_tensors or each.type_protos:
            raise _RefusedError(f"{what} has the attribute {each.name[:80]!r} of an unusual kind")
        for tensor in (*([each.t] if each.HasField("t") else []), *each.tensors):
            _constant(tensor, None)


def _type(tensor: _Tensor) -> Any:
    from onnx import helper

    return helper.make_tensor_type_proto(tensor.kind, tensor.shape)


def _inferred(found: Any, what: str) -> _Tensor:
    if found is None or not found.HasField("tensor_type"):
        raise _RefusedError(f"{what} gives something that is not known in advance")
    known = found.tensor_type
    axes = known.shape.dim
    if not known.HasField("shape") or not all(axis.HasField("dim_value") for axis in axes):
        raise _RefusedError(f"{what} gives a tensor whose size is not known in advance")
    return _tensor(known.elem_type, [axis.dim_value for axis in axes])


def _with_values(
    node: Any, opset: int, taken: Mapping[str, _Tensor], made: dict[str, _Tensor]
) -> dict[str, _Tensor]:
    """Return what a node gives with the values of sizes, where they follow from others."""
    if any(math.prod(tensor.shape) > _SMALL for tensor in made.values()) or len(made) != 1:
        return made
    name, tensor = next(iter(made.items()))
    if node.op_type == "Shape":
        ends = {each.name: each.i for each in node.attribute}
        sizes = taken[node.input[0]].shape[ends.get("start", 0) : ends.get("end")]
        values: NDArray[Any] | None = np.array(sizes, np.int64)
    elif node.op_type == "Constant":
        values = _of_constant(node)
    elif node.op_type in _OF_SIZES and all(each.values is not None for each in taken.values()):
        values = _evaluated(node, opset, {key: each.values for key, each in taken.items()})
    else:
        return made
    fits = values is not None and values.shape == tensor.shape
    return {name: replace(tensor, values=values if fits else None)}


def _of_constant(node: Any) -> NDArray[Any] | None:
    from onnx import helper, numpy_helper

    kinds: dict[str, type] = {"value_int": np.int64, "value_ints": np.int64}
    kinds |= {"value_float": np.float32, "value_floats": np.float32}
    for each in node.attribute:
        if each.name == "value":
            return np.asarray(numpy_helper.to_array(each.t))
        if each.name in kinds:
            return np.array(helper.get_attribute_value(each), kinds[each.name])
    return None


def _evaluated(node: Any, opset: int, values: Mapping[str, Any]) -> NDArray[Any] | None:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    imports = [helper.make_opsetid("", opset)]
    step = helper.make_function("", "step", list(values), list(node.output), [node], imports)
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(step).run(None, dict(values), attributes={})[0]
    except Exception as error:
        # The errors of onnx share no base class below Exception.
        raise _RefusedError(f"its operator {node.op_type!r} cannot be analysed") from error
    # What lies beyond is cast and divided by every runtime in a way of its own.
    usual = bool(np.all(np.isfinite(found) & (np.abs(found) < _LARGEST_AXIS)))
    return np.asarray(found) if usual else None


def _check_names(graph: Any, n: int, tensors: Mapping[str, _Tensor], given: _Tensor) -> None:
    """Raise where outputs are too large, or what the graph says of a tensor is not so."""
    pixels = n * max(_LITTLE, math.prod(given.shape[-2:]))
    most = {"anomaly_map": pixels, "score": pixels, "probabilities": n * _MOST_CLASSES}
    for each in graph.output:
        found = tensors.get(each.name)
        if found is None:
            raise _RefusedError(f"nothing computes its output {each.name[:80]!r}")
        if math.prod(found.shape) > most.get(each.name, _LARGEST_AXIS):
            raise _RefusedError(
                f"its output {each.name} has the shape {found.shape} for an input {given.shape}"
            )
    for each in (*graph.output, *graph.value_info):
        found, said = tensors.get(each.name), each.type.tensor_type
        if found is None or n > 1:
            continue
        sizes = [axis.dim_value if axis.HasField("dim_value") else None for axis in said.shape.dim]
        agrees = not said.HasField("shape") or (
            len(sizes) == len(found.shape)
            and all(size in (None, real) for size, real in zip(sizes, found.shape, strict=True))
        )
        if said.elem_type not in (0, found.kind) or not agrees:
            raise _RefusedError(
                f"it states the shape {sizes} for {each.name[:80]!r}, which has {found.shape}"
            )
