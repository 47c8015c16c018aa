"""Training of generative adversarial networks: DCGAN, WGAN-GP, encoders for their generators."""

from __future__ import annotations

import copy
import math
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from makellos.detectors.networks.gan import Discriminator, Encoder, Generator, on_sphere
from makellos.training.task import Task, Update, half_cosine

__all__ = ["DCGANTask", "EncoderTask", "WGANGPTask", "shift"]

_WARM_UP = 10  # steps that a moving average forgets quickly
_TINY = 1e-12  # a root of nothing has no gradient


def shift(pictures: Tensor, share: float) -> Tensor:
    """Return pictures N×C×H×W, each moved by up to `share` of its sides, edges repeated.

    The differentiable translation of Zhao et al., Differentiable Augmentation for Data-Efficient
    GAN Training, 2020 (arXiv 2006.10738): a discriminator that sees real and made pictures moved
    learns a few hundred of them by heart less soon. Deviation: edges are repeated in place of
    zeros, which are not the background everywhere.
    """
    n, _, *sides = pictures.shape
    reach = [round(share * side) for side in sides]
    if not max(reach):
        return pictures
    device = pictures.device
    rows, columns = (
        (
            torch.arange(side, device=device)
            + torch.randint(-most, most + 1, (n, 1), device=device)
        ).clamp(0, side - 1)
        for side, most in zip(sides, reach, strict=True)
    )
    each = torch.arange(n, device=device)[:, None, None]
    # Indices around a slice put the channels last.
    moved = pictures[each, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


@dataclass(eq=False)
class _Adversaries(Task):
    """Hold generator, discriminator, and `averaged`, the moving average of the generator."""

    generator: Generator
    discriminator: Discriminator
    _: KW_ONLY
    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float = 0.0
    augmentation: float = 0.1
    average: float = 0.99

    def __post_init__(self) -> None:
        self.averaged = copy.deepcopy(self.generator).requires_grad_(requires_grad=False)
        rivals: dict[str, nn.Module] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
        }
        self.networks = {**rivals, "averaged": self.averaged}
        self.optimizers = {
            name: Adam(
                network.parameters(),
                self.learning_rate,
                self.betas,
                weight_decay=self.weight_decay,
            )
            for name, network in rivals.items()
        }

    def samples(self, n: int) -> Tensor:
        """Return n pictures of random latents, by the averaged generator."""
        return _made_by(self.averaged, n)

    def _judge(self, pictures: Tensor) -> Tensor:
        """Return the discriminator's logits of pictures, moved at random."""
        logits: Tensor = self.discriminator(shift(pictures, self.augmentation))
        return logits

    def _follow(self, number: int) -> None:
        """Move the averaged generator towards the trained one; faster in the first steps."""
        weight = 1 - min(self.average, (1 + number) / (_WARM_UP + number))
        ours = self.averaged.state_dict()  # detached, and no copies
        for name, value in self.generator.state_dict().items():
            if value.is_floating_point():
                ours[name].lerp_(value, weight)
            else:
                ours[name].copy_(value)


