"""Dinomaly: a noisy bottleneck, a decoder with linear attention, and the graph that scores."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from makellos.detectors.networks.student_teacher import cosine_distance, share_of_rate
from makellos.training.task import Task, Update

__all__ = ["Decoder", "DinomalyTask", "LinearAttention", "Scoring", "mined_loss"]

_HEAD = 64  # channels of a head of attention
_WIDER = 4  # times the channels of tokens, inside of a block
_WEIGHT_DECAY = 1e-4
_SPREAD = 0.01  # of weights at the start
_HARD_AFTER = 1000  # steps until all but the hardest places count less
_EASY = 0.9  # share of places that then do
_EASY_WEIGHT = 0.1
_SMOOTHING = 3  # cells per side that the map is averaged over


class LinearAttention(nn.Module):  # type: ignore[misc]
    """Let tokens N×P×C attend to all by φ(q) (φ(k)ᵀ v), φ(x) = elu(x) + 1, at a cost linear in P.

    Without softmax attention cannot concentrate on a place and copy it: it spreads.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.n_heads = max(1, channels // _HEAD)
        self.mix = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, n_tokens, channels = x.shape
        mixed = self.mix(x).reshape(n, n_tokens, 3, self.n_heads, channels // self.n_heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        query, key = F.elu(query) + 1, F.elu(key) + 1
        share = query @ key.sum(2).unsqueeze(-1)
        attended = query @ (key.transpose(2, 3) @ value) / share
        made: Tensor = self.out(attended.transpose(1, 2).reshape(n, n_tokens, channels))
        return made


class Decoder(nn.Module):  # type: ignore[misc]
    """Give back a transformer's layers, N×C×h×w each, from their mean with noise in it.

    `n_layers` are given back in two groups, each the mean of its layers. The noise is dropout, by
    the share `dropout`, in the bottleneck.
    """

    def __init__(self, channels: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(
            nn.Dropout(dropout), *_perceptron(channels, dropout), nn.Dropout(dropout)
        )
        self.blocks = nn.ModuleList(_Block(channels) for _ in range(n_layers))
        self.groups = _groups(n_layers)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_SPREAD, a=-0.03, b=0.03)
                nn.init.zeros_(module.bias)

    def forward(self, layers: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the groups of `layers`, early and late, and those given back, N×C×h×w each."""
        size = layers[0].shape[-2:]
        x = self.bottleneck(_mean(layers).flatten(2).transpose(1, 2))
        made: list[Tensor] = []
        for block in self.blocks:
            x = block(x)
            made.append(x)
        made = made[::-1]  # the last block gives back the first layer
        wanted = [_mean([layers[i] for i in group]) for group in self.groups]
        given = [_mean([made[i] for i in group]).transpose(1, 2) for group in self.groups]
        return wanted, [each.unflatten(2, (size[0], size[1])) for each in given]

    def distances(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """Return one minus the cosine at each place, N×h×w for each group."""
        return [cosine_distance(a, b) for a, b in zip(*self(layers), strict=True)]


class DinomalyTask(Task):
    """Train the decoder on pictures that a frozen encoder sees.

    The learning rate rises, and falls to zero along half a cosine.
    """

    called = MappingProxyType({"loss": "cosine distance"})

    def __init__(self, encoder: nn.Module, decoder: Decoder, *, learning_rate: float) -> None:
        # The encoder stays as it is: a checkpoint need not hold it.
        self.encoder, self.decoder = encoder.requires_grad_(requires_grad=False), decoder
        self.learning_rate = learning_rate
        self.networks = {"decoder": decoder}
        adam = AdamW(decoder.parameters(), learning_rate, weight_decay=_WEIGHT_DECAY)
        self.optimizers = {"decoder": adam}

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        self.set_rate(self.learning_rate * share_of_rate(number / self.n_steps))
        wanted, made = self.decoder(self._seen(batch))
        easy = _EASY * min(1.0, number / min(_HARD_AFTER, max(1, self.n_steps // 2)))
        losses = [mined_loss(a, b, easy) for a, b in zip(wanted, made, strict=True)]
        loss = torch.stack(losses).mean()
        update(loss, "decoder")
        return {"loss": loss.detach()}

    def validate(self, batch: Tensor) -> dict[str, Tensor]:
        distances = self.decoder.distances(self._seen(batch))
        return {"loss": torch.stack([each.mean() for each in distances]).mean()}

    def _seen(self, batch: Tensor) -> list[Tensor]:
        self.encoder.to(batch.device)
        with torch.no_grad():
            layers: list[Tensor] = self.encoder(batch)
        return layers


class Scoring(nn.Module):  # type: ignore[misc]
    """Score pictures N×3×H×W in [0, 1]: a map N×h×w, the mean of the groups' distances."""

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, pictures: Tensor) -> Tensor:
        anomaly_map = _mean(self.decoder.distances(self.encoder(pictures))).unsqueeze(1)
        pad = _SMOOTHING // 2
        return F.avg_pool2d(anomaly_map, _SMOOTHING, 1, pad, count_include_pad=False)[:, 0]


def mined_loss(wanted: Tensor, made: Tensor, easy: float) -> Tensor:
    """Return one minus the cosine of whole maps N×C×h×w, the mean over a batch.

    The share `easy` of places, over the batch, that are given back best learns a tenth as fast.
    """
    distances = cosine_distance(wanted.detach(), made.detach())
    limit = distances.flatten().float().quantile(easy) if easy > 0 else distances.min()
    slow = (distances < limit).unsqueeze(1)
    # The value stays, the gradient of easy places shrinks.
    eased = torch.where(slow, _EASY_WEIGHT * made + (1 - _EASY_WEIGHT) * made.detach(), made)
    cosine = F.cosine_similarity(wanted.detach().flatten(1), eased.flatten(1), dim=1)
    return (1 - cosine).mean()


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = LinearAttention(channels)
        self.perceptron = nn.Sequential(*_perceptron(channels, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        made: Tensor = x + self.perceptron(self.second(x))
        return made


def _perceptron(channels: int, dropout: float) -> list[nn.Module]:
    wide = _WIDER * channels
    return [
        nn.Linear(channels, wide),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(wide, channels),
    ]


def _groups(n_layers: int) -> list[range]:
    """Return the numbers of the early and of the late layers; all together where there is one."""
    middle = n_layers // 2
    return [group for group in (range(middle), range(middle, n_layers)) if len(group)]


def _mean(layers: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(layers)).mean(0)
