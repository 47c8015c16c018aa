"""A timm network cut to its intermediate feature maps, and its export to ONNX."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from makellos.detectors.networks.exporting import traced
from makellos.errors import ConfigurationError, suggest

__all__ = ["FeatureExtractor", "export_onnx", "load_weights", "plain_name", "transformer_form"]

StateDict = Mapping[str, Tensor]

_STRIDE = 32  # of which sizes are multiples where no transformer says otherwise


class FeatureExtractor(nn.Module):  # type: ignore[misc]
    """Map pictures N×3×H×W in [0, 1] to the feature maps of `layers`.

    `layers` are numbers of timm's stages, which end where the map is halved, or names of the
    network's modules, such as ``blocks.3``. The network's own mean and standard deviation are
    applied inside. `state` is a state dict of the whole network; of stages the heads and later
    stages in it are left out. The patch tokens of transformers are maps as well; with `norm` they
    pass the network's last norm.
    """

    def __init__(
        self,
        network: str,
        layers: Sequence[int | str],
        state: StateDict | None,
        *,
        fetch: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        stages = [layer for layer in layers if isinstance(layer, int)]
        self.n_layers = len(layers)
        self.body: Any
        if len(stages) == len(layers):
            self.body = _stages(network, stages, fetch=fetch, norm=norm)
        else:
            self.body = timm.create_model(network, pretrained=fetch)
            self._taken = _watch(self.body, network, layers)
        if state is not None:
            load_weights(self.body, state, network)
        config = self.body.pretrained_cfg if hasattr(self.body, "pretrained_cfg") else {}
        self.network = network
        self.channels_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")
        mean = config.get("mean", (0.485, 0.456, 0.406))
        std = config.get("std", (0.229, 0.224, 0.225))
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @property
    def channels(self) -> int:
        """Return the channels of the last map."""
        return int(self.body.feature_info.channels()[-1])

    def fit_size(self, height: int, width: int) -> None:
        """Make a transformer's positions those of pictures of a size, once and for all.

        Done with each picture, it could not be exported. Raises `ConfigurationError` for a size
        that is no multiple of the patches.
        """
        whole: Any = getattr(self.body, "model", None)
        if not hasattr(whole, "set_input_size") or not hasattr(whole, "num_prefix_tokens"):
            return  # no transformer of plain tokens
        sides = whole.patch_embed.patch_size
        if height % sides[0] or width % sides[1]:
            common = math.lcm(_STRIDE, *sides)
            fits = common * max(1, round((height * width) ** 0.5 / common))
            raise ConfigurationError(
                f"{self.network} sees patches of {sides[0]}×{sides[1]} pixels, and the picture is "
                f"{height}×{width}. Set image_size to a multiple of {sides[0]}, such as {fits}."
            )
        whole.set_input_size(img_size=(height, width))

    def forward(self, picture: Tensor) -> list[Tensor]:
        normalised = (picture - self.mean) / self.std
        if hasattr(self, "_taken"):
            # What follows the last watched module is no part of the exported graph.
            self.body.forward_features(normalised)
            found = [self._taken[place] for place in range(self.n_layers)]
            if not all(torch.is_tensor(each) and each.ndim == 4 for each in found):
                raise ConfigurationError(
                    f"A module of {self.network} named in layers gives no N×C×h×w feature map. "
                    "Name others, or stages by number."
                )
            return found
        maps: list[Tensor] = self.body(normalised)
        if self.channels_last:
            return [each.permute(0, 3, 1, 2) for each in maps]
        return maps


def _stages(network: str, stages: Sequence[int], *, fetch: bool, norm: bool) -> Any:
    """Return a timm network cut to its stages; they count from 0, negative ones from the last."""
    try:
        body = _cut(network, tuple(stages), fetch=fetch, norm=norm)
    except (IndexError, AssertionError, ValueError) as error:
        raise ConfigurationError(
            f"{network} has no stages {tuple(stages)} ({error}). Stages count from 0; negative "
            "numbers count from the last."
        ) from error
    names = body.feature_info.module_name()
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f"layers names a stage of {network} twice: {tuple(stages)}. Name each once."
        )
    return body


def _watch(body: nn.Module, network: str, layers: Sequence[int | str]) -> dict[int, Tensor]:
    """Return a dictionary that holds the outputs of modules after each pass, by place."""
    modules = dict(body.named_modules())
    taken: dict[int, Tensor] = {}
    for place, layer in enumerate(layers):
        if layer not in modules or layer == "":
            raise ConfigurationError(
                f"{network} has no module {layer!r}. {suggest(str(layer), _blocks(modules))} "
                "Name modules alone, or stages by number alone."
            )

        def keep(_module: nn.Module, _given: Any, output: Tensor, place: int = place) -> None:
            taken[place] = output

        modules[layer].register_forward_hook(keep)
    if len(set(layers)) < len(layers):
        raise ConfigurationError(
            f"layers names a module of {network} twice: {tuple(layers)}. Name each once."
        )
    return taken


def _blocks(modules: Mapping[str, nn.Module]) -> list[str]:
    return [name for name in modules if name and name.count(".") < 2]


def transformer_form(network: str) -> tuple[int, int]:
    """Return how many blocks a vision transformer has, and the side of its patches in pixels.

    Raises `ConfigurationError` for a network of another kind.
    """
    with torch.device("meta"):
        whole = timm.create_model(network, pretrained=False)
    if not hasattr(whole, "num_prefix_tokens") or not hasattr(whole, "blocks"):
        raise ConfigurationError(
            f"{network} is not a plain vision transformer. Use one, such as "
            "vit_small_patch14_reg4_dinov2."
        )
    return len(whole.blocks), int(whole.patch_embed.patch_size[0])


def _cut(network: str, layers: tuple[int, ...], *, fetch: bool, norm: bool) -> Any:
    if not norm:
        return timm.create_model(network, features_only=True, out_indices=layers, pretrained=fetch)
    whole = timm.create_model(network, num_classes=0, pretrained=fetch)
    body = FeatureGetterNet(whole, layers, norm=True)
    body.pretrained_cfg = whole.pretrained_cfg
    return body


def export_onnx(network: FeatureExtractor, height: int, width: int) -> bytes:
    """Return the network as ONNX: input ``picture``, outputs ``layer_0``, ``layer_1``, …

    Raises `ConfigurationError` for a network that cannot be exported for this size.
    """
    network.eval()
    names = [f"layer_{i}" for i in range(network.n_layers)]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        try:
            return traced(network, torch.zeros(1, 3, height, width), "picture", names)
        except (AssertionError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[:1]
            raise ConfigurationError(
                f"{network.network} cannot be exported for pictures of {height}×{width} "
                f"({''.join(reason) or type(error).__name__}). Set image_size to the size it was "
                "made for, or choose another backbone."
            ) from error


def load_weights(body: nn.Module, state: StateDict, network: str) -> None:
    """Load by name, else in order: packages name the same tensors differently."""
    with torch.device("meta"):
        whole = _weights(timm.create_model(network, pretrained=False).state_dict())
    given = _weights(state)
    # timm numbers the stages of a cut network as `stages_0`, those of a whole one as `stages.0`.
    plain = {plain_name(name): name for name in whole}
    own = {name: plain.get(plain_name(name), name) for name in _weights(body.state_dict())}
    missing = sorted(set(own.values()) - set(given))
    if missing and _forms(given) == _forms(whole):
        given, missing = dict(zip(whole, given.values(), strict=True)), []
    stages = {name.partition(".")[0] for name in own.values()}
    foreign = [n for n in given if n not in whole and n.partition(".")[0] in stages]
    wrong = [n for n in own.values() if n in given and given[n].shape != whole[n].shape]
    if missing or foreign or wrong:
        raise ConfigurationError(
            f"The weights do not fit {network}: {len(missing)} of its tensors are missing, "
            f"{len(wrong)} have another shape and {len(foreign)} are not its own, such as "
            f"{[*missing, *wrong, *foreign][0]!r}. Give the weights of {network} under timm's "
            "names, or in a .pth file in timm's order, or name the backbone they belong to."
        )
    # What is left out are counters of training steps, which the exported network does not use.
    body.load_state_dict({name: given[place] for name, place in own.items()}, strict=False)


def _weights(state: StateDict) -> dict[str, Tensor]:
    return {n: tensor for n, tensor in state.items() if not n.endswith("num_batches_tracked")}


def plain_name(name: str) -> str:
    """Return a weight's name in a form that a cut network and a whole one share."""
    return name.removeprefix("model.").removeprefix("body.").replace(".", "_")


def _forms(state: StateDict) -> list[tuple[str, tuple[int, ...]]]:
    return [(name.rpartition(".")[2], tuple(tensor.shape)) for name, tensor in state.items()]
