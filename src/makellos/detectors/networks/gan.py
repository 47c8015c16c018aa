"""Networks of generative adversarial methods: generator, discriminator or critic, encoder."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from makellos.detectors.networks.usual import UnusualResidual
from makellos.training.pictures import Pictures

__all__ = [
    "Discriminator",
    "Encoder",
    "EncoderResidual",
    "EncoderScoring",
    "Generator",
    "contrast",
    "faintness",
    "initialise",
    "n_stages",
    "on_sphere",
    "typical_contrast",
]

Norm = Literal["batch", "layer", "none"]
Shape = tuple[int, int, int]  # channels, height, width of a picture

_COARSEST = 4  # cells along the shorter side of the coarsest grid, at least
_MOST = 8  # times the base width, at most
_AT_ONCE = 256
_FAINTEST = 0.1  # of a typical contrast; a blank picture has none to divide by


def n_stages(height: int, width: int) -> int:
    """Return how often a picture of height×width, at least 8, is halved to its coarsest grid."""
    return max(1, int(math.log2(min(height, width) / _COARSEST)))


def _widths(base_width: int, stages: int) -> list[int]:
    """Return the channels of each stage, from fine to coarse."""
    return [base_width * min(2**stage, _MOST) for stage in range(stages)]


def _sizes(size: int, stages: int) -> list[int]:
    """Return a side after 0, 1, … halvings, rounded up."""
    return [-(-size // 2**stage) for stage in range(stages + 1)]


class Generator(nn.Module):  # type: ignore[misc]
    """Make pictures of latent vectors by transposed convolutions.

    Radford et al., Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks, 2015 (arXiv 1511.06434): batch normalisation and ReLU after every layer
    but the last, which ends in tanh. Deviations: the coarsest grid follows the picture's size, at
    least 4 cells along the shorter side, and what lies beyond the picture is cut off; tanh is
    mapped to [0, 1]. `spherical` scales each latent to the length sqrt(d) first, which nearly all
    draws from N(0, 1) have: then there is no latent that training has not prepared it for.

    Maps latents N×d to pictures N×C×H×W in [0, 1].
    """

    def __init__(
        self,
        latent_dim: int,
        shape: Shape,
        base_width: int,
        *,
        spherical: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        stages = n_stages(height, width)
        widths = _widths(base_width, stages)
        self.latent_dim = latent_dim
        self.spherical = spherical
        self.shape = shape
        self.grid = (widths[-1], _sizes(height, stages)[-1], _sizes(width, stages)[-1])
        self.start = nn.Linear(latent_dim, math.prod(self.grid), bias=False)
        self.start_norm = nn.BatchNorm2d(widths[-1])
        layers: list[nn.Module] = []
        for ins, outs in zip(widths[:0:-1], widths[-2::-1], strict=True):
            layers += [nn.ConvTranspose2d(ins, outs, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(outs), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.end = nn.ConvTranspose2d(widths[0], channels, 4, 2, 1)

    def forward(self, latent: Tensor) -> Tensor:
        """Return pictures N×C×H×W float32 in [0, 1] for latents N×d."""
        latent = on_sphere(latent) if self.spherical else latent
        grid = self.start(latent).view(-1, *self.grid)
        picture = self.end(self.body(torch.relu(self.start_norm(grid))))
        _, height, width = self.shape
        return torch.tanh(picture[:, :, :height, :width].float()) * 0.5 + 0.5


def on_sphere(latent: Tensor) -> Tensor:
    """Return latents N×d scaled to the length sqrt(d)."""
    return latent * (latent.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class _Stem(nn.Module):  # type: ignore[misc]
    """Halve pictures N×C×H×W in [0, 1] stage by stage, and lay the coarsest grid out flat."""

    def __init__(self, shape: Shape, base_width: int, norm: Norm) -> None:
        super().__init__()
        channels, height, width = shape
        stages = n_stages(height, width)
        widths = _widths(base_width, stages)
        heights, columns = _sizes(height, stages), _sizes(width, stages)
        layers: list[nn.Module] = []
        for stage, (ins, outs) in enumerate(zip([channels, *widths[:-1]], widths, strict=True)):
            # An odd side is padded by one more, so that halving rounds up as in the generator.
            odd = (columns[stage] % 2, heights[stage] % 2)
            if any(odd):
                layers += [nn.ZeroPad2d((0, odd[0], 0, odd[1]))]
            normed = norm != "none" and stage > 0
            layers += [nn.Conv2d(ins, outs, 4, 2, 1, bias=not normed)]
            if normed:
                layers += [nn.BatchNorm2d(outs) if norm == "batch" else nn.GroupNorm(1, outs)]
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.n_features = widths[-1] * heights[-1] * columns[-1]

    def forward(self, picture: Tensor) -> Tensor:
        return self.layers(picture * 2 - 1).flatten(1).float()


class Discriminator(nn.Module):  # type: ignore[misc]
    """Tell real pictures from made ones: a discriminator with batch norm, a critic without.

    Radford et al. 2015: strided convolutions and LeakyReLU of slope 0.2, normalisation in all but
    the first. `norm` is ``batch``, ``layer`` (over channels and places, for a gradient penalty,
    which needs pictures to be independent) or ``none``.

    Maps pictures N×C×H×W in [0, 1] to logits N; `features` are those before the last layer.
    """

    def __init__(self, shape: Shape, base_width: int, norm: Norm = "batch") -> None:
        super().__init__()
        self.stem = _Stem(shape, base_width, norm)
        self.n_features = self.stem.n_features
        self.head = nn.Linear(self.n_features, 1)

    def features(self, picture: Tensor) -> Tensor:
        """Return features N×F float32 of pictures N×C×H×W: the last but one layer, flat."""
        features: Tensor = self.stem(picture)
        return features

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits N float32, higher for pictures that look real."""
        logits: Tensor = self.head(self.stem(picture))
        return logits.float()[:, 0]


