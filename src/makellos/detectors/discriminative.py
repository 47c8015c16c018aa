"""Discriminative: nearest neighbours, and a network that was shown real or planted damage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, group_names
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.parameters import parameter
from makellos.detectors.patchcore import PatchCore
from makellos.detectors.patches.backbones import backbone_packages
from makellos.detectors.patches.layer_weights import ENOUGH, Weights, summed_up, weights_told
from makellos.detectors.patches.patch_examples import Look, PlaceDrawer, Places
from makellos.detectors.registry import register
from makellos.inspection.aggregation import Aggregation
from makellos.training.settings import Training

_LAYER = "distances"
_N_HEADS = 10  # networks that leave parts out
_MOST_WEIGHED = 1_000  # good parts that labelled ones are compared with


@register("discriminative")
class Discriminative(Detector):
    """Score a patch by its distance to good patches and by what a network says of it.

    The network sees one place of the map at a time. It is taught by places of good parts, half of
    them those that lie farthest from other good parts and so set the threshold, and by damage: that
    of labelled defective parts, seen at several angles (as in SuperSimpleNet, Rolih et al. 2024,
    arXiv 2408.03143), with a mask the places inside and outside of it, without one the places that
    lie farthest from good patches. Where no part is labelled, damage is planted in pictures of good
    parts (as in DRAEM, Zavrtanik et al. 2021, arXiv 2108.07610).

    Deviations: the embeddings are those of a frozen backbone, without an adaptor or a
    classification head. The logits count `weight` beside the map of `PatchCore`, which knows what
    no damage learned from is like, both in their standard deviations on good places, and relative
    to their mean in the picture, so that they move no mean of the map. Labelled parts that a
    network has not seen, five and more, tell how much the network, finer layers against coarser
    ones, and the mean of the map beside its maximum count, for damage may be wide and faint
    (`layer_weights`). Noise in feature space (SimpleNet, Liu et al. 2023, arXiv 2303.15140, and
    SuperSimpleNet) is an option, `noise`, and off: it gained nothing.
    """

    summary = "nearest neighbours, and a network shown damage: labelled or planted"
    trains = True
    cross_fits = True
    learns = "good and labelled"
    learns_planted = True
    n_folds = PatchCore.n_folds

    backbone: str = shared.BACKBONE
    weights: str = shared.WEIGHTS
    layers: str = shared.LAYERS
    image_size: int = shared.IMAGE_SIZE
    max_image_size: int = shared.largest_side(768, search=(256, 1024))
    patch_size: int = shared.PATCH_SIZE
    memory_bank_size: int = shared.MEMORY_BANK_SIZE
    weight: float = shared.logarithmic(
        0.5,
        "Weight of the network relative to the distances.",
        within=(0.0, 100.0),
        search=(0.1, 2.0),
    )
    planted: int = parameter(
        1, "Damaged copies of each good part, if no defects are labelled.", within=(0, 100)
    )
    noise: float = parameter(
        0.0,
        "Noise that turns good places into damaged ones, in standard deviations; 0: none.",
        within=(0.0, 10.0),
        search=(0.0, 1.0),
    )
    hidden_units: int = shared.logarithmic(
        64, "Width of the network's hidden layer.", within=(1, 4096), search=(32, 256)
    )
    steps: int = parameter(200, "Approximate number of training steps.", within=(1, 1_000_000))
    batch_size: int = parameter(2048, "Places per training step.", within=(2, 1_000_000))
    learning_rate: float = shared.rate(
        2e-3, "Initial learning rate; it falls to zero.", search=(5e-4, 1e-2)
    )
    background: str = shared.BACKGROUND
    seed: int = shared.SEED

    presets = {
        "fast": {"max_image_size": 384, "memory_bank_size": 4_000},
        "accurate": {"max_image_size": 1024, "memory_bank_size": 10_000, "planted": 3},
    }

    def packages(self) -> tuple[str, ...]:
        return (*super().packages(), *backbone_packages(self.backbone, self.weights))

    def _cross_learn(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress, training: Training
    ) -> list[Graph]:
        """Learn one memory bank per fold and a network per few folds, embedded once.

        Defective parts of fold -1 are learned from by all networks; of five and more, each network
        leaves some out, which tell how much the networks and the mean of the map count.
        """
        heads = self._learn_folds(parts, folds, progress, training)
        return [self._graph_of({fold}, heads[fold % len(heads)]) for fold in range(max(folds) + 1)]

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        names = group_names(parts)
        good = sorted({name for name, part in zip(names, parts, strict=True) if part.is_good})
        fold_of = {name: i % _N_HEADS for i, name in enumerate(good)}
        if len(fold_of) > 1:
            folds = [fold_of.get(name, -1) for name in names]
        else:  # all pictures show one part
            folds = [i % _N_HEADS if part.is_good else -1 for i, part in enumerate(parts)]
        self._learn_folds(parts, folds, progress, training)

    def _learn_folds(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress, training: Training
    ) -> list[_Head]:
        """Learn from all parts, and return the networks that have not seen some of them."""
        good = [i for i, part in enumerate(parts) if part.is_good]
        shared = {
            name: getattr(self, name) for name in self.parameters if name in PatchCore.parameters
        }
        self.neighbours_ = PatchCore(**shared)
        self.neighbours_.cross_fit(
            [parts[i] for i in good], [folds[i] for i in good], progress=progress
        )
        turns = _turns(parts, folds)
        n_heads = max(turns) + 1
        left_out = [{fold for fold in folds if fold % n_heads == turn} for turn in range(n_heads)]
        copies = self.planted if len(good) == len(parts) else 0
        self.notes_ = self.neighbours_.notes_
        drawer = PlaceDrawer(self.neighbours_, left_out, n_copies=copies, seed=self.seed)
        self.places_ = Places.join(drawer.examples(parts, turns, progress))
        heads = [
            self._head(turn, progress, training.inside(f"fold-{turn + 1}"))
            for turn in range(n_heads)
        ]
        self.head_ = self._head(None, progress, training.inside("head"))
        self.weights_ = self._weigh(parts, turns, drawer, heads, progress)
        return heads

    def _weigh(
        self,
        parts: Sequence[Part],
        turns: Sequence[int],
        drawer: PlaceDrawer,
        heads: Sequence[_Head],
        progress: Progress,
    ) -> Weights:
        """Return what labelled parts tell that the networks have not seen."""
        labelled = [i for i, part in enumerate(parts) if not part.is_good and turns[i] >= 0]
        if _n_labelled([parts[i] for i in labelled]) < ENOUGH:
            return Weights()
        good = [i for i, part in enumerate(parts) if part.is_good]
        compared = {good[i] for i in np.linspace(0, len(good) - 1, _MOST_WEIGHED).astype(int)}
        chosen = sorted(compared.union(labelled))

        def figures_of(place: int, look: Look) -> NDArray[np.float64]:
            i = chosen[place]
            looked = look(parts[i].read())
            rows = (looked.rows - self.places_.mean) / self.places_.scale
            logits = self._gain * heads[turns[i]](rows)
            return summed_up(looked.layers, logits.reshape(looked.layers.shape[1:]))

        what = "weighing what labelled parts tell"
        figures = drawer.each(figures_of, [turns[i] for i in chosen], progress, what)
        # The mean of a tile's map says little of that of a picture, which is judged later.
        by_mean = all(parts[i].is_whole for i in labelled)
        is_good = np.array([parts[i].is_good for i in chosen])
        return weights_told(np.array(figures), is_good, by_mean=by_mean)

    @property
    def _gain(self) -> float:
        """Return what the logits, of standard deviation 1, are multiplied by."""
        taught = self.noise > 0 or self.places_.targets.any()
        return self.weight * self.places_.spread if taught else 0.0

    def _head(self, fold: int | None, progress: Progress, training: Training) -> _Head:
        """Train a network on all places but those of a fold."""
        from makellos.detectors.networks.place_head import PlaceHead, PlaceTask
        from makellos.training.loop import epochs_for, seeded, train

        places, kept = self.places_, self.places_.outside(fold)
        with seeded(self.seed):
            network = PlaceHead(places.rows.shape[1], self.hidden_units)
            pictures = places.pictures(kept)
            train(
                PlaceTask(network, learning_rate=self.learning_rate, noise=self.noise),
                pictures,
                identity={"detector": self.name, "fold": fold, **self.get_parameters()},
                n_epochs=epochs_for(self.steps, pictures.n, self.batch_size),
                batch_size=self.batch_size,
                training=training,
                progress=progress,
                label="training the network" if fold is None else f"cross-fit {fold + 1}: training",
            )
        names = ("hidden.weight", "hidden.bias", "out.weight")
        state = network.state_dict()
        head = _Head(*(state[name].numpy().astype(np.float32) for name in names))
        return head.scaled_by(places.standardised(kept & (places.kinds == "good")))

    def _build_graph(self) -> Graph:
        return self._graph_of((), self.head_)

    def _graph_of(self, left_out: Collection[int], head: _Head) -> Graph:
        """Return the graph of the neighbours without these folds, the network's map added."""
        neighbours = self.neighbours_.graph_without(left_out, fineness=self.weights_.fineness)
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
        smooth = builder.smooth(builder.centred(logits))
        scaled = builder.add(
            "Mul", smooth, builder.constant(np.array(self.weights_.share * self._gain, np.float32))
        )
        distances = builder.add("Reshape", _LAYER, builder.shape(0, 1, height, width))
        total = builder.add("Add", distances, scaled)
        aggregation = Aggregation(mean_weight=self.weights_.of_mean(len(embedder.names)))
        onnx = builder.finish(total, height, width)
        if neighbours.background is not None:  # their graph tells part from background already
            shape = ("n", height, width)
            onnx = builder.with_outputs({"anomaly_map": shape, "part": shape})
        return replace(neighbours, onnx=onnx, aggregation=aggregation)


