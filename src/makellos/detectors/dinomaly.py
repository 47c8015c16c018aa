"""Dinomaly: how badly a decoder with noise in its middle gives back a transformer's features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.loading import load_pictures
from makellos.detectors.parameters import parameter
from makellos.detectors.patches.backbones import backbone_card, load_backbone
from makellos.detectors.patches.embeddings import choose_size, parse_layers
from makellos.detectors.registry import register
from makellos.inspection.aggregation import Aggregation
from makellos.training.settings import Training

_N_STEPS = 5000
_N_LAYERS = 8
_TOP = 0.01  # share of the map that makes the score


@register("dinomaly")
class Dinomaly(Detector):
    """Train a transformer to give back the features that a frozen one has of good parts.

    Guo et al., Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly
    Detection, CVPR 2025 (arXiv 2405.14325). The mean of the encoder's middle layers passes a
    bottleneck whose dropout is noise, and a decoder with linear attention gives the layers back:
    an early and a late group, each as its mean. The loss is the cosine distance of whole maps, in
    which places that are given back well learn slowly. The score is the mean of the highest
    hundredth of the map.

    Deviations. AdamW takes the place of StableAdamW with clipped gradients, with a longer rise of
    the learning rate. The decoder works on the tokens of patches alone. Pictures keep their shape
    and are not cropped. The map is averaged over 3×3 cells in place of a Gaussian, and the highest
    hundredth is one of cells.

    It is for those with a GPU, and needs the weights of DINOv2: from the hub, or from a file. Not
    measured by us yet: no such weights were at hand.
    """

    summary = "reconstructs the features of a large transformer; needs a GPU and weights"
    trains = True

    backbone: str = shared.transformer("vit_base_patch14_reg4_dinov2")
    weights: str = shared.WEIGHTS
    layers: str = parameter(
        "", "Blocks to reconstruct, such as 2,3,4,5; empty: eight in the middle."
    )
    image_size: int = shared.IMAGE_SIZE
    max_image_size: int = shared.largest_side(448, search=(224, 672))
    dropout: float = parameter(
        0.2,
        "Share of the bottleneck's values that are dropped at random.",
        within=(0.0, 0.9),
        search=(0.1, 0.4),
    )
    epochs: int = shared.epochs_making(_N_STEPS)
    batch_size: int = shared.batch_of(16)
    learning_rate: float = shared.rate(
        0.0005, "Peak learning rate; it rises first, then falls to zero.", search=(1e-4, 2e-3)
    )
    seed: int = shared.SEED

    presets = {
        "fast": {"backbone": "vit_small_patch14_reg4_dinov2"},
        "accurate": {"max_image_size": 672},
    }

    def packages(self) -> tuple[str, ...]:
        return (*super().packages(), "timm")

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        from makellos.detectors.networks.dinomaly import Decoder, DinomalyTask
        from makellos.detectors.networks.feature_extractor import transformer_form
        from makellos.training.loop import epochs_for, seeded, train

        depth, patch = transformer_form(backbone_card(self.backbone).network)
        self.preprocessing_ = choose_size(
            parts,
            image_size=self.image_size,
            max_image_size=self.max_image_size,
            multiple=patch,
        )
        self.layers_ = parse_layers(self.layers) or middle_layers(depth)
        encoder = load_backbone(
            self.backbone,
            weights=self.weights,
            layers=self.layers_,
            size=self.preprocessing_.shape[1:],
        )
        pictures = load_pictures(parts, self.preprocessing_, progress)
        with seeded(self.seed):
            decoder = Decoder(encoder.channels, len(self.layers_), self.dropout)
            outcome = train(
                DinomalyTask(encoder, decoder, learning_rate=self.learning_rate),
                pictures,
                identity={"detector": self.name, **self.get_parameters()},
                n_epochs=self.epochs or epochs_for(_N_STEPS, pictures.n, self.batch_size),
                batch_size=self.batch_size,
                training=training,
                progress=progress,
                label="training the decoder",
            )
        self.notes_ = outcome.notes
        self.encoder_, self.decoder_ = encoder.to("cpu"), decoder

    def _build_graph(self) -> Graph:
        from makellos.detectors.networks.dinomaly import Scoring
        from makellos.detectors.networks.exporting import export_graph

        scoring = Scoring(self.encoder_, self.decoder_)
        onnx = export_graph(scoring, self.preprocessing_.shape, ("anomaly_map",))
        aggregation = Aggregation(name="top_k_mean", parameter=_TOP)
        return Graph(onnx, self.preprocessing_, aggregation)


def middle_layers(depth: int) -> tuple[int, ...]:
    """Return up to eight blocks in the middle of a transformer of `depth` blocks.

    >>> middle_layers(12)
    (2, 3, 4, 5, 6, 7, 8, 9)
    """
    places = np.linspace(depth // 6, 3 * depth // 4, _N_LAYERS)
    return tuple(sorted({round(float(place)) for place in places}))
