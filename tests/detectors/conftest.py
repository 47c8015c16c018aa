"""Parts and a backbone that tests of detectors share."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_parts import EXACT, MakeParts, draw
from known_backbone import known_backbone

from makellos.data.parts import Part
from makellos.detectors.patches import embeddings
from makellos.drawing.overlays import write_picture


@pytest.fixture
def make_parts(tmp_path: Path) -> MakeParts:
    """Return a function that writes pictures of clouds and gives them as parts."""

    def make(n_parts: int, height: int = 64, width: int = 64) -> list[Part]:
        parts = []
        for i in range(n_parts):
            path = tmp_path / f"cloud_{i:02d}.png"
            write_picture(path, draw(0, i, height, width))
            parts.append(Part(source=path, name=path.name))
        return parts

    return make


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the backbone of known functions in place of every network, and compute in f32."""

    def export(name: str, *, weights: str, layers: object, height: int, width: int) -> bytes:
        return known_backbone(height, width)

    monkeypatch.setattr(embeddings, "export_backbone", export)
    monkeypatch.setattr(embeddings, "available_engines", lambda: tuple(EXACT))
