"""Discriminative: nearest neighbours, and a network that was shown planted and real damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress, no_progress
from makellos.detectors.contract import Detector, Graph, Parameter, check_folds, register
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.loading import require_packages
from makellos.detectors.patchcore import PatchCore
from makellos.detectors.places import PlaceDrawer, Places
from makellos.inspection.aggregation import Aggregation
from makellos.training.settings import Training

_LAYER = "distances"


@register("discriminative")
class Discriminative(Detector):
    """Score a patch by its distance to good patches and by what a network says of it.

    The network sees one place of the map at a time. It is taught by good places and by places of
    damage planted in pictures of good parts (as in DRAEM, Zavrtanik et al. 2021, arXiv
    2108.07610). Labelled defective parts, where there are some, teach it as well (as in
    SuperSimpleNet, Rolih et al. 2024, arXiv 2408.03143): with a mask the places inside and outside
    of it, without one the places that lie farthest from good patches. However few there are, they
    count twice as much as planted damage.

    Deviations: the embeddings are those of a frozen backbone, without an adaptor or a
    classification head. The logits, in standard deviations of good places and times `weight`, are
    added to the map of `PatchCore`, which knows what no planted damage is like; the score is the
    maximum of the sum. Noise in feature space (SimpleNet, Liu et al. 2023, arXiv 2303.15140, and
    SuperSimpleNet) is an option, `noise`, and off: beside planted damage it gained nothing, and
    beside labelled parts it cost much of what they teach.
    """

    summary = "nearest neighbours and a network shown damage: planted, and yours where labelled"
    trains = True
    cross_fits = True
    uses_labels = True
    learns_planted = True
    parameters = {
        "backbone": PatchCore.parameters["backbone"],
        "weights": PatchCore.parameters["weights"],
        "layers": PatchCore.parameters["layers"],
        "image_size": PatchCore.parameters["image_size"],
        "max_image_size": PatchCore.parameters["max_image_size"],
        "patch_size": PatchCore.parameters["patch_size"],
        "memory_bank_size": PatchCore.parameters["memory_bank_size"],
        "weight": Parameter(
            default=0.5,
            low=0.0,
            high=100.0,
            search=(0.1, 1.0),
            logarithmic=True,
            meaning="How much the network counts beside the distances, which are about 2 on good "
            "parts.",
        ),
        "planted": Parameter(
            default=1, low=0, high=100, meaning="Damaged copies of each good part learned from."
        ),
        "noise": Parameter(
            default=0.0,
            low=0.0,
            high=10.0,
            search=(0.0, 1.0),
            meaning="Noise that makes good places damaged ones, in standard deviations; 0: none.",
        ),
        "hidden_units": Parameter(
            default=64,
            low=1,
            high=4096,
            search=(32, 256),
            logarithmic=True,
            meaning="Width of the network's hidden layer.",
        ),
        "steps": Parameter(default=300, low=1, high=1_000_000, meaning="Training steps, about."),
        "batch_size": Parameter(
            default=2048, low=2, high=1_000_000, meaning="Places learned from in one step."
        ),
        "learning_rate": Parameter(
            default=2e-3,
            low=1e-7,
            high=1.0,
            search=(5e-4, 1e-2),
            logarithmic=True,
            meaning="AdamW's at the start; it falls to zero.",
        ),
        "seed": Parameter(default=0, low=0, meaning="Seed of every draw."),
    }
    presets = {
        "fast": {"max_image_size": 384, "memory_bank_size": 4_000},
        "accurate": {"max_image_size": 1024, "memory_bank_size": 10_000, "planted": 3},
    }

    def __init__(
        self,
        *,
        backbone: str = "efficientnet_lite0",
        weights: str = "",
        layers: str = "",
        image_size: int = 0,
        max_image_size: int = 768,
        patch_size: int = 3,
        memory_bank_size: int = 5_000,
        weight: float = 0.5,
        planted: int = 1,
        noise: float = 0.0,
        hidden_units: int = 64,
        steps: int = 300,
        batch_size: int = 2048,
        learning_rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.layers = layers
        self.image_size = image_size
        self.max_image_size = max_image_size
        self.patch_size = patch_size
        self.memory_bank_size = memory_bank_size
        self.weight = weight
        self.planted = planted
        self.noise = noise
        self.hidden_units = hidden_units
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed

    def cross_fit(
        self,
        parts: Sequence[Part],
        folds: Sequence[int],
        *,
        progress: Progress | None = None,
        training: Training | None = None,
    ) -> list[Graph]:
        """Fit with one memory bank and one network per fold, on places embedded once.

        Defective parts of fold -1 are learned from by all networks.
        """
        check_folds(parts, folds)
        good = [i for i, part in enumerate(parts) if part.is_good]
        self._begin(parts)
        with self._all_or_nothing():
            require_packages("torch", "lightning_fabric", "onnx")
            report, where = progress or no_progress, training or Training()
            neighbours = self._neighbours()
            maps = neighbours.cross_fit(
                [parts[i] for i in good], [folds[i] for i in good], progress=report
            )
            self._learn_places(parts, folds, neighbours, report, where)
            return [
                self._graph_of(found, self._head(fold, report, where.inside(f"fold-{fold + 1}")))
                for fold, found in enumerate(maps)
            ]

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        neighbours = self._neighbours()
        neighbours.fit([part for part in parts if part.is_good], progress=progress)
        self._learn_places(parts, [0] * len(parts), neighbours, progress, training)

    def _neighbours(self) -> PatchCore:
        shared = {
            name: getattr(self, name) for name in self.parameters if name in PatchCore.parameters
        }
        return PatchCore(**shared)

    def _learn_places(
        self,
        parts: Sequence[Part],
        folds: Sequence[int],
        neighbours: PatchCore,
        progress: Progress,
        training: Training,
    ) -> None:
        """Embed places of all parts, and train the network on all of them."""
        self.neighbours_ = neighbours
        drawer = PlaceDrawer(neighbours, n_copies=self.planted, seed=self.seed)
        self.places_ = Places.join(drawer.examples(parts, folds, progress))
        self.head_ = self._head(None, progress, training.inside("head"))

    def _head(self, fold: int | None, progress: Progress, training: Training) -> _Head:
        """Train a network on all places but those of a fold."""
        from makellos.detectors.networks.place_head import PlaceHead, PlaceTask
        from makellos.training.loop import epochs_for, seeded, train

        places, kept = self.places_, self.places_.outside(fold)
        with seeded(self.seed):
            network = PlaceHead(places.rows.shape[1], self.hidden_units)
            pictures = places.pictures(kept)
            n_epochs = epochs_for(self.steps, pictures.n, self.batch_size)
            n_steps = n_epochs * max(1, pictures.n // self.batch_size)
            task = PlaceTask(
                network, learning_rate=self.learning_rate, noise=self.noise, n_steps=n_steps
            )
            train(
                task,
                pictures,
                identity={"detector": self.name, "fold": fold, **self.get_parameters()},
                n_epochs=n_epochs,
                batch_size=self.batch_size,
                training=training,
                progress=progress,
                label="training the network" if fold is None else f"cross-fit {fold + 1}: training",
            )
        names = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
        state = network.state_dict()
        head = _Head(*(state[name].numpy().astype(np.float32) for name in names))
        return head.relative_to(places.standardised(kept & (places.kinds == "good")))

    def _build_graph(self) -> Graph:
        return self._graph_of(self.neighbours_.graph(), self.head_)

    def _graph_of(self, neighbours: Graph, head: _Head) -> Graph:
        """Return the neighbours' graph with the network's map added to theirs."""
        embedder, places = self.neighbours_.embedder_, self.places_
        builder = GraphBuilder(neighbours.onnx)
        builder.rename("anomaly_map", _LAYER)
        _, height, width = embedder.shapes[0]
        hidden, before = "", 0
        for name, (channels, h, w) in zip(embedder.names, embedder.shapes, strict=True):
            own = slice(before, before := before + channels)
            patches = builder.standardise(name, places.mean[own], places.scale[own])
            # A layer's share of the hidden units is computed on its own grid, then repeated.
            product = builder.add("MatMul", patches, builder.constant(head.hidden[:, own].T.copy()))
            turned = builder.add("Transpose", product, attributes={"perm": [0, 2, 1]})
            grid = builder.add("Reshape", turned, builder.shape(0, -1, h, w))
            fine = builder.repeat(grid, (h, w), height // h)
            hidden = builder.add("Add", hidden, fine) if hidden else fine
        biased = builder.add("Add", hidden, builder.constant(head.bias.reshape(1, -1, 1, 1)))
        active = builder.add("Relu", biased)
        weighted = builder.add("Mul", active, builder.constant(head.out.reshape(1, -1, 1, 1)))
        logits = builder.add("ReduceSum", weighted, builder.shape(1), attributes={"keepdims": 1})
        moved = builder.add("Add", logits, builder.constant(head.out_bias.reshape(1, 1, 1, 1)))
        smooth = builder.local_mean(moved, 3)
        scaled = builder.add("Mul", smooth, builder.constant(np.array(self.weight, np.float32)))
        distances = builder.add("Reshape", _LAYER, builder.shape(0, 1, height, width))
        total = builder.add("Add", distances, scaled)
        return Graph(builder.finish(total, height, width), neighbours.preprocessing, Aggregation())


@dataclass(frozen=True)
class _Head:
    """The trained network's weights: hidden K×C and bias K, out 1×K and its bias."""

    hidden: NDArray[np.float32]
    bias: NDArray[np.float32]
    out: NDArray[np.float32]
    out_bias: NDArray[np.float32]

    def relative_to(self, good: NDArray[np.float32]) -> _Head:
        """Return the network whose logits have mean 0 and standard deviation 1 on good places."""
        logits = np.maximum(good @ self.hidden.T + self.bias, 0) @ self.out[0] + self.out_bias
        gain = np.float32(1 / max(float(logits.std()), 1e-6))
        moved = (self.out_bias - logits.mean()) * gain
        return _Head(self.hidden, self.bias, self.out * gain, moved.astype(np.float32))
