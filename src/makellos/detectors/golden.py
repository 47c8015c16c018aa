"""Golden: how far every place of a part is from what good parts show there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.data.threads import in_order
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.parameters import parameter
from makellos.detectors.patches.backbones import backbone_packages
from makellos.detectors.patches.embeddings import PatchEmbedder, choose_size, load_embedder
from makellos.detectors.patches.reference_pairs import (
    embed_pairs,
    learn_looks,
    pairs_graph,
    sample_pairs,
)
from makellos.detectors.registry import register
from makellos.errors import ConfigurationError
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import Engine, available_engines, default_workers, open_engine
from makellos.inspection.preprocessing import Compares
from makellos.inspection.registration import Registration
from makellos.training.settings import Training

# Finer ones than patchcore takes: tracks are thin, and nothing else lies at their place.
_LAYERS = {"efficientnet_lite0": "blocks.1,blocks.2"}
_FINE, _COARSE = 0.7, 5.0  # pixels: what is finer is noise, what is coarser light
_THUMBNAIL = 32  # pixels per side of what the reference is chosen by
_MOST_CANDIDATES = 64
_MOST_PARTS = 256  # from which more tell little of a place
_BASIS_PARTS = 12
_DEALT = 4  # folds that tell the usual distance where no folds are given
_FEW = 4  # channels, of which the whole covariance of a place is kept
_DOUBT = 8.0  # parts that all places together count as, at each place
_ALONE = 0.5  # of the spread over places, where one part is all that is known
_LEAST = 1e-2  # of it, below which no spread counts: noise of rounding

Floats = NDArray[np.float32]
Shown = NDArray[np.bool_]
_Seen = tuple[Floats, Shown]  # channels C×h×w of a layer, and the places h×w that a part shows
_Judged = tuple[float, float]  # mean of the distances of a layer; their maximum, or beyond the mean


@dataclass(frozen=True, eq=False)
class _Sums:
    """Hold how many parts show each place h×w of a layer, and sums over them.

    Those of `products` are of squares, C×h×w; of few channels of all products, C×C×h×w.
    """

    count: Floats
    total: Floats
    products: Floats

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> Self:
        channels, *places = shape
        both = (channels, *shape) if channels <= _FEW else shape
        return cls(*(np.zeros(each, np.float32) for each in (places, shape, both)))

    def add(self, values: Floats, shown: Shown) -> None:
        """Add values C×h×w of a part at the places that it shows."""
        kept = values * shown
        self.count[...] += shown
        self.total[...] += kept
        self.products[...] += _products(kept, self.products.ndim)

    def without(self, others: _Sums) -> _Sums:
        return _Sums(
            self.count - others.count, self.total - others.total, self.products - others.products
        )


@dataclass(frozen=True, eq=False)
class _Layer:
    """What is known of a layer: channels turned by `basis` (C, C) have `mean` and `gain` C×h×w.

    `gain` is one over their spread among good parts at each place; of few channels it is C×C×h×w
    and whitens them (the inverse of the covariance's Cholesky factor).
    """

    basis: Floats
    mean: NDArray[np.float16]
    gain: NDArray[np.float16]

    def judged(self, values: Floats, shown: Shown) -> _Judged:
        """Return mean and maximum of the distances of values C×h×w, on the axes of the basis."""
        apart, gain = values - self.mean.astype(np.float32), self.gain.astype(np.float32)
        apart = apart * gain if gain.ndim == apart.ndim else np.einsum("cdhw,dhw->chw", gain, apart)
        distances = np.sqrt(np.square(apart).sum(0))[shown]
        return (float(distances.mean()), float(distances.max())) if shown.any() else (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class _Frame:
    """What was measured with all parts laid onto one of them, per layer.

    `bases` (C, C) turn channels, and `origins` are those C×h×w of that part, turned.
    """

    engine: Engine
    embedder: PatchEmbedder
    origins: list[Floats]
    bases: list[Floats]
    total: list[_Sums]

    def turned(self, seen: Sequence[_Seen]) -> list[_Seen]:
        """Return a part's layers on the axes of the bases."""
        return [
            (np.tensordot(basis, values, 1), shown)
            for (values, shown), basis in zip(seen, self.bases, strict=True)
        ]

    def add(self, sums: Sequence[_Sums], turned: Sequence[_Seen]) -> None:
        """Add a part to sums; those of differences to the reference keep their digits."""
        for some, (values, shown), origin in zip(sums, turned, self.origins, strict=True):
            some.add(values - origin, shown)

    def known(self, left_out: Sequence[_Sums] | None = None) -> list[_Layer]:
        """Return what all parts tell, or all but those that the sums left out are of."""
        sums = self.total
        if left_out is not None:
            sums = [all_.without(some) for all_, some in zip(self.total, left_out, strict=True)]
        return [_known(*each) for each in zip(sums, self.origins, self.bases, strict=True)]


@register("golden")
class Golden(Detector):
    """Lay a part onto a reference and compare every place with what good parts show there.

    What is compared are the colours of the picture, freed of noise and slow changes of light, and
    embeddings of fine layers, as in SPADE (Cohen and Hoshen, Sub-Image Anomaly Detection with Deep
    Pyramid Correspondences, 2020, arXiv 2005.02357) but tied to places, as fixed layouts allow. The
    difference to the mean of good parts counts in units of its spread among them at that place, as
    in PaDiM (Defard et al. 2020, arXiv 2011.08785): of colours by the covariance of the place, of
    embeddings on the axes of the covariance of all places. So what varies may vary, a printed label
    or solder, and edges may lie a little beside their place. Spreads are drawn towards the layer's
    own where few parts tell. Distances of a layer count in units of what good parts reach, and the
    largest of the layers decides.
    The reference that parts are laid onto is the good part that the others resemble most.
    """

    summary = "good parts at the same place; for fixed layouts such as circuit boards"
    needs_one_pose = True
    compares = True
    candidates = ()
    least_parts = 1
    n_folds = 20

    backbone: str = shared.BACKBONE
    weights: str = shared.WEIGHTS
    layers: str = shared.LAYERS
    image_size: int = shared.IMAGE_SIZE
    max_image_size: int = shared.largest_side(768, search=(256, 1024))
    registration: bool = parameter(
        default=True, meaning="Lay each part onto the reference before it is compared."
    )

    def packages(self) -> tuple[str, ...]:
        return backbone_packages(self.backbone, self.weights)

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self._learn_folds(parts, [], progress)

    def _cross_learn(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress, training: Training
    ) -> list[Graph]:
        """Learn sums of all parts; those of a fold are taken off for its graph."""
        del training
        return self._learn_folds(parts, folds, progress)

    def _learn_folds(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress
    ) -> list[Graph]:
        if not all(part.is_whole for part in parts):
            raise ConfigurationError(
                f"{self.name} compares whole pictures with a reference, so they cannot be cut into "
                "tiles. Leave --tile out; --set max_image_size=2048 shows finer detail."
            )
        if any(part.reference is not None for part in parts):
            return self._learn_pairs(parts, folds, progress)
        embedder, typical = self._embedder(parts), _typical(parts)
        engine = _open(embedder)
        step = max(1, -(-len(parts) // _MOST_PARTS))
        used, n_dealt = range(0, len(parts), step), min(len(parts), _DEALT)
        own = np.asarray(folds or [i % n_dealt for i in range(len(parts))])
        frame = self._frame(parts, typical[0], used, embedder, engine, progress)
        learned = {fold: self._apart(frame, parts, own == fold, used) for fold in np.unique(own)}
        self.embedder_, self.known_ = frame.embedder, frame.known()
        self.scales_ = _scales([judged for _, judged in learned.values()], self.known_)
        graphs = []
        for fold in range(max(folds) + 1) if folds else ():
            embedder_, known = frame.embedder, learned[fold][0]
            if own[typical[0]] == fold:
                # Nothing of a fold is in its graph, nor is the part that others are laid onto.
                first = next(i for i in typical if own[i] != fold)
                other = self._frame(parts, first, used, embedder, engine, progress)
                embedder_, known = other.embedder, self._apart(other, parts, own == fold, used)[0]
            graphs.append(_graph_of(embedder_, known, self.scales_))
        return graphs

    def _learn_pairs(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress
    ) -> list[Graph]:
        """Learn how far parts differ from references of their own."""
        step = max(1, -(-len(parts) // _MOST_PARTS))
        used, own = parts[::step], np.asarray(folds, np.intp)[::step]
        lies: Compares = "laid" if self.registration else "as it lies"
        embedder = embed_pairs(self._embeddings(parts), lies)
        layers = [channels for channels, _, _ in embedder.shapes]
        pairs = sample_pairs(embedder, used, progress)
        self.embedder_, self.looks_ = embedder, learn_looks(pairs, layers)
        self.notes_ = ["Each part is compared with its own reference."]
        return [
            pairs_graph(embedder, learn_looks(pairs.without(own == fold), layers))
            for fold in range(max(folds) + 1 if folds else 0)
        ]

    def _embeddings(self, parts: Sequence[Part]) -> PatchEmbedder:
        size = choose_size(parts, image_size=self.image_size, max_image_size=self.max_image_size)
        layers = self.layers or _LAYERS.get(self.backbone, "")
        return load_embedder(
            size, backbone=self.backbone, weights=self.weights, layers=layers, patch_size=1
        )

    def _embedder(self, parts: Sequence[Part]) -> PatchEmbedder:
        found = self._embeddings(parts)
        size = found.preprocessing
        builder = GraphBuilder(found.graph)
        names, shapes = (_colours(builder), *found.names), (size.shape, *found.shapes)
        graph = builder.with_outputs({name: ["n", "c", "h", "w"] for name in names})
        return PatchEmbedder(graph, names, shapes, size)

    def _frame(
        self,
        parts: Sequence[Part],
        first: int,
        used: Sequence[int],
        embedder: PatchEmbedder,
        engine: Engine,
        progress: Progress,
    ) -> _Frame:
        """Return the sums of the parts that are used, laid onto the part `first`."""
        if self.registration:
            laid = Registration.onto(parts[first].read())
            sized = embedder.preprocessing.model_copy(update={"registration": laid})
            embedder = replace(embedder, preprocessing=sized)
        (plain,) = _look(engine, embedder, [parts[first]])
        some = [parts[i] for i in used[:: max(1, len(used) // _BASIS_PARTS)] if i != first]
        bases = _bases([values for values, _ in plain], list(_look(engine, embedder, some)))
        origins = [
            np.tensordot(basis, values, 1) for basis, (values, _) in zip(bases, plain, strict=True)
        ]
        total = [_Sums.empty(shape) for shape in embedder.shapes]
        frame = _Frame(engine, embedder, origins, bases, total)
        for done, seen in enumerate(_look(engine, embedder, [parts[i] for i in used]), start=1):
            frame.add(total, frame.turned(seen))
            progress("comparing good parts", done, len(used))
        return frame

    def _apart(
        self, frame: _Frame, parts: Sequence[Part], own: NDArray[np.bool_], used: Sequence[int]
    ) -> tuple[list[_Layer], list[list[_Judged]]]:
        """Return what the other parts tell, and the distances of these: per part and layer."""
        theirs = [parts[i] for i in used if own[i]]
        seen = [frame.turned(each) for each in _look(frame.engine, frame.embedder, theirs)]
        sums = [_Sums.empty(shape) for shape in frame.embedder.shapes]
        for part in seen:
            frame.add(sums, part)
        known = frame.known(sums)
        return known, [
            [layer.judged(*each) for layer, each in zip(known, part, strict=True)] for part in seen
        ]

    def _build_graph(self) -> Graph:
        if hasattr(self, "looks_"):
            return pairs_graph(self.embedder_, self.looks_)
        return _graph_of(self.embedder_, self.known_, self.scales_)


def _open(embedder: PatchEmbedder) -> Engine:
    """Open what computes the layers, exactly: differences of colours are small."""
    choice = next(each for each in available_engines() if each.precision == "f32")
    shape = embedder.preprocessing.shape
    return open_engine(embedder.graph, choice, shape=shape, workers=default_workers())


def _look(engine: Engine, embedder: PatchEmbedder, parts: Sequence[Part]) -> Iterator[list[_Seen]]:
    """Yield of each part the channels of its layers as it lies on the reference."""
    preprocessing = embedder.preprocessing

    def look(part: Part) -> list[_Seen]:
        picture = part.read()
        placed = preprocessing.place(picture)
        outputs = engine.run(preprocessing(picture if placed is None else placed.picture))
        return [
            (outputs[name][0], np.ones((h, w), np.bool_) if placed is None else placed.shown(h, w))
            for name, (_, h, w) in zip(embedder.names, embedder.shapes, strict=True)
        ]

    yield from in_order(look, parts, threads=default_workers() + 1)


def _bases(origins: Sequence[Floats], some: Sequence[Sequence[_Seen]]) -> list[Floats]:
    """Return per layer the axes (C, C) on which differences to the reference do not go together."""
    bases = []
    for n, origin in enumerate(origins):
        apart = [(part[n][0] - origin)[:, part[n][1]] for part in some]
        values = np.concatenate(apart, axis=1) if apart else origin.reshape(len(origin), -1)
        _, axes = np.linalg.eigh(values.astype(np.float64) @ values.T)
        bases.append(np.ascontiguousarray(axes.T, dtype=np.float32))
    return bases


def _known(sums: _Sums, origin: Floats, basis: Floats) -> _Layer:
    """Return the mean and the spread of good parts at each place of a layer.

    Places are drawn towards what all have together, as much as few parts tell of one.
    """
    count = np.maximum(sums.count, np.float32(1))
    mean: Floats = np.asarray(sums.total / count, np.float32)
    around: Floats = np.asarray(sums.products - count * _products(mean, sums.products.ndim))
    planes = around.reshape(-1, *count.shape)
    around = np.stack([_around(plane) for plane in planes]).reshape(around.shape)
    free = np.maximum(_around(count) - 1, 0)
    over_places = float(origin.var((1, 2)).mean())
    least = _LEAST**2 * over_places + 1e-12
    together = around.sum((-2, -1)) / max(float(free.sum()), 1e-6)
    is_full, one = around.ndim > mean.ndim, np.eye(len(origin), dtype=np.float32)
    alike = (one if is_full else one.diagonal())[..., np.newaxis, np.newaxis]
    pooled = together[..., np.newaxis, np.newaxis]
    if not free.any():
        pooled = _ALONE**2 * over_places * alike
    spread = (around + _DOUBT * pooled) / (free + _DOUBT) + least * alike
    # A mean of few parts is itself off.
    spread = spread * (1 + 1 / count)
    if is_full:
        factors = np.linalg.cholesky(spread.transpose(2, 3, 0, 1).astype(np.float64))
        gain = np.linalg.inv(factors).transpose(2, 3, 0, 1)
    else:
        gain = 1 / np.sqrt(np.maximum(spread, least))
    return _Layer(basis, (mean + origin).astype(np.float16), gain.astype(np.float16))


def _products(values: Floats, n_axes: int) -> Floats:
    """Return squares of C×h×w, or with one axis more the products C×C×h×w."""
    return np.square(values) if n_axes == values.ndim else values[:, np.newaxis] * values


def _around(plane: Floats) -> Floats:
    """Return the mean of 3×3 places."""
    return np.asarray(cv2.blur(plane, (3, 3), borderType=cv2.BORDER_REFLECT), np.float32)


def _scales(
    judged: Sequence[Sequence[Sequence[_Judged]]], known: Sequence[_Layer]
) -> list[_Judged]:
    """Return per layer the usual distance, and how far beyond it good parts reach."""
    parts = [part for fold in judged for part in fold if part[0][1]]
    if len(parts) < 2:
        return [(0.0, float(np.sqrt(len(layer.mean)))) for layer in known]
    found = np.array(parts)  # parts × layers × 2
    level = found[..., 0].mean(0)
    reach = np.maximum(np.median(found[..., 1], axis=0) - level, 1e-3)
    return list(zip(level.tolist(), reach.tolist(), strict=True))


def _colours(builder: GraphBuilder) -> str:
    """Add the colours of the picture N×3×H×W without noise and slow changes of light."""
    reach = round(2.4 * _COARSE)
    edges = builder.constant(np.array([0, 0, reach, reach, 0, 0, reach, reach], np.int64))
    padded = builder.add("Pad", "picture", edges, attributes={"mode": "edge"})
    blurred = []
    for sigma in (_FINE, _COARSE):
        weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
        weights = (weights / weights.sum()).astype(np.float32)
        if sigma == _FINE:
            weights = np.where(weights > 1e-4, weights, 0)
        down = builder.constant(np.tile(weights.reshape(1, 1, -1, 1), (3, 1, 1, 1)))
        across = builder.constant(np.tile(weights.reshape(1, 1, 1, -1), (3, 1, 1, 1)))
        rows = builder.add("Conv", padded, down, attributes={"group": 3})
        blurred.append(builder.add("Conv", rows, across, attributes={"group": 3}))
    return builder.add("Sub", *blurred)


def _graph_of(embedder: PatchEmbedder, known: Sequence[_Layer], scales: Sequence[_Judged]) -> Graph:
    builder = GraphBuilder(embedder.graph)
    _, height, width = embedder.shapes[1]  # of embeddings; of colours the largest in a cell counts
    total, zero = "", builder.constant(np.array(0, np.float32))
    for name, layer, (level, reach), (channels, h, w) in zip(
        embedder.names, known, scales, embedder.shapes, strict=True
    ):
        turn = builder.constant(layer.basis.reshape(channels, channels, 1, 1))
        usual, gain = (
            builder.add("Cast", builder.constant(each[np.newaxis]), attributes={"to": 1})
            for each in (layer.mean, layer.gain)
        )
        apart = builder.add("Sub", builder.add("Conv", name, turn), usual)
        if layer.gain.ndim > layer.mean.ndim:
            each = builder.add("Reshape", apart, builder.shape(-1, 1, channels, h, w))
            weighted, summed = builder.add("Mul", each, gain), {"keepdims": 0}
            apart = builder.add("ReduceSum", weighted, builder.shape(2), attributes=summed)
        else:
            apart = builder.add("Mul", apart, gain)
        squares = builder.add("Mul", apart, apart)
        axis, keep = builder.shape(1), {"keepdims": 1}
        distance = builder.root(builder.add("ReduceSum", squares, axis, attributes=keep))
        beyond = builder.add("Sub", distance, builder.constant(np.array([level], np.float32)))
        scaled = builder.add("Mul", beyond, builder.constant(np.array([1 / reach], np.float32)))
        square = builder.add("Mul", *2 * [builder.add("Max", scaled, zero)])
        fourth = builder.add("Mul", square, square)
        fine = builder.repeat(fourth, (h, w), max(1, height // h))
        if h > height:
            sides = [h // height, w // width]
            fine = builder.add(
                "MaxPool", fourth, attributes={"kernel_shape": sides, "strides": sides}
            )
        total = builder.add("Add", total, fine) if total else fine
    # The fourth root of the sum of fourth powers is little more than the largest.
    joined = builder.root(builder.root(total))
    graph = builder.finish(joined, height, width)
    return Graph(graph, embedder.preprocessing, Aggregation(), exact=True)


def _typical(parts: Sequence[Part]) -> list[int]:
    """Return parts by number, first those that the others resemble most as small pictures."""
    step = max(1, -(-len(parts) // _MOST_CANDIDATES))
    numbers = list(range(0, len(parts), step))
    small = np.array([_thumbnail(parts[i]) for i in numbers])
    apart = np.linalg.norm(small[:, np.newaxis] - small, axis=2)
    order = apart.sum(1).argsort(kind="stable")
    return [*(numbers[i] for i in order), *sorted({*range(len(parts))} - {*numbers})]


def _thumbnail(part: Part) -> Floats:
    picture = part.read()
    gray = picture if picture.ndim == 2 else picture.mean(2)
    small = cv2.resize(
        np.asarray(gray, np.float32), (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA
    )
    small -= small.mean()
    return np.asarray(small / max(float(small.std()), 1e-6), np.float32).ravel()
