"""Variational autoencoders: networks, likelihoods, and the graphs that score and sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from makellos.detectors.networks.usual import UnusualResidual, local_mean

__all__ = [
    "Likelihood",
    "ResidualScoring",
    "Sampler",
    "Scoring",
    "VariationalAutoencoder",
    "draw_noise",
    "kl_divergence",
]

HIDDEN = (512, 256)  # of the fully connected network
_SLOPE = 0.2
_COARSEST = 4  # cells along the shorter side of the coarsest grid, at least
_MOST = 4  # times the base width, at most
_LOG_VARIANCE = (-12.0, 8.0)  # of the posterior; wider ones overflow in exp
_DARKEST = 1e-4  # probabilities keep this distance from 0 and 1, so that logarithms stay finite
# Finer than half a step of 8 bit pictures no deviation is measured.
_SMALLEST_SIGMA = 0.5 / 255
_SIGMA_MEMORY = 0.99


class VariationalAutoencoder(nn.Module):  # type: ignore[misc]
    """Map pictures to Gaussians over latents, and latents to the logits of pictures.

    Pictures are N×C×H×W float32 in [0, 1], with sides from 16 up; latents are N×d.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        width: int,
        *,
        dense: bool,
        hidden: Sequence[int] = HIDDEN,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.latent_dim = latent_dim
        self.is_dense = dense
        if dense:
            parts = _dense(shape, latent_dim, hidden)
        else:
            parts = _convolutional(shape, latent_dim, width)
        self.encoder, self.decoder = parts

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each N×d float32, of the posterior of pictures."""
        mean, log_variance = self.encoder(pictures).float().chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)

    def decode(self, latents: Tensor) -> Tensor:
        """Return logits N×C×H×W float32 of the pictures that latents stand for."""
        logits: Tensor = self.decoder(latents).float()
        return logits

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the reconstructions in [0, 1] of pictures, from the means of their posteriors."""
        return self.decode(self.encode(pictures)[0]).sigmoid()


class Likelihood(nn.Module):  # type: ignore[misc]
    """Judge pictures N×C×H×W by logits of their reconstructions, value by value, in nats.

    ``bernoulli`` is the binary cross-entropy less the entropy of the picture itself: the
    divergence between pixel and reconstruction. Gray pixels would cost the most else, however
    well they are reproduced. ``gaussian`` has one standard deviation for all pixels, the one that
    is most likely (Rybkin et al., Simple and Effective VAE Training with Calibrated Decoders,
    2021, arXiv 2006.13202), and no constant terms.
    """

    def __init__(self, name: str, smoothing: int) -> None:
        super().__init__()
        self.name = name
        self.smoothing = smoothing
        # Mean squares of residuals, as they are and smoothed, over the last hundred steps or so.
        self.register_buffer("square", torch.tensor(0.0))
        self.register_buffer("smooth_square", torch.tensor(0.0))

    def loss(self, logits: Tensor, pictures: Tensor) -> Tensor:
        """Return the negative log-likelihood N, summed over values, up to what is constant."""
        if self.name == "bernoulli":
            cross = F.binary_cross_entropy_with_logits(logits, pictures, reduction="none")
            return cross.flatten(1).sum(1)
        residual = pictures - logits.sigmoid()
        if self.training:
            self._remember(residual.detach())
            # The most likely sigma of this batch: its logarithm is all of the loss that matters.
            sigma = residual.square().mean().clamp_min(_SMALLEST_SIGMA**2).sqrt()
        else:
            sigma = _sigma(self.square)
        scaled = residual.square() / (2 * sigma.square()) + sigma.log()
        return scaled.flatten(1).sum(1)

    def deviation(self, reconstructions: Tensor, pictures: Tensor, n_samples: int) -> Tensor:
        """Return how little each value N×L×C×H×W of pictures is explained, from 0 up, in nats.

        `reconstructions` N·L×C×H×W in [0, 1] are L = `n_samples` for each of the pictures
        N×C×H×W. Both are smoothed first.
        """
        seen = local_mean(pictures, self.smoothing).unsqueeze(1)
        made = local_mean(reconstructions, self.smoothing)
        made = made.unflatten(0, (-1, n_samples))
        if self.name == "gaussian":
            return (seen - made).square() / (2 * _sigma(self.smooth_square).square())
        # Clamped alike, picture and reconstruction differ by nothing where both are black.
        made = made.clamp(_DARKEST, 1 - _DARKEST)
        seen = seen.clamp(_DARKEST, 1 - _DARKEST)
        bright = seen * (seen.log() - made.log())
        dark = (1 - seen) * ((1 - seen).log() - (1 - made).log())
        return (bright + dark).clamp_min(0.0)

    def _remember(self, residual: Tensor) -> None:
        smooth = local_mean(residual, self.smoothing)
        for kept, values in ((self.square, residual), (self.smooth_square, smooth)):
            share = torch.where(kept > 0, _SIGMA_MEMORY, 0.0)
            kept.copy_(share * kept + (1 - share) * values.square().mean())


