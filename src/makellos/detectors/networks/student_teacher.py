"""Student and teacher: the student of feature maps, its training, and the graph that scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from makellos.training.pictures import Pictures
from makellos.training.task import Task, Update, half_cosine

__all__ = [
    "DistillationTask",
    "Scoring",
    "Student",
    "cosine_distance",
    "enlarge",
    "pack_maps",
    "share_of_rate",
    "unpack_maps",
]

_WARM_UP = 0.05  # share of the steps over which the learning rate rises
_WEIGHT_DECAY = 1e-4
_N_CONVOLUTIONS = 2  # of the student's per layer, besides those that halve the sides
_SMOOTHING = 3  # cells per side that the map is averaged over
_FLOOR = 1e-3  # of the mean spread, added to that of each channel
_SMALLEST = 1e-6  # length and usual distance that are divided by, at least


class Student(nn.Module):  # type: ignore[misc]
    """Give a teacher's coarser maps N×C×h×w by its finest one, as they are on good parts.

    `shapes` are those of the maps, fine to coarse, C×h×w each; all but the first are given. Maps
    are standardised channel by channel first, by mean and scale, and given in that form.
    """

    def __init__(self, shapes: Sequence[Sequence[int]], *, width: int) -> None:
        super().__init__()
        self.shapes = [tuple(shape) for shape in shapes]
        for i, (channels, _, _) in enumerate(shapes):
            self.register_buffer(f"mean_{i}", torch.zeros(1, channels, 1, 1))
            self.register_buffer(f"scale_{i}", torch.ones(1, channels, 1, 1))
        self.steps, self.heads = nn.ModuleList(), nn.ModuleList()
        ins = shapes[0][0]
        for finer, (channels, height, _) in pairwise(shapes):
            self.steps.append(_step(ins, width, finer[1], height))
            self.heads.append(nn.Conv2d(width, channels, 1))
            ins, width = width, 2 * width

    def measure(self, features: Pictures) -> None:
        """Take mean and spread of each channel from good parts' maps, laid side by side."""
        for i, shape in enumerate(self.shapes):
            sums = torch.zeros(2, shape[0], dtype=torch.float64)
            for number in range(features.n):
                maps = unpack_maps(features.batch([number]).double(), self.shapes)[i]
                sums += torch.stack([maps.mean((0, 2, 3)), maps.square().mean((0, 2, 3))])
            mean, square = sums / features.n
            spread = (square - mean.square()).clamp_min(0).sqrt()
            scale = spread + _FLOOR * spread.mean() + 1e-12
            for name, values in (("mean", mean), ("scale", scale)):
                getattr(self, f"{name}_{i}").copy_(values.view(1, -1, 1, 1))

    def usual_distances(self, features: Pictures, n_parts: int) -> list[float]:
        """Return each given layer's mean distance over some good parts, evenly drawn."""
        chosen = range(0, features.n, max(1, features.n // n_parts))
        sums = torch.zeros(len(self.shapes) - 1, dtype=torch.float64)
        with torch.no_grad():
            for number in chosen:
                maps = unpack_maps(features.batch([number]).float(), self.shapes)
                sums += torch.stack([each.mean().double() for each in self.distances(maps)])
        return [float(value) for value in sums / len(chosen)]

    def distances(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return how far the teacher's coarser maps are from those given, per layer N×h×w."""
        wanted = self.standardise(maps)
        made = self(wanted[0])
        return [cosine_distance(a, b) for a, b in zip(wanted[1:], made, strict=True)]

    def standardise(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return maps less their usual mean, over their usual spread."""
        return [
            (each - getattr(self, f"mean_{i}")) / getattr(self, f"scale_{i}")
            for i, each in enumerate(maps)
        ]

    def forward(self, finest: Tensor) -> list[Tensor]:
        made: list[Tensor] = []
        for step, head in zip(self.steps, self.heads, strict=True):
            finest = step(finest)
            made.append(head(finest))
        return made


class DistillationTask(Task):
    """Bring the student's maps into the direction of the teacher's, place by place.

    A batch is N×K×1×1: the teacher's maps of each part, side by side as `pack_maps` lays them. The
    learning rate rises, and falls to zero along half a cosine.
    """

    called = MappingProxyType({"loss": "cosine distance"})

    def __init__(self, student: Student, *, learning_rate: float) -> None:
        self.student, self.learning_rate = student, learning_rate
        self.networks = {"student": student}
        adam = AdamW(student.parameters(), learning_rate, weight_decay=_WEIGHT_DECAY)
        self.optimizers = {"student": adam}

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        self.set_rate(self.learning_rate * share_of_rate(number / self.n_steps))
        loss = self._loss(batch)
        update(loss, "student")
        return {"loss": loss.detach()}

    def validate(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": self._loss(batch)}

    def _loss(self, batch: Tensor) -> Tensor:
        maps = unpack_maps(batch.float(), self.student.shapes)
        return torch.stack([each.mean() for each in self.student.distances(maps)]).sum()


class Scoring(nn.Module):  # type: ignore[misc]
    """Score pictures N×3×H×W in [0, 1]: a map N×h×w on the finest grid that the student gives.

    Each layer's distances are divided by its usual one, enlarged by repetition, and added; the
    sum is averaged over 3×3 cells.
    """

    def __init__(self, teacher: nn.Module, student: Student, usual: Sequence[float]) -> None:
        super().__init__()
        self.teacher, self.student = teacher, student
        self.usual = [max(value, _SMALLEST) for value in usual]

    def forward(self, pictures: Tensor) -> Tensor:
        distances = self.student.distances(self.teacher(pictures))
        size = distances[0].shape[-2:]
        total = sum(
            enlarge(each.unsqueeze(1) / usual, size)
            for each, usual in zip(distances, self.usual, strict=True)
        )
        smooth = F.avg_pool2d(total, _SMOOTHING, 1, _SMOOTHING // 2, count_include_pad=False)
        return smooth[:, 0]  # `squeeze` would be exported as an If


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return one minus the cosine of N×C×h×w at each place, as N×h×w, from 0 to 2."""
    a = a / a.square().sum(1, keepdim=True).clamp_min(_SMALLEST).sqrt()
    b = b / b.square().sum(1, keepdim=True).clamp_min(_SMALLEST).sqrt()
    # Half the squared length of the difference: no small number is left of two large ones.
    return 0.5 * (a - b).square().sum(1)


def enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge N×C×h×w to a multiple of its sides, by repeating each cell."""
    height, width = x.shape[-2:]
    down, right = size[0] // height, size[1] // width
    if down == right == 1:
        return x
    n, channels = x.shape[0], x.shape[1]
    spread = x.reshape(n, channels, height, 1, width, 1).expand(-1, -1, -1, down, -1, right)
    return spread.reshape(n, channels, height * down, width * right)


def pack_maps(maps: Sequence[Tensor]) -> Tensor:
    """Return maps N×C×h×w side by side, as N×K×1×1."""
    return torch.cat([each.flatten(1) for each in maps], 1)[:, :, None, None]


def unpack_maps(batch: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the maps that `pack_maps` laid side by side."""
    pieces = batch.flatten(1).split([math.prod(shape) for shape in shapes], 1)
    maps = [piece.unflatten(1, tuple(shape)) for piece, shape in zip(pieces, shapes, strict=True)]
    return [each.contiguous(memory_format=torch.channels_last) for each in maps]


def share_of_rate(done: float) -> float:
    """Return the share of the highest learning rate when this share of the steps is done."""
    if done < _WARM_UP:
        return (done + 1e-3) / (_WARM_UP + 1e-3)
    return half_cosine(done)


def _step(ins: int, width: int, fine: int, coarse: int) -> nn.Module:
    """Return convolutions that halve the sides, once for every power of two between the grids."""
    n_halvings = round(math.log2(fine / coarse))
    strides = [2] * n_halvings or [1]
    layers: list[nn.Module] = []
    for stride in [*strides, *[1] * _N_CONVOLUTIONS]:
        layers += [
            nn.Conv2d(ins, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        ins = width
    return nn.Sequential(*layers)
