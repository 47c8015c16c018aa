"""f-AnoGAN from pictures to a graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.detectors.fanogan import FAnoGAN
from makellos.detectors.graph import Graph
from makellos.detectors.registry import make_detector
from makellos.errors import ConfigurationError
from makellos.training.settings import Training

SMALL: dict[str, Any] = {
    "base_width": 4,
    "latent_dim": 6,
    "epochs": 120,
    "encoder_epochs": 60,
    "batch_size": 16,
    "n_critic": 1,
    "learning_rate": 0.004,
    "encoder_learning_rate": 0.004,
}
QUICK = {**SMALL, "epochs": 2, "encoder_epochs": 2}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute in one thread: in networks this small, threads only wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def _discs(n: int, size: tuple[int, int], seed: int) -> list[NDArray[np.uint8]]:
    """Return bright discs on dark ground, each a little off the middle."""
    rng = np.random.default_rng(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    pictures = []
    for _ in range(n):
        row, column = height / 2 + rng.uniform(-2, 2), width / 2 + rng.uniform(-2, 2)
        inside = np.hypot(rows - row, columns - column) < min(size) / 4
        noise = rng.normal(0, 4, size)
        pictures.append(np.clip(40 + 160 * inside + noise, 0, 255).astype(np.uint8))
    return pictures


def _parts(folder: Path, pictures: list[NDArray[np.uint8]]) -> list[Part]:
    parts = []
    for i, picture in enumerate(pictures):
        path = folder / f"{i:02d}.png"
        assert cv2.imwrite(str(path), picture)
        parts.append(Part(source=path, name=path.name, label="good"))
    return parts


def _outputs(graph: Graph, pictures: list[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph.onnx, providers=["CPUExecutionProvider"])
    batch = np.concatenate([graph.preprocessing(picture) for picture in pictures])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"picture": batch}), strict=True))


def test_it_tells_good_from_defective_and_makes_the_nearest_good_part(tmp_path: Path) -> None:
    parts = _parts(tmp_path, _discs(16, (24, 24), 0))
    detector = FAnoGAN(**SMALL).fit(parts)
    good = _discs(8, (24, 24), 1)
    defective = [picture.copy() for picture in good]
    for picture in defective:
        picture[9:15, 9:15] = 20
    ours, theirs = _outputs(detector.graph(), good), _outputs(detector.graph(), defective)
    assert theirs["score"].min() > ours["score"].max()
    rows, columns = np.unravel_index(theirs["anomaly_map"].reshape(8, -1).argmax(1), (24, 24))
    assert ((rows >= 8) & (rows < 16) & (columns >= 8) & (columns < 16)).all()
    # The hole is filled in the nearest good part.
    assert (theirs["reconstruction"][:, 0, 10:14, 10:14].mean((1, 2)) > 0.45).all()


@pytest.mark.parametrize("gan", ["wgan-gp", "dcgan"])
@pytest.mark.parametrize("encoder_training", ["izi", "ziz", "izi_f"])
def test_every_kind_trains_and_gives_graphs(
    tmp_path: Path, gan: str, encoder_training: str
) -> None:
    pictures = _discs(4, (17, 23), 0)
    settings = {**QUICK, "gan": gan, "encoder_training": encoder_training}
    graph = make_detector("fanogan", parameters=settings).fit(_parts(tmp_path, pictures)).graph()
    outputs = _outputs(graph, pictures)
    assert {name: values.shape for name, values in outputs.items()} == {
        "anomaly_map": (4, 17, 23),
        "score": (4,),
        "reconstruction": (4, 1, 17, 23),
    }
    assert graph.generator is not None
    session = onnxruntime.InferenceSession(graph.generator, providers=["CPUExecutionProvider"])
    latents = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    (made,) = session.run(["picture"], {"latent": latents})
    assert made.shape == (5, 1, 17, 23)
    assert 0 <= made.min() <= made.max() <= 1


def test_colour_and_a_given_size_are_kept(tmp_path: Path) -> None:
    colored = [
        np.stack([picture, picture // 2, 255 - picture], 2) for picture in _discs(4, (40, 30), 0)
    ]
    graph = FAnoGAN(**QUICK, image_size=32).fit(_parts(tmp_path, colored)).graph()
    assert graph.preprocessing.shape == (3, 32, 32)


def test_both_trainings_leave_a_run_and_resuming_gives_the_same_bits(tmp_path: Path) -> None:
    pictures, folder = _discs(4, (16, 16), 0), tmp_path / "run"
    (tmp_path / "parts").mkdir()
    parts = _parts(tmp_path / "parts", pictures)
    whole = FAnoGAN(**QUICK).fit(parts, training=Training(folder=folder)).graph()
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"gan", "encoder"}
    again = FAnoGAN(**QUICK).fit(parts, training=Training(folder=folder, resume=True)).graph()
    first, second = _outputs(whole, pictures), _outputs(again, pictures)
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name


def test_kappa_zero_scores_by_the_residual_alone(tmp_path: Path) -> None:
    pictures = _discs(4, (16, 16), 0)
    graph = FAnoGAN(**QUICK, kappa=0.0, equalise=False).fit(_parts(tmp_path, pictures)).graph()
    outputs = _outputs(graph, pictures)
    batch = np.concatenate([graph.preprocessing(picture) for picture in pictures])
    expected = np.square(batch - outputs["reconstruction"]).mean((1, 2, 3))
    np.testing.assert_allclose(outputs["score"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("side", "score", "by_map"),
    [(16, "auto", False), (16, "map_maximum", True), (72, "auto", True), (72, "picture", False)],
)
def test_larger_parts_are_scored_by_a_map(
    tmp_path: Path, side: int, score: str, *, by_map: bool
) -> None:
    parts = _parts(tmp_path, _discs(4, (side, side), 0))
    graph = FAnoGAN(**QUICK, score=score, image_size=16).fit(parts).graph()
    outputs = _outputs(graph, _discs(2, (side, side), 1))
    assert ("score" not in outputs) is by_map
    assert graph.map_name == ("residual, relative to usual" if by_map else "residual")
    assert graph.aggregation(outputs["anomaly_map"][0]) == outputs["anomaly_map"][0].max()


def test_blank_parts_are_learned_from_without_a_division_by_nothing(tmp_path: Path) -> None:
    blank = [np.full((16, 16), 255, np.uint8)] * 3
    graph = FAnoGAN(**QUICK).fit(_parts(tmp_path, blank)).graph()
    assert np.isfinite(_outputs(graph, [*blank, *_discs(2, (16, 16), 0)])["score"]).all()


@pytest.mark.parametrize(("name", "value"), [("image_size", 12), ("channels", 2)])
def test_sizes_and_channels_between_are_refused(tmp_path: Path, name: str, value: int) -> None:
    parts = _parts(tmp_path, _discs(3, (16, 16), 0))
    with pytest.raises(ConfigurationError, match=f"{name} is {value}"):
        FAnoGAN(**{**QUICK, name: value}).fit(parts)


def test_a_gradient_penalty_of_a_dcgan_is_refused(tmp_path: Path) -> None:
    parts = _parts(tmp_path, _discs(4, (16, 16), 0))
    with pytest.raises(ConfigurationError, match=r"gradient_penalty is 5, but gan is 'dcgan'"):
        FAnoGAN(**QUICK, gan="dcgan", gradient_penalty=5.0).fit(parts)
