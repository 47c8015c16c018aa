"""A classifier that judges every place of a picture, from feature maps of several strides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F

from makellos.detectors.networks.classifier import ClassifierNetwork
from makellos.detectors.networks.feature_extractor import plain_name
from makellos.errors import ConfigurationError

__all__ = ["DenseNetwork", "mask_cover", "place_loss"]

_STRIDE = 16  # pixels per place of the last feature map
_WIDTH = 64  # channels of the last feature map
_FINEST, _COARSEST = 8, 32  # pixels per place of the network's maps that are used
_CLIP = 6.0  # standard deviations from the mean beyond which a feature says no more
_N_PIXELS = 4  # side of the squares whose covered share tells what lies inside a mask
_INSIDE, _OUTSIDE = 0.3, 0.02  # covered shares from which a place is inside, up to which outside
_SIDE = 64  # of the picture that tells whether a network takes pictures of any size


class DenseNetwork(ClassifierNetwork):
    """Map pictures N×3×H×W, or gray N×1×H×W, in [0, 1] to logits N×K of what their places show.

    A neck joins the network's maps of stride 8, 16 and 32 to one of 64 channels, every `stride`
    pixels (0: 16), whose finest map counts with mean, maximum and minimum of what a place covers.
    `head` is linear on it: `class_maps` are the logits of places, as masks teach them. A picture's
    logit is their log-mean-exp, scaled, plus the head's bias (Pinheiro and Collobert 2015, arXiv
    1411.6228), so that a small defect counts though all else is good. Since pooling follows the
    linear layer, Grad-CAM is the class map up to scale here as well.
    """

    def __init__(
        self,
        network: str,
        n_logits: int,
        *,
        stride: int = 0,
        standardise: bool = False,
        fetch: bool = False,
    ) -> None:
        super().__init__(network, n_logits, stride=stride, standardise=standardise, fetch=fetch)
        info = self.body.feature_info
        self.neck = Neck(info.channels(), info.reduction(), stride or _STRIDE, _WIDTH)
        self.scale = nn.Parameter(torch.ones(()))
        self.channels_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")

    def features(self, pictures: Tensor) -> Tensor:
        """Return the last feature map N×64×h×w."""
        features: Tensor = self.neck(self._maps(pictures))
        return features

    def shown(self, pictures: Tensor) -> list[Tensor]:
        """Return the maps N×C×h×w that the neck reads, of each stride."""
        return self.neck.shown(self._maps(pictures))

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits N×K of feature maps N×64×h×w."""
        places = self.class_maps(features).flatten(2)
        highest = places.amax(2, keepdim=True)
        pooled = (places - highest).exp().mean(2).log() + highest[:, :, 0]
        return pooled * self.scale + self.head.bias

    def layers(self) -> dict[str, nn.Module]:
        return {**super().layers(), "neck": self.neck}

    def new_parameters(self) -> list[nn.Parameter]:
        return [*self.neck.parameters(), self.scale, *self.head.parameters()]

    def unfreeze(self, n_stages: int) -> None:
        super().unfreeze(n_stages)
        self.neck.requires_grad_()

    def set_dropout(self, share: float) -> None:
        """Let the neck miss this share of the network's channels in training."""
        self.neck.dropout.p = share

    def measure(self, shown: Iterable[Sequence[Tensor]]) -> None:
        """Give the neck mean and spread of features: batches of what it was `shown`."""
        n_seen = 0
        sums: list[Tensor] = []
        with torch.no_grad():
            for maps in shown:
                found = [
                    torch.stack([each.double(), each.double() ** 2]).mean((3, 4)).sum(1)
                    for each in maps
                ]
                sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
                n_seen += len(maps[0])
            for norm, (total, squares) in zip(self.neck.norms, sums, strict=True):
                mean = total / n_seen
                norm.running_mean.copy_(mean)
                norm.running_var.copy_((squares / n_seen - mean**2).clamp_min(1e-6))

    def train(self, mode: bool = True) -> DenseNetwork:
        """Set the mode; batch norm stays in inference mode, that of the neck as measured."""
        super().train(mode)
        for norm in self.neck.norms:
            norm.eval()
        return self

    def _maps(self, pictures: Tensor) -> list[Tensor]:
        maps: Sequence[Tensor] = self.body(self.seen(pictures))
        if self.channels_last:
            return [each.permute(0, 3, 1, 2) for each in maps]
        return list(maps)

    def _build(self, network: str, _stride: int, *, fetch: bool) -> tuple[Any, int]:
        try:
            with torch.device("meta"):
                info = timm.create_model(network, features_only=True).feature_info
            strides = info.reduction()
            last = {stride: place for place, stride in enumerate(strides)}
            chosen = [place for stride, place in last.items() if _FINEST <= stride <= _COARSEST]
            body = timm.create_model(
                network, features_only=True, pretrained=fetch, out_indices=tuple(chosen)
            )
            with torch.no_grad():
                body.eval()(torch.zeros(1, 3, _SIDE, _SIDE))
        except (AttributeError, RuntimeError, AssertionError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{network} gives no feature maps of several strides ({error}). Choose a "
                "convolutional network, such as efficientnet_lite0, resnet50, vgg16 or xception, "
                "or set head=linear."
            ) from error
        return body, _WIDTH

    def _stage_numbers(self) -> dict[str, int]:
        with torch.device("meta"):
            whole = timm.create_model(self.network, num_classes=0)
        groups: Mapping[str, int] = group_parameters(
            whole, whole.group_matcher(coarse=True), reverse=True
        )
        places = {plain_name(name): number for name, number in groups.items()}
        own = {name: places[plain_name(name)] for name, _ in self.body.named_parameters()}
        order = {number: place for place, number in enumerate(sorted(set(own.values())))}
        return {name: order[number] for name, number in own.items()}