@dataclass(eq=False)
class DCGANTask(_Adversaries):
    """Train generator and discriminator against each other with the logistic loss.

    Goodfellow et al. 2014 with the generator's non-saturating loss, and the settings of Radford et
    al. 2015. `smoothing` lowers the target of real pictures to 1 - smoothing (Salimans et al.
    2016), `augmentation` is the share of the sides by which the discriminator's pictures are
    moved, `average` the decay of the generator's moving average; 0 turns each off. Each batch
    trains the discriminator, every `n_critic`-th the generator too.
    """

    _: KW_ONLY
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    smoothing: float = 0.1
    n_critic: int = 1

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        """Train the discriminator once, and every `n_critic` steps the generator once."""
        made = _made_by(self.generator, len(batch))
        # Real and made pictures pass apart: batch norm must not mix them.
        real_loss = _logistic(self._judge(batch), 1 - self.smoothing)
        made_loss = _logistic(self._judge(made.detach()), 0.0)
        update(real_loss + made_loss, "discriminator")
        loss = _logistic(self._judge(made), 1.0)
        if (number + 1) % self.n_critic == 0:
            update(loss, "generator")
            self._follow(number // self.n_critic)
        # Smoothed targets leave a loss even where every picture is known; it is taken off.
        known = (real_loss + made_loss).detach() - _entropy(self.smoothing)
        return {"generator": loss.detach(), "discriminator": known}


@dataclass(eq=False)
class WGANGPTask(_Adversaries):
    """Train a generator by the Wasserstein distance, with a penalty on the critic's gradients.

    Gulrajani et al., Improved Training of Wasserstein GANs, 2017 (arXiv 1704.00028): each batch
    trains the critic, every `n_critic`-th the generator too; `penalty` weighs (|gradient| - 1)²
    between real and made pictures. Deviations, for few pictures and steps: a higher learning rate,
    with momentum; `augmentation` and `average` as in `DCGANTask`.
    """

    called = MappingProxyType({"distance": "Wasserstein distance", "penalty": "gradient penalty"})

    _: KW_ONLY
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.9)
    n_critic: int = 5
    penalty: float = 10.0

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        """Train the critic once, and every `n_critic` steps the generator once."""
        n = len(batch)
        with torch.no_grad():
            made = shift(_made_by(self.generator, n), self.augmentation)
        real = shift(batch, self.augmentation)
        logits = self.discriminator(torch.cat([real, made]))
        distance = logits[:n].mean() - logits[n:].mean()
        penalty = self._gradient_penalty(real, made)
        update(self.penalty * penalty - distance, "discriminator")
        if (number + 1) % self.n_critic == 0:
            update(-self._judge(_made_by(self.generator, n)).mean(), "generator")
            self._follow(number // self.n_critic)
        return {"distance": distance.detach(), "penalty": penalty.detach()}

    def _gradient_penalty(self, real: Tensor, made: Tensor) -> Tensor:
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = torch.lerp(made, real, share).requires_grad_()
        logits = self.discriminator(between)
        (gradient,) = torch.autograd.grad(logits.sum(), between, create_graph=True)
        length = (gradient.float().flatten(1).square().sum(1) + _TINY).sqrt()
        return (length - 1).square().mean()


@dataclass(eq=False)
class EncoderTask(Task):
    """Train an encoder E of pictures to latents of a generator G that stays as it is.

    Schlegl et al. 2019: ``ziz`` brings E(G(z)) near to z, ``izi`` G(E(x)) near to x, and ``izi_f``
    the discriminator's features of both as well, weighted by `kappa`; all by mean squares.
    Deviations: in ``izi`` and ``izi_f`` a share `made` of each batch are pictures G(z), of which
    there are as many as one likes; the learning rate falls to zero along half a cosine.
    """

    encoder: Encoder
    generator: Generator
    discriminator: Discriminator
    _: KW_ONLY
    mode: str = "izi_f"
    kappa: float = 1.0
    made: float = 0.5
    learning_rate: float = 1e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self._still: dict[str, nn.Module] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
        }
        for network in self._still.values():
            network.requires_grad_(requires_grad=False)
        self.networks = {"encoder": self.encoder, **self._still}
        adam = Adam(self.encoder.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        self.optimizers = {"encoder": adam}

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        """Train the encoder once."""
        for network in self._still.values():
            network.eval()
        self.set_rate(self.learning_rate * half_cosine(number / self.n_steps))
        losses = self._ziz(batch) if self.mode == "ziz" else self._izi(batch)
        update(losses["loss"], "encoder")
        return {name: value.detach() for name, value in losses.items()}

    def pictures(self, batch: Tensor) -> dict[str, Tensor]:
        """Return G(E(x)) of real pictures."""
        return {"reconstructions": self.generator(self.encoder(batch))}

    def _make(self, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return n random latents and their pictures."""
        latents = torch.randn(n, self.generator.latent_dim, device=like.device)
        with torch.no_grad():
            return latents, self.generator(latents)

    def _ziz(self, batch: Tensor) -> dict[str, Tensor]:
        latents, made = self._make(len(batch), batch)
        found = self.encoder(made)
        if self.generator.spherical:
            latents, found = on_sphere(latents), on_sphere(found)
        return {"loss": functional.mse_loss(found, latents)}

    def _izi(self, batch: Tensor) -> dict[str, Tensor]:
        n_made = int(self.made * len(batch))
        pictures = batch
        if n_made:
            pictures = torch.cat([batch[n_made:], self._make(n_made, batch)[1]])
        again = self.generator(self.encoder(pictures))
        residual = functional.mse_loss(again, pictures)
        if self.mode == "izi":
            return {"loss": residual}
        with torch.no_grad():
            wanted = self.discriminator.features(pictures)
        features = functional.mse_loss(self.discriminator.features(again), wanted)
        return {
            "loss": residual + self.kappa * features,
            "residual": residual,
            "features": features,
        }


def _made_by(generator: Generator, n: int) -> Tensor:
    """Return n pictures of latents drawn from N(0, 1)."""
    device = generator.start.weight.device
    pictures: Tensor = generator(torch.randn(n, generator.latent_dim, device=device))
    return pictures


def _logistic(logits: Tensor, target: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _entropy(share: float) -> float:
    """Return the entropy of a coin, in nats: the least logistic loss of a target of that share."""
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)
