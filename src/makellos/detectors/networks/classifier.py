"""A timm network with a new head of global pooling and one linear layer on its last feature map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F

from makellos.detectors.networks.feature_extractor import load_weights
from makellos.errors import ConfigurationError

__all__ = ["ClassifierNetwork", "Scoring"]

_STRIDE = 16  # of the last map, in pixels: where damage is small, 32 is too coarse to point at it
_DARK = 0.02  # added to a picture's standard deviation: noise of a blank one must not grow
_SPREAD = 0.01  # standard deviation of a new head's weights
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # where a network names none
_PHOTO_MEAN, _PHOTO_SPREAD = 0.45, 0.22  # of photos in ImageNet, by picture
_MAX_GAIN = 4.0  # more would show noise as if it were texture
_SIDE = 64  # of the picture that tells which parts of a network its feature map needs


class ClassifierNetwork(nn.Module):  # type: ignore[misc]
    """Map pictures N×3×H×W, or gray N×1×H×W, in [0, 1] to logits N×K.

    `body` is timm's network up to its last feature map N×C×h×w, the network's own mean and standard
    deviation applied before; `head` is linear on the map's mean, so that `class_maps` of a class
    average to its logit, its bias apart (Zhou et al. 2016, arXiv 1512.04150). K is 1 for good
    against defective, where the logit is that of defective. With `standardise` each picture's own
    mean and standard deviation take the place of the network's, so that exposure is no feature;
    `standardise_set` does so for all pictures together, which keeps it one.
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
        super().__init__()
        self.standardise = standardise
        self.network = network
        self.body, n_channels = self._build(network, stride, fetch=fetch)
        config = getattr(self.body, "pretrained_cfg", {})
        self.register_buffer("mean", torch.tensor(config.get("mean", _MEAN)).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(config.get("std", _STD)).view(1, -1, 1, 1))
        self.head = nn.Linear(n_channels, n_logits)
        nn.init.normal_(self.head.weight, 0.0, _SPREAD)
        nn.init.zeros_(self.head.bias)
        self.dropout = nn.Dropout(0.0)
        self.n_stages = max(self._stage_numbers().values()) + 1

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of the whole network under timm's names, or in timm's order."""
        load_weights(self.body, state, self.network)

    def features(self, pictures: Tensor) -> Tensor:
        """Return the last feature map N×C×h×w."""
        features: Tensor = self.body.forward_features(self.seen(pictures))
        return features

    def seen(self, pictures: Tensor) -> Tensor:
        """Return pictures N×3×H×W as the body takes them."""
        if self.standardise:
            spread = pictures.std((1, 2, 3), keepdim=True)
            seen = (pictures - pictures.mean((1, 2, 3), keepdim=True)) / (spread + _DARK)
            return seen.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else seen
        pictures = pictures.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else pictures
        return (pictures - self.mean) / self.std

    def standardise_set(self, mean: float, spread: float) -> None:
        """Show pictures of this mean and spread, in [0, 1], as bright and rich as photos are."""
        gain = min(_MAX_GAIN, max(1 / _MAX_GAIN, _PHOTO_SPREAD / max(spread, 1e-6)))
        # Solves (x - mean') / std' = ((x - mean) * gain + photo - mean_0) / std_0 for all x.
        self.mean.copy_(mean + (self.mean - _PHOTO_MEAN) / gain)
        self.std.div_(gain)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.logits(self.features(pictures))

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits N×K of feature maps N×C×h×w."""
        logits: Tensor = self.head(self.dropout(features.mean((2, 3))))
        return logits

    def class_maps(self, features: Tensor) -> Tensor:
        """Return what each place of N×C×h×w votes for each class, N×K×h×w, biases left out."""
        return F.conv2d(features, self.head.weight[:, :, None, None])

    def layers(self) -> dict[str, nn.Module]:
        """Return the modules that may be looked at, by name."""
        return dict(self.body.named_modules())

    def new_parameters(self) -> list[nn.Parameter]:
        """Return what is not the body's, and always learns."""
        return list(self.head.parameters())

    def set_dropout(self, share: float) -> None:
        """Let the head miss this share of the features in training."""
        self.dropout.p = share

    def unfreeze(self, n_stages: int) -> None:
        """Let the last `n_stages` stages learn (0: none, -1: all), and the head."""
        first = 0 if n_stages < 0 else self.n_stages - n_stages
        numbers = self._stage_numbers()
        for name, values in self.body.named_parameters():
            values.requires_grad_(numbers[name] >= first)
        self.head.requires_grad_()

    def train(self, mode: bool = True) -> ClassifierNetwork:
        """Set the mode; batch norm stays in inference mode, with its pretrained statistics."""
        super().train(mode)
        for module in self.body.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def _build(self, network: str, stride: int, *, fetch: bool) -> tuple[Any, int]:
        """Return timm's network and the channels of the last feature map."""
        body = _body(network, stride, fetch=fetch)
        return body, _strip(body, network)[0]

    def _stage_numbers(self) -> dict[str, int]:
        """Return the stage of each weight of the body by name, from 0 at the picture up."""
        groups: Mapping[str, int] = group_parameters(
            self.body, self.body.group_matcher(coarse=True), reverse=True
        )
        order = {number: place for place, number in enumerate(sorted(set(groups.values())))}
        return {name: order[groups[name]] for name, _ in self.body.named_parameters()}


