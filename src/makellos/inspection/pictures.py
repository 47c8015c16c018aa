"""How pictures are inspected: read, scored, judged, one by one or in batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from makellos.data.parts import Part
from makellos.data.pictures import Picture
from makellos.errors import InputError
from makellos.inspection.findings import Inspection, unreadable
from makellos.inspection.judge import Judge
from makellos.inspection.scorer import Scorer
from makellos.inspection.zones import ZonesRecord

__all__ = ["PictureLane"]


@dataclass(frozen=True)
class PictureLane:
    """Inspect pictures with a scorer and a judge; `zones` are those drawn for the model."""

    scorer: Scorer
    judge: Judge
    zones: ZonesRecord | None

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
            picture = part.read()
            if self.zones is not None:
                self.zones.check_size(part.name, (picture.shape[0], picture.shape[1]))
            (scored,) = self.scorer.many([picture])
        except InputError as error:
            return unreadable(part.name, started, str(error))
        found = self.judge(part.name, picture, scored, started)
        return replace(found, picture=picture) if keep else found

    def batch(self, parts: Sequence[Part], *, keep: bool = False) -> Iterator[Inspection | None]:
        """Inspect parts at once, who share the time equally; None for what fails together."""
        begun = time.perf_counter()
        pictures: dict[int, Picture] = {}
        for i, part in enumerate(parts):
            with suppress(Exception):
                pictures[i] = part.read()
        try:
            found = dict(zip(pictures, self.scorer.many(list(pictures.values())), strict=True))
        except Exception:  # noqa: BLE001 -- one part may spoil a batch, and must not
            found = {}
        spent = (time.perf_counter() - begun) / max(1, len(found))
        for i, part in enumerate(parts):
            if i not in found:
                yield None
                continue
            judged = self.judge(part.name, pictures[i], found[i], time.perf_counter() - spent)
            yield replace(judged, picture=pictures[i]) if keep else judged
