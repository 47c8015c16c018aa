"""Graphs are checked before a runtime opens them: what reads elsewhere or grows is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import (
    MAP_SHAPE,
    SHAPE,
    USUAL,
    cell_graph,
    cell_nodes,
    forge,
    onnx_graph,
    score_graph,
    small_members,
)

from makellos.errors import ModelFileError
from makellos.inspection import Inspector
from makellos.inspection.engines import EngineChoice, available_engines, open_engine
from makellos.inspection.generator import Generator
from makellos.inspection.graph_check import WEIGHTS, check_graph

Change = Callable[[Any], None]
STORED = sorted((Path(__file__).parent / "version_0_1").glob("*.makellos"))


def changed(change: Change) -> bytes:
    """Return the usual graph with a change of its ONNX."""
    model = onnx.load_from_string(cell_graph())
    change(model)
    return bytes(model.SerializeToString())


def grown(*nodes: onnx.NodeProto, **constants: Any) -> bytes:
    """Return a graph that computes ``more`` of ``distance`` N×h×w and gives its mean as score."""
    kept = {name: np.asarray(values) for name, values in constants.items()}
    flat = helper.make_node("ReduceMean", ["more"], ["score"], keepdims=0)
    return onnx_graph([*cell_nodes(), *nodes, flat], ["score"], {"usual": USUAL, **kept})


def external(tensor: Any, **place: object) -> None:
    """Let a constant lie somewhere else; keywords are ONNX's keys."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def lying_at(**place: object) -> bytes:
    size = {"offset": 0, "length": USUAL.nbytes}
    return changed(lambda model: external(model.graph.initializer[0], **{**size, **place}))


def lying_twice(model: Any) -> None:
    external(model.graph.initializer[0], location=WEIGHTS, offset=0, length=USUAL.nbytes)
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "/etc/hostname"


def half_said(model: Any) -> None:
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "*/_ORT_MEM_ADDR_/*"


def in_an_attribute(model: Any) -> None:
    tensor = numpy_helper.from_array(USUAL, "value")
    external(tensor, location="*/_ORT_MEM_ADDR_/*", offset=4096, length=USUAL.nbytes)
    node = helper.make_node("Constant", [], ["spare"])
    node.attribute.append(helper.make_attribute("value", tensor))
    model.graph.node.insert(0, node)


def with_function(model: Any) -> None:
    identity = helper.make_node("Identity", ["x"], ["y"])
    opset = [helper.make_opsetid("", 13)]
    model.functions.append(helper.make_function("own", "Twice", ["x"], ["y"], [identity], opset))
    model.opset_import.append(helper.make_opsetid("own", 1))


def with_unknown_field(model: Any) -> None:
    model.MergeFromString(b"\xfa\x3f\x03abc")


def short_constant(model: Any) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def of_texts(model: Any) -> None:
    tensor = helper.make_tensor("texts", TensorProto.STRING, [1], [b"x"])
    model.graph.initializer.append(tensor)


def said_wrongly(model: Any) -> None:
    model.graph.value_info.append(
        helper.make_tensor_value_info("gray", TensorProto.FLOAT, ["n", 1, 1])
    )


def branch(name: str) -> onnx.GraphProto:
    """Return a graph to put into another, which gives its ``picture`` back."""
    node = helper.make_node("Identity", ["picture"], [name])
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *SHAPE])
    return helper.make_graph([node], name, [], [value])


def looping(operator: str, inputs: list[str], bodies: dict[str, str], **attributes: Any) -> bytes:
    graphs = {key: branch(name) for key, name in bodies.items()}
    node = helper.make_node(operator, inputs, ["more"], **graphs, **attributes)
    return grown(node, condition=np.array(True), steps=np.array(1 << 60))


