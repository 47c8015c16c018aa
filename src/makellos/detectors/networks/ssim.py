"""Structural similarity of pictures: as a loss, over several scales, and as a map."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["SCALE_WEIGHTS", "WINDOW", "ms_ssim", "n_scales", "ssim", "ssim_map"]

WINDOW = 11  # side of the Gaussian window, in pixels
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # of values in [0, 1]
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Variances do not change with the origin, and near it their squares keep more digits.
_ORIGIN = 0.5
_SMALLEST = 1e-6  # a power of 0 has no gradient


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean structural similarity of pictures, one for each in the batch.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004:
    Gaussian window of 11×11, sigma 1.5, without padding. `x` and `y` are N×C×H×W in [0, 1] with
    sides of at least 11; the result is (N,) float32 in [-1, 1]. Sums are taken in float32 (float64
    for float64) even under autocast. Both have gradients, once differentiable.
    """
    return _similarity(x, y)[0].mean(1)


def n_scales(height: int, width: int) -> int:
    """Return on how many scales, at most 5, pictures of a size hold a window."""
    halvings = range(1, len(SCALE_WEIGHTS))
    return 1 + sum(min(height, width) > (WINDOW - 1) << times for times in halvings)


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the structural similarity over several scales, one for each picture.

    Wang et al., Multi-scale Structural Similarity for Image Quality Assessment, 2003, as `ssim`
    else. Two deviations: pictures with a side of 160 or less have fewer than five scales, whose
    weights are scaled to the sum of all five; and contrasts below 1e-6 count as 1e-6, so that
    opposite pictures have finite gradients.
    """
    levels = n_scales(*x.shape[2:])
    kept = sum(SCALE_WEIGHTS[:levels]) / sum(SCALE_WEIGHTS)
    x, y, factors = _exactly(x), _exactly(y), []
    for level in range(levels):
        whole, contrast = _similarity(x, y)
        last = level == levels - 1
        value = (whole if last else contrast).clamp(min=_SMALLEST)
        factors.append(value ** (SCALE_WEIGHTS[level] / kept))
        if not last:
            padding = [side % 2 for side in x.shape[2:]]
            x, y = (F.avg_pool2d(each, 2, padding=padding) for each in (x, y))
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product.mean(1)


def ssim_map(x: Tensor, y: Tensor, *, contrast: float = 0.03) -> Tensor:
    """Return the similarity at every pixel, N×C×H×W in [-1, 1], of pictures of that shape.

    The window is three passes of 3×3 means, close to a Gaussian of sigma 1.4; at the border it
    ends. `contrast` is the constant K2: structure of a standard deviation far below it hardly
    counts. Average pooling and elementwise operations alone are used, which engines compute in
    float32 whatever precision they take for convolutions: the difference of mean square and
    squared mean would not survive bfloat16.
    """
    x, y = x - _ORIGIN, y - _ORIGIN
    return _ratios(_smooth(x), _smooth(y), _smooth(x * x + y * y), _smooth(x * y), contrast**2)[0]


def _smooth(x: Tensor) -> Tensor:
    for _ in range(3):
        x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return x


def _ratios(
    p: Tensor, q: Tensor, squares: Tensor, products: Tensor, c2: float = _C2
) -> tuple[Tensor, Tensor]:
    """Return similarity and contrast of means p and q and means of x² + y² and of xy."""
    pq, both = p * q, p * p + q * q
    contrast = (2 * (products - pq) + c2) / (squares - both + c2)
    # Means from the origin at 0: (p + o)(q + o) = pq + o(p + q) + o².
    shift = 2 * _ORIGIN * (p + q) + 2 * _ORIGIN**2
    return contrast * ((2 * pq + shift + _C1) / (both + shift + _C1)), contrast


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return means of similarity and of contrast over each channel, N×C both."""
    n, c, height, width = x.shape
    # One picture with all channels of the batch: a depthwise convolution that is fast on CPUs.
    flat = (1, n * c, height, width)
    whole, contrast = _Similarity.apply(_exactly(x).reshape(flat), _exactly(y).reshape(flat))
    return whole.view(n, c), contrast.view(n, c)


