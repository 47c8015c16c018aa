"""The model that `explain` explains: verdict, class probabilities and heat map of a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.detectors import detectors_giving
from makellos.detectors.loading import require_packages
from makellos.detectors.patches.backbones import backbone_card
from makellos.errors import ConfigurationError, InputError, ModelFileError, suggest
from makellos.inspection.external_runtime import check_parameters
from makellos.inspection.model_file import TORCH_PREFIX, ModelFile
from makellos.inspection.zones import Zones

if TYPE_CHECKING:
    from makellos.detectors.networks.classifier import ClassifierNetwork

__all__ = ["Explained", "Explainer"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Explained:
    """Hold what a model finds on a picture: the `batch` 1×C×H×W it sees, the `heat` h×w from 0 up.

    `shown` is the heat h×w as it lies on the picture, where the batch shows it turned. `target` is
    the place of the class that the heat is of.
    """

    picture: Picture
    batch: Floats
    heat: Floats
    shown: Floats
    score: float
    verdict: str
    probabilities: dict[str, float]
    target: int


class Explainer:
    """Give verdict, probabilities and heat map of pictures, by one model and method."""

    def __init__(
        self, model: ModelFile, method: str, class_name: str | None, layer: str | None
    ) -> None:
        _check_classes(model)
        require_packages("torch", "timm", "pytorch_grad_cam")
        from makellos.detectors.networks.activation_maps import ActivationMaps
        from makellos.detectors.networks.classifier import Scoring

        network, temperature = _network(model)
        self.classes = tuple(model.manifest.classes)
        n_logits = network.head.out_features
        if len(self.classes) != (2 if n_logits == 1 else n_logits):
            raise ModelFileError(
                f"{model.path} names {len(self.classes)} classes but tells {n_logits} apart. Fit "
                "it again."
            )
        self.maps = ActivationMaps(network, method, layer)
        self.layer, self.method = self.maps.layer or "last feature map", method
        self.preprocessing = model.manifest.preprocessing
        self.calibration = model.manifest.calibration.calibration()
        self.class_scales = model.manifest.calibration.score_scales()
        self._scoring = Scoring(network, temperature).eval()
        self._target = None if class_name is None else self._place(class_name)

    def __call__(self, picture: Picture, name: str) -> Explained:
        """Return what is found; raises `InputError` where the score is not finite, with `name`."""
        import torch

        posed = self.preprocessing.pose(picture)
        batch = self.preprocessing(picture if posed is None else posed.picture)
        scores, probabilities = self.judge(batch)
        score = float(scores[0])
        if self.class_scales:
            score = Zones.score(probabilities[0, 1:].tolist(), self.class_scales)
        if not math.isfinite(score):
            raise InputError(
                f"{name} has the score {score:g}, which allows no verdict. Look at the part."
            )
        target = self._target
        if target is None:
            target = 1 + int(probabilities[0, 1:].argmax())
        heat = self.maps(torch.from_numpy(batch), target)[0]
        return Explained(
            picture=picture,
            batch=batch,
            heat=heat,
            shown=heat if posed is None else posed.back(heat),
            score=score,
            verdict=self.calibration.verdict(score),
            probabilities=dict(zip(self.classes, probabilities[0].tolist(), strict=True)),
            target=target,
        )

    def judge(self, batch: Floats) -> tuple[Floats, Floats]:
        """Return scores N and probabilities N×K of a batch N×C×H×W."""
        import torch

        with torch.inference_mode():
            _, scores, probabilities = self._scoring(torch.from_numpy(batch))
        return scores.numpy(), probabilities.numpy()

    def explained(self, found: Explained) -> str | None:
        """Return the name of the class that a map is of."""
        return self.classes[found.target] if self.maps.needs_class else None

    def _place(self, name: str) -> int:
        if name not in self.classes:
            raise ConfigurationError(
                f"The model has no class {name!r}. {suggest(name, self.classes)}"
            )
        return self.classes.index(name)


def _check_classes(model: ModelFile) -> None:
    if not model.manifest.classes:
        raise ConfigurationError(
            f"{model.path} was fitted with {model.manifest.detector.name}, whose anomaly map "
            f"already shows where damage is: makellos inspect {model.path} INPUT --overlays. Class "
            f"activation maps explain models of {', '.join(detectors_giving('classes'))}."
        )


def _network(model: ModelFile) -> tuple[ClassifierNetwork, float]:
    """Return a model's network with its weights, and the temperature of its logits."""
    from makellos.detectors.networks.classifier_weights import rebuild

    with model.unpacked() as folder:
        arrays = model.arrays(folder, TORCH_PREFIX)
    parameters = model.manifest.detector.parameters
    check_parameters(model.manifest.detector.name, parameters)
    card = backbone_card(str(parameters.get("backbone", "")))
    return rebuild(
        card.network,
        arrays,
        stride=int(parameters.get("output_stride", 0)),
        standardise=parameters.get("standardise") in (True, "picture"),
    )
