"""Classifier: transfer learning from pictures of good parts and of labelled defects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from makellos.data.labelled import check_labelled
from makellos.data.parts import GOOD, Part, group_names
from makellos.data.progress import Progress
from makellos.data.splits import aside
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.loading import choose_preprocessing, load_masks, load_pictures
from makellos.detectors.parameters import parameter
from makellos.detectors.patches.backbones import backbone_card, backbone_state, from_hub
from makellos.detectors.registry import register
from makellos.inspection.aggregation import Aggregation
from makellos.training.settings import Training
from makellos.training.temperature import fit_temperature

if TYPE_CHECKING:
    from makellos.detectors.networks.classifier import ClassifierNetwork
    from makellos.detectors.networks.fine_tuning import FineTuning
    from makellos.training.pictures import Pictures

DEFECTIVE = "defective"
_DEFAULT_SIZE = {"linear": 256, "dense": 320}
_N_STEPS = {"linear": 600, "dense": 300}  # of the second step
_AS_HEAD = -2  # of `unfreeze`
_UNFROZEN = {"linear": 4, "dense": 0}
_ASIDE = 0.15  # share of the parts that early stopping and the temperature look at


@register("classifier")
class Classifier(Detector):
    """Fine-tune a pretrained network to tell good parts from defective ones, or defects apart.

    The last feature map gets a new head of one linear layer and global pooling, so that the class
    activation map (Zhou et al. 2016, arXiv 1512.04150) is part of the graph and equals Grad-CAM
    (Selvaraju et al. 2017, arXiv 1610.02391) up to scale. That map is the network's own (`head`
    linear), or one joined from three strides whose places masks teach, pooled by log-mean-exp
    (dense). First the head is trained, the backbone frozen; then the last `unfreeze` stages with
    it, at a lower rate, batch norm in inference mode throughout. Validation parts give the
    temperature of the probabilities (Guo et al. 2017, arXiv 1706.04599) and, with `patience`,
    decide which epoch is best: those of split ``val``, and, so that no calibration part is among
    them, others set aside by group from those to learn from.

    The score is the logit of being defective. Its threshold comes from good parts that had no part
    in learning, as for every detector.
    """

    summary = "transfer learning from labelled defects; class probabilities and Grad-CAM"
    trains = True
    gives = ("classes",)
    learns = "labels"

    target: str = parameter(
        "verdict",
        "What to tell apart: good and defective, or good and each kind of defect.",
        choices=("verdict", "type"),
    )
    backbone: str = parameter(
        "efficientnet_lite0",
        "Pretrained network, by its timm name; also vgg16, xception, resnet50.",
    )
    weights: str = parameter(
        "", "Local file of the backbone's weights; empty: its usual source; none: random."
    )
    image_size: int = shared.side_from(
        32, 2048, otherwise="320 with a dense head and 256 with a linear one"
    )
    channels: int = shared.CHANNELS
    head: str = parameter(
        "auto",
        "linear: one layer on the mean of the last map; dense: judges every place, "
        "from maps of three strides; auto: dense where defects have masks.",
        choices=("auto", "linear", "dense"),
    )
    output_stride: int = parameter(
        0,
        "Pixels per cell of the last feature map: 8, 16 or 32; 0: 16 where the "
        "network can, else its own.",
        choices=(0, 8, 16, 32),
    )
    standardise: str = parameter(
        "set",
        "set: match brightness and contrast of the whole set to those of photos; "
        "picture: of each picture, where exposures vary; none: leave them as they are.",
        choices=("set", "picture", "none"),
    )
    unfreeze: int = parameter(
        -2,
        "How many of the last stages train with the head in the second step; -1: all, 0: none, "
        "-2: four with a linear head, none with a dense one.",
        within=(-2, 1000),
        search=(0, 6),
    )
    epochs: int = parameter(
        0,
        "Passes of the second step over the parts; 0: about 300 steps with a dense "
        "head, 600 with a linear one.",
        within=(0, 1_000_000),
    )
    head_epochs: int = parameter(
        0,
        "Passes of the first step over the parts; 0: about 240 steps with a dense "
        "head, 400 with a linear one.",
        within=(0, 1_000_000),
    )
    batch_size: int = shared.batch_of(16)
    learning_rate: float = shared.rate(
        2e-3,
        "Learning rate of the head; in the second step it rises, then falls to zero.",
        search=(2e-4, 2e-2),
    )
    backbone_learning_rate: float = shared.logarithmic(
        3e-4,
        "Learning rate of unfrozen stages, and of a dense head that trains on with them.",
        within=(1e-8, 1.0),
        search=(2e-5, 1e-3),
    )
    weight_decay: float = shared.logarithmic(
        0.01, "AdamW's weight decay.", within=(0.0, 1.0), search=(1e-4, 0.1)
    )
    dropout: float = parameter(
        0.2,
        "Share of features that the head does not see in a step.",
        within=(0.0, 0.9),
        search=(0.0, 0.5),
    )
    label_smoothing: float = parameter(
        0.0, "Share of a label given to the other classes.", within=(0.0, 0.5)
    )
    imbalance: str = parameter(
        "weight",
        "How rare classes are balanced: weighted in the loss, drawn more often, or not at all.",
        choices=("weight", "sample", "none"),
    )
    pointing: float = parameter(
        1.0,
        "Weight of defect masks, where there are any: what a dense head learns at each place, "
        "or where a linear one looks.",
        within=(0.0, 100.0),
    )
    flips: str = parameter(
        "both",
        "How pictures are mirrored at random.",
        choices=("none", "horizontal", "vertical", "both"),
    )
    quarter_turns: bool = parameter(
        default=False, meaning="Rotate square pictures by random quarter turns."
    )
    rotation: float = parameter(
        0.0,
        "Largest random rotation of pictures in degrees; it blurs them; quarter_turns does not.",
        within=(0.0, 180.0),
    )
    shear: float = parameter(
        0.0, "Largest random shear of pictures in degrees; it blurs them.", within=(0.0, 45.0)
    )
    zoom: float = parameter(
        0.0,
        "Largest random zoom and shift of pictures, as a share; it blurs them.",
        within=(0.0, 0.9),
        search=(0.0, 0.3),
    )
    brightness: float = parameter(
        0.2,
        "Largest random change of brightness and contrast, as a share.",
        within=(0.0, 0.9),
        search=(0.0, 0.4),
    )
    patience: int = parameter(
        0,
        "Stop the second step after so many epochs without a lower validation loss; 0: never.",
        within=(0, 100_000),
    )
    seed: int = shared.SEED

    presets = {
        "fast": {"image_size": 192},
        "accurate": {"image_size": 448},
    }

    def packages(self) -> tuple[str, ...]:
        return (*super().packages(), "timm")

    def tells_apart(self, parts: Sequence[Part]) -> list[str]:
        return [GOOD, *sorted({self._name(part) for part in parts} - {GOOD})]

    def cross_fits_on(self, parts: Sequence[Part]) -> bool:
        """Tell whether a dense head is trained on a frozen network: its features are shared.

        There must be defective parts to learn from outside of every fold.
        """
        if self._head(parts) != "dense" or self._unfrozen("dense"):
            return False
        names = zip(group_names(parts), parts, strict=True)
        return len({name for name, part in names if not part.is_good}) >= self.n_folds

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        from makellos.training.loop import seeded

        learn, validation = self._apart(parts)
        with seeded(self.seed):
            steps = self._steps(learn, validation, progress, training)
            steps.train_head()
            if steps.settings.unfreeze:
                steps.fine_tune()
        self.temperature_ = fit_temperature(*steps.validated())

    def _cross_learn(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress, training: Training
    ) -> list[Graph]:
        """Learn from all parts, and for each fold a head from those outside of it.

        Each defective part of fold -1 is left out once as well, with its group: what the heads say
        of parts that they have not seen tells the temperature.
        """
        from makellos.training.loop import seeded

        if not self.cross_fits_on(parts):
            return super()._cross_learn(parts, folds, progress, training)
        left_out = _left_out(parts, folds)
        with seeded(self.seed):
            steps = self._steps(parts, [], progress, training)
            networks, logits, classes = steps.cross_fit_heads(left_out)
        self.temperature_ = fit_temperature(logits, classes)
        return [self._graph_of(network) for network in networks]

    def _steps(
        self,
        learn: Sequence[Part],
        validation: Sequence[Part],
        progress: Progress,
        training: Training,
    ) -> FineTuning:
        """Read parts, build the network that they need, and return what trains it."""
        import torch

        from makellos.detectors.networks.classifier_training import Settings
        from makellos.detectors.networks.fine_tuning import FineTuning

        self.classes_ = self.tells_apart(learn)
        check_labelled(learn, validation, classes=self.classes_ if self._by_type else None)
        head = self._head(learn)
        self.preprocessing_ = choose_preprocessing(
            learn,
            image_size=self.image_size,
            channels=self.channels,
            default_size=_DEFAULT_SIZE[head],
        )
        known = [part for part in validation if self._name(part) in self.classes_]
        pictures, held_out = self._load(learn, progress), self._load(known, progress)
        balance = torch.from_numpy(self._class_weights(learn)).float()
        self.network_ = self._network(head)
        if self.standardise == "set":
            self.network_.standardise_set(*pictures.brightness())
        return FineTuning(
            self.network_,
            pictures,
            held_out,
            balance if self.imbalance == "weight" else torch.ones_like(balance),
            balance,
            Settings(n_steps=_N_STEPS[head], **self._settings(head)),
            training=training,
            progress=progress,
            identity={"detector": self.name, **self.get_parameters()},
        )

    def _settings(self, head: str) -> dict[str, Any]:
        from makellos.detectors.networks.classifier_training import Settings

        names = {field.name for field in fields(Settings)}
        found = {name: value for name, value in self.get_parameters().items() if name in names}
        return {**found, "unfreeze": self._unfrozen(head)}

    def _unfrozen(self, head: str) -> int:
        return _UNFROZEN[head] if self.unfreeze == _AS_HEAD else self.unfreeze

    def _class_weights(self, learn: Sequence[Part]) -> NDArray[np.float64]:
        """Return by how much the loss of each class counts, that rare ones count as much."""
        counts = Counter(self._name(part) for part in learn)
        n_parts = np.array([counts[name] for name in self.classes_], np.float64)
        weights: NDArray[np.float64] = n_parts.sum() / (len(n_parts) * n_parts)
        # With many classes, one of a few parts would outweigh all others.
        return weights if len(n_parts) == 2 else weights**0.5

    def _apart(self, parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
        """Return parts to learn from, and those that validate: of split val, and some set aside.

        Where those of split val are of every label but good, good ones alone are set aside.
        """
        learn = [part for part in parts if part.split != "val"]
        validation = [part for part in parts if part.split == "val"]
        labels, known = ({part.label for part in some} for some in (learn, validation))
        if GOOD in known and labels <= known:
            return learn, validation
        if labels - {GOOD} <= known:
            names = dict(zip((part.name for part in learn), group_names(learn), strict=True))
            damaged = {names[part.name] for part in learn if not part.is_good}
            free = [part for part in learn if names[part.name] not in damaged]
            _, others = aside(free, _ASIDE, seed=self.seed)
            chosen = {part.name for part in others}
            return [p for p in learn if p.name not in chosen], [*validation, *others]
        learn, others = aside(learn, _ASIDE, seed=self.seed)
        return learn, [*validation, *others]

    @property
    def _by_type(self) -> bool:
        return self.target == "type"

    def _name(self, part: Part) -> str:
        return part.label if part.is_good or self._by_type else DEFECTIVE

    def _load(self, parts: Sequence[Part], progress: Progress) -> Pictures:
        targets = np.array([self.classes_.index(self._name(part)) for part in parts], np.intp)
        pictures = load_pictures(parts, self.preprocessing_, progress)
        counts = np.bincount(targets, minlength=len(self.classes_))
        chances = 1.0 / counts[targets]
        return pictures.labelled(
            targets,
            chances=chances if self.imbalance == "sample" else None,
            masks=load_masks(parts, self.preprocessing_) if self.pointing else None,
        )

    def _head(self, learn: Sequence[Part]) -> str:
        if self.head != "auto":
            return self.head
        masked = self.pointing and any(part.mask for part in learn if not part.is_good)
        return "dense" if masked else "linear"

    def _network(self, head: str) -> ClassifierNetwork:
        from makellos.detectors.networks.classifier import ClassifierNetwork
        from makellos.detectors.networks.dense_classifier import DenseNetwork

        card, n_classes = backbone_card(self.backbone), len(self.classes_)
        make = partial(
            DenseNetwork if head == "dense" else ClassifierNetwork,
            card.network,
            1 if n_classes == 2 else n_classes,
            stride=self.output_stride,
            standardise=self.standardise == "picture",
        )
        if self.weights == "none":
            return make()
        state = backbone_state(card, self.weights)
        if state is None:
            with from_hub(card):
                return make(fetch=True)
        network = make()
        network.load(state)
        return network

    def _build_graph(self) -> Graph:
        return self._graph_of(self.network_)

    def _graph_of(self, network: ClassifierNetwork) -> Graph:
        from makellos.detectors.networks.classifier import Scoring
        from makellos.detectors.networks.classifier_weights import weights_of
        from makellos.detectors.networks.exporting import export_graph

        onnx = export_graph(
            Scoring(network, self.temperature_),
            self.preprocessing_.shape,
            ("anomaly_map", "score", "probabilities"),
        )
        return Graph(
            onnx,
            self.preprocessing_,
            Aggregation(),
            classes=tuple(self.classes_),
            weights=weights_of(network, self.temperature_),
            exact=True,
        )


def _left_out(parts: Sequence[Part], folds: Sequence[int]) -> list[NDArray[np.intp]]:
    """Return which parts each fold leaves out: its own, and its share of the groups of fold -1."""
    n_folds = max(folds) + 1
    names = group_names(parts)
    free = sorted({name for name, fold in zip(names, folds, strict=True) if fold < 0})
    turn_of = {name: i % n_folds for i, name in enumerate(free)}
    turns = np.array([turn_of.get(name, fold) for name, fold in zip(names, folds, strict=True)])
    damaged = np.array([not part.is_good for part in parts])
    found = []
    for fold in range(n_folds):
        out = turns == fold
        if not (damaged & ~out).any():  # nothing is learned without any defective part
            out &= ~damaged
        found.append(np.flatnonzero(out))
    return found
