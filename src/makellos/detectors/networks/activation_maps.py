"""Heat maps of what a classifier looked at, by the methods of the package grad-cam."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from makellos.detectors.networks.classifier import ClassifierNetwork
from makellos.errors import ConfigurationError, suggest

__all__ = ["METHODS", "ActivationMaps", "feature_layer"]

Floats = NDArray[np.float32]


class _Later(ModuleType):
    """A module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _without_plots() -> Iterator[None]:
    """Keep back matplotlib, which writes to the home of the user and is needed for no map."""
    if "matplotlib" in sys.modules:
        yield
        return
    package, pyplot, lines = map(_Later, ("matplotlib", "matplotlib.pyplot", "matplotlib.lines"))
    vars(package)["pyplot"] = pyplot
    vars(lines)["Line2D"] = lambda *given, **named: _Later(lines.__name__).Line2D(*given, **named)
    for module in (package, pyplot, lines):
        sys.modules[module.__name__] = module
    try:
        yield
    finally:
        for module in (package, pyplot, lines):
            del sys.modules[module.__name__]


with _without_plots():
    from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM

METHODS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "gradcam": GradCAM,
    "gradcam++": GradCAMPlusPlus,
    "layercam": LayerCAM,
    "eigencam": EigenCAM,
}
_NO_CLASS = frozenset({"eigencam"})
_MAX_PLACES = 8192  # EigenCAM's decomposition takes memory by their square
_SIDE = 64  # of the picture that tells whether a layer has a map


class ActivationMaps:
    """Map where pictures speak for a class, by ``gradcam`` (Selvaraju et al. 2017, arXiv
    1610.02391), ``gradcam++`` (Chattopadhay et al. 2018, arXiv 1710.11063), ``layercam`` (Jiang et
    al. 2021, doi 10.1109/TIP.2021.3089943) or ``eigencam`` (Muhammad and Yeasin 2020, arXiv
    2008.00299), which knows no class.

    `layer` is the name of a module of the network's body; without it that of the last feature map.
    The package's arithmetic is used without its rescaling, which subtracts the smallest value and
    so loses where no heat is. EigenCAM's sign, which a decomposition leaves open, is that of the
    larger peak. Raises `ConfigurationError` for methods and layers that there are not.
    """

    def __init__(self, network: ClassifierNetwork, method: str, layer: str | None = None) -> None:
        if method not in METHODS:
            raise ConfigurationError(f"There is no method {method!r}. {suggest(method, METHODS)}")
        self.network = network.eval()
        self.method = method
        self.layer = feature_layer(network) if layer is None else layer
        self._modules = network.layers()
        if layer is not None and (not layer or layer not in self._modules):
            names = [
                name
                for name, module in self._modules.items()
                if name and not isinstance(module, nn.Identity)
            ]
            hint = suggest(layer, names).partition("Known:")[0]
            coarse = ", ".join(name for name in names if "." not in name)
            raise ConfigurationError(
                f"{network.network} has no layer {layer!r}. {hint}Its coarse layers are {coarse}; "
                "those inside of them are named like blocks.0."
            )
        self._arithmetic = METHODS[method](network, [])
        if layer is not None:
            self(torch.zeros(1, 3, _SIDE, _SIDE), 0)

    @property
    def needs_class(self) -> bool:
        """Tell whether the map depends on a class."""
        return self.method not in _NO_CLASS

    def __call__(self, pictures: Tensor, target: int) -> Floats:
        """Return the heat of pictures N×C×H×W for a class, N×h×w from 0 up on the layer's grid.

        `target` is the place of a class, good first. Raises `ConfigurationError` for a layer that
        gives no map, and for one too fine for EigenCAM.
        """
        with torch.enable_grad():
            activations, logits = self._run(pictures.detach().clone().requires_grad_())
            gradients = self._gradients(activations, logits, target)
        shown = activations.detach().numpy()
        if self.method == "eigencam" and shown[0, 0].size > _MAX_PLACES:
            raise ConfigurationError(
                f"The layer {self.layer} has a map of {shown.shape[2]}x{shown.shape[3]}, too fine "
                f"for eigencam, which takes at most {_MAX_PLACES} places. Name a later layer."
            )
        found = self._arithmetic.get_cam_image(
            None, None, None, shown, gradients, eigen_smooth=False
        )
        if not self.needs_class:
            lowest, highest = found.min((1, 2), keepdims=True), found.max((1, 2), keepdims=True)
            found = np.where(-lowest > highest, -found, found)
        heat: Floats = np.maximum(found, 0).astype(np.float32)
        return heat

    def _run(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return the layer's output N×C×h×w and the logits N×K that come of it."""
        kept: list[Tensor] = []

        def keep(_: object, __: object, output: Tensor) -> Tensor:
            kept.append(output)
            # What follows may work in place, which must not change what was kept.
            return output.clone() if torch.is_tensor(output) else output

        module = self._modules[self.layer] if self.layer else None
        hook = None if module is None else module.register_forward_hook(keep)
        try:
            features = self.network.features(pictures)
        finally:
            if hook is not None:
                hook.remove()
        found = features if module is None else (kept[-1] if kept else None)
        shape = () if found is None else tuple(getattr(found, "shape", ()))
        if found is None or len(shape) != 4:
            raise ConfigurationError(
                f"The layer {self.layer} of {self.network.network} gives {shape or 'none'}; "
                "expected a map N×C×h×w. Name another layer, or none for the last feature map."
            )
        return found, self.network.logits(features)

    def _gradients(self, activations: Tensor, logits: Tensor, target: int) -> Floats:
        if not self.needs_class:
            return np.zeros((1, 1, 1, 1), np.float32)
        single = logits.shape[1] == 1  # the logit of defective, whose reverse is that of good
        chosen = logits[:, 0] * (1 if target else -1) if single else logits[:, target]
        (found,) = torch.autograd.grad(chosen.sum(), activations, allow_unused=True)
        if found is None:
            raise ConfigurationError(
                f"The layer {self.layer} of {self.network.network} does not change the class. "
                "Name another layer, or none for the last feature map."
            )
        return cast(Floats, found.numpy())


def feature_layer(network: ClassifierNetwork) -> str:
    """Return the name of the body's module whose output is the last feature map, or nothing."""
    outputs: list[tuple[str, object]] = []
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: outputs.append((name, out)))
        for name, module in network.layers().items()
        if name
    ]
    try:
        with torch.no_grad():
            features = network.eval().features(torch.zeros(1, 3, _SIDE, _SIDE))
    finally:
        for hook in hooks:
            hook.remove()
    # The last of them: a module that works in place gives what it was given.
    return next((name for name, output in reversed(outputs) if output is features), "")
