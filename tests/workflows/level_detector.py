"""A detector that commutes with shifts: how far a cell's mean lies from the usual gray level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import Detector, Graph, Parameter
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.preprocessing import Preprocessing

CELL = 8


class LevelDetector(Detector):
    """Learn the mean gray level; `seen` lists the parts, sizes and groups of each fit."""

    name = "level"
    summary = "the usual gray level, for tests"
    parameters = MappingProxyType(
        {"seed": Parameter(default=0, low=0, meaning="Not used, as nothing is drawn.")}
    )
    seen: list[list[tuple[str, tuple[int, ...], str | None]]]

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        pictures = [part.read() for part in parts]
        self.seen.append(
            [(part.name, p.shape, part.group) for part, p in zip(parts, pictures, strict=True)]
        )
        self.level_ = float(np.mean([picture.mean() / 255 for picture in pictures]))
        self.size_ = (pictures[0].shape[0] // CELL * CELL, pictures[0].shape[1] // CELL * CELL)

    def _build_graph(self) -> Graph:
        height, width = self.size_
        kind = onnx.TensorProto.FLOAT
        pool = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
        graph = helper.make_graph(
            [
                helper.make_node("AveragePool", ["picture"], ["cells"], **pool),
                helper.make_node("ReduceMean", ["cells"], ["gray"], axes=[1], keepdims=0),
                helper.make_node("Sub", ["gray", "level"], ["difference"]),
                helper.make_node("Abs", ["difference"], ["anomaly_map"]),
            ],
            "level",
            [helper.make_tensor_value_info("picture", kind, ["n", 3, height, width])],
            [
                helper.make_tensor_value_info(
                    "anomaly_map", kind, ["n", height // CELL, width // CELL]
                )
            ],
            [numpy_helper.from_array(np.float32(self.level_), "level")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        preprocessing = Preprocessing(height=height, width=width)
        return Graph(model.SerializeToString(), preprocessing, Aggregation())


def install(patch: pytest.MonkeyPatch) -> type[LevelDetector]:
    """Make every fit use a level detector, and return its class."""

    class Level(LevelDetector):
        seen: list[Any] = []  # noqa: RUF012 -- of this class alone

    def make(name: str, *, preset: str, parameters: Any, seed: int) -> Detector:
        return Level(seed=seed)

    patch.setattr("makellos.workflows.fit.make_detector", make)
    return Level


def picture(height: int, width: int, seed: int, spots: Sequence[Any] = ()) -> NDArray[np.uint8]:
    """Return a noisy gray picture; a spot is x, y, side and by how much it is brighter."""
    gray = np.random.default_rng(seed).normal(120, 8, (height, width))
    for x, y, side, more in spots:
        gray[y : y + side, x : x + side] += more
    return np.clip(np.rint(gray), 0, 255).astype(np.uint8)


def write_pictures(folder: Path, n: int, size: tuple[int, int], *, first: int = 0) -> Path:
    """Write good pictures of height and width into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        cv2.imwrite(str(folder / f"{i:03d}.png"), picture(*size, seed=first + i))
    return folder
