"""How pictures are inspected: read, scored, judged, one by one or in batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from makellos.data.parts import Part
from makellos.data.pictures import Picture
from makellos.data.shapes import Shape
from makellos.errors import InputError
from makellos.inspection.findings import Inspection, unreadable
from makellos.inspection.judge import Judge
from makellos.inspection.manifest import PicturesRecord
from makellos.inspection.scorer import Scorer
from makellos.inspection.statistics import statistics_of
from makellos.inspection.zones import ZonesRecord

__all__ = ["PictureLane"]

_FRAMES = (
    "The file holds {} pages or frames, of which the first was inspected; --pages all makes a part "
    "of each page of a TIFF."
)


@dataclass(frozen=True)
class PictureLane:
    """Inspect pictures with a scorer and a judge; `zones` are those drawn for the model.

    `learned` says what the pictures were like that it learned from. With `statistics` each finding
    has those of its picture that tell of a drift.
    """

    scorer: Scorer
    judge: Judge
    zones: ZonesRecord | None
    learned: PicturesRecord | None = None
    statistics: bool = False

    @property
    def batch_size(self) -> int:
        """Return how many pictures the engine takes at once; 1 where each has work of its own."""
        alone = self.scorer.tiling is not None or self.zones is not None
        return 1 if alone else self.scorer.engine.batch_size

    def inspect(self, part: Part, *, keep: bool = False) -> Inspection:
        """Inspect one picture; one that cannot be read is ``unreadable``.

        `keep` puts the decoded picture into the inspection.
        """
        started = time.perf_counter()
        try:
            picture, n_frames = part.read_framed()
            if self.zones is not None:
                self.zones.check_size(part.name, (picture.shape[0], picture.shape[1]))
            seen = self.scorer.preprocessing.joined(picture, part)
            (scored,) = self.scorer.many([seen], rebuild=keep)
        except InputError as error:
            return unreadable(part.name, started, str(error))
        found = self.judge(part.name, picture, scored, started)
        return self._noted(found, picture, n_frames, keep=keep)

    def batch(self, parts: Sequence[Part], *, keep: bool = False) -> Iterator[Inspection | None]:
        """Inspect parts at once, who share the time equally; None for what fails together."""
        begun = time.perf_counter()
        pictures: dict[int, Picture] = {}
        seen: dict[int, Picture] = {}
        n_frames: dict[int, int] = {}
        for i, part in enumerate(parts):
            with suppress(Exception):
                pictures[i], n_frames[i] = part.read_framed()
                seen[i] = self.scorer.preprocessing.joined(pictures[i], part)
        try:
            found = dict(zip(seen, self.scorer.many(list(seen.values())), strict=True))
        except Exception:  # noqa: BLE001 -- one part may spoil a batch, and must not
            found = {}
        spent = (time.perf_counter() - begun) / max(1, len(found))
        for i, part in enumerate(parts):
            if i not in found:
                yield None
                continue
            judged = self.judge(part.name, pictures[i], found[i], time.perf_counter() - spent)
            yield self._noted(judged, pictures[i], n_frames[i], keep=keep)

    def _noted(
        self, found: Inspection, picture: Picture, n_frames: int, *, keep: bool
    ) -> Inspection:
        """Say what is odd about a picture; `keep` it in the inspection."""
        shape = Shape.of(picture, n_frames)
        notes = [*found.notes, *([] if self.learned is None else self.learned.oddities(shape))]
        if n_frames > 1:
            notes.append(_FRAMES.format(n_frames))
        white = self.scorer.preprocessing.white_level
        return replace(
            found,
            picture=picture if keep else None,
            notes=tuple(notes),
            statistics=statistics_of(picture, white) if self.statistics else None,
        )
