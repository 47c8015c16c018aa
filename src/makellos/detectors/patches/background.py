"""What of a picture is part and what is background, learned from good pictures without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.patches.embeddings import PatchEmbedder
from makellos.inspection.background import Background, Choice, part_in

__all__ = ["PartRule", "learn_part"]

_N_PARTS = 64
_N_PATCHES, _N_DIMENSIONS, _N_CLUSTERS, _N_ROUNDS = 20_000, 24, 16, 25
_LEAST_SIDE = 8  # cells, below which a border says nothing
_PLAINER = 3.0  # times less spread: a table beside a part, not two places of one surface
_ALONG_BORDER = 0.6  # of what lies along the border, that is plain
_AGREED = 0.9  # of the pictures, in which that is so
_SHARES = (0.02, 0.85)  # of a picture, that are part
_SHRUNK = 0.05  # of the mean variance, added to each channel's
_SLACK = 1.25  # between the parts that were seen and one that is still believed

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PartRule:
    """Tell part from background by a weighted sum of one layer's channels.

    `weights` (C,) and `bias` give the logit of a patch of `layer`. `usual` is the least and the
    largest share of a good picture that is part.
    """

    layer: int
    weights: Floats
    bias: float
    usual: tuple[float, float]

    def on(self, graph: Graph, embedder: PatchEmbedder, choice: str) -> Graph:
        """Return a graph whose map has the embedder's finest grid with an output ``part`` N×h×w."""
        builder = GraphBuilder(graph.onnx)
        shaped = self.weights.reshape(1, -1, 1, 1)
        weighted = builder.add("Mul", embedder.names[self.layer], builder.constant(shaped))
        logit = builder.add("ReduceSum", weighted, builder.shape(1), attributes={"keepdims": 0})
        moved = builder.add("Add", logit, builder.constant(np.array(self.bias, np.float32)))
        part = builder.add("Sigmoid", moved)
        builder.rename(part, "part")
        _, height, width = embedder.shapes[self.layer]
        shape: list[int | str] = ["n", height, width]
        onnx = builder.with_outputs({"anomaly_map": shape, "part": shape})
        return replace(graph, onnx=onnx, background=self.background(choice))

    def background(self, choice: str) -> Background:
        """Return what surrounds the graph: how what lies beside the part counts."""
        return Background(choice=cast("Choice", choice), least=self.usual[0], most=self.usual[1])

    def notes(self, choice: str) -> list[str]:
        """Return what a user should know of it."""
        if choice == "count":
            return []
        return [
            "The good pictures show a background: the part takes "
            f"{_SLACK * self.usual[0]:.0%} to {self.usual[1] / _SLACK:.0%} of them, and "
            f"{self.background(choice)}. If damage can lie there, add --set background=count."
        ]