class Scoring(nn.Module):  # type: ignore[misc]
    """Score pictures N×C×H×W: map N×h×w, score N, probabilities N×K of the classes, good first.

    Logits are divided by `temperature` (Guo et al. 2017, arXiv 1706.04599). The score is the logit
    of being defective: log p / (1 - p), which is finite where p rounds to 1. The map is Grad-CAM's
    (Selvaraju et al. 2017, arXiv 1610.02391) up to scale, of defective or of the likeliest defect.
    """

    def __init__(self, network: ClassifierNetwork, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.network.features(pictures)
        logits = self.network.logits(features) / self.temperature
        maps = self.network.class_maps(features)
        if logits.shape[1] == 1:
            score = logits[:, 0]
            probabilities = torch.stack([(-score).sigmoid(), score.sigmoid()], 1)
            return maps[:, 0].relu(), score, probabilities
        score = torch.logsumexp(logits[:, 1:], 1) - logits[:, 0]
        likeliest = logits[:, 1:].argmax(1)
        chosen = F.one_hot(likeliest, logits.shape[1] - 1).to(maps.dtype)
        anomaly_map = (maps[:, 1:] * chosen[:, :, None, None]).sum(1).relu()
        return anomaly_map, score, logits.softmax(1)


def _body(network: str, stride: int, *, fetch: bool) -> Any:
    """Build timm's network, its last map every `stride` pixels; 0 takes 16 where that works."""
    options = [{"output_stride": stride}] if stride else [{"output_stride": _STRIDE}, {}]
    for i, option in enumerate(options):
        try:
            return timm.create_model(network, pretrained=fetch, num_classes=0, **option)
        except (TypeError, AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
            # Networks refuse in ways of their own what they cannot do.
            if i + 1 == len(options):
                advice = " Leave output_stride at 0 for this network." if stride else ""
                raise ConfigurationError(f"{network} cannot be built: {error}.{advice}") from error
    raise AssertionError("unreachable")


@contextmanager
def _traced(body: Any) -> Iterator[set[str]]:
    used: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: used.add(name))
        for name, module in body.named_modules()
    ]
    try:
        yield used
    finally:
        for hook in hooks:
            hook.remove()


def _strip(body: Any, network: str) -> Sequence[int]:
    """Take off what the last feature map does not need; return the map's C, h, w."""
    with torch.no_grad(), _traced(body) as used:
        body.eval()
        try:
            found = body.forward_features(torch.zeros(1, 3, _SIDE, _SIDE))
        except (AssertionError, RuntimeError, AttributeError) as error:
            raise ConfigurationError(
                f"{network} does not take pictures of any size ({error}). Choose a convolutional "
                "network, such as efficientnet_lite0, resnet50, vgg16 or xception."
            ) from error
    if found.ndim != 4 or str(getattr(body, "output_fmt", "NCHW")).endswith("NHWC"):
        raise ConfigurationError(
            f"{network} gives features of shape {tuple(found.shape)}; expected a map N×C×h×w. "
            "Choose a convolutional network, such as efficientnet_lite0, resnet50, vgg16 or "
            "xception."
        )
    for name, _ in list(body.named_children()):
        if name not in used and not any(other.startswith(f"{name}.") for other in used):
            setattr(body, name, nn.Identity())
    return tuple(found.shape[1:])