class Encoder(nn.Module):  # type: ignore[misc]
    """Map pictures N×C×H×W in [0, 1] to latents N×d: a discriminator with another last layer."""

    def __init__(
        self, latent_dim: int, shape: Shape, base_width: int, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.stem = _Stem(shape, base_width, norm)
        self.head = nn.Linear(self.stem.n_features, latent_dim)

    def forward(self, picture: Tensor) -> Tensor:
        """Return latents N×d float32."""
        latent: Tensor = self.head(self.stem(picture))
        return latent.float()


class EncoderScoring(nn.Module):  # type: ignore[misc]
    """Score pictures by how badly the generator makes them again from the encoder's latents.

    A(x) = |x - G(E(x))|² + kappa |f(x) - f(G(E(x)))|², means over pixels and over features, of
    Schlegl et al. 2019, equation 6. With `typical_contrast` above 0, a picture of less
    contrast has it divided by the square of its own over the typical one: squares of faint
    differences are small.

    Maps pictures N×C×H×W in [0, 1] to maps N×H×W, the absolute residual averaged over 3×3
    pixels, scores N, and pictures G(E(x)) N×C×H×W in [0, 1].
    """

    def __init__(
        self,
        encoder: Encoder,
        generator: Generator,
        discriminator: Discriminator,
        *,
        kappa: float,
        typical_contrast: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder, self.generator, self.discriminator = encoder, generator, discriminator
        self.kappa, self.typical_contrast = kappa, typical_contrast

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return maps, scores and reconstructions of pictures."""
        again = self.generator(self.encoder(picture))
        difference = picture - again
        features = self.discriminator.features(picture) - self.discriminator.features(again)
        score = difference.square().flatten(1).mean(1) + self.kappa * features.square().mean(1)
        if self.typical_contrast:
            score = score / faintness(picture, self.typical_contrast).square()
        residual = difference.abs().mean(1, keepdim=True)
        smooth = functional.avg_pool2d(residual, 3, 1, 1, count_include_pad=False)
        return smooth[:, 0], score, again


class EncoderResidual(nn.Module):  # type: ignore[misc]
    """Give pictures N×C×H×W maps N×H×W of unusual residuals, and pictures G(E(x)) N×C×H×W."""

    def __init__(self, encoder: Encoder, generator: Generator, residual: UnusualResidual) -> None:
        super().__init__()
        self.encoder, self.generator, self.residual = encoder, generator, residual

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps and reconstructions of pictures."""
        again = self.generator(self.encoder(picture))
        return self.residual(picture, again), again


def contrast(picture: Tensor) -> Tensor:
    """Return the mean absolute deviation of each picture N×C×H×W from its own mean, N."""
    flat = picture.flatten(1)
    return (flat - flat.mean(1, keepdim=True)).abs().mean(1)


def faintness(picture: Tensor, typical_contrast: float) -> Tensor:
    """Return the contrast of pictures N×C×H×W over the typical one, from 0.1 to 1, N.

    More contrast than usual may be the defect itself, and excuses nothing.
    """
    return (contrast(picture) / typical_contrast).clamp(_FAINTEST, 1.0)


def typical_contrast(pictures: Pictures) -> float:
    """Return the median contrast of pictures, above 0."""
    starts = range(0, pictures.n, _AT_ONCE)
    batches = [
        contrast(pictures.batch(range(start, min(start + _AT_ONCE, pictures.n))))
        for start in starts
    ]
    return max(float(torch.cat(batches).median()), 1e-6)


def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw weights as Radford et al. do: N(0, 0.02), scales of norms N(1, 0.02), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02, generator)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(layer.weight, 1.0, 0.02, generator)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