REFUSED = {
    "memory of the process": lying_at(location="*/_ORT_MEM_ADDR_/*", offset=4096),
    "another file": lying_at(location="/etc/hostname"),
    "a file beside": lying_at(location="manifest.json"),
    "the weights by a detour": lying_at(location=f"../x/{WEIGHTS}"),
    "weights that are not there": lying_at(location=WEIGHTS),
    "a place that is said twice": changed(lying_twice),
    "a place that is half said": changed(half_said),
    "a place in an attribute": changed(in_an_attribute),
    "a constant of too few bytes": changed(short_constant),
    "texts": changed(of_texts),
    "functions of its own": changed(with_function),
    "what ONNX does not know": changed(with_unknown_field),
    "a size that is not so": changed(said_wrongly),
    "two versions": changed(lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 7))),
    "training": changed(lambda m: m.training_info.add()),
    "sparse constants": changed(lambda m: m.graph.sparse_initializer.add()),
    "a constant twice": changed(lambda m: m.graph.initializer.append(m.graph.initializer[0])),
    "a result twice": changed(lambda m: m.graph.node.append(m.graph.node[0])),
    "a circle": changed(lambda m: m.graph.node[0].input.__setitem__(0, "distance")),
    "an output of nothing": changed(lambda m: m.graph.output[0].__setattr__("name", "other")),
    "no input": changed(lambda m: m.graph.input.pop()),
    "no graph": changed(lambda m: m.ClearField("graph")),
    "no bytes": b"",
    "If": looping("If", ["condition"], {"then_branch": "a", "else_branch": "b"}),
    "Loop": looping("Loop", ["steps", "condition", "picture"], {"body": "a"}),
    "Scan": looping("Scan", ["picture"], {"body": "a"}, num_scan_inputs=1),
    "Expand": grown(
        helper.make_node("Expand", ["one", "to"], ["more"]),
        one=np.float32([[[1]]]),
        to=[1, 20_000, 20_000],
    ),
    "Tile": grown(helper.make_node("Tile", ["distance", "by"], ["more"]), by=[1, 5000, 5000]),
    "ConstantOfShape": grown(
        helper.make_node("ConstantOfShape", ["to"], ["more"]), to=[20_000, 20_000]
    ),
    "a size beyond numbers": grown(
        helper.make_node("ConstantOfShape", ["to"], ["more"]), to=[1 << 40, 1 << 40]
    ),
    "Range": grown(
        helper.make_node("Range", ["from", "to", "by"], ["more"]),
        **{"from": np.float32(0), "to": np.float32(1e9), "by": np.float32(1)},
    ),
    "Range by 0": grown(
        helper.make_node("Range", ["from", "to", "by"], ["more"]),
        **{"from": np.int64(0), "to": np.int64(9), "by": np.int64(0)},
    ),
    "Pad": grown(
        helper.make_node("Pad", ["distance", "by"], ["more"]), by=[0, 0, 0, 0, 20_000, 20_000]
    ),
    "Resize": grown(
        helper.make_node("Resize", ["cells", "", "scales"], ["more"]),
        scales=np.float32([1, 1, 2000, 2000]),
    ),
    "ConvTranspose": grown(
        helper.make_node("ConvTranspose", ["cells", "filter"], ["more"], strides=[2000, 2000]),
        filter=np.ones((3, 1, 1, 1), np.float32),
    ),
    "a sum that spreads": grown(
        helper.make_node("Reshape", ["picture", "tall"], ["t"]),
        helper.make_node("Reshape", ["picture", "wide"], ["w"]),
        helper.make_node("Add", ["t", "w"], ["more"]),
        tall=[-1, 1],
        wide=[1, -1],
    ),
    "a product that spreads": grown(
        helper.make_node("Reshape", ["picture", "tall"], ["t"]),
        helper.make_node("Reshape", ["picture", "wide"], ["w"]),
        helper.make_node("MatMul", ["t", "w"], ["more"]),
        tall=[-1, 1],
        wide=[1, -1],
    ),
    "many large ones at once": grown(
        *(helper.make_node("Expand", ["distance", "to"], [f"part{i}"]) for i in range(8)),
        helper.make_node("Sum", [f"part{i}" for i in range(8)], ["more"]),
        to=[200, 1000, *MAP_SHAPE],
    ),
    "a size made of the picture": grown(
        helper.make_node("NonZero", ["distance"], ["more"]),
    ),
    "a size computed of the picture": grown(
        helper.make_node("ReduceMax", ["picture"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "tall"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["more"]),
        tall=[1],
    ),
    "a size computed beyond 31 bits": grown(
        helper.make_node("Mul", ["big", "big"], ["size"]),
        helper.make_node("Mod", ["size", "small"], ["rest"]),
        helper.make_node("ConstantOfShape", ["rest"], ["more"]),
        big=[3 << 31],
        small=[7],
    ),
    "a map larger than the picture": onnx_graph(
        [*cell_nodes(), helper.make_node("Tile", ["distance", "by"], ["anomaly_map"])],
        {"anomaly_map": None},
        {"usual": USUAL, "by": np.array([1, 99, 99])},
    ),
    "steps of 0": grown(
        helper.make_node("AveragePool", ["cells"], ["more"], kernel_shape=[2, 2], strides=[0, 0])
    ),
    "blocks of 0": grown(helper.make_node("DepthToSpace", ["cells"], ["more"], blocksize=0)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_graph_is_refused_before_a_runtime_opens_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a runtime has opened the graph")

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    monkeypatch.setattr(openvino.Core, "read_model", opened)
    for choice in available_engines():
        with pytest.raises(ModelFileError, match="cannot be run: "):
            open_engine(REFUSED[name], choice, shape=SHAPE)
    with pytest.raises(ModelFileError, match="cannot be run: "):
        Generator(REFUSED[name])


@pytest.mark.parametrize("graph", [cell_graph(), score_graph()])
def test_usual_graphs_are_opened(graph: bytes) -> None:
    check_graph(graph, SHAPE)
    check_graph(graph, SHAPE, together=16)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_models_are_opened(path: Path) -> None:
    Inspector(path)


@pytest.mark.parametrize("choice", available_engines(), ids=str)
@pytest.mark.parametrize("name", ["memory of the process", "another file", "Loop", "Tile"])
def test_model_file_with_such_a_graph_is_refused(
    name: str, choice: EngineChoice, tmp_path: Path
) -> None:
    path = forge(tmp_path / "m.makellos", {**small_members(), "graph.onnx": REFUSED[name]})
    with pytest.raises(ModelFileError, match="cannot be run: "):
        Inspector(path, engine=choice)


def test_constants_lie_whole_in_the_weights(tmp_path: Path) -> None:
    members = small_members()
    whole = onnx.load_from_string(members["graph.onnx"])
    for key, value in {"offset": len(members[WEIGHTS]), "length": USUAL.nbytes - 4}.items():
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        entry = next(e for e in model.graph.initializer[0].external_data if e.key == key)
        entry.value = str(value)
        path = forge(tmp_path / "m.makellos", {**members, "graph.onnx": model.SerializeToString()})
        with pytest.raises(ModelFileError, match="does not fit into the weights"):
            Inspector(path)
