"""Dinomaly: attention, loss, order of layers and map by hand; what is missing is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from drawn_parts import MakeParts
from known_backbone import local_mean
from torch import Tensor, nn
from torch.nn import functional as F

from makellos.detectors.dinomaly import Dinomaly, middle_layers
from makellos.detectors.networks.dinomaly import (
    Decoder,
    DinomalyTask,
    LinearAttention,
    Scoring,
    mined_loss,
)
from makellos.errors import ConfigurationError, MissingRuntimeError


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Add(nn.Module):
    """Add a vector to every token."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: Tensor) -> Tensor:
        return x + self.values


class Layers(nn.Module):
    """Stand for an encoder: layers that are linear in the picture's mean color."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 64)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        grid = F.avg_pool2d(pictures, 8)
        mixed = self.mix(grid.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return [mixed, 2 * mixed, mixed - 1]


def test_attention_weighs_all_tokens_by_hand() -> None:
    attention = LinearAttention(128).double()
    x = random(2, 5, 128).double()
    found = attention(x)
    mixed = attention.mix(x)
    query, key, value = mixed.split(128, 2)
    query, key = F.elu(query) + 1, F.elu(key) + 1
    expected = torch.zeros(2, 5, 128, dtype=torch.float64)
    for head in (slice(0, 64), slice(64, 128)):
        for n in range(2):
            for i in range(5):
                weights = torch.stack([query[n, i, head] @ key[n, j, head] for j in range(5)])
                weights = weights / weights.sum()
                expected[n, i, head] = weights @ value[n, :, head]
    torch.testing.assert_close(found, attention.out(expected))


@pytest.mark.parametrize("easy", [0.0, 0.5])
def test_loss_is_one_minus_the_cosine_of_whole_maps(easy: float) -> None:
    wanted, made = random(3, 8, 4, 4), random(3, 8, 4, 4, seed=1)
    cosines = [
        F.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        for a, b in zip(wanted, made, strict=True)
    ]
    expected = 1 - torch.stack(cosines).mean()
    torch.testing.assert_close(mined_loss(wanted, made, easy), expected)


def test_easy_places_learn_a_tenth_as_fast() -> None:
    wanted = random(2, 8, 4, 4)
    gradients = []
    for easy in (0.0, 0.75):
        made = random(2, 8, 4, 4, seed=1).requires_grad_()
        mined_loss(wanted, made, easy).backward()
        gradients.append(made.grad)
    plain, mined = gradients
    distances = 1 - F.cosine_similarity(wanted, random(2, 8, 4, 4, seed=1), dim=1)
    slow = distances < distances.flatten().quantile(0.75)
    assert int(slow.sum()) == 24
    share = torch.where(slow, 0.1, 1.0).unsqueeze(1)
    torch.testing.assert_close(mined, share * plain)


@pytest.mark.parametrize("n_layers", [1, 3, 8])
def test_last_block_gives_back_the_first_layers(n_layers: int) -> None:
    layers = [random(2, 4, 3, 5, seed=i) for i in range(n_layers)]
    steps = [random(4, seed=10 + i) for i in range(n_layers)]
    decoder = Decoder(4, n_layers, 0.0).eval()
    decoder.bottleneck = nn.Identity()
    decoder.blocks = nn.ModuleList(Add(step) for step in steps)
    wanted, made = decoder(layers)
    after = [
        torch.stack(layers).mean(0) + sum(steps[: i + 1])[None, :, None, None]
        for i in range(n_layers)
    ][::-1]
    half = n_layers // 2
    groups = [range(half), range(half, n_layers)] if half else [range(n_layers)]
    assert len(wanted) == len(made) == len(groups)
    for group, ours, given in zip(groups, wanted, made, strict=True):
        torch.testing.assert_close(ours, torch.stack([layers[i] for i in group]).mean(0))
        torch.testing.assert_close(given, torch.stack([after[i] for i in group]).mean(0))


def test_map_is_the_mean_of_the_groups_distances() -> None:
    encoder, decoder = Layers(), Decoder(64, 3, 0.2)
    scoring = Scoring(encoder, decoder).eval()
    pictures = torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = scoring(pictures).numpy()
        wanted, made = decoder(encoder(pictures))
        cosines = [F.cosine_similarity(a, b, dim=1) for a, b in zip(wanted, made, strict=True)]
    expected = (1 - torch.stack(cosines).mean(0)).numpy().astype(np.float64)
    assert found.shape == (2, 6, 5)
    for i in range(2):
        exact = local_mean(expected[i : i + 1], 3)[0]
        np.testing.assert_allclose(found[i], exact, rtol=1e-4, atol=1e-5)


def test_noise_is_in_training_alone() -> None:
    decoder = Decoder(64, 2, 0.5)
    layers = [random(1, 64, 3, 3), random(1, 64, 3, 3, seed=1)]
    assert not torch.equal(decoder(layers)[1][0], decoder(layers)[1][0])
    decoder.eval()
    assert torch.equal(decoder(layers)[1][0], decoder(layers)[1][0])


def test_encoder_stays_as_it_is_and_out_of_checkpoints() -> None:
    encoder, decoder = Layers(), Decoder(64, 3, 0.0)
    before = [values.clone() for values in encoder.parameters()]
    task = DinomalyTask(encoder, decoder, learning_rate=0.01)
    task.n_steps = 30
    batch = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert set(task.networks) == {"decoder"}

    def update(loss: Tensor, optimizer: str) -> None:
        task.optimizers[optimizer].zero_grad()
        loss.backward()
        task.optimizers[optimizer].step()

    losses: Sequence[float] = [float(task.step(batch, update, i)["loss"]) for i in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    after = list(encoder.parameters())
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (12, (2, 3, 4, 5, 6, 7, 8, 9)),
        (24, (4, 6, 8, 10, 12, 14, 16, 18)),  # as the paper takes them
        (6, (1, 2, 3, 4)),
        (1, (0,)),
    ],
)
def test_layers_lie_in_the_middle(depth: int, expected: tuple[int, ...]) -> None:
    assert middle_layers(depth) == expected


def test_missing_weights_name_the_ways_to_them(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    with pytest.raises(MissingRuntimeError, match=r"weights of vit_base_.* --set weights=FILE"):
        Dinomaly(image_size=56).fit(make_parts(2))


def test_convolutional_backbones_are_refused(make_parts: MakeParts) -> None:
    with pytest.raises(ConfigurationError, match="efficientnet_lite0 is not a plain vision"):
        Dinomaly(backbone="efficientnet_lite0").fit(make_parts(2))
