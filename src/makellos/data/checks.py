"""What a data folder holds and what is wrong with it, before anything is learned from it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np

from makellos.data._findings import Findings, advice, listed, n_of, problems
from makellos.data.copies import Sketch, as_groups, copies, sketch
from makellos.data.labelled import misplaced
from makellos.data.parts import Part, PartSet, group_names
from makellos.data.pictures import Picture, decode_framed, read_encoded, read_marks, read_picture
from makellos.data.progress import Progress, no_progress
from makellos.data.shapes import Shape, Shapes
from makellos.data.threads import in_order
from makellos.errors import InputError

__all__ = [
    "DataCheck",
    "check_parts",
    "check_readable",
    "looked_at",
    "readable",
    "refuse_marked",
    "sketched",
]

# Decoding releases the GIL; with more threads than this the disk is the limit.
MAX_THREADS = 8
NO_SPLIT = "none"
_SPLIT_ORDER = ("train", "val", "test", NO_SPLIT)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class DataCheck(Findings):
    """Hold what a data folder contains and what is wrong with it; `dataclasses.asdict` is JSON.

    Parameters
    ----------
    problems : sentences about what should be put right before anything is learned.
    advice : sentences about what is good to know.
    """

    problems: list[str]
    advice: list[str]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Hold what decoding one part and its mask has shown, or why they cannot be decoded."""

    error: str | None = None
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    n_frames: int = 1
    peak: int | None = None
    sketch: Sketch | None = None
    reference_error: str | None = None
    mask_error: str | None = None
    mask_size: tuple[int, int] | None = None
    is_marked: bool = False


_Decoded = list[tuple[Part, _Seen]]


def check_parts(parts: PartSet, *, progress: Progress = no_progress) -> DataCheck:
    """Decode every picture and mask of a set, say what it holds and what is wrong with it.

    Files that are wrong raise no error; a folder that cannot be listed raises `InputError`.
    """
    looked = list(zip(parts.parts, _in_threads(_look, parts.parts, progress), strict=True))
    found = _findings(parts, looked)
    return DataCheck(**asdict(found), problems=list(problems(found)), advice=list(advice(found)))


def readable(
    parts: Iterable[Part], *, progress: Progress = no_progress
) -> tuple[list[Part], list[tuple[Part, str]]]:
    """Decode all pictures and return the parts that can be decoded, and the others with the reason.

    Both keep the order of `parts`.
    """
    listed = list(parts)
    reasons = list(zip(listed, _in_threads(_reason, listed, progress), strict=True))
    found = [part for part, reason in reasons if reason is None]
    return found, [(part, reason) for part, reason in reasons if reason is not None]


def sketched(
    parts: Sequence[Part],
    progress: Progress,
    shapes: Shapes | None = None,
    *,
    compared: bool = False,
    closely: Container[int] | None = None,
    threads: int | None = None,
) -> tuple[list[Part], list[Sketch], list[tuple[Part, str]]]:
    """Decode all pictures as `readable` does; return the parts, their sketches, and the others.

    `shapes` gather what the pictures are like. Parts that are `compared` need references. Sketches
    are made `closely` of the parts at these positions; None: of all. `threads` read at once;
    None: as many as suit the machine.
    """
    look = _compared_or_reason if compared else _sketch_or_reason

    def see(numbered: tuple[int, Part]) -> tuple[Sketch, Shape] | str:
        number, part = numbered
        return look(part, closely is None or number in closely)

    looked = list(
        zip(parts, _in_threads(see, list(enumerate(parts)), progress, threads), strict=True)
    )
    found = [(part, *seen) for part, seen in looked if not isinstance(seen, str)]
    for part, _, shape in found:
        if shapes is not None:
            shapes.add(part.name, shape)
    broken = [(part, seen) for part, seen in looked if isinstance(seen, str)]
    return [part for part, *_ in found], [seen for _, seen, _ in found], broken


def looked_at(
    parts: Sequence[Part], look: Callable[[Picture], Result], progress: Progress
) -> tuple[list[Part], list[Sketch], list[Result], list[tuple[Part, str]]]:
    """Decode all pictures once; return the parts, their sketches, what `look` says, and the others.

    The last are the parts that cannot be decoded, each with the reason.
    """

    def see(part: Part) -> tuple[Sketch, Result] | str:
        try:
            picture = part.read()
        except InputError as error:
            return str(error)
        return sketch(picture), look(picture)

    looked = list(zip(parts, _in_threads(see, parts, progress), strict=True))
    found = [(part, *seen) for part, seen in looked if not isinstance(seen, str)]
    broken = [(part, seen) for part, seen in looked if isinstance(seen, str)]
    return [p for p, *_ in found], [s for _, s, _ in found], [r for *_, r in found], broken


