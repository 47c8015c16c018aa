"""Search of the latent vector whose picture comes nearest to a part."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["Found", "Judge", "LatentSearch", "SearchSettings", "fold_norms"]

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of Adam
_CHECK_EVERY = 25  # steps between two looks at which parts are done
_POLISHED = 0.2  # share of steps, the last ones, that bf16 is too coarse for
_AT_ONCE = 64  # candidates that are made at once
_MAX_BYTES = 1 << 26  # of pictures and features of candidates
# Matrix products of few rows are summed up in another order, and steps that build on each other
# make up to 0.3 % of A(x) of it. Batches of multiples of this are computed alike, row by row.
_MULTIPLE = 8


class Judge(Protocol):
    """Name what the search needs of a discriminator."""

    def features(self, picture: Tensor) -> Tensor:
        """Return features N×F of pictures N×C×H×W in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Say how the latent vector is searched.

    `feature_weight` is lambda of A(x) = (1 - lambda) L_R + lambda L_D, `learning_rate` the step
    size of Adam. `n_restarts` searches per part begin at the best of `n_candidates` random latents.
    A search ends after `n_steps`, or when 25 of them have not lowered its best A(x) by the share
    `tolerance` (0: never).
    """

    feature_weight: float = 0.1
    n_steps: int = 500
    learning_rate: float = 0.003
    n_restarts: int = 1
    n_candidates: int = 1024
    tolerance: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """Hold what a search found for N parts.

    `score` N is A(x) in float32 at `latent` N×d, `reconstruction` N×C×H×W in [0, 1] the picture
    made of it, `residual` N×H×W the mean of |x - G(z)| over channels, `n_steps` N the steps taken.
    """

    score: Tensor
    latent: Tensor
    reconstruction: Tensor
    residual: Tensor
    n_steps: Tensor


@dataclass
class _Rows:
    """Hold the searches that go on, one per row; `index` says where each began."""

    index: Tensor
    parts: Tensor
    features: Tensor
    latent: Tensor
    first: Tensor  # moment of the gradient, as the next
    second: Tensor
    best: Tensor
    best_latent: Tensor
    before: Tensor  # best at the last look

    @classmethod
    def begin(cls, parts: Tensor, features: Tensor, latent: Tensor) -> _Rows:
        nothing, never = torch.zeros_like(latent), torch.full((len(parts),), math.inf)
        index = torch.arange(len(parts))
        return cls(
            index, parts, features, latent, nothing, nothing.clone(), never, latent, never.clone()
        )

    def remember(self, losses: Tensor) -> None:
        better = losses < self.best
        self.best = torch.where(better, losses, self.best)
        self.best_latent = torch.where(better[:, None], self.latent, self.best_latent)

    def step(self, gradient: Tensor, number: int, learning_rate: float) -> None:
        """Take step `number`, from 1, of Adam (Kingma and Ba 2014)."""
        self.first = torch.lerp(self.first, gradient, 1 - _BETAS[0])
        self.second = torch.lerp(self.second, gradient.square(), 1 - _BETAS[1])
        scale = (self.second / (1 - _BETAS[1] ** number)).sqrt_().add_(_EPSILON)
        step_size = learning_rate / (1 - _BETAS[0] ** number)
        self.latent = torch.addcdiv(self.latent, self.first, scale, value=-step_size)

    def split(self, tolerance: float) -> _Rows | None:
        """Return the rows that stand still, and go on with the others."""
        going = self.best < self.before * (1 - tolerance)
        self.before = self.best
        if bool(going.all()):
            return None
        done = _Rows(*(values[~going] for values in vars(self).values()))
        for name, values in vars(self).items():
            setattr(self, name, values[going])
        return done


class LatentSearch:
    """Find latents z that minimise A(x) = (1 - lambda) L_R + lambda L_D for a batch of parts.

    Schlegl et al., Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide
    Marker Discovery, 2017 (arXiv 1703.05921): residual loss L_R of |x - G(z)|, discrimination loss
    L_D of |f(x) - f(G(z))|, f the discriminator's last but one layer, 500 steps of Adam.
    Deviations: both are means in place of sums, so that lambda and A(x) mean the same at every
    size and width; each search begins at the best of many random latents, the same for every part;
    and the best z on the way counts, not the last.

    `generator` maps N×d to pictures N×C×H×W in [0, 1], `discriminator` has `features`; both are
    copied, frozen, and their batch norms folded into convolutions. `precision` ``bf16`` computes
    gradients in it, but for the last fifth of the steps, which reach lower losses in float32;
    starts and the A(x) that is returned are in float32 always. A search may be
    used from several threads at once.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent_dim: int,
        settings: SearchSettings,
        precision: str = "f32",
    ) -> None:
        self.settings = settings
        self._half = precision == "bf16"
        self._generator, self._discriminator = fold_norms(generator), fold_norms(discriminator)
        self._searched = self._generator, self._discriminator
        if self._half:
            self._searched = _halved(self._generator), _halved(self._discriminator)
        self._draw_candidates(latent_dim)

    def __call__(self, parts: Tensor) -> Found:
        """Search for parts N×C×H×W float32 in [0, 1]; each gets the same in any batch.

        Seen were differences of 1e-7 of A(x). On a processor that computes rows in another order
        in batches of other sizes, even of multiples of 8, steps can make up to 0.3 % of rounding.
        """
        with torch.no_grad():
            parts = parts.contiguous(memory_format=torch.channels_last)
            features = _features(self._discriminator, parts[_filled(len(parts))])[: len(parts)]
            starts = self._starts(parts, features)
            n, n_starts, _ = starts.shape
            rows = torch.arange(n).repeat_interleave(n_starts)
            repeated, targets = parts[rows], features[rows]
            latent, n_steps = self._search(_Rows.begin(repeated, targets, starts.flatten(0, 1)))
            networks = self._generator, self._discriminator
            losses, made = self._losses(networks, latent, repeated, targets)
            best = losses.view(n, n_starts).argmin(1) + torch.arange(n) * n_starts
            made = made[best].contiguous()
            residual = (parts - made).abs().mean(1)
        return Found(losses[best], latent[best], made, residual, n_steps[best])

    def _draw_candidates(self, latent_dim: int) -> None:
        """Make candidates until there are enough, or as many as memory should hold."""
        source = torch.Generator().manual_seed(self.settings.seed)
        wanted = max(self.settings.n_candidates, self.settings.n_restarts)
        latents = torch.randn(wanted, latent_dim, generator=source)
        pictures, features, n_bytes = [], [], 0
        for some in latents.split(_AT_ONCE):
            with torch.no_grad():
                made = self._generator(some).float()
                features.append(_features(self._discriminator, made))
            pictures.append(made.flatten(1))
            n_bytes += 4 * (pictures[-1].numel() + features[-1].numel())
            if n_bytes > _MAX_BYTES and len(pictures) * _AT_ONCE >= self.settings.n_restarts:
                break
        self._pictures, self._features = torch.cat(pictures), torch.cat(features)
        self._latents = latents[: len(self._pictures)]

    def _starts(self, parts: Tensor, features: Tensor) -> Tensor:
        """Return the best candidates N×R×d of each part, the best first."""
        weight = self.settings.feature_weight
        pixels = torch.cdist(parts.flatten(1), self._pictures, p=1) / self._pictures.shape[1]
        losses = (1 - weight) * pixels
        losses += weight * torch.cdist(features, self._features, p=1) / features.shape[1]
        order = losses.argsort(dim=1, stable=True)[:, : self.settings.n_restarts]
        return self._latents[order]

    def _search(self, rows: _Rows) -> tuple[Tensor, Tensor]:
        """Return the best latents of all rows, and the steps that each took."""
        settings = self.settings
        best = rows.latent.clone()
        n_steps = torch.zeros(len(best), dtype=torch.int64)
        n_polished = round(_POLISHED * settings.n_steps) if self._half else 0
        for number in range(1, settings.n_steps + 1):
            exact = number > settings.n_steps - n_polished
            if exact and number == settings.n_steps - n_polished + 1:
                rows.best = torch.full_like(rows.best, math.inf)  # of coarser losses
            losses, gradient = self._gradient(rows, exact=exact)
            rows.remember(losses)
            rows.step(gradient, number, settings.learning_rate)
            if number == settings.n_steps:
                break
            if settings.tolerance and number % _CHECK_EVERY == 0:
                done = rows.split(settings.tolerance)
                if done is not None:
                    best[done.index], n_steps[done.index] = done.best_latent, number
                if not len(rows.index):
                    return best, n_steps
        best[rows.index], n_steps[rows.index] = rows.best_latent, settings.n_steps
        return best, n_steps

    def _gradient(self, rows: _Rows, *, exact: bool) -> tuple[Tensor, Tensor]:
        networks = (self._generator, self._discriminator) if exact else self._searched
        n = len(rows.index)
        latent, parts, features = rows.latent.detach(), rows.parts, rows.features
        if n % _MULTIPLE:
            fill = _filled(n)
            latent, parts, features = latent[fill], parts[fill], features[fill]
        with torch.enable_grad():
            latent.requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=self._half and not exact):
                losses, _ = self._losses(networks, latent, parts, features)
            # Outside of autocast, which would round the products of the backward pass as well.
            (gradient,) = torch.autograd.grad(losses.sum(), latent)
        return losses.detach()[:n], gradient[:n]

    def _losses(
        self, networks: tuple[nn.Module, nn.Module], latent: Tensor, parts: Tensor, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return A(x) of each row, and the pictures that were made."""
        weight = self.settings.feature_weight
        made = networks[0](latent).float()
        losses = (1 - weight) * (made - parts).abs().mean((1, 2, 3))
        if weight:
            losses = losses + weight * (_features(networks[1], made) - features).abs().mean(1)
        return losses, made


def fold_norms(network: nn.Module) -> nn.Module:
    """Return a frozen copy in evaluation mode, batch norms folded into convolutions before them."""
    folded = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    for layers in [module for module in folded.modules() if isinstance(module, nn.Sequential)]:
        for i, (layer, norm) in enumerate(zip(list(layers)[:-1], list(layers)[1:], strict=True)):
            transposed = isinstance(layer, nn.ConvTranspose2d)
            if isinstance(norm, nn.BatchNorm2d) and (transposed or isinstance(layer, nn.Conv2d)):
                layers[i] = fuse_conv_bn_eval(layer, norm, transpose=transposed)
                layers[i + 1] = nn.Identity()
    return folded.to(memory_format=torch.channels_last)


class _ExactLinear(nn.Module):  # type: ignore[misc]
    """Compute a linear layer in float32: it is cheap, and in bf16 its sums depend on the batch."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            result: Tensor = self.layer(values.float())
        return result


def _halved(network: nn.Module) -> nn.Module:
    """Return a copy with convolutions in bf16; autocast would round their weights at each step."""
    halved = copy.deepcopy(network)
    for parent in list(halved.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear):
                setattr(parent, name, _ExactLinear(layer))
            elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.bfloat16()
    return halved


def _filled(n: int) -> Tensor:
    """Return row numbers that fill n rows up to a multiple, from the first on again."""
    return torch.arange(-(-n // _MULTIPLE) * _MULTIPLE) % n


def smoothed(residual: Tensor) -> Tensor:
    """Return maps N×H×W, each place the mean over 3×3."""
    return functional.avg_pool2d(residual[:, None], 3, 1, 1, count_include_pad=False)[:, 0]


def _features(discriminator: nn.Module, pictures: Tensor) -> Tensor:
    features: Tensor = discriminator.features(pictures)
    return features.float().flatten(1)
