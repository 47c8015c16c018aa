"""What is usual at each place among good parts, and maps that are counted from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from makellos.data.progress import Progress
from makellos.training.pictures import Pictures

__all__ = ["UnusualResidual", "Usual", "batches_of", "local_mean"]

_FLOOR = 0.5  # of the mean deviation, added to that of each place
_SMALLEST_SPREAD = 1e-4
# Windows of local means, on a picture of 64×64 pixels; those of others grow with it.
_SIDE, _FINE, _AROUND, _COARSE = 64, 3, 15, 27
_LEAST_RESIDUAL = 0.5 / 255  # less is not to be told from rounding
_AT_ONCE = 8  # pictures whose maps are learned from together


def local_mean(x: Tensor, size: int) -> Tensor:
    """Return means over size×size places around each, of an odd size; borders count what is there.

    Rows and columns come one after the other: pooling adds as often as its window has places.
    """
    if size == 1:
        return x
    half = size // 2
    x = F.avg_pool2d(x, (size, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, size), 1, (0, half), count_include_pad=False)


class Usual(nn.Module):  # type: ignore[misc]
    """Count maps N×H×W from the mean of good parts at each place, in their standard deviations.

    Half of the mean deviation is added to each: where good parts hardly differ, a little more must
    not count as much. Before `learn`, maps stay as they are.
    """

    usual: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def learn(self, maps: Iterable[Tensor]) -> None:
        """Learn from the maps of good parts, batches of N×H×W."""
        count = 0
        for batch in maps:
            found = batch.double()
            if not count:
                origin = found[0]
                total, squares = torch.zeros_like(origin), torch.zeros_like(origin)
            count += len(found)
            # Sums of differences keep the digits that those of squares lose in a subtraction.
            total += (found - origin).sum(0)
            squares += (found - origin).square().sum(0)
        mean = total / count
        spread = (squares / count - mean * mean).clamp(min=0).sqrt()
        self.usual = (mean + origin).float()
        self.spread = (spread + _FLOOR * spread.mean() + _SMALLEST_SPREAD).float()

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps N×H×W, counted."""
        counted: Tensor = (maps - self.usual) / self.spread
        return counted


class UnusualResidual(nn.Module):  # type: ignore[misc]
    """Tell where a picture differs from what was made of it by more than is usual there.

    Of the residual x - x' only structure counts that is wider than the finest pixels and narrower
    than two fifths of the picture: the finest is grain that no network gives back, the widest is
    light. Its local mean, over the root of its mean in the picture, since a part that is given back
    badly is so at all places, is counted from what is `Usual`. To it is added how much is usual
    around a place, relative to the picture's mean: among deviations that are equally rare, one on
    the part is damage rather than one of the plain ground beside it.

    Maps pictures N×C×H×W in [0, 1] and what was made of them to maps N×H×W.
    """

    def __init__(self) -> None:
        super().__init__()
        self.usual = Usual()

    def learn(
        self,
        pictures: Pictures,
        make: Callable[[Tensor], Tensor],
        progress: Progress,
        *,
        at_once: int = _AT_ONCE,
    ) -> None:
        """Learn what is usual from pictures of good parts; `make` gives them back."""
        with torch.no_grad():
            batches = batches_of(pictures, progress, at_once)
            self.usual.learn(self.residual(batch, make(batch)) for batch in batches)
            usual, spread = self.usual.usual, self.usual.spread
            around = local_mean(usual[None, None], _window(_AROUND, *usual.shape))[0, 0]
            prior = around / around.mean().clamp(min=_SMALLEST_SPREAD)
            self.usual.usual = usual - prior * spread

    def residual(self, pictures: Tensor, made: Tensor) -> Tensor:
        """Return the residual as it is, N×H×W from 0 up."""
        _, _, height, width = pictures.shape
        fine, coarse = (_window(window, int(height), int(width)) for window in (_FINE, _COARSE))
        difference = local_mean(pictures - made, fine)
        structure = (difference - local_mean(difference, coarse)).abs()
        found = local_mean(structure, fine).mean(1)
        level = found.mean((1, 2), keepdim=True) + _LEAST_RESIDUAL
        residual: Tensor = found / level.sqrt()
        return residual

    def forward(self, pictures: Tensor, made: Tensor) -> Tensor:
        """Return maps N×H×W, in standard deviations of good parts, plus what is usual around."""
        counted: Tensor = self.usual(self.residual(pictures, made))
        return counted


def _window(size: int, height: int, width: int) -> int:
    """Return an odd window on a picture of height×width that is `size` on one of 64×64."""
    return 2 * int(size * math.sqrt(height * width) / _SIDE / 2) + 1


def batches_of(pictures: Pictures, progress: Progress, at_once: int = _AT_ONCE) -> Iterator[Tensor]:
    """Yield pictures N×C×H×W in batches, saying how far it is."""
    for start in range(0, pictures.n, at_once):
        stop = min(start + at_once, pictures.n)
        yield pictures.batch(range(start, stop))
        progress("learning what is usual at each place", stop, pictures.n)