def learn_part(
    embedder: PatchEmbedder, parts: Sequence[Part], progress: Progress, *, seed: int = 0
) -> PartRule | None:
    """Return what tells part from background in good pictures; None where there is none.

    Up to 64 pictures are looked at. Their patches are put into clusters. Background is plain: the
    patches of its clusters lie close together, and it lies along the border of nearly all pictures;
    a part has structure. Where all clusters spread alike, as on tiles, fabrics and close-ups, there
    is no background. Padding makes a network see the border otherwise, so the outermost patches are
    left out of the clusters and count as the patch beside them.
    """
    if not all(part.is_whole for part in parts):
        return None  # the border of a tile is not that of the picture
    _, height, width = embedder.shapes[0]
    layer = 0  # the finest sees least of what lies around a place
    edge = max(2, round(min(height, width) / 16))
    if min(height, width) < max(_LEAST_SIDE, 4 * edge):
        return None
    chosen = [parts[i] for i in sorted({i * len(parts) // _N_PARTS for i in range(_N_PARTS)})]
    found = embedder.stream(chosen, progress, "looking for background")
    patches = np.stack([layers[layer] for layers in found]).reshape(len(chosen), height, width, -1)
    structured = _structured(patches, edge, np.random.default_rng([seed, 4]))
    if structured is None:
        return None
    weights, bias = _separating(patches.reshape(-1, patches.shape[-1]), structured.ravel())
    logits = patches @ weights + np.float32(bias)
    shares = [float(part_in(each > 0).mean()) for each in logits]
    low, high = np.quantile(shares, [(1 - _AGREED) / 2, (1 + _AGREED) / 2])
    if not _SHARES[0] <= low <= high <= min(_SHARES[1], 3 * low):
        return None
    usual = (min(shares) / _SLACK, min(1.0, max(shares) * _SLACK))
    return PartRule(layer, weights, bias, usual)


def _structured(patches: Floats, edge: int, rng: np.random.Generator) -> Mask | None:
    """Return which patches n×h×w×C belong to clusters with structure; None without background."""
    n_channels = patches.shape[-1]
    inner = patches[:, edge:-edge, edge:-edge]
    flat = inner.reshape(-1, n_channels)
    mean, scale = flat.mean(0), flat.std(0) + 1e-6
    drawn = rng.choice(len(flat), min(_N_PATCHES, len(flat)), replace=False)
    sample = (flat[drawn] - mean) / scale
    axes = np.linalg.eigh(sample.T @ sample)[1][:, -_N_DIMENSIONS:]
    points = ((flat - mean) / scale) @ axes
    centres = _clusters(points[drawn], rng)
    labels, squares = _nearest(points, centres)
    counts = np.bincount(labels, minlength=len(centres))
    spreads = np.bincount(labels, squares, minlength=len(centres)) / np.maximum(counts, 1)
    ring = np.zeros(inner.shape[1:3], bool)
    ring[:edge] = ring[-edge:] = ring[:, :edge] = ring[:, -edge:] = True
    grid = labels.reshape(inner.shape[:3])
    limit = _limit(spreads, counts)
    if limit is None:
        return None
    plain = (spreads < limit)[grid]
    along = plain[:, ring].mean(1)
    if np.mean(along >= _ALONG_BORDER) < _AGREED:
        return None
    wide = np.pad(~plain, ((0, 0), (edge, edge), (edge, edge)), mode="edge")
    return np.asarray(wide, bool)


def _clusters(points: Floats, rng: np.random.Generator) -> Floats:
    """Return the centres of clusters (Lloyd's rounds from random points)."""
    centres = points[rng.choice(len(points), min(_N_CLUSTERS, len(points)), replace=False)]
    for _ in range(_N_ROUNDS):
        labels, _ = _nearest(points, centres)
        for k in np.unique(labels):
            centres[k] = points[labels == k].mean(0)
    return centres


def _nearest(points: Floats, centres: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the number of each point's nearest centre, and the square of its distance."""
    squares = points @ (-2 * centres.T) + np.square(centres).sum(1)
    labels = squares.argmin(1)
    nearest = squares[np.arange(len(points)), labels] + np.square(points).sum(1)
    return labels, np.maximum(nearest, 0).astype(np.float32)


def _limit(spreads: NDArray[np.float64], counts: NDArray[np.intp]) -> float | None:
    """Return the spread between plain clusters and those with structure; None where all are alike.

    It leaves the least variance within both groups (Otsu), each patch counting.
    """
    known = counts > 0
    order = np.argsort(spreads[known])
    values, weights = spreads[known][order], counts[known][order].astype(float)
    best, limit = -1.0, None
    for k in range(1, len(values)):
        low, high = (np.average(values[s], weights=weights[s]) for s in (slice(k), slice(k, None)))
        between = weights[:k].sum() * weights[k:].sum() * (high - low) ** 2
        if between > best:
            best = between
            limit = (values[k - 1] + values[k]) / 2 if high >= _PLAINER * low else None
    return None if limit is None else float(limit)


def _separating(patches: Floats, is_part: Mask) -> tuple[Floats, float]:
    """Return weights and bias of the line that parts two kinds of patches (Fisher's, shrunk)."""
    scale = patches.std(0) + 1e-6
    kinds = [patches[is_part == kind] / scale for kind in (False, True)]
    means = [kind.mean(0) for kind in kinds]
    covariances = [np.cov(kind.T, dtype=np.float64) for kind in kinds]
    within = (covariances[0] + covariances[1]) / 2
    within += _SHRUNK * np.trace(within) / len(within) * np.eye(len(within))
    way = np.linalg.solve(within, means[1] - means[0])
    low, high = (mean @ way for mean in means)
    spread = [float((kind @ way).std()) for kind in kinds]
    middle = low + (high - low) * spread[0] / max(sum(spread), 1e-12)
    gain = 4 / max(high - low, 1e-12)
    return (gain * way / scale).astype(np.float32), float(-gain * middle)
