"""Small models made by hand: the map is how far the mean colour of a cell is from mid gray."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from makellos.inspection.manifest import Manifest
from makellos.models import assemble, pack_graph, write_model

HEIGHT, WIDTH, CELL = 128, 192, 8
SHAPE = (3, HEIGHT, WIDTH)
MAP_SHAPE = (HEIGHT // CELL, WIDTH // CELL)
# Mid gray lies at a half; the graph keeps it per cell, so that it has a tensor worth packing.
USUAL = np.full((1, *MAP_SHAPE), 0.5, np.float32)


def onnx_graph(
    nodes: list[onnx.NodeProto],
    outputs: Mapping[str, Any] | list[str],
    constants: Mapping[str, NDArray[Any]] | None = None,
    *,
    inputs: Mapping[str, list[Any]] | None = None,
    kind: int = onnx.TensorProto.FLOAT,
) -> bytes:
    """Return an ONNX graph of `nodes`, with the input ``picture`` unless others are named."""
    float32 = onnx.TensorProto.FLOAT
    shapes = dict(outputs) if isinstance(outputs, Mapping) else dict.fromkeys(outputs)
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, shape in (inputs or {"picture": ["n", *SHAPE]}).items()
        ],
        [helper.make_tensor_value_info(name, float32, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def cell_nodes() -> list[onnx.NodeProto]:
    """Return the nodes from ``picture`` to ``distance`` N×h×w."""
    kernel = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
    return [
        helper.make_node("AveragePool", ["picture"], ["cells"], **kernel),
        helper.make_node("ReduceMean", ["cells"], ["gray"], axes=[1], keepdims=0),
        helper.make_node("Sub", ["gray", "usual"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
    ]


def cell_graph(usual: NDArray[np.float32] = USUAL) -> bytes:
    """Return a graph whose ``anomaly_map`` is |mean colour of a cell - usual|."""
    nodes = [*cell_nodes(), helper.make_node("Identity", ["distance"], ["anomaly_map"])]
    return onnx_graph(nodes, {"anomaly_map": ["n", *MAP_SHAPE]}, {"usual": usual})


def score_graph() -> bytes:
    """Return a graph without a map: its ``score`` is the largest distance."""
    nodes = [
        *cell_nodes(),
        helper.make_node("ReduceMax", ["distance"], ["score"], axes=[1, 2], keepdims=0),
    ]
    return onnx_graph(nodes, {"score": ["n"]}, {"usual": USUAL})


def manifest(**changes: Any) -> Manifest:
    """Return the manifest of a model that rejects what is more than 0.1 off mid gray."""
    data: dict[str, Any] = {
        "created": "2026-01-31T12:00:00+00:00",
        "detector": {"name": "cells", "parameters": {"cell": CELL}},
        "preprocessing": {"height": HEIGHT, "width": WIDTH},
        "aggregation": {"name": "maximum"},
        "engine": {"runtime": "onnxruntime", "precision": "f32"},
        "calibration": {
            "scores": [(i + 1) / 1000 for i in range(100)],
            "map_maxima": [(i + 1) / 1000 for i in range(100)],
            "asked": 0.01,
            "method": "held out",
        },
        "training": {
            "data": "cells",
            "layout": "flat",
            "n_good": 100,
            "n_learned": 0,
            "fingerprint": "0" * 64,
            "seed": 0,
            "fit_seconds": 0.1,
        },
        "golden": [
            {"file": "golden/00.png", "score": 0.0, "verdict": "ok"},
            {"file": "golden/01.png", "score": 0.5, "verdict": "reject"},
        ],
        "versions": {},
        "members": {},
    }
    return Manifest.model_validate({**data, **changes})


def golden_pictures() -> dict[str, NDArray[np.uint8]]:
    """Return a mid gray golden picture (within rounding) and one with a white cell."""
    good = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
    bad = good.copy()
    bad[16:24, 32:40] = (255, 255, 254)
    return {"golden/00.png": good, "golden/01.png": bad}


def small_members(graph: bytes | None = None) -> dict[str, bytes]:
    """Return the members of a small model, without its manifest."""
    return assemble(pack_graph(graph or cell_graph()), golden_pictures())


def write_small_model(path: Path, graph: bytes | None = None, **changes: Any) -> Path:
    """Write a small model with `graph` and manifest fields changed."""
    write_model(path, manifest(**changes), small_members(graph))
    return path


def forge(
    path: Path,
    members: Mapping[str, bytes] | list[tuple[str, bytes]],
    data: Mapping[str, Any] | bytes | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
    first: bool = True,
) -> Path:
    """Write a zip of any members and any manifest, with hashes that are right unless given."""
    pairs = list(members.items()) if isinstance(members, Mapping) else members
    if not isinstance(data, bytes):
        text = json.loads(manifest().model_dump_json()) | {
            "members": {
                name: {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}
                for name, raw in pairs
            }
        }
        data = json.dumps(text | dict(data or {})).encode()
    pairs = [("manifest.json", data), *pairs] if first else pairs
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, raw in pairs:
            archive.writestr(zipfile.ZipInfo(name), raw, compression)
    return path


def gray_picture(level: float, shape: tuple[int, ...] = (HEIGHT, WIDTH, 3)) -> NDArray[np.uint8]:
    """Return a picture of one gray level in [0, 1]."""
    return np.full(shape, round(255 * level), np.uint8)


def spotted_picture(
    row: int, column: int, shape: tuple[int, ...] = (HEIGHT, WIDTH, 3)
) -> NDArray[np.uint8]:
    """Return a mid gray picture, the given map cell of which is white."""
    picture = gray_picture(0.5, shape)
    height, width = shape[0] / MAP_SHAPE[0], shape[1] / MAP_SHAPE[1]
    rows = slice(round(row * height), round((row + 1) * height))
    picture[rows, round(column * width) : round((column + 1) * width)] = 255
    return picture
