"""Which pictures of a folder are masks, and of which others: told by names, and by a look at some.

Masks lie in a folder of their own, or beside their pictures under a longer name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from makellos.data.names import folded, with_underscores
from makellos.data.pictures import LOSSY_SUFFIXES, read_picture
from makellos.errors import InputError

__all__ = ["Masks", "find_masks"]

_ALWAYS = frozenset({"ground_truth", "groundtruth"})
# Also as one word of several: Mask_images, GT masks.
_USUALLY = frozenset({"mask", "masks", "gt", "gts", "maske", "masken"})
# Names that a kind of damage may have as well: a label that sits askew.
_AT_TIMES = frozenset(
    {"label", "labels", "annotation", "annotations", "segmentation", "segmentations", "seg"}
)
_LONGER = re.compile(
    r"(?P<stem>.+)[_\-. ](?P<kind>masks?|gt|ground[_-]?truth|labels?|seg|segmentation|annotation)$"
    r"|(?P<first>masks?|gt)[_\-. ](?P<rest>.+)$",
    re.IGNORECASE,
)
_ENDING = re.compile(r"(?P<stem>.+)[_\-. ](?P<ending>[^\W\d_]+)$")
_LOOKED_AT = 3  # of a folder
_MAX_VALUES = 8  # of a mask that tells kinds of damage apart; any photograph has more
_NEAR = 24  # to black or white, after lossy compression
_SIDE = 512  # pixels of a mask that are looked at, per side


@dataclass
class Masks:
    """Hold which files are masks.

    `of` maps a picture to the mask beside it; `apart` are masks in folders of their own, by the
    names that they share with their picture, in lower case and the best first. `notes` say what was
    not taken for masks.
    """

    of: dict[Path, Path] = field(default_factory=dict)
    apart: dict[tuple[str, ...], Path] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def find_masks(root: Path, files: Sequence[Path]) -> Masks:
    """Tell which of the pictures `files` below `root` are masks; some are opened to be sure.

    All in a folder ``ground_truth`` are. Those in ``mask``, ``gt`` and the like are where they do
    not look like photographs, those in ``label`` and the like where they look like masks. Beside
    a picture, one of its name and ``_mask`` or the like is its mask; and so are, where they look
    like masks, those of its name and another ending, and PNG, BMP or TIFF of the name of a JPEG.
    """
    found = Masks()
    folders: defaultdict[PurePath, list[Path]] = defaultdict(list)
    others: list[Path] = []
    for path in files:
        folder = _mask_folder(path.relative_to(root))
        (others if folder is None else folders[folder]).append(path)
    for folder, inside in folders.items():
        if not others or not _holds_masks(folder, inside, found.notes):
            others += inside
            continue
        found.files.update(inside)
        # Of several files for one picture ..._mask wins, and a PNG.
        for path in sorted(inside, key=lambda path: (not _is_longer(path), path.suffix != ".png")):
            found.apart.setdefault(_shared_name(path.relative_to(root), folder), path)
    found.of = dict(_beside(others))
    found.files.update(found.of.values())
    return found


def _mask_folder(below: PurePath) -> PurePath | None:
    """Return the first folder of a path that is named as one of masks."""
    for depth, name in enumerate(below.parts[:-1], start=1):
        joined = with_underscores(name)
        if joined in _ALWAYS | _AT_TIMES or not _USUALLY.isdisjoint(joined.split("_")):
            return PurePath(*below.parts[:depth])
    return None


def _holds_masks(folder: PurePath, inside: Sequence[Path], notes: list[str]) -> bool:
    name = with_underscores(folder.name)
    if name in _ALWAYS:
        return True
    looks = _look_at_some(inside)
    if (all(looks) and None not in looks) if name in _AT_TIMES else False not in looks:
        return True
    if name not in _AT_TIMES:
        notes.append(
            f"The pictures in {folder.as_posix()} do not look like masks, so they were read as "
            "parts. If they are masks, name the folder ground_truth."
        )
    return False


def _look_at_some(paths: Sequence[Path]) -> list[bool | None]:
    step = max(1, len(paths) // _LOOKED_AT)
    return [_looks_like_mask(path) for path in sorted(paths)[::step][:_LOOKED_AT]]


def _looks_like_mask(path: Path) -> bool | None:
    """Tell whether a picture has few values, as masks have; None for one that cannot be read."""
    try:
        picture = read_picture(path)
    except InputError:
        return None
    steps = tuple(slice(None, None, max(1, side // _SIDE)) for side in picture.shape[:2])
    seen = picture[steps].reshape(-1, 1 if picture.ndim == 2 else picture.shape[2])
    if path.suffix.lower() in LOSSY_SUFFIXES:
        white = np.iinfo(picture.dtype).max
        return bool(np.mean((seen <= _NEAR) | (seen >= white - _NEAR)) > 0.97)
    return len(np.unique(seen, axis=0)) <= _MAX_VALUES


def _shared_name(below: PurePath, folder: PurePath) -> tuple[str, ...]:
    """Return the names that a mask shares with its picture: all but that of its folder."""
    depth = len(folder.parts)
    parts = [*below.parts[: depth - 1], *below.parts[depth:-1], _stem(below)]
    return tuple(map(folded, parts))


def _stem(path: PurePath) -> str:
    """Return the name of the picture that a mask is named after."""
    named = _LONGER.match(path.stem)
    return path.stem if named is None else named["stem"] or named["rest"]


def _is_longer(path: PurePath) -> bool:
    return _LONGER.match(path.stem) is not None


def _beside(files: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield pictures with the masks that lie beside them."""
    by_stem: defaultdict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in files:
        by_stem[path.parent, folded(path.stem)].append(path)
    unsure: defaultdict[tuple[Path, str], list[tuple[Path, Path]]] = defaultdict(list)
    for path in files:
        named = _LONGER.match(path.stem)
        if named is not None:
            pictures = by_stem.get((path.parent, folded(_stem(path))), [])
            kind = (named["kind"] or named["first"]).casefold()
            if len(pictures) == 1 and (kind not in _AT_TIMES or _looks_like_mask(path)):
                yield pictures[0], path
        elif (ending := _ENDING.match(path.stem)) is not None:
            pictures = by_stem.get((path.parent, folded(ending["stem"])), [])
            if len(pictures) == 1:
                unsure[path.parent, ending["ending"]].append((pictures[0], path))
    for (folder, _), alike in by_stem.items():
        exact = [path for path in alike if path.suffix.lower() not in LOSSY_SUFFIXES]
        if len(alike) == 2 and len(exact) == 1:
            unsure[folder, ""].append((next(path for path in alike if path not in exact), exact[0]))
    for pairs in unsure.values():
        photos, masks = (_look_at_some(each) for each in zip(*pairs, strict=True))
        if all(masks) and None not in masks and not any(photos):
            yield from pairs
