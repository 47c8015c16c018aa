"""Golden: the distance of every patch to those of reference parts at the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, group_names
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.parameters import parameter
from makellos.detectors.patches.backbones import backbone_packages
from makellos.detectors.patches.embeddings import PatchEmbedder, choose_size, load_embedder
from makellos.detectors.registry import register
from makellos.errors import ConfigurationError
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.registration import Registered, Registration
from makellos.training.settings import Training

# Finer ones than patchcore takes: tracks are thin, and nothing else lies at their place.
_LAYERS = {"efficientnet_lite0": "blocks.1,blocks.2,blocks.4"}
_THUMBNAIL = 32  # pixels per side of what references are chosen by
_MOST_CANDIDATES = 64
_SCALE_PARTS = 48  # that tell the usual distance at each place
_DOUBT_MEAN, _DOUBT = 1.0, 8.0  # parts that all places together count as, at each place
_ALONE = 0.5  # of the distance of unrelated patches, where nothing tells what is usual

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Layer:
    """What is known of a layer: references (k, C, h, w), standardised by `mean` and `scale` (C,).

    `level` and `spread` (h, w) are the usual distance of a good part at each place, and by how much
    it varies.
    """

    mean: Floats
    scale: Floats
    references: NDArray[np.float16]
    level: Floats
    spread: Floats


@dataclass(frozen=True)
class _Frame:
    """What was measured with all parts laid onto one of them.

    `references` holds per layer the patches C×h×w of parts by number, `distances` those of the
    `probes`, parts by number, to each of them: per layer (probes, references, h, w).
    """

    embedder: PatchEmbedder
    references: dict[int, list[Floats]]
    probes: list[int]
    distances: list[Floats]
    means: list[Floats]
    scales: list[Floats]


@register("golden")
class Golden(Detector):
    """Lay a part onto a reference and score a patch by its distance to the patches at its place.

    A place is that of the patch and `search_window` cells around it, and the nearest patch of any
    reference counts: SPADE's comparison of embeddings (Cohen and Hoshen, Sub-Image Anomaly
    Detection with Deep Pyramid Correspondences, 2020, arXiv 2005.02357) tied to places, as fixed
    layouts allow. Of each layer the distance is divided by what is usual among good parts at its
    place, drawn towards the layer's mean where few parts tell, and layers are added. References
    are the good parts that all others resemble most; the first is what parts are laid onto. One is
    enough: the other good parts then tell what is usual, and calibrate.
    """

    summary = "reference parts at the same place; for fixed layouts such as circuit boards"
    needs_one_pose = True
    candidates = ()
    least_parts = 1
    n_folds = 20

    backbone: str = shared.BACKBONE
    weights: str = shared.WEIGHTS
    layers: str = shared.LAYERS
    image_size: int = shared.IMAGE_SIZE
    max_image_size: int = shared.largest_side(768, search=(256, 1024))
    patch_size: int = parameter(
        1, "Width and height of a patch, in cells averaged.", within=(1, 15), search=(1, 5)
    )
    n_references: int = parameter(
        8, "Good parts to compare with, as many as there are; 1 is enough.", within=(1, 64)
    )
    search_window: int = parameter(
        1, "Cells around its place in which a patch may lie.", within=(0, 4), search=(0, 2)
    )
    registration: bool = parameter(
        default=True, meaning="Lay each part onto the reference before it is compared."
    )

    def packages(self) -> tuple[str, ...]:
        return backbone_packages(self.backbone, self.weights)

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self._learn_folds(parts, [-1] * len(parts), progress)

    def _cross_learn(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress, training: Training
    ) -> list[Graph]:
        """Measure once; a fold's graph has other references than its own parts."""
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
        size = choose_size(parts, image_size=self.image_size, max_image_size=self.max_image_size)
        embedder = load_embedder(
            size,
            backbone=self.backbone,
            weights=self.weights,
            layers=self.layers or _LAYERS.get(self.backbone, ""),
            patch_size=self.patch_size,
        )
        ranked = _ranked(parts, self.n_references + 1)
        own = np.asarray(folds)
        chosen = {fold: self._references(ranked, own != fold) for fold in range(-2, max(folds) + 1)}
        del chosen[-1]
        frames = {
            first: self._measure(
                parts, embedder, [each for each in chosen.values() if each[0] == first], progress
            )
            for first in dict.fromkeys(each[0] for each in chosen.values())
        }
        groups = np.unique(group_names(parts), return_inverse=True)[1]
        learned = {
            fold: self._known(frames[each[0]], each, own != fold, groups)
            for fold, each in chosen.items()
        }
        self.embedder_, self.known_ = learned.pop(-2)
        return [self._graph_of(*each) for each in learned.values()]

    def _references(self, ranked: Sequence[int], outside: NDArray[np.bool_]) -> list[int]:
        """Return the best references outside a fold."""
        kept = [i for i in ranked if outside[i]] or np.flatnonzero(outside).tolist()
        return kept[: self.n_references]

    def _measure(
        self,
        parts: Sequence[Part],
        embedder: PatchEmbedder,
        chosen: Sequence[Sequence[int]],
        progress: Progress,
    ) -> _Frame:
        """Return how far parts lie from references, all of them laid onto the first of these."""
        numbers = list(dict.fromkeys(i for each in chosen for i in each))
        seen: Sequence[Part] = parts
        if self.registration:
            laid = Registration.onto(parts[numbers[0]].read())
            sized = embedder.preprocessing.model_copy(update={"registration": laid})
            embedder = replace(embedder, preprocessing=sized)
            seen = [part.changed(Registered(laid)) for part in parts]
        found = embedder.stream([seen[i] for i in numbers], progress, "embedding references")
        plain = [_grids(layers, embedder) for layers in found]
        means = [np.mean([layers[n] for layers in plain], axis=(0, 2, 3)) for n in _each(plain)]
        scales = [np.std([layers[n] for layers in plain], axis=(0, 2, 3)) for n in _each(plain)]
        scales = [scale + 1e-3 * float(scale.mean()) + 1e-12 for scale in scales]
        standardised = [_standardised(layers, means, scales) for layers in plain]
        step = max(1, -(-len(parts) // _SCALE_PARTS))
        probes = list(range(0, len(parts), step)) if len(parts) > 1 else []
        distances: list[list[Floats]] = [[] for _ in means]
        for layers in embedder.stream([seen[i] for i in probes], progress):
            grids = _standardised(_grids(layers, embedder), means, scales)
            for n, grid in enumerate(grids):
                rows = [_distances(grid, each[n], self.search_window) for each in standardised]
                distances[n].append(np.stack(rows))
        return _Frame(
            embedder,
            dict(zip(numbers, standardised, strict=True)),
            probes,
            [np.stack(rows) for rows in distances] if probes else [],
            means,
            scales,
        )

    def _known(
        self,
        frame: _Frame,
        chosen: Sequence[int],
        outside: NDArray[np.bool_],
        groups: NDArray[np.intp],
    ) -> tuple[PatchEmbedder, list[_Layer]]:
        """Return what a graph knows that has these references, of parts outside a fold."""
        columns = [list(frame.references).index(i) for i in chosen]
        rows = [row for row, part in enumerate(frame.probes) if outside[part]]
        foreign = np.array(
            [[groups[frame.probes[row]] != groups[i] for i in chosen] for row in rows], np.bool_
        ).reshape(len(rows), len(chosen))
        layers = []
        for n, (mean, scale) in enumerate(zip(frame.means, frame.scales, strict=True)):
            references = np.stack([frame.references[i][n] for i in chosen])
            usual = np.zeros((0, *references.shape[2:]), np.float32)
            if rows:
                among = frame.distances[n][np.ix_(rows, columns)]
                nearest = np.where(foreign[..., np.newaxis, np.newaxis], among, np.inf).min(1)
                usual = nearest[foreign.any(1)]
            kept = references.astype(np.float16)
            layers.append(_Layer(mean, scale, kept, *_usual(usual, len(mean))))
        return frame.embedder, layers

    def _build_graph(self) -> Graph:
        return self._graph_of(self.embedder_, self.known_)

    def _graph_of(self, embedder: PatchEmbedder, known: Sequence[_Layer]) -> Graph:
        builder = GraphBuilder(embedder.graph)
        _, height, width = embedder.shapes[0]
        total = ""
        for name, layer, (_, h, w) in zip(embedder.names, known, embedder.shapes, strict=True):
            distance = _nearest(builder, name, layer, self.search_window)
            gain, offset = 1 / layer.spread, -layer.level / layer.spread
            scaled = builder.add("Mul", distance, builder.constant(gain[np.newaxis, np.newaxis]))
            coarse = builder.add("Add", scaled, builder.constant(offset[np.newaxis, np.newaxis]))
            fine = builder.repeat(coarse, (h, w), height // h)
            total = builder.add("Add", total, fine) if total else fine
        smooth = builder.local_mean(total, 3)
        return Graph(builder.finish(smooth, height, width), embedder.preprocessing, Aggregation())


def _nearest(builder: GraphBuilder, name: str, layer: _Layer, window: int) -> str:
    """Add the distance N×1×h×w to the nearest reference patch within the window."""
    _, channels, h, w = layer.references.shape
    gain = (1 / layer.scale).astype(np.float32).reshape(1, -1, 1, 1)
    offset = (-layer.mean / layer.scale).astype(np.float32).reshape(1, -1, 1, 1)
    scaled = builder.add("Mul", name, builder.constant(gain))
    moved = builder.add("Add", scaled, builder.constant(offset))
    patches = builder.add("Reshape", moved, builder.shape(-1, 1, channels, h, w))
    edges = ((0, 0), (0, 0), (window, window), (window, window))
    padded = builder.constant(np.pad(layer.references, edges, mode="edge"))
    references = builder.add("Cast", padded, attributes={"to": 1})
    found = []
    for y in range(2 * window + 1):
        for x in range(2 * window + 1):
            begin, end = builder.shape(y, x), builder.shape(y + h, x + w)
            there = builder.add("Slice", references, begin, end, builder.shape(2, 3))
            apart = builder.add("Sub", patches, there)
            squares = builder.add("Mul", apart, apart)
            found.append(
                builder.add("ReduceSum", squares, builder.shape(2), attributes={"keepdims": 0})
            )
    least = builder.add("Min", *found) if len(found) > 1 else found[0]
    nearest = builder.add("ReduceMin", least, attributes={"axes": [1], "keepdims": 1})
    return builder.root(nearest)


def _ranked(parts: Sequence[Part], n_wanted: int) -> list[int]:
    """Return parts by number, first the one that all others resemble most.

    Each further one is that which brings all parts nearest to one of those before it, so that odd
    parts come late. They are compared as small pictures.
    """
    step = max(1, -(-len(parts) // _MOST_CANDIDATES))
    numbers = list(range(0, len(parts), step))
    small = np.array([_thumbnail(parts[i]) for i in numbers])
    squares = np.square(small).sum(1)
    apart = np.maximum(squares[:, np.newaxis] + squares - 2 * small @ small.T, 0)
    nearest = np.full(len(numbers), np.inf, np.float32)
    ranked: list[int] = []
    for _ in range(min(len(numbers), max(n_wanted, _MOST_CANDIDATES))):
        costs = np.minimum(nearest, apart).sum(1)
        costs[ranked] = np.inf
        ranked.append(int(costs.argmin()))
        nearest = np.minimum(nearest, apart[ranked[-1]])
    return [numbers[i] for i in ranked]


def _thumbnail(part: Part) -> Floats:
    picture = part.read()
    gray = picture if picture.ndim == 2 else picture.mean(2)
    small = cv2.resize(
        np.asarray(gray, np.float32), (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA
    )
    small -= small.mean()
    return np.asarray(small / max(float(small.std()), 1e-6), np.float32).ravel()


def _each(layers: Sequence[Sequence[Floats]]) -> Iterable[int]:
    return range(len(layers[0]))


def _grids(layers: Sequence[Floats], embedder: PatchEmbedder) -> list[Floats]:
    """Return the patches of each layer as C×h×w."""
    return [
        np.ascontiguousarray(patches.T).reshape(shape)
        for patches, shape in zip(layers, embedder.shapes, strict=True)
    ]


def _standardised(
    layers: Sequence[Floats], means: Sequence[Floats], scales: Sequence[Floats]
) -> list[Floats]:
    return [
        (grid - mean[:, np.newaxis, np.newaxis]) / scale[:, np.newaxis, np.newaxis]
        for grid, mean, scale in zip(layers, means, scales, strict=True)
    ]


def _distances(patches: Floats, reference: Floats, window: int) -> Floats:
    """Return how far patches C×h×w lie from the nearest of a reference around their place, h×w."""
    _, height, width = patches.shape
    padded = np.pad(reference, ((0, 0), (window, window), (window, window)), mode="edge")
    least = np.full((height, width), np.inf, np.float32)
    for y in range(2 * window + 1):
        for x in range(2 * window + 1):
            apart = patches - padded[:, y : y + height, x : x + width]
            np.minimum(least, np.einsum("chw,chw->hw", apart, apart), out=least)
    return np.sqrt(least)


def _usual(distances: Floats, n_channels: int) -> tuple[Floats, Floats]:
    """Return mean and spread of distances (n, h, w) of good parts at each place, h×w each.

    Places are drawn towards what all have together, as much as few parts tell of one.
    """
    n_parts, *shape = distances.shape
    if not n_parts:
        spread = np.full(shape, _ALONE * np.sqrt(2 * n_channels), np.float32)
        return np.zeros_like(spread), spread
    here = distances.mean(0)
    mean = (n_parts * here + _DOUBT_MEAN * here.mean()) / (n_parts + _DOUBT_MEAN)
    within = np.square(distances - here).sum(0) / max(1, n_parts - 1)
    within = cv2.blur(within, (3, 3), borderType=cv2.BORDER_REPLICATE)
    everywhere = np.square(distances - mean).mean()
    spread = np.sqrt(((n_parts - 1) * within + _DOUBT * everywhere) / (n_parts - 1 + _DOUBT))
    least = 1e-3 * float(here.mean()) + 1e-6
    return mean.astype(np.float32), np.maximum(spread, least).astype(np.float32)
