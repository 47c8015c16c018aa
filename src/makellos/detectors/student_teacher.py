"""Student and teacher: where a student of good parts' features is far from its teacher."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import with_rounded_weights
from makellos.detectors.parameters import parameter
from makellos.detectors.patches.backbones import load_backbone
from makellos.detectors.patches.embeddings import choose_size, load_embedder, parse_layers
from makellos.detectors.patches.rotations import views
from makellos.detectors.registry import register
from makellos.errors import ConfigurationError
from makellos.inspection.aggregation import Aggregation
from makellos.training.settings import Training

if TYPE_CHECKING:
    from makellos.training.pictures import Pictures

_N_STEPS = 1200
_DEFAULT_LAYERS = "2,3,4"  # of EfficientNet-Lite0: 40, 112 and 320 channels
_N_MEASURED = 32  # views of parts that give a layer's usual distance


@register("student_teacher")
class StudentTeacher(Detector):
    """Train a student to follow a pretrained network on good parts, and score where it fails.

    Wang et al., Student-Teacher Feature Pyramid Matching for Anomaly Detection, BMVC 2021 (arXiv
    2103.04257): a pretrained network is the teacher, a student learns on good parts alone to give
    its feature maps, layer by layer, and where the two point in different directions, by one minus
    the cosine, the part is unlike what was learned.

    Deviations. The student does not begin at the picture with a network like the teacher's: it
    sees the teacher's finest map and gives the coarser ones by a few plain convolutions. So the
    maps of the good parts, also of turned and mirrored ones, are computed once, by the engine that
    inspects, and training costs the student alone. Channels are standardised on good parts before
    they are compared; each layer's distances are divided by their mean on good parts and added,
    not multiplied; the map is averaged over 3×3 cells.
    """

    summary = "a student that imitates a pretrained network on good parts and fails on damage"
    trains = True

    backbone: str = shared.BACKBONE
    weights: str = shared.WEIGHTS
    layers: str = parameter(
        "",
        "Stages, fine to coarse: the student sees the first and gives the others; empty: 2,3,4.",
        search=("", "1,3,4"),
    )
    image_size: int = shared.IMAGE_SIZE
    max_image_size: int = shared.largest_side(512, search=(256, 768))
    width: int = shared.logarithmic(
        64,
        "Channels of the student at its finest output layer; each coarser one has twice as many.",
        within=(4, 512),
        search=(24, 96),
    )
    n_turns: int = parameter(
        1, "Evenly spaced rotations of each part to learn; 1: none.", within=(1, 36)
    )
    mirror: bool = parameter(default=False, meaning="Also learn mirrored parts.")
    epochs: int = shared.epochs_making(_N_STEPS)
    batch_size: int = shared.batch_of(8)
    learning_rate: float = shared.rate(
        0.002, "Peak learning rate; it rises first, then falls to zero.", search=(5e-4, 5e-3)
    )
    seed: int = shared.SEED

    presets = {"fast": {"max_image_size": 384}, "accurate": {"max_image_size": 768}}

    def packages(self) -> tuple[str, ...]:
        return (*super().packages(), "timm")

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        from makellos.detectors.networks.student_teacher import DistillationTask, Student
        from makellos.training.loop import epochs_for, seeded, train

        self.embedder_ = load_embedder(
            choose_size(parts, image_size=self.image_size, max_image_size=self.max_image_size),
            backbone=self.backbone,
            weights=self.weights,
            layers=self.layers or _DEFAULT_LAYERS,
            patch_size=1,
        )
        if len(self.embedder_.shapes) < 2:
            raise ConfigurationError(
                f"{self.name}: layers is {self.layers!r}; expected two or more stages, fine to "
                "coarse, such as '2,3,4': the student sees the first and gives the others."
            )
        features = self._features(parts, progress)
        with seeded(self.seed):
            student = Student(self.embedder_.shapes, width=self.width)
            student.measure(features)
            outcome = train(
                DistillationTask(student, learning_rate=self.learning_rate),
                features,
                identity={"detector": self.name, **self.get_parameters()},
                n_epochs=self.epochs or epochs_for(_N_STEPS, features.n, self.batch_size),
                batch_size=self.batch_size,
                training=training,
                progress=progress,
                label="training the student",
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
        from makellos.detectors.networks.student_teacher import Scoring

        size = self.embedder_.preprocessing
        teacher = load_backbone(
            self.backbone,
            weights=self.weights,
            layers=parse_layers(self.layers or _DEFAULT_LAYERS),
            size=(size.height, size.width),
        )
        scoring = Scoring(teacher, self.student_, self.usual_distances_)
        onnx = export_graph(scoring, size.shape, ("anomaly_map",))
        # The teacher that the student learned from has rounded weights.
        return Graph(with_rounded_weights(onnx), size, Aggregation())
