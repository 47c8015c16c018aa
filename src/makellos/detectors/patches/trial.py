"""A trial of a memory bank: what its fit would take, measured on a few parts in about a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from makellos.data.memory import used_memory
from makellos.data.parts import Part
from makellos.data.threads import in_order
from makellos.detectors.graph import Graph
from makellos.detectors.patches.coreset import k_center, spacings
from makellos.detectors.patches.embeddings import PatchEmbedder
from makellos.inspection.engines import available_engines, open_engine

__all__ = ["BankCost", "Pace", "bank_cost", "pace_of"]

_POINTS, _PICKS = 8192, 256  # of the coreset that is timed
_SPACED = 1024
_LEAST_CANDIDATES = 8 << 20  # bytes per layer
_SPARE = 1.2  # what allocators hold on to
_OTHER_GRAPHS = 8.0  # copies of a graph that runtimes make on the way

Embedding = NDArray[np.float32]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Pace:
    """Hold how fast parts go through work, in seconds for each, beside each other."""

    seconds: float


@dataclass(frozen=True)
class BankCost:
    """Hold what the fit of a memory bank takes: times in s, sizes in bytes.

    `per_part` is the time of a part to learn from, `per_score` that of one to calibrate with,
    `per_graph` that of opening a graph, of which there is one per fold; `choosing` that of the
    coresets and what follows them. `engine` is what embedding and scoring hold beside `stream` for
    each worker, `layer` the candidates of a layer without a bound, `least_layer` with the least
    one, `rest` what is held in any case, `graph` the size of one graph.
    """

    per_part: float
    per_score: float
    per_graph: float
    choosing: float
    engine: float
    stream: float
    layer: float
    least_layer: float
    n_layers: int
    rest: float
    graph: float
    n_graphs: int

    def memory(self, workers: int, candidates: float) -> float:
        """Return the bytes that it holds beside what the process held before."""
        engine = self.engine + workers * self.stream
        choosing = candidates * (self.n_layers + 3) + self.rest
        # What was drawn is given back before parts are scored; another runtime checks the first.
        scoring = engine + self.stream + _OTHER_GRAPHS * self.graph + self.n_graphs * self.graph
        return _SPARE * max(engine / 2 + choosing, scoring)

    def candidates(self, workers: int, room: float) -> float:
        """Return the bytes of a layer's candidates that fit into `room`, or less than the least."""
        if self.memory(workers, 0) > room:
            return 0.0
        engine = self.engine + workers * self.stream
        return min(self.layer, (room / _SPARE - engine / 2 - self.rest) / (self.n_layers + 3))


def pace_of(
    work: Callable[[Item], object], items: Sequence[Item], *, threads: int, seconds: float
) -> Pace:
    """Return how fast `work` goes through items, tried for about so many seconds."""
    work(items[0])
    started, done = time.perf_counter(), 0

    def again() -> Iterator[Item]:
        while time.perf_counter() - started < seconds:
            yield from items

    for _ in in_order(work, again(), threads=threads):
        done += 1
    return Pace((time.perf_counter() - started) / done)


def bank_cost(
    embedder: PatchEmbedder,
    parts: Sequence[Part],
    graph_of: Callable[[Sequence[Embedding]], Graph],
    *,
    workers: int,
    n_looks: int,
    n_folds: int,
    n_keep: Sequence[int],
    most_bytes: int,
) -> BankCost:
    """Measure what the fit of memory banks takes on some `parts`, with banks made up of them.

    `graph_of` makes a graph of one bank per layer, `n_keep` patches each; `n_looks` pictures are
    learned from, in `n_folds` folds (0: no cross-fit).
    """
    before, engine = used_memory(), embedder.open(workers)

    def embed(part: Part) -> list[Embedding]:
        return _patches(engine.run(embedder.preprocessing(part.read())), embedder)

    found = [embed(part) for part in parts]
    per_part = pace_of(embed, parts, threads=workers + 1, seconds=0.35).seconds
    sizes = [n_looks * int(np.prod(shape[1:])) for shape in embedder.shapes]
    choosing, banks = 0.0, list[Embedding]()
    for layer, (channels, *_) in enumerate(embedder.shapes):
        patches = np.concatenate([each[layer] for each in found])
        n = min(sizes[layer], max(n_looks, most_bytes // (4 * channels)))
        choosing += _choosing(patches, n, n_keep[layer], max(1, n_folds))
        banks.append(np.resize(patches, (n_keep[layer], channels)))
    started = time.perf_counter()
    graph = graph_of(banks)
    building = time.perf_counter() - started
    started, shape = time.perf_counter(), embedder.preprocessing.shape
    scoring = open_engine(graph.onnx, available_engines()[0], shape=shape, workers=workers)
    opening = time.perf_counter() - started

    def score(part: Part) -> object:
        return scoring.run(embedder.preprocessing(part.read()))

    per_score = pace_of(score, parts, threads=workers + 1, seconds=0.35).seconds
    held, weights = max(0, used_memory() - before), 3.0 * len(graph.onnx)
    patch_bytes = [4.0 * float(np.prod(shape)) for shape in embedder.shapes]
    least = max(_LEAST_CANDIDATES, *(4 * n_looks * shape[0] for shape in embedder.shapes))
    return BankCost(
        per_part=per_part,
        per_score=per_score,
        per_graph=opening,
        choosing=choosing + building * (n_folds + 1),
        engine=weights,
        stream=max(0.0, held - weights) / workers + sum(patch_bytes),
        layer=max(least, min(most_bytes, max(patch_bytes) * n_looks)),
        least_layer=least,
        n_layers=len(sizes),
        # Background is looked for in 64 pictures, a dozen and more tell usual distances.
        rest=64 * 5 * patch_bytes[0] + 24 * sum(patch_bytes) + (160 << 20),
        graph=float(len(graph.onnx)),
        n_graphs=n_folds + 1,
    )


def _choosing(patches: Embedding, n: int, n_keep: int, n_folds: int) -> float:
    """Return the seconds that a layer's bank takes: the coreset of each fold, and its spacings."""
    points = np.resize(patches, (_POINTS, patches.shape[1])).astype(np.float32)
    points += np.random.default_rng(0).normal(0, 0.01, points.shape).astype(np.float32)
    started = time.perf_counter()
    k_center(points, _PICKS)
    middle = time.perf_counter()
    spacings(points[:_SPACED], 5)
    ended = time.perf_counter()
    picking = (middle - started) * n * n_keep / (_POINTS * _PICKS * n_folds)
    spacing = (ended - middle) * (n_keep / _SPACED) ** 2
    return picking + spacing * (n_folds + 3)


def _patches(outputs: dict[str, Embedding], embedder: PatchEmbedder) -> list[Embedding]:
    return [
        np.ascontiguousarray(outputs[name][0].reshape(shape[0], -1).T)
        for name, shape in zip(embedder.names, embedder.shapes, strict=True)
    ]
