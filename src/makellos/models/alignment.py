"""How good parts lie, and the one pose that they are turned to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress, no_progress
from makellos.detectors import Detector
from makellos.detectors.loading import SMALL_SIDE
from makellos.detectors.patches.rotations import lie_at_any_angle
from makellos.errors import InputError
from makellos.inspection.alignment import (
    Alignment,
    Motion,
    Way,
    centred,
    looked_at,
    mean_part,
    pose_of,
    share_beyond,
)
from makellos.inspection.silhouette import Silhouette, find_silhouette

__all__ = ["WAYS", "PoseChoice", "choose_pose", "learn_alignment", "not_turned"]

_N_SHOWN, _ROUNDS = 64, 3  # good parts that the mean part is made of; times it is made
_FOUND, _ELONGATED = 0.9, 1.25  # share of parts with a silhouette that much longer than wide
_WIDE = (0.95, 0.07)  # quantile of extents; around it, of the longest
_TIGHT = (0.75, 0.03)  # the same where the crop is to save time: shadows are no part
_CUT = 0.04  # of the longest extent, that it cuts at most off what nearly all parts take
_ASLANT, _TURNED = 30.0, 0.2  # degrees; share of parts beyond: they lie at any angle
_LEAST, _LENIENT = 0.3, 0.7  # what a part has to reach: of what the worst of good ones do
# Share of an outline outside a tight crop: always allowed; times that of good parts; at most.
_LITTLE, _TIMES, _MUCH = 0.03, 2.0, 0.35
_N_GLANCED = 8  # good parts of which all have an outline where looking at more may save time
_LARGE = 640 * 640  # pixels of a picture, from which on cropping saves much time
_SAVING = 0.5  # share of the picture that a part's crop takes at most, where that is done

WAYS: dict[str, Way] = {"rotate": "rotate", "register": "register"}
_NOT_TURNED = {
    "rotate": "The good parts have no outline on a plain background. Try register",
    "register": "No pose makes the good parts match. Try rotate if their background is plain",
}

Floats = NDArray[np.float32]
Extent = NDArray[np.float64]  # left, top, right, bottom in pixels of the template


@dataclass(frozen=True)
class PoseChoice:
    """Say how parts are turned to one pose, if they are, and what a user should know of it."""

    alignment: Alignment | None = None
    note: str = ""


_ALIKE = PoseChoice(note="Parts lie alike, and are not turned.")


def choose_pose(
    parts: Sequence[Part], asked: str | None, detector: Detector, progress: Progress
) -> PoseChoice:
    """Return how good parts are turned for a detector: as `asked`, one of `ALIGN`.

    None: ``auto`` for a detector that needs one pose, a look whether it saves time for one that
    `sees_crops`, else ``none``. ``auto`` looks whether they lie at any angle, and does not turn
    pictures of at most `SMALL_SIDE` pixels, such as digits.
    Parts that are laid onto references of their own are not turned before. Raises `InputError`
    where they cannot be turned in the way that is asked for.
    """
    if detector.compares and any(part.reference is not None for part in parts):
        said = "Parts are laid onto their references, and are not turned first."
        return PoseChoice(note=said if asked not in (None, "none") else "")
    if asked in WAYS:
        alignment = learn_alignment(parts, asked, progress)
        if alignment is None:
            raise InputError(not_turned(asked, "use --align none"))
        return PoseChoice(alignment, f"Parts are {alignment}.")
    if not (detector.needs_one_pose or asked == "auto"):
        saves = asked is None and detector.sees_crops()
        return _saving(parts, progress) if saves else PoseChoice()
    if not lie_at_any_angle(parts, progress):
        return _ALIKE if asked == "auto" else PoseChoice()
    if asked == "none":
        return _left(detector, "", "Use --align auto, or patchcore.")
    turned = _turned(parts, detector, progress)
    return PoseChoice() if turned is _ALIKE and asked != "auto" else turned


def _saving(parts: Sequence[Part], progress: Progress) -> PoseChoice:
    """Return how parts are cut out of large pictures of which they take little."""
    if len(parts) < _N_GLANCED:
        return PoseChoice()
    glanced = [part.read() for part in parts[:: -(-len(parts) // _N_GLANCED)]]
    if min(each.shape[0] * each.shape[1] for each in glanced) < _LARGE:
        return PoseChoice()
    if not all(_is_long(find_silhouette(looked_at(each)[0])) for each in glanced):
        return PoseChoice()
    found = _learned(parts, "rotate", progress, refined=False)
    if found is None or found.share > _SAVING:
        return PoseChoice()
    return PoseChoice(
        found.alignment,
        f"The part fills less than {found.share:.0%} of the picture, so it is {found.alignment}; "
        f"inspection is then up to {1 / found.share:.0f} times as fast. To inspect whole pictures, "
        "fit with --align none.",
    )


def _is_long(outline: Silhouette | None) -> bool:
    """Tell whether there is an outline that is longer than wide."""
    return outline is not None and outline.elongation >= _ELONGATED


def _turned(parts: Sequence[Part], detector: Detector, progress: Progress) -> PoseChoice:
    """Return how parts are turned that seem to lie at any angle, or why they are not."""
    if all(max(part.read().shape[:2]) <= SMALL_SIDE for part in parts):
        return _left(
            detector, ". Pictures this small are not turned", "Use larger ones, or patchcore."
        )
    found = _learned(parts, None, progress)
    if found is None:
        none = ". They cannot be turned to one pose, because no pose makes them match"
        return _left(detector, none, "Use a fixture, or patchcore.")
    if not found.at_any_angle:
        return _ALIKE
    but = f", but {detector.name} compares places" if detector.needs_one_pose else ""
    return PoseChoice(
        found.alignment,
        f"These parts lie at any angle{but}: they are {found.alignment}. To leave them as they "
        "lie: --align none.",
    )


def _left(detector: Detector, why: str, advice: str) -> PoseChoice:
    """Return that parts at any angle are not turned, and what it means for a detector."""
    if not detector.needs_one_pose:
        return PoseChoice(note=f"These parts lie at any angle{why}.")
    return PoseChoice(
        note=f"These parts lie at any angle, but {detector.name} compares places{why}: it suits "
        f"parts that always lie the same way, and misses much damage on others. {advice}"
    )


def not_turned(way: str | None, advice: str) -> str:
    """Return why good parts could not be turned to one pose in a way."""
    return f"{_NOT_TURNED.get(way or '', _NOT_TURNED['register'])}, or {advice}."


def learn_alignment(
    parts: Sequence[Part],
    way: str | None = None,
    progress: Progress = no_progress,
    *,
    refined: bool = True,
) -> Alignment | None:
    """Return how parts are turned to one pose, learned from good ones; None if they cannot be.

    Unless `way` is one of `WAYS`, it is by the outline where there is one that is longer than wide,
    else by what agrees best. Parts cannot be turned by an outline that they do not have, and not
    where good ones do not agree. If it is not `refined`, the pose of an outline is taken as it is
    and the crop is tight. Raises `InputError` for a part that cannot be read.
    """
    found = _learned(parts, WAYS.get(way or ""), progress, refined=refined)
    return None if found is None else found.alignment


@dataclass(frozen=True)
class _Learned:
    """Hold an alignment, and the angles in degrees at which it found the good parts.

    `share` is that of a picture which its crop takes.
    """

    alignment: Alignment
    degrees: list[float]
    share: float

    @property
    def at_any_angle(self) -> bool:
        """Tell whether many parts lie otherwise than most, and not a little aslant."""
        turns = np.exp(1j * np.radians(self.degrees))
        # The angle in the middle is that of a part: the one that others lie nearest to.
        apart = np.abs(np.degrees(np.angle(turns[:, None] / turns[None])))
        middle = int(np.median(apart, axis=0).argmin())
        return float((apart[:, middle] > _ASLANT).mean()) > _TURNED


def _learned(
    parts: Sequence[Part], way: Way | None, progress: Progress, *, refined: bool = True
) -> _Learned | None:
    shown, step = [], -(-len(parts) // _N_SHOWN)
    for i, part in enumerate(parts[::step]):
        shown.append(looked_at(part.read())[0])
        progress("checking how parts lie", i + 1, len(parts[::step]))
    outlines = [find_silhouette(each) for each in shown]
    found = [each for each in outlines if each is not None]
    outlined = len(found) >= _FOUND * len(shown)
    long = sum(map(_is_long, found)) >= _FOUND * len(shown)
    chosen: Way = way or ("rotate" if long else "register")
    if chosen == "rotate" and not outlined:
        return None
    known = outlines if outlined else [None] * len(shown)
    mean, agreed, degrees = _posed(shown, known, chosen, _WIDE if refined else _TIGHT)
    beyond = 1.0
    if not refined:
        pairs = list(zip(shown, outlines, strict=True))
        poses = [pose_of(each, mean, outline, 0.0, refined=False) for each, outline in pairs]
        agreed = [value for _, value in poses]
        beyond = _most_beyond(outlines, [motion for motion, _ in poses], mean.shape)
    least = _LENIENT * float(np.quantile(agreed, 0.02))
    if least < _LEAST:
        return None
    share = mean.size / float(np.median([each.shape[0] * each.shape[1] for each in shown]))
    onto = Alignment.onto(chosen, mean, least, refined=refined, beyond=beyond)
    return _Learned(onto, degrees, share)


def _most_beyond(
    outlines: Sequence[Silhouette | None], motions: Sequence[Motion], shape: tuple[int, ...]
) -> float:
    """Return the share of an outline that may lie outside a tight crop, by that of good parts.

    A second part in the picture, or an end that sticks out, would not be looked at.
    """
    found = [
        share_beyond(outline, motion, shape)
        for outline, motion in zip(outlines, motions, strict=True)
        if outline is not None
    ]
    usual = float(np.quantile(found, 0.98)) if found else 0.0
    return min(_LITTLE + _TIMES * usual, _MUCH)


def _posed(
    shown: Sequence[Floats],
    outlines: Sequence[Silhouette | None],
    way: Way,
    room: tuple[float, float],
) -> tuple[Floats, list[float], list[float]]:
    """Return the mean of parts in one pose, how well each agrees with it, and their angles.

    `room` is the quantile of extents that is cropped, and the margin around it.
    """
    start = _typical(outlines)
    motion, size = _begun(shown[start], outlines[start])
    mean = mean_part([shown[start]], [motion], size)
    agreed, motions = [1.0], [motion]
    for number in range(_ROUNDS):
        found = [
            pose_of(each, mean, outline if way == "rotate" else None, 0.0)
            for each, outline in zip(shown, outlines, strict=True)
        ]
        motions, agreed = [pose for pose, _ in found], [value for _, value in found]
        if number < _ROUNDS - 1:
            motions, size = _cropped(motions, outlines, size, room)
        mean = mean_part(shown, motions, size)
    angles = [math.degrees(math.atan2(each[1, 0], each[0, 0])) for each in motions]
    return mean, agreed, angles


def _typical(outlines: Sequence[Silhouette | None]) -> int:
    """Return the number of the part whose outline is of a middling size."""
    areas = [0.0 if each is None else float(each.mask.mean()) for each in outlines]
    return int(np.argsort(areas)[len(areas) // 2])


def _begun(shown: Floats, outline: Silhouette | None) -> tuple[Motion, tuple[int, int]]:
    """Return the pose of the part that others are laid onto first, and the size of its crop."""
    size = shown.shape[0], shown.shape[1]
    if outline is None:
        return centred(0.0, ((size[1] - 1) / 2, (size[0] - 1) / 2), size), size
    degrees = outline.degrees if outline.elongation >= _ELONGATED else 0.0
    motion = centred(degrees, (outline.x, outline.y), size)
    (begun,), size = _cropped([motion], [outline], size, _WIDE)
    return begun, size


def _cropped(
    motions: Sequence[Motion],
    outlines: Sequence[Silhouette | None],
    size: tuple[int, int],
    room: tuple[float, float],
) -> tuple[list[Motion], tuple[int, int]]:
    """Return poses whose template is cut to what the outlines take, and its size H, W."""
    extents = [
        _extent(outline, motion)
        for outline, motion in zip(outlines, motions, strict=True)
        if outline is not None
    ]
    if not extents:
        return list(motions), size
    widest, around = room
    low = np.quantile([each[:2] for each in extents], 1 - widest, axis=0)
    high = np.quantile([each[2:] for each in extents], widest, axis=0)
    longest = float((high - low).max())
    # Of parts that vary in length no crop may cut the ends.
    low = np.minimum(low, np.quantile([e[:2] for e in extents], 0.05, axis=0) + _CUT * longest)
    high = np.maximum(high, np.quantile([e[2:] for e in extents], 0.95, axis=0) - _CUT * longest)
    margin = np.ceil(around * longest)
    corner = np.floor(low - margin)
    width, height = (int(side) for side in np.ceil(high + margin) - corner + 1)
    moved = [np.column_stack([m[:, :2], m[:, 2] + m[:, :2] @ corner]) for m in motions]
    return moved, (height, width)


def _extent(outline: Silhouette, motion: Motion) -> Extent:
    """Return where an outline lies on the template."""
    rows, columns = np.nonzero(outline.mask)
    places = np.stack([columns, rows]) - motion[:, 2:]
    turned = np.linalg.inv(motion[:, :2]) @ places
    return np.concatenate([turned.min(1), turned.max(1)])
