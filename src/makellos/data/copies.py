"""Pictures that show the same part once more: copies, saved anew, shifted in brightness, mirrored.

Two photographs never share their noise, however alike the parts are, and hardly share the fine
detail of what varies from part to part. So pictures are compared by their detail at the scale of
64 cells, each place weighed alike: a common outline, which every part of a series has, is little
of that; a picture that was saved again as JPEG, brightened, scaled, mirrored or turned by a right
angle keeps it. Measured figures stand in ``docs/benchmarks.md``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data._findings import blank_text, copies_text, listed, n_of
from makellos.data.neighbours import Joined, nearest
from makellos.data.parts import Part, group_names
from makellos.data.pictures import Picture
from makellos.data.same_parts import Relief, relief
from makellos.errors import InputError

__all__ = ["Sketch", "as_groups", "copies", "grouped", "is_blank", "sketch", "unlearned"]

_SIZES = (64, 32)  # cells per side; smaller pictures are copies where they are equal
_CONTRAST, _FLOOR = 50.0, 0.5  # detail far below the contrast is rounding, and does not count
_LEAST = 0.02  # root mean square of the detail of a picture that has some
_DISTANCE = 0.2  # 1 - correlation of copies, at most
_APART = 3.0  # times as far lies what is no copy,
_TIDY = 0.1  # and at least so far: nearer are parts that look alike to the last detail
_MIDDLE = 512  # pixels of a side, by which sharpness is judged
_LEVELS = (5, 50, 95)  # per cent
_THUMBNAIL = (8, 8)
_EQUAL = 0.002  # distance of pictures that differ by rounding
_MOST, _SHARE = 4, 6  # copies of one picture, at most so many or a sixth of all
_NEIGHBOURS = 32
_EDGES = 1 << 14  # gone through at once


@dataclass(frozen=True, eq=False)
class Sketch:
    """Hold what tells a picture from others: its pixels' hash, whether all are of one value.

    `details` by cells per side are unit vectors, those that the picture is large enough for.
    `relief` is what pictures of one part share, `looks` are levels, contrast, sharpness and light;
    those of a picture that was not looked at closely are None and empty.
    """

    digest: bytes
    is_blank: bool
    details: Mapping[int, NDArray[np.float32]]
    relief: Relief | None = None
    looks: tuple[float, ...] = ()


def sketch(picture: Picture, *, closely: bool = True) -> Sketch:
    """Return the sketch of a picture H×W or H×W×3, with `relief` and `looks` if `closely`."""
    digest = hashlib.blake2b(f"{picture.shape}{picture.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(picture).data)
    gray = picture if picture.ndim == 2 else picture.mean(2, dtype=np.float32)
    sizes = (size for size in _SIZES if size <= min(picture.shape[:2]))
    details = {size: _detail(gray, size) for size in sizes}
    if not closely:
        return Sketch(digest.digest(), is_blank(picture), details)
    return Sketch(digest.digest(), is_blank(picture), details, relief(picture), _looks(gray))


def copies(sketches: Sequence[Sketch]) -> list[list[int]]:
    """Return the sets of pictures that show the same part, by their positions.

    Equal pictures are copies in any case. Others are where their detail correlates, and where they
    lie much nearer to each other than to any other picture. Where many lie that near together it is
    a series of parts that look alike to the last detail, and equal pictures alone are copies.
    """
    owner = list(range(len(sketches)))
    first: dict[bytes, int] = {}
    for i, each in enumerate(sketches):
        owner[i] = first.setdefault(each.digest, i)
    for size in _SIZES:
        single = [i for i in sorted(set(owner)) if size in sketches[i].details]
        if len(single) == len(set(owner)) or size == _SIZES[-1]:
            vectors = np.array([sketches[i].details[size] for i in single])
            sets_near = _near(vectors, len(sketches)) if len(single) > 2 else []
            first_of = {single[i]: single[near[0]] for near in sets_near for i in near}
            owner = [first_of.get(own, own) for own in owner]
            break
    sets: dict[int, list[int]] = {}
    for i, own in enumerate(owner):
        sets.setdefault(own, []).append(i)
    return [found for found in sets.values() if len(found) > 1]


def as_groups(parts: Sequence[Part], sets: Sequence[Sequence[int]]) -> list[Part]:
    """Return parts whose copies are of one group; the groups that they had become one."""
    names = group_names(parts)
    known = list(dict.fromkeys(names))
    number = {name: i for i, name in enumerate(known)}
    joined = Joined(len(known))
    for alike in sets:
        for i in alike[1:]:
            joined.join(number[names[alike[0]]], number[names[i]])
    owners = [joined.of(number[name]) for name in names]
    copied = {owners[i] for alike in sets for i in alike}
    return [
        replace(part, group=known[own]) if own in copied else part
        for part, own in zip(parts, owners, strict=True)
    ]


def grouped(
    parts: Sequence[Part], sketches: Sequence[Sketch]
) -> tuple[list[Part], bool, list[str]]:
    """Return parts whose copies are of one group, whether there are copies, and what to say of it.

    Raises `InputError` where the good parts are all blank, or all the same picture.
    """
    good = [(part, each) for part, each in zip(parts, sketches, strict=True) if part.is_good]
    _require_variety([part for part, _ in good], [each for _, each in good])
    sets = copies(sketches)
    named = [[parts[i].name for i in alike] for alike in sets]
    blank = [part.name for part, each in zip(parts, sketches, strict=True) if each.is_blank]
    notes = [copies_text(named)] if sets else []
    return as_groups(parts, sets), bool(sets), [*notes, *([blank_text(blank)] if blank else [])]


def unlearned(
    calibrating: Sequence[Part], learned: Sequence[Part], has_copies: bool
) -> tuple[list[Part], list[str]]:
    """Return parts that calibrate without copies of those learned from, and what to say of it.

    Raises `InputError` where none is left.
    """
    groups = {part.group for part in learned} - {None} if has_copies else set()
    kept = [part for part in calibrating if part.group not in groups]
    left = [part.name for part in calibrating if part.group in groups]
    if not left:
        return kept, []
    told = f"{n_of(left, 'part')} of split val whose copies are learned from: {listed(left)}."
    if not kept:
        raise InputError(f"Nothing is left to calibrate with: {told} Give others the split val.")
    return kept, [f"Left out: {told}"]


def _require_variety(good: Sequence[Part], sketches: Sequence[Sketch]) -> None:
    if good and all(each.is_blank for each in sketches):
        raise InputError(
            f"All {n_of(good, 'good part')} are pictures of a single value throughout, such as "
            f"{good[0].path} (lens covered, light off?), so there is nothing to learn from them. "
            "Take pictures of parts."
        )
    if len(good) > 1 and len({each.digest for each in sketches}) == 1:
        raise InputError(
            f"All {len(good)} good parts are the same picture, such as {good[0].path} and "
            f"{good[1].path}; it cannot show how good parts differ. Take a picture of each part."
        )


def _looks(gray: NDArray[np.generic]) -> tuple[float, ...]:
    """Return logarithms of dark, middle and bright values, contrast and sharpness, and a thumbnail.

    Sharpness is that of the middle alone, at full size. The thumbnail is relative to the mean.
    """
    top, left = (max(0, (side - _MIDDLE) // 2) for side in gray.shape[:2])
    middle = gray[top : top + _MIDDLE, left : left + _MIDDLE].astype(np.float32)
    contrast = float(middle.std()) + 0.1
    fine = float(np.abs(cv2.Laplacian(middle, cv2.CV_32F)).mean()) + 0.1
    levels = np.log(np.percentile(gray[::4, ::4].astype(np.float32), _LEVELS) + 1)
    thumbnail = cv2.resize(gray.astype(np.float32), _THUMBNAIL, interpolation=cv2.INTER_AREA)
    relative = thumbnail.ravel() / (float(thumbnail.mean()) + 1)
    return (*levels, math.log(contrast), math.log(fine / contrast), *relative)


def _detail(gray: NDArray[np.generic], size: int) -> NDArray[np.float32]:
    """Return detail, places weighed alike, that is the same however a picture is mirrored."""
    small = cv2.resize(gray.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    small *= _CONTRAST / max(float(small.std()), 1e-6)
    fine = small - _blurred(small, 1.0)
    fine /= np.sqrt(_blurred(fine * fine, 3.0)) + _FLOOR
    turned = sum(np.rot90(fine, k) for k in range(4))
    both = turned + np.fliplr(turned)
    corner: NDArray[np.float32] = both[np.triu_indices(size // 2)] / 8
    corner = corner - corner.mean()
    length = float(np.linalg.norm(corner))
    return corner / length if length > _LEAST * np.sqrt(corner.size) else np.zeros_like(corner)


def _blurred(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    found: NDArray[np.float32] = cv2.GaussianBlur(
        values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT
    )
    return found


def _near(vectors: NDArray[np.float32], n_parts: int) -> list[list[int]]:
    """Return the largest clusters by single linkage whose next neighbour is far in comparison."""
    members = {i: [i] for i in range(len(vectors))}
    widest = dict.fromkeys(members, 0.0)
    owner = list(members)
    most = max(_MOST, n_parts // _SHARE)
    accepted: list[list[int]] = []
    for distance, i, j in _edges(vectors):
        a, b = owner[i], owner[j]
        if a == b:
            continue
        for each in (a, b):
            far = max(_APART * max(widest[each], _EQUAL), _TIDY)
            if 1 < len(members[each]) <= most and widest[each] <= _DISTANCE and distance >= far:
                accepted.append(list(members[each]))
        if len(members[a]) < len(members[b]):
            a, b = b, a  # what moves is the smaller one: a part then moves a few times at most
        for each in members[b]:
            owner[each] = a
        members[a] += members.pop(b)
        widest[a] = distance
        if distance < _TIDY and len(members[a]) > most:
            return []
    # Of clusters within each other the largest came last.
    found: list[list[int]] = []
    taken: set[int] = set()
    for cluster in reversed(accepted):
        if taken.isdisjoint(cluster):
            found.append(cluster)
            taken.update(cluster)
    return found


def _edges(vectors: NDArray[np.float32]) -> Iterator[tuple[float, int, int]]:
    """Yield the distance of each vector to its nearest neighbours, the least first."""
    k = min(_NEIGHBOURS, len(vectors) - 1)
    blocks = list(nearest(vectors, k))
    ends = np.concatenate([found.ravel() for _, found, _ in blocks]).astype(np.int32)
    distances = np.concatenate([1 - alike.ravel() for *_, alike in blocks])
    starts = np.repeat(np.arange(len(vectors), dtype=np.int32), k)
    order = np.lexsort((ends, starts, distances))
    for place in range(0, len(order), _EDGES):
        those = order[place : place + _EDGES]
        rows = (each[those].tolist() for each in (distances, starts, ends))
        yield from ((d, i, j) for d, i, j in zip(*rows, strict=True) if math.isfinite(d))


def is_blank(picture: Picture) -> bool:
    """Tell whether a picture is of one value throughout."""
    first = picture[0, 0]
    # The first row settles nearly every picture.
    return bool((picture[0] == first).all() and (picture == first).all())
