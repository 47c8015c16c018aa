"""Networks and training steps of generative adversarial methods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from makellos.detectors.networks.gan import (
    Discriminator,
    Encoder,
    EncoderScoring,
    Generator,
    contrast,
    initialise,
    on_sphere,
)
from makellos.detectors.networks.gan_training import DCGANTask, EncoderTask, WGANGPTask, shift
from makellos.training.loop import seeded
from makellos.training.task import Task

SHAPES = [(1, 16, 16), (1, 28, 28), (3, 64, 64), (1, 100, 100), (3, 17, 23), (1, 33, 64)]


class _Updates:
    """Take optimisation steps as the loop does, and count them."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.taken: list[str] = []

    def __call__(self, loss: Tensor, optimizer: str, *, retain_graph: bool = False) -> None:
        stepped = self.task.optimizers[optimizer]
        weights = [values for group in stepped.param_groups for values in group["params"]]
        stepped.zero_grad(set_to_none=True)
        loss.backward(inputs=weights, retain_graph=retain_graph)
        stepped.step()
        self.taken.append(optimizer)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with seeded(0):
        yield
    torch.set_num_threads(n_threads)


def _train(task: Task, batch: Tensor, n_steps: int) -> tuple[list[dict[str, float]], list[str]]:
    update = _Updates(task)
    losses = []
    for number in range(n_steps):
        for network in task.networks.values():
            network.train()
        found = task.step(batch, update, number)
        losses.append({name: float(value) for name, value in found.items()})
    return losses, update.taken


def _squares(n: int, side: int = 16) -> Tensor:
    """Return bright squares on dark ground, each at another place."""
    pictures = torch.zeros(n, 1, side, side)
    for picture in pictures:
        row, column = torch.randint(1, side - 7, (2,)).tolist()
        picture[:, row : row + 6, column : column + 6] = 0.9
    return pictures


@pytest.mark.parametrize("shape", SHAPES)
def test_networks_take_every_size(shape: tuple[int, int, int]) -> None:
    generator = Generator(10, shape, 4)
    made = generator(torch.randn(3, 10))
    assert made.shape == (3, *shape)
    assert 0 <= float(made.detach().min()) <= float(made.detach().max()) <= 1
    discriminator = Discriminator(shape, 4, "batch")
    assert discriminator(made).shape == (3,)
    assert discriminator.features(made).shape == (3, discriminator.n_features)
    assert Encoder(10, shape, 4)(made).shape == (3, 10)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 17, 23)])
def test_every_pixel_reaches_the_discriminator(shape: tuple[int, int, int]) -> None:
    picture = torch.rand(1, *shape, requires_grad=True)
    Discriminator(shape, 4, "none")(picture).sum().backward()
    assert picture.grad is not None
    assert bool((picture.grad != 0).all())


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_a_critic_judges_each_picture_by_itself(norm: str) -> None:
    critic = Discriminator((1, 28, 28), 4, norm)  # type: ignore[arg-type]
    pictures = torch.rand(4, 1, 28, 28)
    alone = torch.cat([critic(picture[None]) for picture in pictures])
    torch.testing.assert_close(critic(pictures), alone)


def test_a_spherical_generator_heeds_the_direction_of_a_latent_alone() -> None:
    generator = Generator(10, (1, 16, 16), 4, spherical=True).eval()
    latent = torch.randn(3, 10)
    torch.testing.assert_close(generator(latent), generator(7 * latent))
    torch.testing.assert_close(on_sphere(latent).square().mean(1), torch.ones(3))
    assert bool(torch.isfinite(generator(torch.zeros(1, 10))).all())