def _exactly(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class _Similarity(torch.autograd.Function):  # type: ignore[misc]
    """Means of similarity and contrast over each channel of 1×K×H×W, with their gradients.

    Four windowed means, of x, y, x² + y² and xy, suffice, and three on the way back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            x, y = _arrange(x) - _ORIGIN, _arrange(y) - _ORIGIN
            means = [_window(each) for each in (x, y, torch.addcmul(x * x, y, y), x * y)]
        ctx.save_for_backward(x, y, *means)
        whole, contrast = _ratios(*means)
        return whole.mean((0, 2, 3)), contrast.mean((0, 2, 3))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y, p, q, squares, products = ctx.saved_tensors
        n_places = p.shape[2] * p.shape[3]
        for_whole, for_contrast = (each.view(1, -1, 1, 1) / n_places for each in upstream)
        whole, contrast = _ratios(p, q, squares, products)
        below = 1 / (squares - p * p - q * q + _C2)  # of the contrast
        level = 1 / ((p + _ORIGIN) ** 2 + (q + _ORIGIN) ** 2 + _C1)  # of the luminance
        luminance = whole / contrast.where(contrast.abs() > 1e-12, contrast.new_tensor(1.0))
        by_ratio = below * (for_whole * luminance + for_contrast)
        # Derivatives by the means of xy and of x² + y².
        to_products, to_squares = 2 * by_ratio, -contrast * by_ratio
        back = [None, None]
        with torch.autocast(x.device.type, enabled=False):
            crossed, squared = _unwindow(to_products), 2 * _unwindow(to_squares)
            for i, (ours, other, mean, others) in enumerate(((x, y, p, q), (y, x, q, p))):
                if not ctx.needs_input_grad[i]:
                    continue
                direct = 2 * by_ratio * (contrast * mean - others)
                light = (others + _ORIGIN) - luminance * (mean + _ORIGIN)
                direct += for_whole * contrast * 2 * level * light
                back[i] = _unwindow(direct) + squared * ours + crossed * other
        return back[0], back[1]


def _arrange(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def _gaussian(like: Tensor) -> Tensor:
    places = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    exact = torch.exp(-(places**2) / (2 * _SIGMA**2))
    window = (exact / exact.sum()).to(like.dtype)
    # A sum off 1 by one rounding would show as variance; the smallest weights can make it good.
    window[[0, -1]] += ((1 - window.double().sum()) / 2).to(like.dtype)
    return window.to(like.device)


def _window(x: Tensor) -> Tensor:
    """Return Gaussian means of 1×K×H×W where the whole window fits."""
    if x.device.type != "cpu":
        return _band(x.shape[2], x) @ x @ _band(x.shape[3], x).T
    return _convolve(x, padding=0)


def _unwindow(gradient: Tensor) -> Tensor:
    """Return the gradient by what was windowed from that by its means."""
    if gradient.device.type != "cpu":
        rows, columns = (_band(side + WINDOW - 1, gradient) for side in gradient.shape[2:])
        return rows.T @ gradient @ columns
    return _convolve(gradient, padding=WINDOW - 1)


def _convolve(x: Tensor, padding: int) -> Tensor:
    window, channels = _gaussian(x), x.shape[1]
    for shape, border in (((WINDOW, 1), (padding, 0)), ((1, WINDOW), (0, padding))):
        kernel = window.view(1, 1, *shape).expand(channels, -1, -1, -1)
        x = F.conv2d(x, kernel, padding=border, groups=channels)
    return x


def _band(side: int, like: Tensor) -> Tensor:
    """Return the window at every place of a side as rows: full float32 on every accelerator."""
    window = _gaussian(like)
    band = window.new_zeros(side - WINDOW + 1, side)
    for i, weight in enumerate(window):
        band.diagonal(i).fill_(weight)
    return band
