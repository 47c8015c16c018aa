"""The `anogan` detector: what it hands to the file, how it scores, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.detectors.anogan import AnoGAN
from makellos.detectors.graph import Graph
from makellos.drawing.overlays import write_picture
from makellos.errors import ConfigurationError
from makellos.inspection.engines import Engine, EngineChoice

F32 = EngineChoice("torch", "f32")
SMALL = {
    "latent_dim": 5,
    "base_width": 2,
    "epochs": 2,
    "batch_size": 4,
    "n_steps": 20,
    "n_candidates": 16,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread: threads that wait for each other take longer than such networks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write(folder: Path, shape: tuple[int, ...], n: int = 8) -> list[Part]:
    rng = np.random.default_rng(0)
    parts = []
    for i in range(n):
        picture = np.full(shape, 40, np.uint8)
        row, column = rng.integers(2, 8, 2)
        picture[row : row + 8, column : column + 8] = 200 + rng.integers(0, 50)
        path = folder / f"{i}.png"
        write_picture(path, picture)
        parts.append(Part(source=path, name=path.name))
    return parts


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> AnoGAN:
    return AnoGAN(**SMALL).fit(write(tmp_path_factory.mktemp("good"), (18, 21)))


def opened(graph: Graph, **changed: float | bool) -> Engine:
    assert graph.external is not None
    scoring = replace(graph.external, parameters={**graph.external.parameters, **changed})
    return AnoGAN.open_engine(scoring, graph.preprocessing.shape, F32)


def batch(n: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((n, *shape), np.float32)


def test_size_and_channels_follow_small_parts(fitted: AnoGAN):
    assert fitted.graph().preprocessing.shape == (1, 18, 21)


def test_colour_and_size_can_be_chosen(tmp_path: Path):
    parts = write(tmp_path, (30, 30, 3))
    graph = AnoGAN(**{**SMALL, "image_size": 17, "channels": 3}).fit(parts).graph()
    assert graph.preprocessing.shape == (3, 17, 17)
    outputs = opened(graph).run(batch(2, (3, 17, 17)))
    assert outputs["anomaly_map"].shape == (2, 17, 17)
    assert outputs["reconstruction"].shape == (2, 3, 17, 17)


def test_graph_scores_with_torch_and_makes_pictures_without(fitted: AnoGAN):
    graph = fitted.graph()
    assert graph.onnx == b""
    assert graph.external is not None
    assert graph.external.detector == "anogan"
    assert all(values.dtype == np.float32 for values in graph.external.weights.values())
    assert graph.generator is not None
    session = onnxruntime.InferenceSession(graph.generator, providers=["CPUExecutionProvider"])
    latent = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    (made,) = session.run(["picture"], {"latent": latent})
    with torch.no_grad():
        expected = fitted.generator_(torch.from_numpy(latent)).numpy()
    np.testing.assert_allclose(made, expected, atol=1e-5)
    assert made.shape == (3, 1, 18, 21)


def test_engine_gives_map_score_and_reconstruction(fitted: AnoGAN):
    engine = opened(fitted.graph())
    assert engine.choice == F32
    assert engine.batch_size == 32
    parts = batch(35, (1, 18, 21))
    outputs = engine.run(parts)
    shapes = {name: values.shape for name, values in outputs.items()}
    assert shapes == {
        "anomaly_map": (35, 18, 21),
        "score": (35,),
        "reconstruction": (35, 1, 18, 21),
    }
    assert {values.dtype for values in outputs.values()} == {np.dtype(np.float32)}
    alone = engine.run(parts[34:])
    np.testing.assert_allclose(alone["score"], outputs["score"][34:], rtol=1e-5)


def test_score_is_the_loss_relative_to_contrast(fitted: AnoGAN):
    graph = fitted.graph()
    parts = batch(3, (1, 18, 21))
    parts[1] = 0.5 + 0.5 * (parts[1] - 0.5)
    parts[2] = 0.5  # no contrast at all
    plain = opened(graph, equalise=False).run(parts)["score"]
    relative = opened(graph, equalise=True).run(parts)["score"]
    deviation = np.abs(parts - parts.mean((1, 2, 3), keepdims=True)).mean((1, 2, 3))
    share = np.minimum(deviation / fitted.contrast_, 1)  # more contrast excuses nothing
    np.testing.assert_allclose(relative[:2], plain[:2] / share[:2], rtol=1e-4)
    np.testing.assert_allclose(relative[2], plain[2] / 0.1, rtol=1e-4)


@pytest.mark.parametrize(
    ("side", "score", "by_map"),
    [(20, "auto", False), (20, "map_maximum", True), (72, "auto", True), (72, "picture", False)],
)
def test_larger_parts_are_scored_by_a_map(
    tmp_path: Path, side: int, score: str, *, by_map: bool
) -> None:
    detector = AnoGAN(**SMALL, image_size=16, score=score).fit(write(tmp_path, (side, side)))
    engine = opened(detector.graph())
    found = engine.run(batch(2, (1, 16, 16)))
    assert engine.reconstructs
    assert ("score" not in found) is by_map
    assert detector.graph().map_name == ("residual, relative to usual" if by_map else "residual")


def test_the_map_is_counted_from_the_maps_of_parts_learned_from(tmp_path: Path):
    parts = write(tmp_path, (20, 20))
    detector = AnoGAN(**SMALL, score="map_maximum").fit(parts)
    graph = detector.graph()
    assert graph.external is not None
    pictures = np.concatenate([graph.preprocessing(part.read()) for part in parts])
    maps = AnoGAN.open_engine(graph.external, (1, 20, 20), AnoGAN.engines()[0]).run(pictures)
    # What is usual around a place, relative to the mean over the picture.
    assert maps["anomaly_map"].mean() == pytest.approx(1, abs=0.1)
    assert maps["anomaly_map"].mean(0).min() > 0
    weights = {**graph.external.weights, "residual.usual.usual": np.zeros((3, 3), np.float32)}
    with pytest.raises(ConfigurationError, match="does not fit pictures of"):
        AnoGAN.open_engine(replace(graph.external, weights=weights), (1, 20, 20), F32)


def test_a_part_that_the_generator_makes_scores_below_noise(fitted: AnoGAN):
    engine = opened(fitted.graph(), n_steps=200, search_learning_rate=0.05)
    with torch.no_grad():
        made = fitted.generator_(torch.randn(4, 5, generator=torch.Generator().manual_seed(3)))
    scores = engine.run(np.concatenate([made.numpy(), batch(4, (1, 18, 21))]))["score"]
    assert scores[:4].max() < 0.3 * scores[4:].min()


def test_opening_an_engine_leaves_the_global_generator_alone(fitted: AnoGAN):
    graph = fitted.graph()
    state = torch.get_rng_state()
    opened(graph)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_of_another_width_are_refused(fitted: AnoGAN):
    with pytest.raises(ConfigurationError, match="base_width 3"):
        opened(fitted.graph(), base_width=3)


@pytest.mark.parametrize(("name", "value"), [("channels", 2), ("image_size", 15)])
def test_channels_and_sizes_that_there_are_not_are_refused(tmp_path: Path, name: str, value: int):
    with pytest.raises(ConfigurationError, match=f"{name} is {value}"):
        AnoGAN(**{**SMALL, name: value}).fit(write(tmp_path, (20, 20), 2))