def test_weights_are_drawn_as_radford_does() -> None:
    generator = Generator(100, (1, 64, 64), 16)
    initialise(generator, torch.Generator().manual_seed(1))
    assert float(generator.start.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(generator.start_norm.weight.detach().mean()) == pytest.approx(1.0, abs=0.02)
    assert float(generator.end.bias.detach().abs().max()) == 0
    again = Generator(100, (1, 64, 64), 16)
    initialise(again, torch.Generator().manual_seed(1))
    assert torch.equal(again.start.weight, generator.start.weight)


def test_shift_moves_and_repeats_edges() -> None:
    rows = torch.arange(20.0).view(1, 1, 20, 1).expand(50, 2, 20, 10)
    moved = shift(rows, 0.1)
    assert moved.shape == rows.shape
    offsets = moved[:, 0, 10, 0] - 10
    assert set(offsets.tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    expected = (rows[:, :, :, :] + offsets.view(-1, 1, 1, 1)).clamp(0, 19)
    assert torch.equal(moved, expected)
    assert shift(rows, 0.0) is rows


def test_shift_passes_gradients_back_to_where_pixels_came_from() -> None:
    pictures = torch.rand(1, 1, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(shift(pictures, 0.2).sum(), pictures)
    assert float(gradient.sum()) == 16 * 16


def test_dcgan_trains_both_and_averages_the_generator() -> None:
    generator, discriminator = Generator(8, (1, 16, 16), 4), Discriminator((1, 16, 16), 4)
    task = DCGANTask(generator, discriminator)
    before = {name: values.clone() for name, values in generator.state_dict().items()}
    losses, taken = _train(task, _squares(8), 3)
    assert taken == ["discriminator", "generator"] * 3
    assert set(losses[0]) == {"generator", "discriminator"}
    moved = task.averaged.start.weight - before["start.weight"]
    assert float(moved.abs().mean()) > 0
    assert not torch.equal(task.averaged.start.weight, generator.start.weight)
    assert int(task.averaged.start_norm.num_batches_tracked) == 3
    assert task.samples(5).shape == (5, 1, 16, 16)


def test_without_averaging_the_averaged_generator_is_the_last() -> None:
    generator, discriminator = Generator(8, (1, 16, 16), 4), Discriminator((1, 16, 16), 4)
    task = DCGANTask(generator, discriminator, average=0.0)
    _train(task, _squares(8), 2)
    for name, values in generator.state_dict().items():
        torch.testing.assert_close(task.averaged.state_dict()[name], values)


def test_wgan_trains_its_generator_every_n_critic_steps() -> None:
    task = WGANGPTask(
        Generator(8, (1, 16, 16), 4), Discriminator((1, 16, 16), 4, "layer"), n_critic=3
    )
    _, taken = _train(task, _squares(8), 6)
    assert taken == (["discriminator"] * 3 + ["generator"]) * 2


def test_the_penalty_brings_the_critics_gradient_near_to_one() -> None:
    task = WGANGPTask(
        Generator(8, (1, 16, 16), 4),
        Discriminator((1, 16, 16), 4, "none"),
        n_critic=1000,  # the generator stands still
        augmentation=0.0,
        learning_rate=3e-3,
    )
    losses, _ = _train(task, _squares(16), 60)
    assert losses[0]["penalty"] > 0.5
    assert losses[-1]["penalty"] < 0.1
    assert losses[-1]["distance"] > losses[0]["distance"] + 0.1


@pytest.mark.parametrize("mode", ["izi", "izi_f", "ziz"])
def test_an_encoder_learns_what_its_mode_says_and_the_rest_stands_still(mode: str) -> None:
    generator = Generator(4, (1, 16, 16), 4, spherical=True)
    critic = Discriminator((1, 16, 16), 4, "layer")
    _train(WGANGPTask(generator, critic, n_critic=1, learning_rate=4e-3), _squares(16), 60)
    fixed = {
        f"{i}{name}": values.clone()
        for i, network in enumerate((generator, critic))
        for name, values in network.state_dict().items()
    }
    encoder = Encoder(4, (1, 16, 16), 4, "layer")
    task = EncoderTask(encoder, generator, critic, mode=mode, learning_rate=3e-3)
    task.n_steps = 80
    losses, taken = _train(task, _squares(16), 80)
    assert set(taken) == {"encoder"}
    assert sum(each["loss"] for each in losses[-5:]) < 0.9 * sum(
        each["loss"] for each in losses[:5]
    )
    for i, network in enumerate((generator, critic)):
        for name, values in network.state_dict().items():
            assert torch.equal(values, fixed[f"{i}{name}"]), name
    assert task.pictures(_squares(2))["reconstructions"].shape == (2, 1, 16, 16)


def _scoring(kappa: float, typical: float = 0.0) -> EncoderScoring:
    networks = (
        Encoder(4, (1, 16, 16), 4, "layer"),
        Generator(4, (1, 16, 16), 4),
        Discriminator((1, 16, 16), 4, "layer"),
    )
    return EncoderScoring(*networks, kappa=kappa, typical_contrast=typical).eval()


def test_the_score_is_equation_six() -> None:
    scoring, pictures = _scoring(2.5), _squares(3)
    with torch.no_grad():
        maps, scores, again = scoring(pictures)
        features = scoring.discriminator.features
        for i in range(3):
            x, y = pictures[i : i + 1], again[i : i + 1]
            apart = (features(x) - features(y)).square().mean()
            expected = (x - y).square().mean() + 2.5 * apart
            torch.testing.assert_close(scores[i], expected)
    assert maps.shape == (3, 16, 16)
    # Away from edges the map is the plain mean over 3×3.
    expected_map = (pictures - again).abs()[:, 0, 4:7, 8:11].mean((1, 2))
    torch.testing.assert_close(maps[:, 5, 9], expected_map)


def test_equalising_lifts_faint_pictures_alone() -> None:
    pictures = _squares(2)
    pictures[0] *= 0.5
    plain = _scoring(1.0)
    typical = float(contrast(pictures)[1])
    equal = EncoderScoring(
        plain.encoder, plain.generator, plain.discriminator, kappa=1.0, typical_contrast=typical
    ).eval()
    strong = torch.cat([pictures, torch.eye(16).view(1, 1, 16, 16).round()])
    strong[2, :, :8] = 1.0
    with torch.no_grad():
        ratio = equal(strong)[1] / plain(strong)[1]
    torch.testing.assert_close(ratio, torch.tensor([4.0, 1.0, 1.0]), rtol=1e-4, atol=1e-4)


def test_a_discriminator_may_take_several_steps_per_generator_step() -> None:
    generator, discriminator = Generator(8, (1, 16, 16), 4), Discriminator((1, 16, 16), 4)
    task = DCGANTask(generator, discriminator, n_critic=3)
    updates = _Updates(task)
    for number in range(6):
        task.step(_squares(16)[:8], updates, number)
    assert updates.taken.count("discriminator") == 6
    assert updates.taken.count("generator") == 2