def _turns(parts: Sequence[Part], folds: Sequence[int]) -> list[int]:
    """Return which network leaves each part out; -1 for labelled parts, where they are few."""
    n_heads = min(_N_HEADS, max(folds) + 1)
    turns = [fold % n_heads if fold >= 0 else -1 for fold in folds]
    free = [i for i, (part, fold) in enumerate(zip(parts, folds, strict=True)) if fold < 0]
    if _n_labelled(parts) >= ENOUGH:
        _, group_of = np.unique(group_names([parts[i] for i in free]), return_inverse=True)
        for i, group in zip(free, group_of, strict=True):
            turns[i] = int(group) % n_heads
    return turns


def _n_labelled(parts: Sequence[Part]) -> int:
    """Return how many defective parts there are; one may have several tiles."""
    return len({part.element or part.path for part in parts if not part.is_good})


@dataclass(frozen=True)
class _Head:
    """The trained network's weights: hidden K×C and bias K, out 1×K.

    Its logits count relative to their mean in a picture, to which a last bias adds nothing.
    """

    hidden: NDArray[np.float32]
    bias: NDArray[np.float32]
    out: NDArray[np.float32]

    def __call__(self, places: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (n,) of standardised places (n, C), but for a constant."""
        logits: NDArray[np.float32] = (
            np.maximum(places @ self.hidden.T + self.bias, 0) @ self.out[0]
        )
        return logits

    def scaled_by(self, good: NDArray[np.float32]) -> _Head:
        """Return the network whose logits have standard deviation 1 on good places."""
        gain = np.float32(1 / max(float(self(good).std()), 1e-6))
        return _Head(self.hidden, self.bias, self.out * gain)
