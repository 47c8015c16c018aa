"""Places of parts to learn damage from: good, planted and labelled ones, with their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.pictures import Picture
from makellos.data.planting import plant
from makellos.data.progress import Progress
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.patches.embeddings import PatchEmbedder, distances_of
from makellos.detectors.patches.rotations import Turn
from makellos.inspection.engines import Engine, available_engines, default_workers, open_engine

if TYPE_CHECKING:
    from makellos.training.pictures import Pictures

__all__ = ["Example", "Look", "Looked", "PlaceDrawer", "Places"]

_N_GOOD = 40_000  # good places drawn at random, of all good parts together
_LEAST_GOOD, _N_ODD = 32, 32  # of a good part: places drawn at random at least, and the oddest ones
_MOST = {"planted": 64, "defective": 256}  # places of a part with damage, damaged and good each
_N_TURNS = 8  # angles at which a defective part is learned, its own and others by chance
_MOST_VIEWS = 400  # of defective parts, turned ones among them
# How much the places of a kind count together: all good ones, and the good and the damaged ones of
# parts with damage. Of a kind every part counts the same.
_MASS = {"good": (0.5, 0.0), "odd": (0.5, 0.0), "planted": (0.3, 1.0), "defective": (0.3, 1.0)}
_DAMAGED, _CLEAN = 0.25, 0.01  # share of a place inside a mask from which, up to which
_ODDEST = 0.005  # share of a defective part's places that is taken for damage without a mask
_MAP = "anomaly_map"

Found = TypeVar("Found")


class Looked(NamedTuple):
    """A picture as a detector sees it.

    `rows` are its embeddings, places×channels, the layers side by side on the finest grid;
    `distances` (n,) those of its places to patches of other parts, all layers together, and
    `layers` (layers, h, w) those of each layer, not smoothed.
    """

    rows: NDArray[np.float32]
    distances: NDArray[np.float32]
    layers: NDArray[np.float32]


Look = Callable[[Picture], Looked]


@dataclass(frozen=True)
class Example:
    """Places of one part: embeddings n×C float16, 1 for damaged ones, and the part's fold.

    `distances` (n,) are those to patches of other parts.
    """

    kind: str
    rows: NDArray[np.float16]
    distances: NDArray[np.float32]
    targets: NDArray[np.intp]
    fold: int


@dataclass(frozen=True)
class Places:
    """Places of all parts, how often each is drawn, and mean and scale of good ones by channel.

    `spread` is the standard deviation of the distances of good places drawn at random.
    """

    rows: NDArray[np.float16]
    targets: NDArray[np.intp]
    kinds: NDArray[np.str_]
    folds: NDArray[np.intp]
    chances: NDArray[np.float64]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    spread: float

    @classmethod
    def join(cls, found: Sequence[Example]) -> Places:
        lengths = [len(each.targets) for each in found]
        targets = np.concatenate([each.targets for each in found])
        kinds = np.repeat([each.kind for each in found], lengths)
        rows = np.concatenate([each.rows for each in found])
        good = rows[kinds == "good"].astype(np.float32)
        distances = np.concatenate([each.distances for each in found if each.kind == "good"])
        scale = good.std(0)
        return cls(
            rows,
            targets,
            kinds,
            np.repeat([each.fold for each in found], lengths),
            np.concatenate(list(_chances(found))),
            good.mean(0),
            scale + 1e-3 * float(scale.mean()) + 1e-12,
            float(distances.std()),
        )

    def outside(self, fold: int | None) -> NDArray[np.bool_]:
        """Return which places are not of a fold; all where it is None."""
        every = np.ones(len(self.folds), bool)
        return every if fold is None else self.folds != fold

    def standardised(self, kept: NDArray[np.bool_]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = (self.rows[kept].astype(np.float32) - self.mean) / self.scale
        return values

    def pictures(self, kept: NDArray[np.bool_]) -> Pictures:
        from makellos.training.pictures import Pictures

        values = self.standardised(kept)[:, :, np.newaxis, np.newaxis]
        return Pictures(values, targets=self.targets[kept], chances=self.chances[kept])


class Neighbours(Protocol):
    """What a detector that was cross-fitted on good parts sees of a part: `PatchCore`."""

    embedder_: PatchEmbedder

    def graph_without(self, left_out: Collection[int]) -> Graph:
        """Return the graph that has not seen the parts of these folds."""


class PlaceDrawer:
    """Draw places of parts, embedded as `neighbours` does, which is cross-fitted on the good ones.

    `n_copies` damaged copies are made of each good part. Defective parts are seen at several
    angles. A part is looked at by neighbours that have not seen its fold.
    """

    def __init__(
        self, neighbours: Neighbours, folds: Sequence[Collection[int]], *, n_copies: int, seed: int
    ) -> None:
        self.n_copies, self.seed = n_copies, seed
        self.neighbours, self.embedder = neighbours, neighbours.embedder_
        self.left_out = [*folds, ()]  # per group of folds, and for parts in none

    def each(
        self,
        work: Callable[[int, Look], Found],
        folds: Sequence[int],
        progress: Progress,
        what: str,
    ) -> list[Found]:
        """Return `work(i, look)` for every i, where `look` has not seen group `folds[i]` of folds.

        Those of a group are done together: one engine is open at a time, and that with its memory
        bank takes some hundred megabytes.
        """
        found: dict[int, Found] = {}
        for fold in sorted(set(folds)):
            look = self._open(self.left_out[fold])
            members = [i for i, own in enumerate(folds) if own == fold]
            with ThreadPoolExecutor(default_workers()) as pool:
                results = pool.map(work, members, repeat(look))
                for i, result in zip(members, results, strict=True):
                    found[i] = result
                    progress(what, len(found), len(folds))
        return [found[i] for i in range(len(folds))]

    def examples(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress
    ) -> list[Example]:
        """Return places of good parts, of their damaged copies, and of defective parts, in order.

        `folds` number the groups of folds, -1 for parts in none. Raises `InputError` for pictures
        and masks that cannot be used.
        """
        n_good = sum(part.is_good for part in parts)
        most = max(_LEAST_GOOD, _N_GOOD // n_good)
        n_turns = max(1, min(_N_TURNS, _MOST_VIEWS // max(1, len(parts) - n_good)))
        jobs = [
            (i, copy)
            for i, part in enumerate(parts)
            for copy in range(1 + self.n_copies if part.is_good else n_turns)
        ]

        def run(job: int, look: Look) -> list[Example]:
            i, copy = jobs[job]
            rng = np.random.default_rng([self.seed, i, copy])
            if not parts[i].is_good:
                view = _turned_by_chance(parts[i], rng) if copy else parts[i]
                return [self._defective(view, look, folds[i], rng)]
            if copy:
                return [self._planted(parts[i], look, folds[i], rng)]
            return self._good(parts[i], look, folds[i], most, rng)

        what = "embedding good and damaged places"
        found = self.each(run, [folds[i] for i, _ in jobs], progress, what)
        return [example for each in found for example in each]

    def _open(self, left_out: Collection[int]) -> Look:
        """Open what embeds a picture and gives its map of distances in one run."""
        graph = self.neighbours.graph_without(left_out)
        named: dict[str, Sequence[int | str]] = {_MAP: ["n", *self.embedder.shapes[0][1:]]}
        for name, shape in zip(self.embedder.names, self.embedder.shapes, strict=True):
            named[name] = ["n", *shape]
            named[distances_of(name)] = ["n", 1, *shape[1:]]
        onnx = GraphBuilder(graph.onnx).with_outputs(named)
        engine = open_engine(
            onnx,
            available_engines()[0],
            shape=graph.preprocessing.shape,
            workers=default_workers(),
        )
        return lambda picture: self._look(engine, picture)

    def _good(
        self, part: Part, look: Look, fold: int, most: int, rng: np.random.Generator
    ) -> list[Example]:
        """Draw places at random, and those that lie farthest from the patches of other parts."""
        looked = look(part.read())
        n_places = len(looked.rows)
        usual = rng.choice(n_places, min(n_places, most), replace=False)
        odd = np.argsort(-looked.distances, kind="stable")[:_N_ODD]
        return [
            self._example(kind, looked, kept, np.zeros(len(kept), np.intp), fold)
            for kind, kept in (("good", usual), ("odd", odd))
        ]

    def _planted(self, part: Part, look: Look, fold: int, rng: np.random.Generator) -> Example:
        picture, mask = plant(part.read(), rng)
        return self._chosen("planted", look(picture), self._share(mask), fold, rng)

    def _defective(self, part: Part, look: Look, fold: int, rng: np.random.Generator) -> Example:
        picture = part.read()
        looked, mask = look(picture), part.read_mask((picture.shape[0], picture.shape[1]))
        share = _oddest(looked.distances) if mask is None else self._share(mask)
        return self._chosen("defective", looked, share, fold, rng)

    def _chosen(
        self,
        kind: str,
        looked: Looked,
        share: NDArray[np.float32],
        fold: int,
        rng: np.random.Generator,
    ) -> Example:
        """Draw damaged and clean places of a part, at most so many of each."""
        damaged, clean = np.flatnonzero(share >= _DAMAGED), np.flatnonzero(share < _CLEAN)
        kept = [rng.permutation(some)[: _MOST[kind]] for some in (damaged, clean)]
        targets = np.repeat(np.array([1, 0], np.intp), [len(some) for some in kept])
        return self._example(kind, looked, np.concatenate(kept), targets, fold)

    @staticmethod
    def _example(
        kind: str,
        looked: Looked,
        kept: NDArray[np.intp],
        targets: NDArray[np.intp],
        fold: int,
    ) -> Example:
        rows = looked.rows[kept].astype(np.float16)
        return Example(kind, rows, looked.distances[kept], targets, fold)

    def _look(self, engine: Engine, picture: Picture) -> Looked:
        """Return a picture's embeddings and distances to the patches of parts of other folds."""
        outputs = engine.run(self.embedder.preprocessing(picture))
        height = self.embedder.shapes[0][1]

        def on_finest_grid(grid: NDArray[np.float32]) -> NDArray[np.float32]:
            factor = height // grid.shape[1]
            return grid.repeat(factor, 1).repeat(factor, 2)

        names = self.embedder.names
        joined = np.concatenate([on_finest_grid(outputs[name][0]) for name in names])
        layers = np.concatenate([on_finest_grid(outputs[distances_of(name)][0]) for name in names])
        rows = np.ascontiguousarray(joined.reshape(len(joined), -1).T)
        return Looked(rows, outputs[_MAP].astype(np.float32).ravel(), layers.astype(np.float32))

    def _share(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return by how much each place lies inside a mask; the place of least damage wholly."""
        _, height, width = self.embedder.shapes[0]
        drawn = mask.astype(np.float32)
        share = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA).ravel()
        most = float(share.max())
        if 0 < most < _DAMAGED:  # damage smaller than a place, which is then all there is of it
            share[share == most] = 1
        return np.asarray(share, np.float32)


def _turned_by_chance(part: Part, rng: np.random.Generator) -> Part:
    degrees, mirrored = float(rng.uniform(0, 360)), bool(rng.random() < 0.5)
    return part.changed(Turn(degrees, mirrored))


def _oddest(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 for places farthest from good patches; others are neither damaged nor clean."""
    share = np.full(distances.size, 0.5 * (_CLEAN + _DAMAGED), np.float32)
    share[np.argsort(-distances)[: max(1, round(_ODDEST * distances.size))]] = 1
    return share


def _chances(examples: Sequence[Example]) -> Iterator[NDArray[np.float64]]:
    """Yield how often each place is drawn: kinds by their mass, parts of a kind alike."""
    having = {
        (kind, target): max(1, sum(e.kind == kind and target in e.targets for e in examples))
        for kind in _MASS
        for target in (0, 1)
    }
    for example in examples:
        counts = np.bincount(example.targets, minlength=2)
        shares = [
            _MASS[example.kind][target] / having[example.kind, target] / max(1, counts[target])
            for target in (0, 1)
        ]
        yield np.array(shares)[example.targets]
