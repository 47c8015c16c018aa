"""Parts beside their own references: how far they differ, relative to what is usual there.

What is usual is learned from good parts, whatever their layout: places of references that look
alike (a pad, a track's edge, bare laminate) share it. Places are told apart by k-means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.data.threads import in_order
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.patches.embeddings import PatchEmbedder
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import available_engines, default_workers, open_engine
from makellos.inspection.preprocessing import Compares

__all__ = ["Looks", "Pairs", "embed_pairs", "learn_looks", "pairs_graph", "sample_pairs"]

APART, LOOKS = "apart", "looks"  # outputs: differences, and what the reference looks like
_SOFT, _DARK = 2.0, 0.04  # pixels; share of white that dark places count as beside their light
_SLOW = 0.1  # of a side, over which light changes
_NEAR, _AROUND = 3, 7  # cells, in which the contrast of a reference is looked at
_N_AXES, _N_LOOKS = 16, 64
_MOST_SAMPLES = 400_000
_LEARNED = 60_000  # samples that looks are told apart by
_STEPS = 10
_RIM = 1 / 32  # of the longer side, beside the border
_DOUBT = 2.0  # samples that all looks together count as, in each
_LEAST = 1e-3  # of the spread of a layer, below which none counts
_TAIL = 0.99  # share of good places that are no tail
_TAIL_DOUBT = 10.0

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hold samples of good parts: looks n×E and differences n×D of places, and whose they are.

    `rim` tells which lie beside the picture's border, where what is cut off looks odd.
    """

    looks: Floats
    apart: Floats
    owner: NDArray[np.intp]
    rim: NDArray[np.bool_]

    def without(self, left_out: NDArray[np.bool_]) -> Pairs:
        """Return the samples of all parts but some, told by part."""
        kept = ~left_out[self.owner]
        return Pairs(self.looks[kept], self.apart[kept], self.owner[kept], self.rim[kept])


@dataclass(frozen=True, eq=False)
class Looks:
    """Hold what references look like, and how far parts usually differ from them there.

    `project` A×E and `offset` (A,) give axes of looks, `codes` K×A are their clusters. `turn` D×D
    gives axes of differences, whose `mean` and `gain` K×D are of each look; `gain` is one over the
    spread. Distances of a layer beyond `level` K×L decay by `decay` K×L. The last of K is that of
    all places at the rim, whatever they look like.
    """

    project: Floats
    offset: Floats
    codes: Floats
    turn: Floats
    mean: Floats
    gain: Floats
    level: Floats
    decay: Floats


