"""Structural similarity against its definition, written out in double precision."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from makellos.detectors.networks.ssim import (
    SCALE_WEIGHTS,
    WINDOW,
    ms_ssim,
    n_scales,
    ssim,
    ssim_map,
)

C1, C2 = 1e-4, 9e-4


def pair(*shape: int, seed: int = 0, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Return soft pictures and noisy copies of them, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    soft = F.avg_pool2d(torch.rand(shape, generator=generator), 5, 1, 2)
    other = (soft + noise * torch.randn(shape, generator=generator)).clamp(0, 1)
    return soft, other


def windowed(x: Tensor) -> Tensor:
    """Return the means of N×C×H×W under the Gaussian window, by its two-dimensional sum."""
    places = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    line = torch.exp(-(places**2) / 4.5)
    window = line[:, None] * line[None, :]
    patches = x.unfold(2, WINDOW, 1).unfold(3, WINDOW, 1)
    return torch.einsum("nchwij,ij->nchw", patches, window / window.sum())


def terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return similarity and contrast at every place."""
    p, q = windowed(x), windowed(y)
    variance_x, variance_y = windowed(x * x) - p * p, windowed(y * y) - q * q
    covariance = windowed(x * y) - p * q
    contrast = (2 * covariance + C2) / (variance_x + variance_y + C2)
    return contrast * (2 * p * q + C1) / (p * p + q * q + C1), contrast


def exact_ssim(x: Tensor, y: Tensor) -> Tensor:
    return terms(x, y)[0].mean((1, 2, 3))


def exact_ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    result = torch.ones(x.shape[:2], dtype=x.dtype)
    for level, weight in enumerate(SCALE_WEIGHTS):
        similarity, contrast = terms(x, y)
        last = level == len(SCALE_WEIGHTS) - 1
        result = result * (similarity if last else contrast).mean((2, 3)) ** weight
        odd = [side % 2 for side in x.shape[2:]]
        x, y = F.avg_pool2d(x, 2, padding=odd), F.avg_pool2d(y, 2, padding=odd)
    return result.mean(1)


def with_gradients(
    measure: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the values, and the gradients of their weighted sum by both pictures."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    values = measure(x, y)
    (values * torch.arange(1, len(values) + 1)).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    return values.detach().double(), x.grad.double(), y.grad.double()


CASES = [
    (ssim, exact_ssim, (2, 1, 48, 37)),
    (ssim, exact_ssim, (3, 3, 16, 29)),
    (ms_ssim, exact_ms_ssim, (2, 1, 177, 162)),
    (ms_ssim, exact_ms_ssim, (1, 3, 161, 161)),
]


@pytest.mark.parametrize(("ours", "exact", "shape"), CASES)
def test_values_and_gradients_are_those_of_the_definition(
    ours: Callable[[Tensor, Tensor], Tensor],
    exact: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, ...],
) -> None:
    x, y = pair(*shape)
    expected = with_gradients(exact, x.double(), y.double())
    for kind, allowed in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        found = with_gradients(ours, x.to(kind), y.to(kind))
        for ours_, theirs in zip(found, expected, strict=True):
            assert (ours_ - theirs).abs().max() <= allowed * theirs.abs().max()


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_values_and_gradients_are_those_of_the_reference(name: str) -> None:
    reference = pytest.importorskip("pytorch_msssim")
    x, y = pair(3, 1, 176, 180)
    measure = getattr(reference, name)
    # Its window is rounded to float32 before the rest is computed in double precision.
    expected = with_gradients(
        lambda a, b: measure(a, b, data_range=1.0, size_average=False), x.double(), y.double()
    )
    found = with_gradients({"ssim": ssim, "ms_ssim": ms_ssim}[name], x, y)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert (found[0] - expected[0]).abs().max() <= 2e-5


def test_a_gradient_of_one_picture_alone_is_the_same() -> None:
    x, y = pair(2, 1, 32, 32)
    both = with_gradients(ssim, x, y)[2]
    alone = y.clone().requires_grad_()
    (ssim(x, alone) * torch.tensor([1.0, 2.0])).sum().backward()
    assert alone.grad is not None
    torch.testing.assert_close(alone.grad.double(), both)


