"""What a station may learn from: the parts of a time, with the decisions on them."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from makellos.data.pictures import decode_picture
from makellos.errors import InputError
from makellos.inspection.findings import UNREADABLE
from makellos.storage import write_bytes
from makellos.store import Filter, Store, StoredInspection, iso

__all__ = ["Harvest", "harvest", "write_manifest"]

_PAGE = 500
_FEWEST = 20  # good parts, below which nothing useful can be promised


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """Hold the parts of a time that count as good, and those that a person called defective.

    `n_assumed` of the good ones were called so by the model alone. The parts lie between `since`
    and `until`, µs since 1970.
    """

    good: tuple[StoredInspection, ...]
    defective: tuple[StoredInspection, ...]
    n_assumed: int
    since: int
    until: int

    def figures(self) -> dict[str, object]:
        """Return what is told of it."""
        return {
            "n_good": len(self.good),
            "n_assumed_good": self.n_assumed,
            "n_defective": len(self.defective),
            "since": iso(self.since),
            "until": iso(self.until),
        }


def harvest(
    store: Store,
    recipe: str,
    *,
    since: int,
    until: int,
    most: int,
    calibrates: bool = False,
    seed: int = 0,
) -> Harvest:
    """Return what is known of the parts of a recipe from `since` to before `until`.

    Of more than `most` good parts as many are drawn. Defective parts of regression sets are left
    out: they judge what is learned. Good ones are not: people lock what the model doubted, and a
    threshold that never saw it would be too low. What a fit learned from is left out of what
    `calibrates`: a model knows it better than parts to come. What was accepted counts as good
    unless a person said otherwise.

    Raises `InputError` where rejected or doubtful parts were not decided, or pictures of some parts
    are gone: good parts that are left out because of what the model thought of them, or because
    nobody looked at them, would make every promise of a threshold wrong.
    """
    judging = {
        part.picture
        for each in store.regression_sets.all(recipe)
        for part in store.regression_sets.parts(each.name)
        if part.decision == "defective"
    }
    left_out = store.candidates.fitted_on(recipe) if calibrates else set()
    good, defective, undecided, gone, n_assumed = [], [], [], [], 0
    for part in _all(store, Filter(recipe=recipe, since=since, until=until)):
        if part.verdict == UNREADABLE or part.picture in left_out:
            continue
        if part.decision is None and part.verdict != "ok":
            undecided.append(part)
        elif part.picture is None or store.picture(part.picture) is None:
            gone.append(part)
        elif part.decision == "defective":
            if part.picture not in judging:
                defective.append(part)
        else:
            n_assumed += part.decision is None
            good.append(part)
    _check_all_known(undecided, gone)
    if len(good) < _FEWEST:
        raise InputError(
            f"There are {len(good)} good parts in this time; at least {_FEWEST} are needed. Begin "
            "earlier."
        )
    if len(good) > most:
        chosen = random.Random(seed).sample(range(len(good)), most)  # noqa: S311 -- no secret
        good = [good[index] for index in sorted(chosen)]
        n_assumed = sum(part.decision is None for part in good)
    return Harvest(
        good=tuple(good),
        defective=tuple(defective),
        n_assumed=n_assumed,
        since=since,
        until=until,
    )


def _check_all_known(
    undecided: Sequence[StoredInspection], gone: Sequence[StoredInspection]
) -> None:
    if undecided:
        raise InputError(
            f"{len(undecided)} rejected or doubtful parts of this time have no decision yet. "
            "Review them first: without them good parts would look better than they are."
        )
    if gone:
        last = iso(max(part.time for part in gone) + 1)
        raise InputError(
            f"The pictures of {len(gone)} parts of this time are gone. Begin after {last}, or keep "
            "pictures longer."
        )


def write_manifest(store: Store, found: Harvest, file: Path, *, labelled: bool) -> None:
    """Write a manifest of the good parts, and of defective ones with their boxes if `labelled`.

    A part that was inspected several times is one group: its serial number.
    """
    rows = [_row(store, part, "good") for part in found.good]
    if labelled:
        for part in found.defective:
            row = _row(store, part, "defective")
            row["mask"] = _write_mask(store, part, file.parent)
            rows.append(row)
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, ["path", "label", "group", "mask"], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _row(store: Store, part: StoredInspection, label: str) -> dict[str, str]:
    group = f"part {part.id}" if part.serial is None else f"serial {part.serial}"
    return {"path": str(store.picture(part.picture)), "label": label, "group": group, "mask": ""}


def _write_mask(store: Store, part: StoredInspection, folder: Path) -> str:
    """Write the boxes of the last word as a mask, and return its path; empty without a box."""
    words = [review for review in store.reviews(part.id) if not review.blind]
    boxes = words[-1].boxes if words else ()
    path = store.picture(part.picture)
    if not boxes or path is None:
        return ""
    height, width = decode_picture(path.read_bytes(), part.input).shape[:2]
    mask = np.zeros((height, width), np.uint8)
    for box in boxes:
        top, left = max(0, round(box.y)), max(0, round(box.x))
        mask[top : round(box.y + box.height), left : round(box.x + box.width)] = 255
    target = folder / f"mask-{part.id}.png"
    write_bytes(target, cv2.imencode(".png", mask)[1].tobytes())
    return str(target)


def _all(store: Store, wanted: Filter) -> Iterator[StoredInspection]:
    before = None
    while page := store.history(wanted, before=before, limit=_PAGE):
        yield from page
        before = page[-1].id
