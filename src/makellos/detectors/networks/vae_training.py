"""Training of variational autoencoders: the negative evidence lower bound, by Adam."""

from __future__ import annotations

import math
from types import MappingProxyType

import torch
from torch import Tensor
from torch.optim import Adam

from makellos.detectors.networks.vae import Likelihood, VariationalAutoencoder, kl_divergence
from makellos.training.task import Task, Update, half_cosine

__all__ = ["VAETask"]

_N_SHOWN = 16


class VAETask(Task):
    """Maximise the evidence lower bound of batches, beta times its divergence.

    Losses are in nats per value of a picture. The learning rate falls to zero along half a cosine.
    """

    called = MappingProxyType({"loss": "ELBO loss", "divergence": "KL"})

    def __init__(
        self,
        vae: VariationalAutoencoder,
        likelihood: Likelihood,
        *,
        beta: float,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        self.vae, self.likelihood = vae, likelihood
        self.networks = {"vae": vae, "likelihood": likelihood}
        adam = Adam(vae.parameters(), learning_rate, betas, weight_decay=weight_decay, fused=True)
        self.optimizers = {"vae": adam}
        self.beta, self.learning_rate = beta, learning_rate
        self.n_values = math.prod(vae.shape)
        # Matrix products of small batches are over before their weights are rounded.
        self.mixed_precision = not vae.is_dense

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        self.set_rate(self.learning_rate * half_cosine(number / self.n_steps))
        losses = self._losses(batch)
        update(losses["loss"], "vae")
        return {name: value.detach() for name, value in losses.items()}

    def validate(self, batch: Tensor) -> dict[str, Tensor]:
        return self._losses(batch)

    def pictures(self, batch: Tensor) -> dict[str, Tensor]:
        latents = torch.randn(_N_SHOWN, self.vae.latent_dim, device=batch.device)
        return {
            "reconstructions": self.vae(batch),
            # Not by `samples`: parts that are all alike make samples that are, and rightly so.
            "samples": self.vae.decode(latents).sigmoid(),
        }

    def _losses(self, batch: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self.vae.encode(batch)
        latents = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        reconstruction = self.likelihood.loss(self.vae.decode(latents), batch).mean()
        divergence = kl_divergence(mean, log_variance).mean()
        total = reconstruction + self.beta * divergence
        losses = {"loss": total, "reconstruction": reconstruction, "divergence": divergence}
        return {name: value / self.n_values for name, value in losses.items()}
