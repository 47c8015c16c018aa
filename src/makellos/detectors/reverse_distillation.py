"""Reverse distillation: how far a decoder of good parts' features is from those of a part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors.backbones import load_backbone
from makellos.detectors.contract import Detector, Graph, Parameter, register
from makellos.detectors.embeddings import PatchEmbedder, choose_size, parse_layers
from makellos.detectors.turning import views
from makellos.inspection.aggregation import Aggregation
from makellos.training.settings import Training

if TYPE_CHECKING:
    from makellos.training.pictures import Pictures

_N_STEPS = 1200
_DEFAULT_LAYERS = "3,4"  # of EfficientNet-Lite0: 112 and 320 channels
_N_MEASURED = 32  # views of parts that give a layer's usual distance


@register("reverse_distillation")
class ReverseDistillation(Detector):
    """Train a decoder to give back a network's features of good parts, and score what it cannot.

    Deng and Li, Anomaly Detection via Reverse Distillation from One-Class Embedding, CVPR 2022
    (arXiv 2201.10703): a pretrained network is the teacher; its feature maps are brought together
    on the coarsest grid and squeezed through a narrow middle, from which a decoder, the student,
    gives the maps back. It learns from good parts alone, by the cosine distance at each place.

    Deviations. The teacher is small, and so is the decoder: two plain convolutions per layer. The
    middle is narrow in channels too (`latent_dim`). Channels are standardised on good parts before
    they are compared. Each layer's distances are divided by their mean on good parts and added,
    and the map is averaged over 3×3 cells in place of a Gaussian. Features of the good parts, also
    of turned and mirrored ones, are computed once, by the engine that inspects, and the decoder is
    trained on those: an epoch then costs the decoder alone.
    """

    summary = "a decoder of pretrained features, trained on good parts (student and teacher)"
    trains = True
    parameters = {
        "backbone": Parameter(
            default="efficientnet_lite0", meaning="Pretrained network, by its timm name."
        ),
        "weights": Parameter(
            default="", meaning="Local file of the backbone's weights; empty: its own source."
        ),
        "layers": Parameter(
            default="",
            search=("", "2,3,4"),
            meaning="Stages to give back, fine to coarse, such as 3,4; empty: 3,4.",
        ),
        "image_size": Parameter(
            default=0, low=0, high=4096, meaning="Side of the square input; 0 follows the pictures."
        ),
        "max_image_size": Parameter(
            default=512,
            low=64,
            high=4096,
            search=(256, 768),
            meaning="Largest input side when image_size is 0.",
        ),
        "latent_dim": Parameter(
            default=64,
            low=1,
            high=4096,
            search=(16, 256),
            logarithmic=True,
            meaning="Channels of the narrow middle.",
        ),
        "width": Parameter(
            default=64,
            low=4,
            high=512,
            search=(24, 96),
            logarithmic=True,
            meaning="Channels of the decoder at the finest layer; each coarser one has twice as "
            "many.",
        ),
        "n_turns": Parameter(
            default=1, low=1, high=36, meaning="Even turns of each part that are learned; 1: none."
        ),
        "mirror": Parameter(default=False, meaning="Learn mirrored parts as well."),
        "epochs": Parameter(
            default=0, low=0, high=1_000_000, meaning="Passes over the parts; 0 makes 1200 steps."
        ),
        "batch_size": Parameter(
            default=8, low=1, high=4096, meaning="Parts learned from in one step."
        ),
        "learning_rate": Parameter(
            default=0.002,
            low=1e-7,
            high=1.0,
            search=(5e-4, 5e-3),
            logarithmic=True,
            meaning="AdamW's at its highest; it rises first and falls to zero.",
        ),
        "seed": Parameter(default=0, low=0, meaning="Seed of every draw."),
    }
    presets = {"fast": {"max_image_size": 384}, "accurate": {"max_image_size": 768}}

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        weights: str = "",
        layers: str = "",
        image_size: int = 0,
        max_image_size: int = 512,
        latent_dim: int = 64,
        width: int = 64,
        n_turns: int = 1,
        mirror: bool = False,
        epochs: int = 0,
        batch_size: int = 8,
        learning_rate: float = 0.002,
        seed: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.layers = layers
        self.image_size = image_size
        self.max_image_size = max_image_size
        self.latent_dim = latent_dim
        self.width = width
        self.n_turns = n_turns
        self.mirror = mirror
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        from makellos.detectors.networks.reverse_distillation import DistillationTask, Student
        from makellos.training.loop import epochs_for, seeded, train

        self.embedder_ = PatchEmbedder.load(
            choose_size(parts, image_size=self.image_size, max_image_size=self.max_image_size),
            backbone=self.backbone,
            weights=self.weights,
            layers=self.layers or _DEFAULT_LAYERS,
            patch_size=1,
        )
        features = self._features(parts, progress)
        n_epochs = self.epochs or epochs_for(_N_STEPS, features.n, self.batch_size)
        n_steps = n_epochs * max(1, features.n // self.batch_size)
        with seeded(self.seed):
            student = Student(self.embedder_.shapes, width=self.width, latent_dim=self.latent_dim)
            student.measure(features)
            task = DistillationTask(student, learning_rate=self.learning_rate, n_steps=n_steps)
            outcome = train(
                task,
                features,
                identity={"detector": self.name, **self.get_parameters()},
                n_epochs=n_epochs,
                batch_size=self.batch_size,
                training=training,
                progress=progress,
                label="training the decoder",
            )
        self.notes_ = outcome.notes
        self.student_ = student
        self.usual_distances_ = student.usual_distances(features, _N_MEASURED)

    def _features(self, parts: Sequence[Part], progress: Progress) -> Pictures:
        """Return the teacher's maps of each view of the parts, side by side, in half precision."""
        from makellos.training.pictures import Pictures, room_for

        seen = views(parts, n_turns=self.n_turns, mirror=self.mirror)
        n_values = sum(int(np.prod(shape)) for shape in self.embedder_.shapes)
        values: NDArray[np.float16] = room_for((len(seen), n_values, 1, 1), np.float16)
        for i, layers in enumerate(self.embedder_.stream(seen, progress)):
            values[i, :, 0, 0] = np.concatenate([layer.T.ravel() for layer in layers])
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.read().tobytes())
        return Pictures(values, known_as=digest.hexdigest())

    def _build_graph(self) -> Graph:
        from makellos.detectors.networks.exporting import export_graph
        from makellos.detectors.networks.reverse_distillation import Scoring

        size = self.embedder_.preprocessing
        teacher = load_backbone(
            self.backbone,
            weights=self.weights,
            layers=parse_layers(self.layers or _DEFAULT_LAYERS),
            size=(size.height, size.width),
        )
        onnx = export_graph(
            Scoring(teacher, self.student_, self.usual_distances_),
            size.shape,
            input_name="picture",
            output_names=("anomaly_map",),
        )
        return Graph(onnx, size, Aggregation())