class Neck(nn.Module):  # type: ignore[misc]
    """Join maps N×C×h×w of several strides to one, N×`width`×h×w, from 0 up, every `stride` pixels.

    Each is standardised, brought to the same size and mapped by a linear layer; their sum goes
    through one 3×3 convolution beside it.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], stride: int, width: int
    ) -> None:
        super().__init__()
        self.factors = [max(1, stride // each) for each in strides]
        shown = [
            n * (3 if factor > 1 else 1) for n, factor in zip(channels, self.factors, strict=True)
        ]
        self.target = min(range(len(strides)), key=lambda i: abs(strides[i] - stride))
        self.norms = nn.ModuleList(nn.BatchNorm2d(n, affine=False) for n in shown)
        self.laterals = nn.ModuleList(nn.Conv2d(n, width, 1) for n in shown)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.dropout = nn.Dropout2d(0.0)

    def shown(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps as they are standardised: finer ones by what each place covers."""
        return [
            _covered(each, factor) if factor > 1 else each
            for each, factor in zip(maps, self.factors, strict=True)
        ]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.joined(self.shown(maps))

    def joined(self, shown: Sequence[Tensor]) -> Tensor:
        """Return the one map of those that are `shown`."""
        mapped = [
            lateral(self.dropout(norm(each).clamp(-_CLIP, _CLIP)))
            for norm, lateral, each in zip(self.norms, self.laterals, shown, strict=True)
        ]
        size = mapped[self.target].shape[2:]
        joined = sum(
            each
            if each.shape[2:] == size
            else F.interpolate(each, size=size, mode="bilinear", align_corners=False)
            for each in mapped
        )
        first = F.relu(joined)
        return first + F.relu(self.mix(first))


def mask_cover(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return how much of each place masks N×1×H×W, in [0, 1], cover at most: N×1×h×w."""
    pooled = F.avg_pool2d(masks, _N_PIXELS, ceil_mode=True)
    cover: Tensor = F.adaptive_max_pool2d(pooled, tuple(size))
    return cover


def place_loss(maps: Tensor, cover: Tensor, targets: Tensor, class_weights: Tensor) -> Tensor:
    """Return the cross-entropy of places: logits N×K×h×w, or N×1×h×w of the class 1.

    `cover` N×1×h×w is the `mask_cover` of the defects of class `targets`. Every defect counts the
    same, as its class does, whatever its size; what it covers in part is left out, and so are
    defective pictures whose masks are empty.
    """
    maps, cover = maps.float(), cover[:, 0]
    # Of a defect too small to cover a place, the places that it covers most are inside.
    most = cover.amax((1, 2), keepdim=True)
    bad = (targets > 0).view(-1, 1, 1)
    inside = bad & (cover > (most / 2).clamp(max=_INSIDE)) & (most > 0)
    outside = (cover <= _OUTSIDE) & ~inside & ~(bad & (most <= 0))
    if maps.shape[1] == 1:
        wanted = inside.to(maps.dtype)
        losses = F.binary_cross_entropy_with_logits(maps[:, 0], wanted, reduction="none")
    else:
        losses = F.cross_entropy(maps, inside * targets.view(-1, 1, 1), reduction="none")
    of_defects = (losses * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)
    weights = class_weights.to(maps.device)[targets] * inside.any(2).any(1)
    found = (of_defects * weights).sum() / weights.sum().clamp_min(1e-6)
    return found / 2 + (losses * outside).sum() / outside.sum().clamp_min(1)


def _covered(maps: Tensor, factor: int) -> Tensor:
    """Return mean, maximum and minimum of squares of `factor` places, N×3C×h×w."""
    mean = F.avg_pool2d(maps, factor, ceil_mode=True, count_include_pad=False)
    highest, lowest = (F.max_pool2d(each, factor, ceil_mode=True) for each in (maps, -maps))
    return torch.cat([mean, highest, -lowest], 1)
