"""The autoencoder: shapes, losses, augmentation, training, the graph it gives, planted defects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from makellos.data.parts import Part
from makellos.detectors.autoencoder import Autoencoder, loss_weights
from makellos.detectors.networks.autoencoder import (
    Augmentation,
    Compared,
    ConvolutionalAutoencoder,
    ReconstructionTask,
    losses,
)
from makellos.detectors.networks.exporting import export_graph
from makellos.detectors.networks.ssim import ms_ssim, ssim
from makellos.detectors.networks.usual import local_mean
from makellos.drawing.overlays import write_picture
from makellos.errors import ConfigurationError
from makellos.inspection.engines import available_engines, open_engine

SMALL: dict[str, Any] = {"widths": "8,16", "latent_dim": 16, "epochs": 2, "batch_size": 4}
SHAPES = [(1, 32, 32), (3, 64, 64), (1, 100, 100), (1, 28, 28), (3, 16, 16), (1, 37, 51)]


def batch(n: int, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((n, *shape), generator=generator)
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2)


def network(shape: tuple[int, int, int], *widths: int, seed: int = 0) -> ConvolutionalAutoencoder:
    torch.manual_seed(seed)
    return ConvolutionalAutoencoder(shape, widths or (8, 16, 16), 12)


def write(folder: Path, pictures: list[NDArray[Any]]) -> list[Part]:
    parts = []
    for i, picture in enumerate(pictures):
        path = folder / f"{i:02d}.png"
        write_picture(path, picture)
        parts.append(Part(source=path, name=path.name))
    return parts


def bolt(number: int, side: int = 64, *, damaged: bool = False) -> NDArray[np.uint8]:
    """Return a part in one pose: a dark bolt on a bright table, nearly alike in every picture."""
    rng = np.random.default_rng([number, 7])
    picture = np.full((side, side), 200.0 + rng.uniform(-6, 6), np.float32)
    left = side // 4 + rng.uniform(-0.7, 0.7)
    shift = np.float32([[1, 0, left], [0, 1, side * 3 / 8]])
    body = np.full((side // 4, side // 2), 90, np.float32)
    body[:, :: side // 16] = 60
    cv2.warpAffine(body, shift, (side, side), picture, borderMode=cv2.BORDER_TRANSPARENT)
    if damaged:
        row, column = rng.integers(side * 3 // 8, side // 2), rng.integers(side // 3, side // 2)
        picture[row : row + side // 10, column : column + side // 10] = rng.choice([20, 235])
    picture += rng.normal(0, 2, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


# The network


@pytest.mark.parametrize("shape", SHAPES)
def test_network_gives_pictures_of_the_same_shape(shape: tuple[int, int, int]) -> None:
    made = network(shape, 8, 8, 8, 8, 8)(batch(2, *shape))
    assert made.shape == (2, *shape)
    assert made.dtype == torch.float32
    assert ((made > 0) & (made < 1)).all()


def test_default_network_is_the_one_described() -> None:
    found = ConvolutionalAutoencoder((1, 256, 256), (32, 64, 128, 64, 128), 500)
    assert [layer.out_channels for layer in found.down] == [32, 64, 128, 64, 128]
    assert [layer.out_channels for layer in found.up] == [64, 128, 64, 32, 1]
    assert all(layer.stride == (2, 2) for layer in [*found.down, *found.up])
    assert found.grid == (128, 8, 8)
    assert found.squeeze.out_features == found.stretch.in_features == 500


def test_grids_are_halved_no_further_than_4() -> None:
    found = network((1, 18, 40), 4, 4, 4, 4)
    assert found.grid == (4, 4, 10)


def test_signals_keep_their_strength_through_the_layers() -> None:
    found = network((1, 64, 64), 32, 64, 32)
    with torch.no_grad():
        vectors = found.encode(batch(8, 1, 64, 64))
        made = found.decode(vectors)
    assert 0.05 < vectors.std() < 5
    assert 0.3 < made.mean() < 0.7


# Losses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssim", {"ssim": 1.0}),
        ("0.84*ms-ssim+0.16*l1", {"ms-ssim": 0.84, "l1": 0.16}),
        (" L2 + .5*SSIM ", {"l2": 1.0, "ssim": 0.5}),
        ("2*l1+3*l2", {"l1": 2.0, "l2": 3.0}),
    ],
)
def test_losses_are_read(text: str, expected: dict[str, float]) -> None:
    assert loss_weights(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected ssim"),
        ("ssim+", "expected ssim"),
        ("0*ssim", "positive weights"),
        ("-1*l1", "positive weights"),
        ("ssim*0.5", "such as 0.84"),
        ("mssim", "no loss 'mssim'"),
        ("l1+l1", "names l1 twice"),
        ("1e400*l1", "expected ssim"),
    ],
)
def test_other_losses_are_refused_before_anything_is_read(text: str, reason: str) -> None:
    parts = [Part(source=Path("nowhere.png"), name="nowhere")] * 2
    with pytest.raises(ConfigurationError, match=r"loss is") as caught:
        Autoencoder(loss=text).fit(parts)
    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        *({"widths": text} for text in ("", "32,", "a", "0,3", "32;64", "1,2,3,4,5,6,7,8,9")),
        {"image_size": 15},
        {"channels": 2},
        {"smoothing": 4},
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    parts = [Part(source=Path("nowhere.png"), name="nowhere")] * 2
    name, value = next(iter(changes.items()))
    with pytest.raises(ConfigurationError) as caught:
        Autoencoder(**changes).fit(parts)
    assert f"{name} is {value!r}" in str(caught.value)
    assert "expected" in str(caught.value)


def test_mixed_loss_is_the_weighted_sum_of_its_terms() -> None:
    x, y = batch(3, 1, 40, 40), batch(3, 1, 40, 40, seed=1)
    found = losses(x, y, {"ssim": 0.5, "ms-ssim": 2.0, "l1": 3.0, "l2": 4.0})
    terms = {
        "ssim": 1 - ssim(x, y).mean(),
        "ms-ssim": 1 - ms_ssim(x, y).mean(),
        "l1": (x - y).abs().mean(),
        "l2": (x - y).square().mean(),
    }
    for name, value in terms.items():
        torch.testing.assert_close(found[name], value)
    expected = 0.5 * terms["ssim"] + 2 * terms["ms-ssim"] + 3 * terms["l1"] + 4 * terms["l2"]
    torch.testing.assert_close(found["loss"], expected)
    assert float(losses(x, x, {"ssim": 1.0, "l1": 1.0})["loss"]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("text", ["ssim", "ms-ssim", "l1", "l2", "0.84*ms-ssim+0.16*l1"])
def test_every_loss_falls_in_training(text: str) -> None:
    pictures = batch(4, 1, 32, 32)
    task = ReconstructionTask(network((1, 32, 32)), loss_weights(text), 3e-3)

    def update(loss: Tensor, optimizer: str, *, retain_graph: bool = False) -> None:
        task.optimizers[optimizer].zero_grad()
        loss.backward(retain_graph=retain_graph)
        task.optimizers[optimizer].step()

    steps = [float(task.step(pictures, update, i)["loss"]) for i in range(40)]
    assert steps[-1] < 0.9 * steps[0]
    with torch.no_grad():
        assert float(task.validate(pictures)["loss"]) <= 1.2 * steps[-1]
        assert task.pictures(pictures)["reconstructions"].shape == pictures.shape


def test_steep_gradients_are_clipped() -> None:
    found = network((1, 32, 32))
    task = ReconstructionTask(found, {"l2": 1e6}, 1e-3)

    def update(loss: Tensor, optimizer: str, *, retain_graph: bool = False) -> None:
        loss.backward(retain_graph=retain_graph)
        task.optimizers[optimizer].step()

    task.step(batch(4, 1, 32, 32), update, 0)
    gradients = [weights.grad for weights in found.parameters() if weights.grad is not None]
    length = torch.stack([gradient.norm() for gradient in gradients]).norm()
    assert float(length.detach()) == pytest.approx(1, rel=1e-3)


# Augmentation


def drawn(x: Tensor, seed: int, **changes: Any) -> Tensor:
    torch.manual_seed(seed)
    return Augmentation(**{"flips": "none", "degrees": 0.0, "brightness": 0.0, **changes})(x)


@pytest.mark.parametrize(
    ("flips", "axes"),
    [("horizontal", [(3,)]), ("vertical", [(2,)]), ("both", [(2,), (3,), (2, 3)])],
)
def test_flips_are_drawn_for_each_picture(flips: str, axes: list[tuple[int, ...]]) -> None:
    x = batch(64, 1, 9, 12)
    found = drawn(x, 0, flips=flips)
    allowed = [x, *(x.flip(axis) for axis in axes)]
    counts = [sum(torch.equal(a, b) for a, b in zip(found, each, strict=True)) for each in allowed]
    assert sum(counts) == 64
    assert min(counts) >= 64 / len(allowed) / 2


def test_brightness_scales_each_picture_by_a_factor_of_its_own() -> None:
    x = 0.1 + 0.4 * batch(32, 3, 8, 8)
    factors = drawn(x, 0, brightness=0.2) / x
    assert factors.std((1, 2, 3)).max() < 1e-5
    each = factors[:, 0, 0, 0]
    assert 0.8 <= each.min() < 0.85
    assert 1.15 < each.max() <= 1.2
    assert drawn(torch.ones(32, 1, 4, 4), 0, brightness=0.5).max() <= 1


def test_turns_keep_the_middle_and_stay_inside_the_angle() -> None:
    """A bar through the middle of a wide picture is turned by an angle, not sheared."""
    x = torch.zeros(24, 1, 41, 81)
    x[:, :, 20, 20:61] = 1.0
    turned = drawn(x, 0, degrees=20.0)
    angles = []
    for picture in turned[:, 0]:
        rows, columns = torch.nonzero(picture > 0.3, as_tuple=True)
        slope = np.polyfit(columns.numpy() - 40.0, rows.numpy() - 20.0, 1)
        angles.append(np.degrees(np.arctan(slope[0])))
        length = np.hypot(np.ptp(rows.numpy()), np.ptp(columns.numpy()))
        assert length == pytest.approx(40, abs=2)
        assert abs(slope[1]) < 0.6
    assert max(np.abs(angles)) <= 20.5
    assert max(angles) > 8
    assert min(angles) < -8


def test_no_turn_leaves_pictures_alone() -> None:
    x = batch(3, 1, 20, 31)
    torch.testing.assert_close(drawn(x, 0, degrees=1e-6), x, atol=1e-4, rtol=0)


# Maps and graphs


def test_local_means_count_what_is_there() -> None:
    x = batch(1, 1, 9, 11)
    found = local_mean(x, 5)
    for row, column in ((0, 0), (4, 5), (8, 10), (1, 9)):
        around = x[0, 0, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        torch.testing.assert_close(found[0, 0, row, column], around.mean())


@pytest.mark.parametrize("kind", ["ssim", "residual"])
def test_map_is_counted_in_deviations_from_good_parts(kind: str) -> None:
    compared = Compared(network((1, 32, 32)), kind, 3).eval()
    pictures = batch(12, 1, 32, 32)
    with torch.no_grad():
        plain = compared(pictures)[0]
        assert plain.min() >= 0
        compared.learn(pictures[i : i + 5] for i in (0, 5, 10))
        maps, made = compared(pictures)
    mean, spread = plain.mean(0), plain.std(0, correction=0)
    expected = (plain - mean) / (spread + 0.5 * spread.mean() + 1e-4)
    torch.testing.assert_close(maps, expected, atol=1e-3, rtol=1e-3)
    assert made.shape == pictures.shape


@pytest.mark.parametrize("kind", ["ssim", "residual"])
@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 37, 51)])
def test_engines_agree_on_the_graph(kind: str, shape: tuple[int, int, int]) -> None:
    compared = Compared(network(shape), kind, 5).eval()
    compared.learn([batch(8, *shape)])
    with torch.no_grad():
        # A network that has learned answers with contrasts, and so must this one.
        compared.network.up[-1].weight *= 3
    onnx = export_graph(
        compared, shape, input_name="picture", output_names=("anomaly_map", "reconstruction")
    )
    pictures = batch(3, *shape, seed=5)
    pictures[1, :, 10:20, 12:20] = 0.0
    pictures[2] = 0.9 + 0.01 * pictures[2]
    with torch.no_grad():
        expected = dict(zip(("anomaly_map", "reconstruction"), compared(pictures), strict=True))
    spread = float(expected["anomaly_map"].std())
    for choice in available_engines():
        found = open_engine(onnx, choice, shape=shape).run(pictures.numpy())
        assert set(found) == set(expected)
        rounding = 0.01 if choice.precision == "bf16" else 1e-5
        np.testing.assert_allclose(
            found["reconstruction"], expected["reconstruction"], atol=rounding, rtol=0
        )
        wrong = found["anomaly_map"] - expected["anomaly_map"].numpy()
        assert np.abs(wrong).max() < (0.3 if choice.precision == "bf16" else 0.01) * spread


# The detector


def test_detector_follows_small_pictures(tmp_path: Path) -> None:
    parts = write(tmp_path, [bolt(i, 28) for i in range(6)])
    graph = Autoencoder(**SMALL).fit(parts).graph()
    assert graph.preprocessing.shape == (1, 28, 28)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 100])
def test_detector_gives_map_and_reconstruction(size: int, channels: int, tmp_path: Path) -> None:
    gray = [bolt(i, 80) for i in range(5)]
    parts = write(tmp_path, [np.dstack([picture, picture, 255 - picture]) for picture in gray])
    graph = Autoencoder(**SMALL, image_size=size, channels=channels).fit(parts).graph()
    assert graph.preprocessing.shape == (channels, size, size)
    engine = open_engine(graph.onnx, available_engines()[-1], shape=graph.preprocessing.shape)
    outputs = engine.run(graph.preprocessing(gray[0]))
    assert outputs["anomaly_map"].shape == (1, size, size)
    assert outputs["reconstruction"].shape == (1, channels, size, size)
    assert 0 <= outputs["reconstruction"].min() < outputs["reconstruction"].max() <= 1


def test_augmented_fit_is_told_from_a_plain_one(tmp_path: Path) -> None:
    parts = write(tmp_path, [bolt(i, 32) for i in range(6)])
    graphs = [
        Autoencoder(**SMALL, **changes).fit(parts).graph().onnx
        for changes in ({}, {"flips": "both", "rotation": 10.0, "brightness": 0.1})
    ]
    assert graphs[0] != graphs[1]


def test_planted_defects_are_found(tmp_path: Path) -> None:
    parts = write(tmp_path, [bolt(i) for i in range(24)])
    detector = Autoencoder(
        widths="16,32,32", latent_dim=32, image_size=64, epochs=25, batch_size=8
    ).fit(parts)
    graph = detector.graph()
    engine = open_engine(graph.onnx, available_engines()[-1], shape=graph.preprocessing.shape)

    def scores(*, damaged: bool) -> NDArray[np.float64]:
        pictures = [bolt(100 + i, damaged=damaged) for i in range(12)]
        maps = [engine.run(graph.preprocessing(each))["anomaly_map"][0] for each in pictures]
        return np.array([graph.aggregation(each) for each in maps])

    good, damaged = scores(damaged=False), scores(damaged=True)
    assert (damaged[:, np.newaxis] > good).mean() > 0.95


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("ssim", "SSIM residual, relative to usual"),
        ("residual", "residual, relative to usual"),
    ],
)
def test_the_graph_says_what_its_map_shows(shown: str, name: str, tmp_path: Path) -> None:
    detector = Autoencoder(**SMALL | {"epochs": 1, "map": shown}).fit(
        write(tmp_path, [bolt(i, 32) for i in range(4)])
    )
    assert detector.graph().map_name == name