def embed_pairs(embedder: PatchEmbedder, compares: Compares) -> PatchEmbedder:
    """Return what gives differences N×D×h×w and looks N×E×h×w of joined pictures N×6×H×W.

    `shapes` are those of the layers: colours, then embeddings.
    """
    builder = GraphBuilder(embedder.graph)
    size = embedder.preprocessing
    _, height, width = embedder.shapes[0]
    builder.rename("picture", "both")
    _begin_with_both(builder, size.height, size.width)
    layers = [_log_colours(builder, size.height // height)]
    layers += [
        builder.repeat(name, (h, w), height // h)
        for name, (_, h, w) in zip(embedder.names, embedder.shapes, strict=True)
    ]
    shapes = [(3, height, width), *((c, height, width) for c, _, _ in embedder.shapes)]
    parts, references = zip(
        *(_divided(builder, name, shape) for name, shape in zip(layers, shapes, strict=True)),
        strict=True,
    )
    apart = [builder.add("Sub", *pair) for pair in zip(parts, references, strict=True)]
    light = _blurred(builder, apart[0], _SLOW * max(height, width), 3)
    apart[0] = builder.add("Sub", apart[0], light)
    tone = builder.centred(references[0])
    grey = builder.add("ReduceMean", references[0], attributes={"axes": [1], "keepdims": 1})
    looks = [tone, *(_contrast(builder, grey, n) for n in (_NEAR, _AROUND)), *references[1:]]
    for name, those in ((APART, apart), (LOOKS, looks)):
        joined = builder.add("Concat", *those, attributes={"axis": 1})
        builder.rename(joined, name)
    graph = builder.with_outputs({name: ["n", "c", height, width] for name in (APART, LOOKS)})
    joined_size = size.model_copy(update={"compares": compares})
    return PatchEmbedder(graph, (APART, LOOKS), tuple(shapes), joined_size)


def _begin_with_both(builder: GraphBuilder, height: int, width: int) -> None:
    """Let the graph take N×6×H×W, and go on from parts and references in turn, 2N×3×H×W."""
    (given,) = builder.model.graph.input
    given.type.tensor_type.shape.dim[1].dim_value = 6
    builder.add("Reshape", "picture", builder.shape(-1, 3, height, width))
    first = builder.model.graph.node.pop()
    first.output[0] = "both"
    builder.model.graph.node.insert(0, first)


def _divided(builder: GraphBuilder, name: str, shape: tuple[int, int, int]) -> tuple[str, str]:
    """Return parts and references N×C×h×w of 2N×C×h×w."""
    pairs = builder.add("Reshape", name, builder.shape(-1, 2, *shape))
    part, reference = (
        builder.add(
            "Gather", pairs, builder.constant(np.array(i, np.int64)), attributes={"axis": 1}
        )
        for i in (0, 1)
    )
    return part, reference


def _log_colours(builder: GraphBuilder, cell: int) -> str:
    """Return logarithms of colours, in which light is an offset, in cells: 2N×3×h×w."""
    soft = _blurred(builder, "both", _SOFT, 3)
    if cell > 1:
        cells = {"kernel_shape": [cell, cell], "strides": [cell, cell]}
        soft = builder.add("AveragePool", soft, attributes=cells)
    dark = builder.constant(np.array(_DARK, np.float32))
    return builder.add("Log", builder.add("Add", soft, dark))


def _blurred(builder: GraphBuilder, name: str, sigma: float, channels: int) -> str:
    reach = max(1, round(2.4 * sigma))
    edges = builder.constant(np.array([0, 0, reach, reach, 0, 0, reach, reach], np.int64))
    padded = builder.add("Pad", name, edges, attributes={"mode": "edge"})
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    weights = (weights / weights.sum()).astype(np.float32)
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        kernel = builder.constant(np.tile(weights.reshape(shape), (channels, 1, 1, 1)))
        padded = builder.add("Conv", padded, kernel, attributes={"group": channels})
    return padded


def _contrast(builder: GraphBuilder, grey: str, size: int) -> str:
    """Return the highest value near each cell of N×1×h×w less the lowest."""
    near = {"kernel_shape": [size, size], "pads": [size // 2] * 4, "strides": [1, 1]}
    highest = builder.add("MaxPool", grey, attributes=near)
    lowest = builder.add("MaxPool", builder.add("Neg", grey), attributes=near)
    return builder.root(builder.add("Add", highest, lowest))


def sample_pairs(embedder: PatchEmbedder, parts: Sequence[Part], progress: Progress) -> Pairs:
    """Return samples of what good parts and their references show, evenly of all parts."""
    choice = next(each for each in available_engines() if each.precision == "f32")
    preprocessing = embedder.preprocessing
    engine = open_engine(
        embedder.graph, choice, shape=preprocessing.shape, workers=default_workers()
    )
    _, height, width = embedder.shapes[0]
    n_each = max(1, _MOST_SAMPLES // len(parts))
    rim = _rim_of(height, width).ravel()

    def look(numbered: tuple[int, Part]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        number, part = numbered
        picture = preprocessing.read(part)
        placed = preprocessing.place(picture)
        outputs = engine.run(preprocessing(picture if placed is None else placed.picture))
        shown = (
            np.ones((height, width), np.bool_) if placed is None else placed.shown(height, width)
        )
        places = np.flatnonzero(shown)
        if len(places) > n_each:
            rng = np.random.default_rng([0, number])
            places = np.sort(rng.choice(places, n_each, replace=False))
        looks, apart = (
            outputs[name][0].reshape(-1, height * width).T[places] for name in (LOOKS, APART)
        )
        return np.asarray(looks, np.float32), np.asarray(apart, np.float32), rim[places]

    found: list[tuple[Floats, Floats, NDArray[np.bool_]]] = []
    for each in in_order(look, list(enumerate(parts)), threads=default_workers() + 1):
        found.append(each)
        progress("comparing good parts with their references", len(found), len(parts))
    looks, apart = (np.concatenate([each[i] for each in found]) for i in (0, 1))
    counts = [len(each[0]) for each in found]
    rims = np.concatenate([each[2] for each in found])
    return Pairs(looks, apart, np.repeat(np.arange(len(parts)), counts), rims)


def _rim_of(height: int, width: int) -> NDArray[np.bool_]:
    """Return which cells of a map h×w lie beside its border."""
    rim = np.ones((height, width), np.bool_)
    wide = max(1, round(_RIM * max(height, width)))
    rim[wide:-wide, wide:-wide] = False
    return rim


def learn_looks(pairs: Pairs, layers: Sequence[int]) -> Looks:
    """Return what samples tell of looks, and of differences of layers with so many channels."""
    project, offset, axes = _axes_of(pairs.looks)
    codes = _clusters(axes)
    n_codes = len(codes) + 1
    code = np.where(pairs.rim, len(codes), _code_of(axes, codes))
    turn = _turn_of(pairs.apart, layers)
    apart = pairs.apart @ turn.T
    count = np.bincount(code, minlength=n_codes).astype(np.float32)[:, np.newaxis]
    mean, square = (_sums(code, values, n_codes) for values in (apart, np.square(apart)))
    mean /= np.maximum(count, 1)
    around = np.maximum(square - count * np.square(mean), 0)
    pooled = around.sum(0) / max(1, len(code))
    least = np.concatenate([np.full(n, each.mean()) for n, each in _by_layer(pooled, layers)])
    spread = (around + _DOUBT * pooled) / (count + _DOUBT) + _LEAST * least + 1e-12
    gain = np.asarray(1 / np.sqrt(spread), np.float32)
    white = np.square((apart - mean[code]) * gain[code])
    distances = np.sqrt(np.stack([each.sum(1) for _, each in _by_layer(white, layers)], 1))
    level, decay = _tails(code, distances, n_codes)
    return Looks(project, offset, codes, turn, mean, gain, level, decay)


def _axes_of(looks: Floats) -> tuple[Floats, Floats, Floats]:
    """Return projection A×E and offset (A,) to the axes on which looks differ most, and these."""
    middle, size = looks.mean(0), looks.std(0) + 1e-6
    scaled = (looks - middle) / size
    _, vectors = np.linalg.eigh((scaled.T @ scaled).astype(np.float64))
    project = np.asarray(vectors[:, -_N_AXES:].T / size, np.float32)
    offset = np.asarray(-project @ middle, np.float32)
    return project, offset, looks @ project.T + offset


def _clusters(axes: Floats) -> Floats:
    """Return the middles K×A of clusters by k-means, from samples drawn evenly."""
    step = max(1, -(-len(axes) // _LEARNED))
    some = np.ascontiguousarray(axes[::step])
    rng = np.random.default_rng(0)
    first = some[rng.choice(len(some), min(_N_LOOKS, len(some)), replace=False)]
    labels = _code_of(some, first).astype(np.int32)[:, np.newaxis]
    criteria = (cv2.TERM_CRITERIA_COUNT, _STEPS, 0.0)
    flags = cv2.KMEANS_USE_INITIAL_LABELS
    _, _, middles = cv2.kmeans(some, len(first), labels, criteria, 1, flags)
    return np.asarray(middles, np.float32)


def _code_of(axes: Floats, codes: Floats) -> NDArray[np.intp]:
    """Return for each row of n×A the nearest of K×A."""
    step = 1 << 16
    lengths = np.square(codes).sum(1)
    found = [
        (lengths - 2 * axes[at : at + step] @ codes.T).argmin(1) for at in range(0, len(axes), step)
    ]
    return np.concatenate(found)


def _turn_of(apart: Floats, layers: Sequence[int]) -> Floats:
    """Return the turn D×D of each layer to axes on which its differences do not go together."""
    turn, at = np.zeros((apart.shape[1],) * 2, np.float32), 0
    for n, values in _by_layer(apart, layers):
        _, vectors = np.linalg.eigh((values.T @ values).astype(np.float64))
        turn[at : at + n, at : at + n] = vectors.T
        at += n
    return turn


def _by_layer(values: Floats, layers: Sequence[int]) -> Iterator[tuple[int, Floats]]:
    """Yield channels and values of each layer, which lie beside each other on the last axis."""
    at = 0
    for n in layers:
        yield n, values[..., at : at + n]
        at += n


def _sums(code: NDArray[np.intp], values: Floats, n_codes: int) -> Floats:
    """Return the sums of rows n×D by code, K×D."""
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(n_codes + 1))
    rows = values[order]
    return np.array(
        [rows[a:b].sum(0, dtype=np.float64) for a, b in pairwise(starts)],
        np.float32,
    )


def _tails(code: NDArray[np.intp], distances: Floats, n_codes: int) -> tuple[Floats, Floats]:
    """Return where the tail of distances n×L begins, and by what it decays, K×L each.

    What exceeds the level of a look decays exponentially; few samples count as those of all do.
    """
    levels, decays = np.empty((2, n_codes, distances.shape[1]), np.float32)
    whole = np.quantile(distances, _TAIL, axis=0)
    beyond = [each[each > at] - at for each, at in zip(distances.T, whole, strict=True)]
    usual = np.array([each.mean() if each.size else 1.0 for each in beyond])
    for k in range(n_codes):
        mine = distances[code == k]
        level = np.quantile(mine, _TAIL, axis=0) if len(mine) > 1 / (1 - _TAIL) else whole
        for layer, at in enumerate(level):
            excess = np.maximum(mine[:, layer] - at, 0)
            n, like = np.count_nonzero(excess), usual[layer] * at / max(whole[layer], 1e-6)
            decays[k, layer] = max((excess.sum() + _TAIL_DOUBT * like) / (n + _TAIL_DOUBT), 1e-6)
        levels[k] = level
    return levels, decays


def pairs_graph(embedder: PatchEmbedder, known: Looks) -> Graph:
    """Return the graph of a map: minus the logarithm of how seldom good parts differ so, summed."""
    builder = GraphBuilder(embedder.graph)
    layers = [channels for channels, _, _ in embedder.shapes]
    _, height, width = embedder.shapes[0]
    n_axes, n_looks = known.project.shape
    axes = builder.add(
        "Conv",
        LOOKS,
        builder.constant(known.project.reshape(n_axes, n_looks, 1, 1)),
        builder.constant(known.offset),
    )
    near = builder.add(
        "Conv",
        axes,
        builder.constant(2 * known.codes.reshape(*known.codes.shape, 1, 1)),
        builder.constant(-np.square(known.codes).sum(1)),
    )
    nearest = builder.add("ArgMax", near, attributes={"axis": 1, "keepdims": 0})
    rim = builder.constant(_rim_of(height, width)[np.newaxis])
    last = builder.constant(np.array(len(known.codes), np.int64))
    code = builder.add("Where", rim, last, nearest)
    tables = []
    for table in (known.mean, known.gain, known.level, 1 / known.decay):
        rows = builder.constant(np.asarray(table, np.float32))
        there = builder.add("Gather", rows, code, attributes={"axis": 0})
        tables.append(builder.add("Transpose", there, attributes={"perm": [0, 3, 1, 2]}))
    mean, gain, level, rate = tables
    turn = builder.constant(known.turn.reshape(*known.turn.shape, 1, 1))
    apart = builder.add("Sub", builder.add("Conv", APART, turn), mean)
    scaled = builder.add("Mul", apart, gain)
    members = np.zeros((len(layers), sum(layers), 1, 1), np.float32)
    members[np.repeat(np.arange(len(layers)), layers), np.arange(sum(layers))] = 1
    squares = builder.add("Mul", scaled, scaled)
    distances = builder.root(builder.add("Conv", squares, builder.constant(members)))
    beyond = builder.add("Mul", builder.add("Sub", distances, level), rate)
    seldom = builder.constant(np.array(-np.log(1 - _TAIL), np.float32))
    zero = builder.constant(np.array(0, np.float32))
    rarity = builder.add("Max", builder.add("Add", beyond, seldom), zero)
    total = builder.add("ReduceSum", rarity, builder.shape(1), attributes={"keepdims": 1})
    graph = builder.finish(total, height, width)
    return Graph(graph, embedder.preprocessing, Aggregation(), exact=True)
