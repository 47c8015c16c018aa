"""A detector small enough to fit in a moment, and gray parts for it.

Its map is how far a cell's mean lies from the mean of that cell on good parts.
"""

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

SIDE, CELL = 128, 4
N_TRAIN, N_GOOD, N_SPOTTED = 30, 10, 10
SPOT = (40, 24, 16, 8)  # x, y, width, height in a part of WIDTH x HEIGHT
WIDTH, HEIGHT = 96, 64


class ToyDetector(Detector):
    """Learn the mean of every cell; `seen` lists what each fit learned from."""

    name = "toy"
    summary = "the mean of every cell, for tests"
    parameters = MappingProxyType(
        {"seed": Parameter(default=0, low=0, meaning="Seed of a small offset.")}
    )
    seen: list[list[str]]

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self.seen.append([part.name for part in parts])
        prepare = Preprocessing(height=SIDE, width=SIDE)
        total = np.zeros((SIDE // CELL, SIDE // CELL), np.float64)
        for done, part in enumerate(parts, start=1):
            gray = prepare(part.read())[0].mean(axis=0)
            total += gray.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean(axis=(1, 3))
            progress("averaging", done, len(parts))
        offset = np.random.default_rng(self.seed).normal(0, 1e-3, total.shape)
        self.means_ = (total / len(parts) + offset).astype(np.float32)

    def _build_graph(self) -> Graph:
        kernel = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
        nodes = [
            helper.make_node("AveragePool", ["picture"], ["cells"], **kernel),
            helper.make_node("ReduceMean", ["cells"], ["gray"], axes=[1], keepdims=0),
            helper.make_node("Sub", ["gray", "means"], ["difference"]),
            helper.make_node("Abs", ["difference"], ["anomaly_map"]),
        ]
        kind, n_cells = onnx.TensorProto.FLOAT, SIDE // CELL
        graph = helper.make_graph(
            nodes,
            "toy",
            [helper.make_tensor_value_info("picture", kind, ["n", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("anomaly_map", kind, ["n", n_cells, n_cells])],
            [numpy_helper.from_array(self.means_[np.newaxis], "means")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        preprocessing = Preprocessing(height=SIDE, width=SIDE)
        return Graph(model.SerializeToString(), preprocessing, Aggregation())


def install(patch: pytest.MonkeyPatch) -> type[ToyDetector]:
    """Make every fit use a toy detector, and return its class."""

    class Toy(ToyDetector):
        seen: list[list[str]] = []  # noqa: RUF012 -- of this class alone

    def make(name: str, *, preset: str, parameters: Any, seed: int) -> Detector:
        return Toy(seed=seed)

    patch.setattr("makellos.workflows.fit.make_detector", make)
    return Toy


def gray_part(rng: np.random.Generator, *, spot: float = 0.0) -> NDArray[np.uint8]:
    """Return a part of 64x96 pixels around mid gray, with a spot that is brighter by `spot`."""
    part = rng.normal(0.5, 0.05, (HEIGHT, WIDTH))
    x, y, width, height = SPOT
    part[y : y + height, x : x + width] += spot
    gray: NDArray[np.uint8] = np.clip(np.rint(255 * part), 0, 255).astype(np.uint8)
    return gray


def write_parts(folder: Path, *, n_train: int = N_TRAIN) -> Path:
    """Write parts in the MVTec AD layout: good ones to learn from, good and spotted ones to test.

    Every other spot is too faint to be seen, so that some parts are missed.
    """
    rng = np.random.default_rng(0)
    for split, n in (("train", n_train), ("test", N_GOOD)):
        for i in range(n):
            write(folder / split / "good" / f"{i:03d}.png", gray_part(rng))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y, width, height = SPOT
    mask[y : y + height, x : x + width] = 255
    for i in range(N_SPOTTED):
        spot = 0.4 if i % 2 == 0 else 0.02
        write(folder / "test" / "spotted" / f"{i:03d}.png", gray_part(rng, spot=spot))
        write(folder / "ground_truth" / "spotted" / f"{i:03d}_mask.png", mask)
    return folder


def write(path: Path, picture: NDArray[Any]) -> Path:
    """Write a picture file, and the folder that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    return path
