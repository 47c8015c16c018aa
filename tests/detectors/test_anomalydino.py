"""AnomalyDINO against brute force, on a backbone that is known."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_parts import EXACT, MakeParts, draw, layers_of, map_of
from known_backbone import Floats, known_backbone, patches

from makellos.data.parts import Part
from makellos.detectors.anomalydino import AnomalyDINO
from makellos.detectors.networks import feature_extractor
from makellos.detectors.patches import embeddings
from makellos.detectors.patches.rotations import turned
from makellos.errors import ConfigurationError, MissingRuntimeError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Put the known backbone in place of a transformer; return what was asked of it."""
    found: list[object] = []

    def export(
        name: str, *, weights: str, layers: object, height: int, width: int, norm: bool
    ) -> bytes:
        found.extend([name, layers, norm])
        return known_backbone(height, width)

    monkeypatch.setattr(embeddings, "export_backbone", export)
    monkeypatch.setattr(embeddings, "available_engines", lambda: tuple(EXACT))
    monkeypatch.setattr(feature_extractor, "transformer_form", lambda network: (12, 16))
    return found


def tokens_of(picture: np.ndarray) -> Floats:
    tokens = patches(layers_of(picture)[-1])
    return tokens / np.linalg.norm(tokens, axis=1, keepdims=True)


def tokens_of_parts(parts: list[Part], n_turns: int) -> Floats:
    turns = [360 * turn / n_turns for turn in range(n_turns)]
    return np.concatenate([tokens_of(turned(part.read(), t)) for part in parts for t in turns])


@pytest.mark.parametrize("n_turns", [1, 4])
def test_map_is_one_minus_the_highest_cosine(
    n_turns: int, make_parts: MakeParts, asked: list[object]
) -> None:
    parts = make_parts(3)
    graph = AnomalyDINO(image_size=64, n_turns=n_turns).fit(parts).graph()
    picture = draw(7, 0)
    # The bank is kept in half precision.
    bank = tokens_of_parts(parts, n_turns).astype(np.float16).astype(np.float64)
    cosines = tokens_of(picture) @ (bank / np.linalg.norm(bank, axis=1, keepdims=True)).T
    expected = (1 - cosines.max(1)).reshape(4, 4)
    np.testing.assert_allclose(map_of(graph, picture), expected, rtol=2e-2, atol=2e-6)
    assert asked == ["vit_small_patch14_dinov2", (-1,), True]


def test_known_parts_are_at_no_distance_in_every_turn(
    make_parts: MakeParts, asked: list[object]
) -> None:
    parts = make_parts(3)
    graph = AnomalyDINO(image_size=64, n_turns=4).fit(parts).graph()
    picture = parts[1].read()
    for turn in range(4):
        assert float(map_of(graph, np.ascontiguousarray(np.rot90(picture, turn))).max()) < 1e-5
    assert float(map_of(graph, draw(7, 0)).max()) > 1e-3


def test_score_is_the_mean_of_the_highest_hundredth(
    make_parts: MakeParts, asked: list[object]
) -> None:
    aggregation = AnomalyDINO(image_size=64).fit(make_parts(2)).graph().aggregation
    values = np.arange(400, dtype=np.float32).reshape(20, 20)
    assert aggregation(values) == pytest.approx(np.mean([399, 398, 397, 396]))


def test_many_tokens_are_thinned_out(make_parts: MakeParts, asked: list[object]) -> None:
    parts = make_parts(6)
    detector = AnomalyDINO(image_size=64, n_turns=1, memory_bank_size=20).fit(parts)
    bank = detector.memory_bank_.astype(np.float64)
    assert bank.shape == (20, 4)
    every = tokens_of_parts(parts, 1)
    distances = np.linalg.norm(bank[:, None] - every[None], axis=2).min(1)
    assert distances.max() < 2e-3
    assert len(np.unique(bank, axis=0)) == 20


def test_missing_weights_name_the_ways_to_them(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    with pytest.raises(MissingRuntimeError, match=r"weights of vit_small_.* --set weights=FILE"):
        AnomalyDINO(image_size=56).fit(make_parts(2))


def test_convolutional_backbones_are_refused(make_parts: MakeParts) -> None:
    with pytest.raises(ConfigurationError, match="resnet18 is not a plain vision transformer"):
        AnomalyDINO(backbone="resnet18").fit(make_parts(2))