def refuse_marked(parts: Iterable[Part]) -> None:
    """Raise `InputError` where parts labelled good have masks that mark damage."""
    marked = [part.name for part in parts if part.is_good and _marks_damage(part)]
    if marked:
        raise InputError(
            f"{n_of(marked, 'part')} labelled good (or without a label), with pixels marked as "
            f"damage in a mask: {listed(marked)}. Put damaged parts into a folder of their own, or "
            "remove masks that mark something else."
        )


def _marks_damage(part: Part) -> bool:
    if part.mask is None:
        return False
    try:
        return bool(read_marks(part.mask).any())
    except InputError:
        return False


def check_readable(parts: Sequence[Part], progress: Progress) -> None:
    """Raise `InputError` naming the parts that cannot be decoded."""
    _, broken = readable(parts, progress=progress)
    if broken:
        listed = "\n  ".join(reason for _, reason in broken)
        raise InputError(
            f"{len(broken)} of {len(parts)} files cannot be used:\n  {listed}\nFix or remove them."
        )


def _in_threads(
    work: Callable[[Item], Result],
    parts: Sequence[Item],
    progress: Progress,
    threads: int | None = None,
) -> list[Result]:
    threads, results = threads or min(MAX_THREADS, os.cpu_count() or 1), []
    with closing(in_order(work, parts, threads=threads)) as found:
        for result in found:
            results.append(result)
            progress("reading", len(results), len(parts))
    return results


def _reason(part: Part, read: Callable[[Part], Picture] = Part.read) -> str | None:
    try:
        read(part)
    except InputError as error:
        return str(error)
    return None


def _sketch_or_reason(part: Part, closely: bool) -> tuple[Sketch, Shape] | str:
    try:
        picture, n_frames = part.read_framed()
        return sketch(picture, closely=closely), Shape.of(picture, n_frames)
    except InputError as error:
        return str(error)


def _compared_or_reason(part: Part, closely: bool) -> tuple[Sketch, Shape] | str:
    return _reason(part, Part.read_reference) or _sketch_or_reason(part, closely)


def _look(part: Part) -> _Seen:
    try:
        if part.element is None:
            encoded = read_encoded(part.path)
            picture, n_frames = decode_framed(encoded, str(part.path))
        else:
            encoded = part.element.content()
            picture, n_frames = part.read_framed()
    except InputError as error:
        return _Seen(error=str(error))
    seen = _Seen(
        digest=hashlib.blake2b(encoded, digest_size=16).digest(),
        size=_size(picture),
        mode=Shape.of(picture).mode,
        n_frames=n_frames,
        peak=int(picture.max()) if picture.dtype == np.uint16 else None,
        sketch=sketch(picture),
        reference_error=None if part.reference is None else _reason(part, Part.read_reference),
    )
    if part.mask is None:
        return seen
    try:
        mask = read_picture(part.mask)
    except InputError as error:
        return replace(seen, mask_error=str(error))
    return replace(seen, mask_size=_size(mask), is_marked=bool(mask.any()))


def _size(picture: Picture) -> tuple[int, int]:
    """Return width and height in pixels."""
    return picture.shape[1], picture.shape[0]


