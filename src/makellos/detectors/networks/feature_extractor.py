"""A timm network cut to its intermediate feature maps, and its export to ONNX."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from makellos.errors import ConfigurationError, suggest

__all__ = ["FeatureExtractor", "export_onnx"]

StateDict = Mapping[str, Tensor]


class FeatureExtractor(nn.Module):  # type: ignore[misc]
    """Map pictures N×3×H×W in [0, 1] to the feature maps of the stages `layers`.

    The network's own mean and standard deviation are applied inside. `state` is a state dict of
    the whole network; heads and later stages in it are left out.
    """

    def __init__(
        self, network: str, layers: Sequence[int], state: StateDict | None, *, fetch: bool = False
    ) -> None:
        super().__init__()
        try:
            self.body: Any = timm.create_model(
                network, features_only=True, out_indices=tuple(layers), pretrained=fetch
            )
        except (IndexError, AssertionError, ValueError) as error:
            raise ConfigurationError(
                f"{network} has no stages {tuple(layers)} ({error}). Stages count from 0; negative "
                "numbers count from the last."
            ) from error
        if state is not None:
            _load(self.body, state, network)
        config = self.body.pretrained_cfg if hasattr(self.body, "pretrained_cfg") else {}
        mean = config.get("mean", (0.485, 0.456, 0.406))
        std = config.get("std", (0.229, 0.224, 0.225))
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, picture: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.body((picture - self.mean) / self.std)
        return maps


def export_onnx(network: FeatureExtractor, height: int, width: int) -> bytes:
    """Return the network as ONNX: input ``picture``, outputs ``layer_0``, ``layer_1``, …"""
    network.eval()
    names = [f"layer_{i}" for i in range(len(network.body.feature_info.channels()))]
    target = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracing exporter takes a second where the newer one takes ten.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, height, width),),
            target,
            input_names=["picture"],
            output_names=names,
            dynamic_axes={name: {0: "n"} for name in ("picture", *names)},
            opset_version=17,
            dynamo=False,
        )
    return target.getvalue()


def _load(body: nn.Module, state: StateDict, network: str) -> None:
    """Load by name, else in order: packages name the same tensors differently."""
    own = body.state_dict()
    if set(own) <= set(state):
        chosen = {name: state[name] for name in own}
    else:
        # Of a whole network the tensors stand in the same order as in timm's; the cut network
        # has the first of them.
        whole = timm.create_model(network, pretrained=False).state_dict()
        given = list(state.values())
        if [tuple(t.shape) for t in given] != [tuple(t.shape) for t in whole.values()]:
            missing = sorted(set(own) - set(state))
            raise ConfigurationError(
                f"The weights do not fit {network}: {len(missing)} of its tensors are missing, such "
                f"as {missing[0]!r}. {suggest(missing[0], list(state)[:50])}"
            )
        renamed = dict(zip(whole, given, strict=True))
        chosen = {name: renamed[name] for name in own}
    body.load_state_dict(chosen)
