"""Places of parts to learn damage from: good, planted and labelled ones, with their embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.pictures import Picture
from makellos.data.planting import plant
from makellos.data.progress import Progress
from makellos.detectors.loading import read_mask
from makellos.inspection.engines import Engine, available_engines, default_workers, open_engine

if TYPE_CHECKING:
    from makellos.detectors.patchcore import PatchCore
    from makellos.training.pictures import Pictures

__all__ = ["Example", "PlaceDrawer", "Places"]

_N_GOOD = 40_000  # good places learned from, of all good parts together
_MOST = {"planted": 64, "defective": 256}  # places of a part with damage, damaged and good each
# How much the places of a kind count together: all good ones, and the damaged and the good ones of
# parts with damage. Of a kind every part counts the same.
_MASS = {"good": (1.0, 0.0), "planted": (0.5, 0.5), "defective": (1.0, 1.0)}
_DAMAGED, _CLEAN = 0.25, 0.01  # share of a place inside a mask from which, up to which
_ODDEST = 0.005  # share of a defective part's places that is taken for damage without a mask


@dataclass(frozen=True)
class Example:
    """Places of one part: embeddings n×C float16, 1 for damaged ones, and the part's fold."""

    kind: str
    rows: NDArray[np.float16]
    targets: NDArray[np.intp]
    fold: int


@dataclass(frozen=True)
class Places:
    """Places of all parts, how often each is drawn, and mean and scale of good ones by channel."""

    rows: NDArray[np.float16]
    targets: NDArray[np.intp]
    kinds: NDArray[np.str_]
    folds: NDArray[np.intp]
    chances: NDArray[np.float64]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def join(cls, examples: Iterator[Example]) -> Places:
        found = list(examples)
        lengths = [len(each.targets) for each in found]
        targets = np.concatenate([each.targets for each in found])
        kinds = np.repeat([each.kind for each in found], lengths)
        rows = np.concatenate([each.rows for each in found])
        good = rows[kinds == "good"].astype(np.float32)
        scale = good.std(0)
        return cls(
            rows,
            targets,
            kinds,
            np.repeat([each.fold for each in found], lengths),
            np.concatenate(list(_chances(found))),
            good.mean(0),
            scale + 1e-3 * float(scale.mean()) + 1e-12,
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


class PlaceDrawer:
    """Draw places of parts, embedded as `neighbours` does, which is fitted on the good ones.

    `n_copies` damaged copies are made of each good part.
    """

    def __init__(self, neighbours: PatchCore, *, n_copies: int, seed: int) -> None:
        self.neighbours, self.n_copies, self.seed = neighbours, n_copies, seed
        self.embedder = neighbours.embedder_
        self.engine = self.embedder.open()
        self.finder: Engine | None = None

    def examples(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress
    ) -> Iterator[Example]:
        """Yield places of good parts, of their damaged copies, and of defective parts, in order.

        Raises `InputError` for pictures and masks that cannot be used.
        """
        if any(part.mask is None and not part.is_good for part in parts):
            graph = self.neighbours.graph()
            shape = graph.preprocessing.shape
            self.finder = open_engine(graph.onnx, available_engines()[0], shape=shape)
        most = max(1, _N_GOOD // sum(part.is_good for part in parts))
        jobs = [
            (i, copy)
            for i, part in enumerate(parts)
            for copy in range(1 + (self.n_copies if part.is_good else 0))
        ]

        def run(job: tuple[int, int]) -> Example:
            i, copy = job
            part, rng = parts[i], np.random.default_rng([self.seed, i, copy])
            if not part.is_good:
                return self._defective(part, folds[i], rng)
            return (
                self._planted(part, folds[i], rng)
                if copy
                else self._good(part, folds[i], most, rng)
            )

        with ThreadPoolExecutor(default_workers()) as pool:
            for done, example in enumerate(pool.map(run, jobs)):
                progress("embedding good and damaged places", done + 1, len(jobs))
                yield example

    def _good(self, part: Part, fold: int, most: int, rng: np.random.Generator) -> Example:
        rows = self._embed(part.read())
        kept = rng.choice(len(rows), min(len(rows), most), replace=False)
        return Example("good", rows[kept].astype(np.float16), np.zeros(len(kept), np.intp), fold)

    def _planted(self, part: Part, fold: int, rng: np.random.Generator) -> Example:
        picture, mask = plant(part.read(), rng)
        return self._chosen("planted", picture, self._share(mask), fold, rng)

    def _defective(self, part: Part, fold: int, rng: np.random.Generator) -> Example:
        picture = part.read()
        if part.mask is None:
            share = self._oddest(picture)
        else:
            mask = read_mask(part.mask, picture.shape[:2], "Mend it, or leave the mask out.")
            share = self._share(mask)
        return self._chosen("defective", picture, share, fold, rng)

    def _chosen(
        self,
        kind: str,
        picture: Picture,
        share: NDArray[np.float32],
        fold: int,
        rng: np.random.Generator,
    ) -> Example:
        """Draw damaged and clean places of a part, at most so many of each."""
        damaged, clean = np.flatnonzero(share >= _DAMAGED), np.flatnonzero(share < _CLEAN)
        kept = [rng.permutation(some)[: _MOST[kind]] for some in (damaged, clean)]
        targets = np.repeat(np.array([1, 0], np.intp), [len(some) for some in kept])
        rows = self._embed(picture)[np.concatenate(kept)]
        return Example(kind, rows.astype(np.float16), targets, fold)

    def _embed(self, picture: Picture) -> NDArray[np.float32]:
        """Return the layers of a picture side by side on the finest grid, places×channels."""
        outputs = self.engine.run(self.embedder.preprocessing(picture))
        height, grids = self.embedder.shapes[0][1], []
        for name in self.embedder.names:
            grid = outputs[name][0]
            factor = height // grid.shape[1]
            grids.append(grid.repeat(factor, 1).repeat(factor, 2))
        joined = np.concatenate(grids)
        return np.ascontiguousarray(joined.reshape(len(joined), -1).T)

    def _share(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return by how much each place lies inside a mask; the place of least damage wholly."""
        _, height, width = self.embedder.shapes[0]
        drawn = mask.astype(np.float32)
        share = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA).ravel()
        most = float(share.max())
        if 0 < most < _DAMAGED:  # damage smaller than a place, which is then all there is of it
            share[share == most] = 1
        return np.asarray(share, np.float32)

    def _oddest(self, picture: Picture) -> NDArray[np.float32]:
        """Return 1 for places farthest from good patches; others are neither damaged nor clean."""
        if self.finder is None:
            raise ValueError("distances are for parts without a mask")
        batch = self.embedder.preprocessing(picture)
        distances = self.finder.run(batch)["anomaly_map"].ravel()
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
