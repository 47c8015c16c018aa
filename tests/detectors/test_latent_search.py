"""The search of latents: known optima, independence from the batch, restarts, early stopping."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from makellos.detectors.networks.gan import Discriminator, Generator, initialise
from makellos.detectors.networks.latent_search import (
    LatentSearch,
    SearchSettings,
    fold_norms,
    smoothed,
)

SIDE, BLOCK = 8, 4
# Of A(x); sums over rows are added up alike where batches are filled up to a multiple.
SAME = 1e-5


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread: threads that wait for each other take longer than such networks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Blocks(nn.Module):
    """Make pictures of four square blocks, each as bright as one number of the latent says."""

    def forward(self, latent: Tensor) -> Tensor:
        grid = latent.view(-1, 1, 2, 2)
        return grid.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)


class Halves(nn.Module):
    """Give as features the means of the upper and lower half."""

    def features(self, picture: Tensor) -> Tensor:
        return picture.unflatten(2, (2, -1)).mean((1, 3, 4))


def blocks(**settings: float) -> LatentSearch:
    chosen = SearchSettings(**{"learning_rate": 0.02, "n_candidates": 64, **settings})
    return LatentSearch(Blocks(), Halves(), latent_dim=4, settings=chosen)


def small_networks(side: int = 16) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    generator = Generator(6, (1, side, side), 4)
    discriminator = Discriminator((1, side, side), 4)
    for network in (generator, discriminator):
        initialise(network)
        for layer in network.modules():
            # Norms that have seen data, and weights whose pictures differ from each other.
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.05)
                layer.running_var.uniform_(0.001, 0.01)
    return generator.eval(), discriminator.eval()


def small_search(**settings: float) -> LatentSearch:
    chosen = {"n_steps": 60, "learning_rate": 0.05, "n_candidates": 32, **settings}
    precision = str(chosen.pop("precision", "f32"))
    generator, discriminator = small_networks()
    return LatentSearch(
        generator,
        discriminator,
        latent_dim=6,
        settings=SearchSettings(**chosen),
        precision=precision,
    )


def random_parts(n: int, seed: int = 1) -> Tensor:
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_finds_the_optimum_of_a_linear_generator():
    parts = torch.rand(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = blocks(feature_weight=0.0)(parts)
    values = parts.unflatten(2, (2, BLOCK)).unflatten(4, (2, BLOCK)).transpose(3, 4)
    values = values.reshape(5, 4, BLOCK * BLOCK)
    # The median of a block is the number nearest to all its pixels.
    optimum = (values - values.median(2, keepdim=True).values).abs().mean((1, 2))
    assert torch.all(found.score >= optimum - 1e-6)
    torch.testing.assert_close(found.score, optimum, rtol=5e-3, atol=0)


def test_a_part_that_can_be_made_has_no_loss():
    latent = torch.tensor([[0.2, 0.9, 0.4, 0.6], [1.0, 0.0, 0.5, 0.5]])
    parts = Blocks()(latent)
    found = blocks()(parts)
    assert float(found.score.max()) < 0.005
    torch.testing.assert_close(found.reconstruction, parts, rtol=0, atol=0.02)
    torch.testing.assert_close(found.latent, latent, rtol=0, atol=0.02)


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_score_is_the_weighted_loss_at_the_latent_returned(weight: float):
    parts = random_parts(3)
    found = small_search(feature_weight=weight)(parts)
    generator, discriminator = small_networks()
    with torch.no_grad():
        made = generator(found.latent)
        residual = (parts - made).abs()
        features = discriminator.features(parts) - discriminator.features(made)
        expected = (1 - weight) * residual.mean((1, 2, 3)) + weight * features.abs().mean(1)
    torch.testing.assert_close(found.score, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.reconstruction, made, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.residual, residual[:, 0], rtol=1e-4, atol=1e-5)


def test_search_begins_at_the_best_candidate_and_keeps_the_best():
    parts = random_parts(4)
    one = small_search(n_steps=1, n_candidates=32)(parts)
    any_start = [small_search(n_steps=1, n_candidates=1, seed=seed)(parts) for seed in range(4)]
    longer = small_search(n_steps=60, n_candidates=32)(parts)
    assert float(one.score.mean()) < min(float(found.score.mean()) for found in any_start)
    assert torch.all(longer.score <= one.score)
    assert float(longer.score.mean()) < 0.999 * float(one.score.mean())


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_a_part_gets_the_same_in_any_batch(precision: str, tolerance: float):
    parts = random_parts(11)
    search = small_search(precision=precision, tolerance=tolerance, n_steps=80)
    together = search(parts)
    for rows in ([4], [10, 0, 7], list(range(9))):
        some = search(parts[rows])
        torch.testing.assert_close(some.score, together.score[rows], rtol=SAME, atol=0)
        torch.testing.assert_close(some.residual, together.residual[rows], rtol=0, atol=1e-4)
        assert torch.equal(some.n_steps, together.n_steps[rows])


def test_restarts_are_never_worse():
    parts = random_parts(6)
    scores = [small_search(n_restarts=n)(parts).score for n in (1, 2, 5)]
    assert torch.all(scores[1] <= scores[0] * (1 + SAME))
    assert torch.all(scores[2] <= scores[1] * (1 + SAME))
    assert torch.any(scores[2] < scores[0] * 0.999)


def test_more_restarts_than_candidates_are_drawn():
    assert small_search(n_restarts=40, n_candidates=1, n_steps=2)(random_parts(2)).score.shape == (
        2,
    )


def test_parts_that_stand_still_leave_early_and_keep_their_result():
    parts = Blocks()(torch.tensor([[0.5, 0.5, 0.5, 0.5], [3.0, -3.0, 3.0, -3.0]]))
    full = blocks(n_steps=400)(parts)
    early = blocks(n_steps=400, tolerance=0.02)(parts)
    assert full.n_steps.tolist() == [400, 400]
    assert int(early.n_steps[0]) < int(early.n_steps[1]) < 400
    torch.testing.assert_close(early.score, full.score, rtol=0, atol=0.02)


def test_same_seed_same_result_and_another_seed_other_starts():
    parts = random_parts(3)
    first, again = small_search(seed=1)(parts), small_search(seed=1)(parts)
    assert torch.equal(first.score, again.score)
    assert torch.equal(first.latent, again.latent)
    other = small_search(seed=2, n_steps=1)(parts)
    assert not torch.equal(small_search(seed=1, n_steps=1)(parts).latent, other.latent)


def test_networks_and_global_generator_are_left_alone():
    generator, discriminator = small_networks()
    generator.train()
    before = {name: values.clone() for name, values in generator.state_dict().items()}
    state = torch.get_rng_state()
    settings = SearchSettings(n_steps=3, n_candidates=8)
    LatentSearch(generator, discriminator, latent_dim=6, settings=settings)(random_parts(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert generator.training
    assert all(values.requires_grad for values in generator.parameters())
    for name, values in generator.state_dict().items():
        assert torch.equal(values, before[name])


def test_a_part_that_is_no_number_harms_no_other():
    parts = random_parts(3)
    broken = parts.clone()
    broken[1] = math.nan
    search = small_search(tolerance=0.01)
    found, expected = search(broken), search(parts)
    assert torch.isnan(found.score[1])
    torch.testing.assert_close(found.score[[0, 2]], expected.score[[0, 2]], rtol=SAME, atol=0)


def test_bf16_reaches_the_loss_of_f32():
    parts = random_parts(8)
    exact, rounded = small_search()(parts).score, small_search(precision="bf16")(parts).score
    assert float(rounded.mean()) <= 1.01 * float(exact.mean())


@pytest.mark.parametrize("side", [16, 25])
def test_folding_keeps_what_networks_compute(side: int):
    generator, discriminator = small_networks(side)
    folded = fold_norms(generator), fold_norms(discriminator)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded[1].modules())
    latent = torch.randn(3, 6)
    with torch.no_grad():
        made = generator(latent)
        torch.testing.assert_close(folded[0](latent), made, rtol=1e-4, atol=1e-5)
        expected = discriminator.features(made)
        torch.testing.assert_close(folded[1].features(made), expected, rtol=1e-4, atol=1e-4)


def test_smoothing_averages_neighbours_and_ends_at_the_rim():
    residual = torch.zeros(1, 4, 4)
    residual[0, 0, 0] = 1.0
    result = smoothed(residual)[0]
    assert float(result[0, 0]) == pytest.approx(1 / 4)
    assert float(result[1, 1]) == pytest.approx(1 / 9)
    assert float(result[3, 3]) == 0