class Scoring(nn.Module):  # type: ignore[misc]
    """Score pictures N×C×H×W: map N×H×W, score N, reconstruction N×C×H×W in [0, 1].

    The posterior is sampled with `noise` L×d, the same for every picture, so that a picture's
    score is always the same. Map and score are in nats per value: means over L, channels and, for
    the score, pixels, to which it adds `weight` times the divergence of the posterior.
    """

    def __init__(
        self, vae: VariationalAutoencoder, likelihood: Likelihood, noise: Tensor, *, weight: float
    ) -> None:
        super().__init__()
        self.vae, self.likelihood = vae, likelihood
        self.register_buffer("noise", noise)
        self.weight = weight / math.prod(vae.shape)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.vae.encode(pictures)
        spread = (log_variance / 2).exp().unsqueeze(1)
        latents = mean.unsqueeze(1) + spread * self.noise
        made = self.vae.decode(latents.flatten(0, 1)).sigmoid()
        deviation = self.likelihood.deviation(made, pictures, len(self.noise))
        anomaly_map = deviation.mean((1, 2))
        score = anomaly_map.mean((1, 2))
        if self.weight:
            score = score + self.weight * kl_divergence(mean, log_variance)
        return anomaly_map, score, self.vae.decode(mean).sigmoid()


class ResidualScoring(nn.Module):  # type: ignore[misc]
    """Give pictures N×C×H×W maps N×H×W of unusual residuals, and reconstructions N×C×H×W."""

    def __init__(self, vae: VariationalAutoencoder, residual: UnusualResidual) -> None:
        super().__init__()
        self.vae, self.residual = vae, residual

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        made = self.vae(pictures)
        return self.residual(pictures, made), made


class Sampler(nn.Module):  # type: ignore[misc]
    """Map latents N×d, drawn from a standard normal, to pictures N×C×H×W in [0, 1]."""

    def __init__(self, vae: VariationalAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents).sigmoid()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence N of posteriors N×d from the standard normal, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def draw_noise(n_samples: int, latent_dim: int, seed: int) -> Tensor:
    """Return n_samples×latent_dim standard normal values, every second the negative of the first.

    Pairs cancel what is linear in the noise, so that few samples give a steady mean.
    """
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn((n_samples + 1) // 2, latent_dim, generator=generator)
    return torch.stack([half, -half], dim=1).flatten(0, 1)[:n_samples]


def _sigma(square: Tensor) -> Tensor:
    return square.clamp_min(_SMALLEST_SIGMA**2).sqrt()


def _dense(
    shape: tuple[int, int, int], latent_dim: int, hidden: Sequence[int]
) -> tuple[nn.Module, nn.Module]:
    n_values = math.prod(shape)
    down = _layers([n_values, *hidden])
    encoder = nn.Sequential(nn.Flatten(), *down, nn.Linear(hidden[-1], 2 * latent_dim))
    up = _layers([latent_dim, *hidden[::-1]])
    decoder = nn.Sequential(*up, nn.Linear(hidden[0], n_values), nn.Unflatten(1, shape))
    return encoder, decoder


def _layers(widths: Sequence[int]) -> Iterator[nn.Module]:
    for ins, outs in pairwise(widths):
        yield from (nn.Linear(ins, outs), nn.ReLU())


def _convolutional(
    shape: tuple[int, int, int], latent_dim: int, width: int
) -> tuple[nn.Module, nn.Module]:
    channels, *size = shape
    sizes, widths = [tuple(size)], [channels]
    while min(sizes[-1]) >= 2 * _COARSEST:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        widths.append(width * min(2 ** (len(sizes) - 2), _MOST))
    grid = (widths[-1], *sizes[-1])
    down: list[nn.Module] = []
    for ins, outs in pairwise(widths):
        down += [nn.Conv2d(ins, outs, 3, 2, 1, bias=False), *_normed(outs)]
    up: list[nn.Module] = [nn.Linear(latent_dim, math.prod(grid)), nn.ReLU(), nn.Unflatten(1, grid)]
    for ins, outs, target in zip(widths[:1:-1], widths[-2:0:-1], sizes[-2:0:-1], strict=True):
        up += [_Enlarge(ins, outs, target, bias=False), *_normed(outs)]
    up += [_Enlarge(widths[1], channels, sizes[0], bias=True)]
    head = [nn.Flatten(), nn.Linear(math.prod(grid), 2 * latent_dim)]
    return nn.Sequential(*down, *head), nn.Sequential(*up)


def _normed(channels: int) -> Sequence[nn.Module]:
    return nn.BatchNorm2d(channels), nn.LeakyReLU(_SLOPE)


class _Enlarge(nn.Module):  # type: ignore[misc]
    """Double the sides of N×C×h×w, and cut off what lies beyond `size`, an odd size's doubling."""

    def __init__(self, ins: int, outs: int, size: tuple[int, ...], *, bias: bool) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(ins, outs, 4, 2, 1, bias=bias)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.size
        enlarged: Tensor = self.convolution(x)
        return enlarged[:, :, :height, :width]
