"""The convolutional autoencoder: network, losses, augmentation, training task, and its graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from makellos.detectors.networks.ssim import ms_ssim, ssim, ssim_map
from makellos.detectors.networks.usual import Usual, local_mean
from makellos.training.task import Task, Update

__all__ = [
    "Augmentation",
    "Compared",
    "ConvolutionalAutoencoder",
    "ReconstructionTask",
    "losses",
]

_SLOPE = 0.2
_SMALLEST_GRID = 4  # sides are halved no further
_CONTRAST = 0.1  # below it, structure that is missing counts less
_STEEPEST = 1.0  # length of a gradient
_CALLED = {"ssim": "1-SSIM", "ms-ssim": "1-MS-SSIM", "l1": "L1", "l2": "L2"}


class ConvolutionalAutoencoder(nn.Module):  # type: ignore[misc]
    """Squeeze pictures N×C×H×W in [0, 1] through a vector, and make pictures in [0, 1] of it.

    Every width is a convolution that halves the sides, as long as a grid of at least 4 is left;
    further ones keep them. The decoder mirrors the encoder. Sides may be odd and unequal.
    """

    def __init__(self, shape: tuple[int, int, int], widths: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        channels, height, width = shape
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for before, after in pairwise((channels, *widths)):
            halves = min(height, width) >= 2 * _SMALLEST_GRID
            down.append(_narrowing(before, after, halves=halves))
            up.append(_widening(after, before, odd=(height % 2, width % 2), halves=halves))
            if halves:
                height, width = height // 2, width // 2
        self.grid = (widths[-1], height, width)
        self.down = nn.ModuleList(down)
        self.squeeze = nn.Linear(math.prod(self.grid), latent_dim)
        self.stretch = nn.Linear(latent_dim, math.prod(self.grid))
        self.up = nn.ModuleList(reversed(up))
        # Torch's own draws make signals fainter layer by layer, and the start slow. The last layer
        # keeps them: all pictures begin gray.
        for layer in (*self.down, self.squeeze, self.stretch, *self.up[:-1]):
            _draw(layer)

    def encode(self, pictures: Tensor) -> Tensor:
        """Return the vectors N×d of pictures."""
        x = pictures
        for layer in self.down:
            x = F.leaky_relu(layer(x), _SLOPE)
        vectors: Tensor = self.squeeze(x.flatten(1))
        return vectors

    def decode(self, vectors: Tensor) -> Tensor:
        """Return the pictures N×C×H×W of vectors, float32 in [0, 1]."""
        x = self.stretch(vectors).unflatten(1, self.grid)
        for layer in self.up:
            x = layer(F.leaky_relu(x, _SLOPE))
        return x.float().sigmoid()

    def forward(self, pictures: Tensor) -> Tensor:
        """Return what the pictures become."""
        return self.decode(self.encode(pictures))


def _narrowing(before: int, after: int, *, halves: bool) -> nn.Module:
    if halves:
        return nn.Conv2d(before, after, 4, stride=2, padding=1)
    return nn.Conv2d(before, after, 3, padding=1)


def _widening(before: int, after: int, *, odd: tuple[int, int], halves: bool) -> nn.Module:
    if halves:
        return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, output_padding=odd)
    return nn.Conv2d(before, after, 3, padding=1)


def _draw(layer: nn.Module) -> None:
    """Draw weights that keep the strength of signals, after He et al. 2015."""
    n_inputs = layer.weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):
        # Of its 4×4 weights 2×2 meet at each place.
        n_inputs = layer.in_channels * 4
    nn.init.normal_(layer.weight, std=math.sqrt(2 / ((1 + _SLOPE**2) * n_inputs)))
    nn.init.zeros_(layer.bias)


def losses(pictures: Tensor, made: Tensor, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Return ``loss``, the weighted sum, and its terms: means over the batch, 0 for equal pictures.

    `weights` are those of ``ssim``, ``ms-ssim``, ``l1`` and ``l2``.
    """
    terms: dict[str, Tensor] = {}
    for name in weights:
        if name == "ssim":
            terms[name] = 1 - ssim(pictures, made).mean()
        elif name == "ms-ssim":
            terms[name] = 1 - ms_ssim(pictures, made).mean()
        else:
            terms[name] = (F.l1_loss if name == "l1" else F.mse_loss)(made, pictures)
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return {"loss": total, **(terms if len(terms) > 1 else {})}


