"""The classifier that judges every place: what masks teach it, and how places make a verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from makellos.detectors.networks.dense_classifier import DenseNetwork, mask_cover, place_loss
from makellos.training.pictures import Pictures

NETWORK = "mobilenetv3_small_100"
EVEN = torch.ones(3)


@pytest.fixture
def network() -> DenseNetwork:
    torch.manual_seed(0)
    return DenseNetwork(NETWORK, 1).eval()


def masks(*covered: tuple[slice, slice] | None) -> torch.Tensor:
    """Return masks 64x64 with these places white."""
    made = torch.zeros(len(covered), 1, 64, 64)
    for mask, place in zip(made, covered, strict=True):
        if place is not None:
            mask[0][place] = 1
    return made


def cover(given: torch.Tensor) -> torch.Tensor:
    return mask_cover(given, (4, 4))


def test_places_learn_from_masks_as_written_down() -> None:
    maps = torch.linspace(-2, 2, 32).view(2, 1, 4, 4)
    given = masks(None, (slice(16, 32), slice(32, 48)))  # the place (1, 2) of the second
    losses = F.softplus(maps[:, 0])  # of places that are good
    inside = F.softplus(-maps[1, 0, 1, 2])
    outside = (losses.sum() - losses[1, 1, 2]) / 31
    found = place_loss(maps, cover(given), torch.tensor([0, 1]), EVEN)
    torch.testing.assert_close(found, inside / 2 + outside)


def test_small_and_large_defects_count_the_same() -> None:
    maps = torch.zeros(2, 1, 4, 4, requires_grad=True)
    given = masks((slice(0, 16), slice(0, 16)), (slice(0, 64), slice(0, 32)))
    place_loss(maps, cover(given), torch.tensor([1, 1]), EVEN).backward()
    gradient = maps.grad
    assert gradient is not None
    small, large = (each[each < 0].sum() for each in gradient)
    torch.testing.assert_close(small, large)


def test_a_defect_smaller_than_any_place_is_learned_from() -> None:
    maps = torch.zeros(1, 1, 4, 4, requires_grad=True)
    given = masks((slice(20, 21), slice(20, 21)))
    place_loss(maps, cover(given), torch.tensor([1]), EVEN).backward()
    assert maps.grad is not None
    assert [tuple(place) for place in (maps.grad[0, 0] < 0).nonzero().tolist()] == [(1, 1)]


def test_defects_without_masks_teach_no_place() -> None:
    maps = torch.randn(2, 1, 4, 4)
    both = place_loss(maps, cover(masks(None, None)), torch.tensor([0, 1]), EVEN)
    torch.testing.assert_close(both, F.softplus(maps[0]).mean())


def test_kinds_of_defects_are_told_apart_inside_their_masks() -> None:
    maps = torch.zeros(1, 3, 4, 4, requires_grad=True)
    given = masks((slice(0, 16), slice(0, 16)))
    place_loss(maps, cover(given), torch.tensor([2]), EVEN).backward()
    assert maps.grad is not None
    assert maps.grad[0, :, 0, 0].argmin() == 2
    assert maps.grad[0, :, 3, 3].argmin() == 0


def test_one_bad_place_is_enough(network: DenseNetwork) -> None:
    with torch.no_grad():
        network.head.weight.fill_(1.0)
        features = torch.zeros(1, 64, 8, 8)
        good = float(network.logits(features))
        features[0, :, 3, 5] = 0.25  # a place with a logit of 16
        bad = float(network.logits(features))
        features[:] = 0.25
        all_bad = float(network.logits(features))
    assert good == pytest.approx(0, abs=1e-5)
    assert bad == pytest.approx(16 - np.log(64), abs=0.01)
    assert all_bad == pytest.approx(16, abs=1e-4)


def test_large_logits_do_not_overflow(network: DenseNetwork) -> None:
    with torch.no_grad():
        network.head.weight.fill_(50.0)
        assert torch.isfinite(network.logits(torch.ones(1, 64, 4, 4)))


def test_features_are_standardised_as_measured(network: DenseNetwork) -> None:
    pictures = torch.rand(12, 3, 64, 64)
    network.measure(network.shown(some) for some in (pictures[:4], pictures[4:]))
    for norm, shown in zip(
        network.neck.norms, network.neck.shown(network._maps(pictures)), strict=True
    ):
        each = norm(shown.detach())
        assert float(each.mean((0, 2, 3)).abs().max()) < 1e-3
        wide = shown.detach().std((0, 2, 3)) > 0.05
        torch.testing.assert_close(
            each.std((0, 2, 3))[wide], torch.ones(int(wide.sum())), atol=0.05, rtol=0
        )
    network.train()
    before = network.neck.norms[0].running_mean.clone()
    network(pictures)
    torch.testing.assert_close(network.neck.norms[0].running_mean, before)


@pytest.mark.parametrize("size", [(64, 64), (50, 83), (100, 100)])
def test_any_size_gives_a_map_every_sixteen_pixels(
    network: DenseNetwork, size: tuple[int, int]
) -> None:
    found = network.features(torch.rand(1, 1, *size))
    assert found.shape == (1, 64, -(-size[0] // 16), -(-size[1] // 16))
    finer = DenseNetwork(NETWORK, 1, stride=8).eval().features(torch.rand(1, 1, *size))
    assert finer.shape == (1, 64, -(-size[0] // 8), -(-size[1] // 8))


def test_a_set_of_pale_pictures_is_shown_as_bright_and_rich_as_photos(
    network: DenseNetwork,
) -> None:
    pale = torch.rand(32, 1, 64, 64) * 0.1 + 0.6
    values = (pale * 255).round().to(torch.uint8).numpy()
    mean, spread = Pictures(values).brightness()
    assert mean == pytest.approx(float(pale.mean()), abs=0.003)
    assert spread == pytest.approx(float(pale.std()), abs=0.003)
    photo_mean, photo_std = network.mean.clone(), network.std.clone()
    network.standardise_set(mean, spread)
    shown = network.seen(pale) * photo_std + photo_mean  # back to a picture's scale
    assert float(shown.mean()) == pytest.approx(0.45, abs=0.01)
    gain = float(shown.std()) / float(pale.std())
    assert gain == pytest.approx(4.0, rel=0.01)  # 7.6 would be needed, and would show noise


def test_a_mask_has_no_part_in_the_brightness_of_a_set() -> None:
    values = np.full((3, 2, 8, 8), 100, np.uint8)
    values[:, 1] = 255
    mean, spread = Pictures(values).brightness()
    assert mean == pytest.approx(100 / 255)
    assert spread == pytest.approx(0, abs=1e-6)
