"""Parts and a backbone that tests of detectors share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from known_backbone import known_backbone
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.detectors import embeddings
from makellos.inspection import write_picture
from makellos.inspection.engines import available_engines

Picture = NDArray[np.uint8]
MakeParts = Callable[..., list[Part]]


def draw(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return a picture of soft coloured clouds."""
    small = rng.uniform(0, 255, (height // 8, width // 8, 3)).astype(np.float32)
    return (
        cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        .clip(0, 255)
        .astype(np.uint8)
    )


@pytest.fixture
def make_parts(tmp_path: Path) -> MakeParts:
    """Return a function that writes pictures of clouds and gives them as parts."""

    def make(n_parts: int, height: int = 64, width: int = 64, *, seed: int = 0) -> list[Part]:
        parts = []
        for i in range(n_parts):
            path = tmp_path / f"{seed}_{i:02d}.png"
            write_picture(path, draw(np.random.default_rng([seed, i]), height, width))
            parts.append(Part(path=path, name=path.name))
        return parts

    return make


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the backbone of known functions in place of every network, and compute in f32."""

    def export(name: str, *, weights: str, layers: object, height: int, width: int) -> bytes:
        return known_backbone(height, width)

    exact = tuple(choice for choice in available_engines() if choice.precision == "f32")
    monkeypatch.setattr(embeddings, "export_backbone", export)
    monkeypatch.setattr(embeddings, "available_engines", lambda: exact)
