"""From pictures to scores and anomaly maps: whole pictures, or tiles whose maps are joined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture, full_scale
from makellos.data.threads import in_order
from makellos.data.tiles import cut_tile
from makellos.errors import ConfigurationError, ModelFileError
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.alignment import Aligned
from makellos.inspection.background import Background
from makellos.inspection.engines import Engine
from makellos.inspection.loose import without
from makellos.inspection.preprocessing import Preprocessing, Vectors
from makellos.inspection.registration import Placed
from makellos.inspection.tiling import Mosaic, Tiling
from makellos.inspection.zones import ZonedMap, Zones

__all__ = ["Scored", "Scorer"]


Outputs = Mapping[str, NDArray[np.float32]]


class Scored(NamedTuple):
    """Hold a part's score and, where there are such, its map h×w, reconstruction C×H×W, classes.

    The reconstruction is as large as the network sees the picture, that of tiles joined.

    `probabilities` (K,) are those of the classes. `zones` is what each zone says: score and map are
    then in units of the zones' thresholds. `notes` say what was odd about scoring it. `beside` is
    the map h×w of what lies beside the part, the lowest value elsewhere; None where no background
    is known. `removed` tells which pixels, as the network sees the picture, were taken out of it;
    None where nothing was. What is `in_doubt` lies in no pose that was learned.
    """

    score: float
    anomaly_map: NDArray[np.float32] | None
    reconstruction: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float32] | None = None
    zones: ZonedMap | None = None
    notes: tuple[str, ...] = ()
    beside: NDArray[np.float32] | None = None
    removed: NDArray[np.bool_] | None = None
    in_doubt: bool = False


class Scorer:
    """Turn pictures into scores and anomaly maps: pre-processing, graph, aggregation.

    With a `tiling` each picture is cut, and `workers` of its tiles are worked on at once; the score
    is that of the whole map, or the highest of the tiles' own. Zones that were drawn decide alone;
    without them a `background` does where the graph tells the part. With `class_scales`, the
    thresholds of a classifier's kinds of damage, the score is the highest probability of a kind in
    units of its threshold.
    """

    def __init__(
        self,
        engine: Engine,
        preprocessing: Preprocessing | Vectors,
        aggregation: Aggregation,
        *,
        tiling: Tiling | None = None,
        zones: Zones | None = None,
        class_scales: Sequence[float] = (),
        background: Background | None = None,
        workers: int = 1,
    ) -> None:
        self.engine = engine
        self.preprocessing = preprocessing
        self.aggregation = aggregation
        self.tiling = tiling
        self.zones = zones
        self.class_scales = class_scales
        self.background = background if zones is None else None
        self.workers = workers

    def __call__(self, picture: Picture) -> Scored:
        """Return what the detector finds on a picture; raises as `many` does."""
        return self.many([picture])[0]

    def many(self, pictures: Sequence[Picture], *, rebuild: bool = False) -> list[Scored]:
        """Return what the detector finds on pictures, which the engine takes at once.

        With `rebuild` what tiles reconstruct is joined, which takes the memory of a picture. Raises
        `ModelFileError` when the graph gives neither a map 1×h×w nor one score.
        """
        posed = [self.preprocessing.pose(picture) for picture in pictures]
        upright = _seen_through(posed, pictures)
        placed = [self.preprocessing.place(picture) for picture in upright]
        laid = _seen_through(placed, upright)
        if self.tiling is not None:
            found = [self._in_tiles(picture, self.tiling, rebuild=rebuild) for picture in laid]
        else:
            batch = self._batch(laid)
            found = self._scored(_checked(self.engine.run(batch), batch), batch)
        found = [
            scored if each is None else self._laid_back(scored, each)
            for scored, each in zip(found, placed, strict=True)
        ]
        found = [
            scored if each is None else self._turned_back(scored, each, picture)
            for scored, each, picture in zip(found, posed, pictures, strict=True)
        ]
        if self.class_scales:
            return [self._by_class(each) for each in found]
        zones = self.zones
        return found if zones is None else [self._by_zone(each, zones) for each in found]

    def _batch(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        return np.concatenate([self.preprocessing(picture) for picture in pictures])

    def _scored(self, outputs: Outputs, batch: NDArray[np.float32]) -> list[Scored]:
        maps, scores = outputs.get("anomaly_map"), outputs.get("score")
        made, classes = outputs.get("reconstruction"), outputs.get("probabilities")
        parts = outputs.get("part")
        n = len(maps) if maps is not None else outputs["score"].size
        found = [
            Scored(
                self._score(i, maps, scores),
                None if maps is None else maps[i],
                None if made is None else made[i],
                None if classes is None else classes[i],
            )
            for i in range(n)
        ]
        if parts is None or self.background is None:
            return found
        return [
            self._apart(each, part, picture)
            for each, part, picture in zip(found, parts, batch, strict=True)
        ]

    def _apart(
        self,
        scored: Scored,
        part: NDArray[np.float32],
        picture: NDArray[np.float32] | None = None,
    ) -> Scored:
        """Return what counts of a part, and what lies beside it.

        If something lies loose near the oddest place, the picture is scored again without it.
        """
        if scored.anomaly_map is None or self.background is None:
            return scored
        counted, beside = self.background.apart(scored.anomaly_map, part)
        loose = None if picture is None else self.background.loose(counted, part, picture)
        if picture is not None and loose is not None:
            batch = without(picture, loose)[np.newaxis]
            again = _checked(self.engine.run(batch), batch)
            beside = self.background.with_loose(beside, scored.anomaly_map, loose)
            counted, _ = self.background.apart(again["anomaly_map"][0], again["part"][0], loose)
        score = self.aggregation(counted)
        removed = None if loose is None else loose.loose
        return scored._replace(score=score, anomaly_map=counted, beside=beside, removed=removed)

    def _in_tiles(self, picture: Picture, tiling: Tiling, *, rebuild: bool) -> Scored:
        """Return the score, the whole map and, to `rebuild`, the reconstruction of one picture."""
        height, width = picture.shape[:2]
        first = self._of_tiles(picture, tiling, [(0, 0)])
        _, *tile = self.preprocessing.shape
        cells = first["anomaly_map"].shape[1:] if "anomaly_map" in first else (1, 1)
        sizes = (height, width), (tile[0], tile[1]), (cells[0], cells[1])
        mosaic, parts = Mosaic(tiling, *sizes), Mosaic(tiling, *sizes)
        made = first.get("reconstruction")
        # Tiles are laid for the cells of the map, which therefore must be its own.
        planes = made[0] if rebuild and made is not None and made.shape[2:] == cells else ()
        again = [Mosaic(tiling, *sizes) for _ in planes]
        corners, together = mosaic.corners, self.engine.batch_size

        def run(start: int) -> Outputs:
            if start == 0 and together == 1:
                return first
            return self._of_tiles(picture, tiling, corners[start : start + together])

        scores: list[float] = []
        starts = range(0, len(corners), together)
        # An engine that takes several at once is given one batch at a time.
        threads = self.workers if together == 1 else 1
        for start, outputs in zip(starts, in_order(run, starts, threads=threads), strict=True):
            for i, each in enumerate(outputs.get("anomaly_map", ())):
                mosaic.put(start + i, each)
            for i, each in enumerate(outputs.get("part", ())):
                parts.put(start + i, each)
            for i, each in enumerate(outputs.get("reconstruction", ())):
                for joined, plane in zip(again, each, strict=False):
                    joined.put(start + i, plane)
            scores += outputs["score"].reshape(-1).tolist() if "score" in outputs else []
        score = float(np.max(scores)) if scores else self.aggregation(mosaic.map)
        scored = Scored(
            score,
            mosaic.map if "anomaly_map" in first else None,
            np.stack([joined.map for joined in again]) if again else None,
        )
        return self._apart(scored, parts.map) if "part" in first else scored

    def _of_tiles(
        self, picture: Picture, tiling: Tiling, corners: Sequence[tuple[int, int]]
    ) -> Outputs:
        batch = self._batch([cut_tile(picture, *corner, tiling.size) for corner in corners])
        return _checked(self.engine.run(batch), batch)

    def _score(
        self, i: int, maps: NDArray[np.float32] | None, scores: NDArray[np.float32] | None
    ) -> float:
        if scores is not None:
            return float(scores.reshape(-1)[i])
        return self.aggregation(maps[i]) if maps is not None else math.nan

    def _laid_back(self, scored: Scored, placed: Placed) -> Scored:
        """Return what was found on a part as it lies on its own picture.

        What the picture does not show decides nothing. A score that the graph gave itself stays.
        """
        found = scored.anomaly_map
        if found is None:
            return scored._replace(notes=placed.notes)
        back = placed.back(found)
        score = self.aggregation(back) if scored.score == self.aggregation(found) else scored.score
        return scored._replace(score=score, anomaly_map=back, notes=placed.notes)

    def _turned_back(self, scored: Scored, aligned: Aligned, picture: Picture) -> Scored:
        """Return what was found on a part in one pose as it lies on its own picture.

        What the picture does not show decides nothing. A score that the graph gave itself stays.
        """
        found, beside, made = scored.anomaly_map, scored.beside, scored.reconstruction
        said = scored._replace(
            notes=(*scored.notes, *aligned.notes),
            in_doubt=not aligned.is_sure,
            removed=None if scored.removed is None else aligned.back_mask(scored.removed),
            beside=None if beside is None else aligned.back_ground(beside),
        )
        if made is not None:
            white = full_scale(picture, self.preprocessing.white_level)
            said = said._replace(reconstruction=aligned.back_picture(made, picture, white))
        if found is None:
            return said
        kept = aligned.kept(found)
        score = self.aggregation(kept) if scored.score == self.aggregation(found) else scored.score
        return said._replace(score=score, anomaly_map=aligned.back(kept))

    def _by_class(self, scored: Scored) -> Scored:
        """Return a part scored by the probabilities of the kinds of damage."""
        if scored.probabilities is None or len(scored.probabilities) != len(self.class_scales) + 1:
            raise ModelFileError(
                "The graph gives no probabilities of the classes that have budgets of their own. "
                "Fit the model again."
            )
        kinds = scored.probabilities[1:].tolist()
        return scored._replace(score=Zones.score(kinds, self.class_scales))

    def _by_zone(self, scored: Scored, zones: Zones) -> Scored:
        """Return what zones make of a part: its score and its map are theirs."""
        if scored.anomaly_map is None:
            raise ConfigurationError(
                "Zones need an anomaly map, but this detector gives none. Leave zones out, or use "
                "a detector with maps."
            )
        looked = zones.look(scored.anomaly_map, self.aggregation)
        return scored._replace(score=looked.score, anomaly_map=looked.anomaly_map, zones=looked)


def _seen_through(
    changes: Sequence[Aligned | Placed | None], pictures: Sequence[Picture]
) -> list[Picture]:
    """Return pictures changed, or as they are where nothing changes them."""
    return [
        picture if each is None else each.picture
        for picture, each in zip(pictures, changes, strict=True)
    ]


def _checked(outputs: Outputs, batch: NDArray[np.float32]) -> Outputs:
    """Return a graph's outputs; raise `ModelFileError` where their shapes are unusable."""
    maps, scores = outputs.get("anomaly_map"), outputs.get("score")
    made, n = outputs.get("reconstruction"), len(batch)
    parts = outputs.get("part")
    usable = (maps is None or (maps.ndim == 3 and len(maps) == n and maps.size > 0)) and (
        scores.size == n if scores is not None else maps is not None
    )
    usable &= parts is None or (maps is not None and parts.shape == maps.shape)
    if not usable or (made is not None and made.shape != batch.shape):
        shapes = {name: values.shape for name, values in outputs.items()}
        raise ModelFileError(
            f"The graph gives {shapes} for {n} picture{'' if n == 1 else 's'}; expected "
            f"anomaly_map ({n}, h, w), or one score each. Fit the model again."
        )
    return outputs