def test_similarity_is_1_for_equal_and_lower_for_other_pictures() -> None:
    x, y = pair(2, 3, 40, 40)
    torch.testing.assert_close(ssim(x, x), torch.ones(2))
    torch.testing.assert_close(ms_ssim(x, x), torch.ones(2))
    assert (ssim(x, y) < 0.95).all()
    assert (ssim(x, 1 - x) < 0).all()
    torch.testing.assert_close(ssim(x, y), ssim(y, x))


def test_bright_flat_pictures_keep_their_digits() -> None:
    """The variance of one level of noise on white is lost in float32 squares of 0.9."""
    generator = torch.Generator().manual_seed(0)
    x, y = (0.9 + torch.randint(0, 2, (2, 1, 32, 32), generator=generator) / 4096 for _ in range(2))
    torch.testing.assert_close(
        ssim(x, y).double(), exact_ssim(x.double(), y.double()), atol=2e-5, rtol=0
    )


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_autocast_rounds_nothing(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, y = pair(2, 1, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        inside = with_gradients(measure, x, y)
    for ours, theirs in zip(inside, with_gradients(measure, x, y), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("side", "n"), [(16, 1), (20, 1), (21, 2), (64, 3), (160, 4), (161, 5)])
def test_small_pictures_have_fewer_scales(side: int, n: int) -> None:
    assert n_scales(side, 500) == n_scales(500, side) == n
    x, y = pair(1, 1, side, side)
    values, by_x, by_y = with_gradients(ms_ssim, x, y)
    assert 0 < values < 1
    assert by_x.isfinite().all()
    assert by_y.abs().max() > 0


def test_opposite_pictures_have_finite_gradients() -> None:
    x, _ = pair(2, 1, 170, 170)
    values, by_x, by_y = with_gradients(ms_ssim, x, 1 - x)
    assert values.isfinite().all()
    assert by_x.isfinite().all()
    assert by_y.isfinite().all()


def test_map_has_full_size_and_agrees_with_a_direct_sum_inside() -> None:
    x, y = pair(1, 2, 23, 31)
    found = ssim_map(x, y)
    assert found.shape == x.shape
    # Three passes of 3×3 means are one window: the line 1 3 6 7 6 3 1, both ways.
    line = torch.tensor([1, 3, 6, 7, 6, 3, 1], dtype=torch.float64) / 27
    window = line[:, None] * line[None, :]

    def mean(z: Tensor) -> Tensor:
        patches = z.double().unfold(2, 7, 1).unfold(3, 7, 1)
        return torch.einsum("nchwij,ij->nchw", patches, window)

    p, q = mean(x), mean(y)
    xx, yy, xy = mean(x * x) - p * p, mean(y * y) - q * q, mean(x * y) - p * q
    expected = (2 * p * q + C1) * (2 * xy + C2) / ((p * p + q * q + C1) * (xx + yy + C2))
    inside = found[:, :, 3:-3, 3:-3].double()
    torch.testing.assert_close(inside, expected, atol=1e-4, rtol=0)


def test_map_is_1_where_pictures_agree_and_low_where_they_do_not() -> None:
    x, _ = pair(1, 1, 40, 40)
    y = x.clone()
    y[:, :, 10:18, 20:28] = 1 - y[:, :, 10:18, 20:28].round()
    found = ssim_map(x, y)[0, 0]
    for row, column in product(range(40), range(40)):
        if not (7 <= row < 21 and 17 <= column < 31):
            assert abs(float(found[row, column]) - 1) < 1e-5
    assert found[10:18, 20:28].max() < 0.9
    assert found.min() < 0.1


def test_map_stays_finite_and_bounded_on_extremes() -> None:
    black, white = torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    board = (torch.arange(16)[:, None] + torch.arange(16)[None]).remainder(2).float()[None, None]
    for x, y in product((black, white, board, 1 - board), repeat=2):
        found = ssim_map(x, y)
        assert found.isfinite().all()
        assert found.abs().max() <= 1 + 1e-4