def _findings(parts: PartSet, looked: _Decoded) -> Findings:
    decoded = {part.name: seen for part, seen in looked if seen.error is None}
    near, groups = _near_copies(looked)
    good = [part for part in parts.good() if part.name in decoded]
    aside = [part for part in parts.calibration() if part.name in decoded]
    tested = [part for part in parts.test() if part.name in decoded]
    masked = [(part, seen) for part, seen in looked if part.mask is not None]
    compared = [(part, seen) for part, seen in masked if seen.mask_size is not None]
    duplicates = _duplicates(looked)
    shared = _shared_groups(parts)
    peaks = [seen.peak for seen in decoded.values() if seen.peak is not None]
    return Findings(
        n_parts=len(parts),
        n_groups=len(set(group_names(parts.parts))),
        layout=parts.layout,
        labels=dict(sorted(Counter(part.label for part in parts).items())),
        counts=_counts(parts),
        n_good=len(good),
        n_calibration=len({groups[part.name] for part in aside or good}),
        n_test_good=sum(part.is_good for part in tested),
        n_test_defective=sum(not part.is_good for part in tested),
        sizes=_ranked("{}x{}".format(*seen.size) for seen in decoded.values()),
        modes=_ranked(seen.mode for seen in decoded.values()),
        giveaways=_giveaways(looked),
        peak_16_bit=max(peaks, default=None),
        framed=[part.name for part, seen in looked if seen.n_frames > 1],
        unreadable=[(part.name, seen.error) for part, seen in looked if seen.error is not None],
        duplicates=[_names(same) for same in duplicates],
        leaks=[_names(same) for same in duplicates if len({p.split == "test" for p in same}) > 1],
        contradictions=[_names(same) for same in duplicates if len({p.label for p in same}) > 1],
        shared_groups=shared,
        n_sharing=sum(part.group in shared for part in tested),
        blank=[name for name, seen in decoded.items() if seen.sketch and seen.sketch.is_blank],
        unreadable_references=[
            (part.name, seen.reference_error) for part, seen in looked if seen.reference_error
        ],
        without_reference=[part.name for part in parts if part.reference is None]
        if any(part.reference is not None for part in parts)
        else [],
        unreadable_masks=[(p.name, seen.mask_error) for p, seen in masked if seen.mask_error],
        mismatched_masks=[p.name for p, seen in compared if seen.mask_size != seen.size],
        empty_masks=[p.name for p, s in compared if not (s.is_marked or p.is_good)],
        marked_good=[p.name for p, s in compared if s.is_marked and p.is_good],
        without_mask=[p.name for p in parts if p.mask is None and not p.is_good],
        n_masks=len(masked),
        misplaced=misplaced(parts.parts),
        singles=_singles(parts),
        idle=parts.idle(),
        near_copies=near,
        unused=list(parts.left_out),
        notes=list(parts.notes),
    )


def _names(parts: Iterable[Part]) -> list[str]:
    return [part.name for part in parts]


def _singles(parts: PartSet) -> list[str]:
    """Return the labels of one part alone, where parts have several labels."""
    counts = Counter(part.label for part in parts)
    return sorted(label for label, n in counts.items() if n == 1 and len(counts) > 1)


def _ranked(values: Iterable[str]) -> dict[str, int]:
    """Count values, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _counts(parts: PartSet) -> dict[str, dict[str, int]]:
    counted = Counter((part.split or NO_SPLIT, part.label) for part in parts)
    return {
        split: {label: n for (of, label), n in sorted(counted.items()) if of == split}
        for split in _SPLIT_ORDER
        if any(of == split for of, _ in counted)
    }


def _duplicates(looked: _Decoded) -> list[list[Part]]:
    same: defaultdict[bytes, list[Part]] = defaultdict(list)
    for part, seen in looked:
        if seen.error is None:
            same[seen.digest].append(part)
    return [parts for parts in same.values() if len(parts) > 1]


def _near_copies(looked: _Decoded) -> tuple[list[list[str]], dict[str, str]]:
    """Return sets of pictures that are nearly identical, and the group of each part by its name."""
    parts = [part for part, seen in looked if seen.sketch]
    digests = [seen.digest for _, seen in looked if seen.sketch]
    sets = copies([seen.sketch for _, seen in looked if seen.sketch])
    near = [
        [parts[i].name for i in alike] for alike in sets if len({digests[i] for i in alike}) > 1
    ]
    names = group_names(as_groups(parts, sets))
    return near, {part.name: name for part, name in zip(parts, names, strict=True)}


def _shared_groups(parts: PartSet) -> list[str]:
    """Return the groups that are tested and of which other parts are not."""
    tested = {part.group for part in parts if part.split == "test" and part.group is not None}
    others = {part.group for part in parts if part.split != "test"}
    return sorted(tested & others)


def _giveaways(looked: _Decoded) -> list[str]:
    """Name what tells good parts from defective ones without a look at the pixels."""
    traits = [
        (part.is_good, {"size": str(seen.size), "mode": seen.mode, "file format": _format(part)})
        for part, seen in looked
        if seen.error is None
    ]
    found = []
    for name in ("size", "mode", "file format"):
        good, defective = (
            {trait[name] for is_good, trait in traits if is_good is side} for side in (True, False)
        )
        # Where every picture has a size of its own, they differ without meaning anything.
        if 1 <= len(good) <= 2 and 1 <= len(defective) <= 2 and not good & defective:
            found.append(name)
    return found


def _format(part: Part) -> str:
    suffix = part.path.suffix.lower()
    return {".jpeg": ".jpg", ".tiff": ".tif"}.get(suffix, suffix)
