"""Pictures of soft coloured clouds as parts, their known layers, and the map a graph gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from known_backbone import Floats, known_layers
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.pictures import read_picture
from makellos.detectors import Graph
from makellos.drawing.overlays import write_picture
from makellos.inspection.engines import EngineChoice, available_engines, open_engine

EXACT = [choice for choice in available_engines() if choice.precision == "f32"]
MakeParts = Callable[..., list[Part]]


def draw(seed: int, number: int, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    """Return a picture of soft coloured clouds, another one for every number."""
    rng = np.random.default_rng([seed, number])
    small = rng.uniform(0, 255, (height // 8, width // 8, 3)).astype(np.float32)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels: NDArray[np.uint8] = large.clip(0, 255).astype(np.uint8)
    return pixels


def rewrite(part: Part, picture: NDArray[np.uint8]) -> None:
    """Put another picture into a part's file."""
    write_picture(part.path, picture)


def layers_of(picture: NDArray[Any]) -> list[Floats]:
    """Return what the known backbone gives for a picture."""
    batch = picture.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    return known_layers(batch / np.float32(255))


def layers_of_parts(parts: Sequence[Part]) -> list[list[Floats]]:
    """Return what the known backbone gives for each part."""
    return [layers_of(read_picture(part.path)) for part in parts]


def map_of(
    graph: Graph, picture: NDArray[Any], engine: EngineChoice = EXACT[0]
) -> NDArray[np.float32]:
    """Return the anomaly map that a graph gives for a picture."""
    opened = open_engine(graph.onnx, engine, shape=graph.preprocessing.shape)
    return opened.run(graph.preprocessing(picture))["anomaly_map"][0]