class ReconstructionTask(Task):
    """Train an autoencoder to give its input back, by a weighted sum of losses."""

    def __init__(
        self,
        network: nn.Module,
        weights: Mapping[str, float],
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        self.network = network
        self.weights = weights
        self.called = dict(_CALLED)
        if len(weights) == 1:
            self.called["loss"] = _CALLED[next(iter(weights))]
        self.networks = {"autoencoder": network}
        adam = torch.optim.Adam(
            network.parameters(), learning_rate, betas, weight_decay=weight_decay, fused=True
        )
        # One batch with steep edges can undo what hundreds have taught.
        adam.register_step_pre_hook(self._clip)
        self.optimizers = {"autoencoder": adam}

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        """Take one step of the autoencoder."""
        del number
        found = losses(batch, self.network(batch), self.weights)
        update(found["loss"], "autoencoder")
        return {name: value.detach() for name, value in found.items()}

    def _clip(self, *_step: object) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), _STEEPEST)

    def validate(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the losses of held-out pictures."""
        return losses(batch, self.network(batch), self.weights)

    def pictures(self, batch: Tensor) -> dict[str, Tensor]:
        """Return what the pictures become."""
        return {"reconstructions": self.network(batch)}


class Augmentation:
    """Flip, turn and brighten the pictures of a batch, each by a draw of its own.

    `flips` is ``none``, ``horizontal``, ``vertical`` or ``both``; angles are drawn from ± `degrees`
    and factors of brightness from 1 ± `brightness`. What a turn uncovers is mirrored in.
    """

    def __init__(self, *, flips: str, degrees: float, brightness: float) -> None:
        self.axes = {"none": (), "horizontal": (3,), "vertical": (2,), "both": (2, 3)}[flips]
        self.degrees = degrees
        self.brightness = brightness

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the batch N×C×H×W changed, in [0, 1]."""
        for axis in self.axes:
            turned = torch.rand(len(batch)) < 0.5
            batch = torch.where(_for_each(turned, batch), batch.flip(axis), batch)
        if self.degrees:
            batch = self._turn(batch)
        if self.brightness:
            factors = 1 + self.brightness * (2 * torch.rand(len(batch)) - 1)
            batch = (batch * _for_each(factors, batch)).clamp(0, 1)
        return batch.contiguous(memory_format=torch.channels_last)

    def _turn(self, batch: Tensor) -> Tensor:
        angles = math.radians(self.degrees) * (2 * torch.rand(len(batch)) - 1)
        cos, sin, zero = angles.cos(), angles.sin(), torch.zeros(len(batch))
        height, width = batch.shape[2:]
        # Places run from -1 to 1 along both axes, however long they are.
        rows = (cos, -sin * height / width, zero, sin * width / height, cos, zero)
        matrices = torch.stack(rows, 1).view(-1, 2, 3).to(batch.device)
        places = F.affine_grid(matrices, list(batch.shape), align_corners=False)
        turned = F.grid_sample(batch, places, padding_mode="reflection", align_corners=False)
        return turned.clamp(0, 1)


def _for_each(values: Tensor, batch: Tensor) -> Tensor:
    return values.to(batch.device).view(-1, 1, 1, 1)


class Compared(nn.Module):  # type: ignore[misc]
    """Compare pictures with what the network makes of them: what a detector's graph computes.

    `kind` is ``ssim``, 1 - local similarity, or ``residual``, the absolute difference; the map is
    the mean over the channels, smoothed by two passes of local means. After `learn` it is counted
    from what good parts have at each place, in their standard deviations.
    """

    def __init__(self, network: nn.Module, kind: str, smoothing: int) -> None:
        super().__init__()
        self.network = network
        self.kind = kind
        self.smoothing = smoothing
        self.usual = Usual()

    def learn(self, batches: Iterable[Tensor]) -> None:
        """Learn from good pictures, batches of N×C×H×W, what is usual at each place."""
        with torch.no_grad():
            self.usual.learn(self.differences(batch, self.network(batch)) for batch in batches)

    def differences(self, pictures: Tensor, made: Tensor) -> Tensor:
        """Return how much pictures and what was made of them differ, N×H×W from 0 up."""
        if self.kind == "ssim":
            found = 1 - ssim_map(pictures, made, contrast=_CONTRAST)
        else:
            found = (pictures - made).abs()
        smooth = local_mean(local_mean(found.mean(1, keepdim=True), self.smoothing), self.smoothing)
        return smooth[:, 0]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``anomaly_map`` N×H×W and ``reconstruction`` N×C×H×W."""
        made = self.network(pictures)
        return self.usual(self.differences(pictures, made)), made
