"""Synthetic circuit boards: coloured pictures of good and damaged bare boards, with masks.

All boards of a set have one layout: pads, tracks, holes, silk screen. What differs from board to
board is how it lies and is lit, how wide it was etched, how the solder shines. Damage changes the
copper, so that edges and light follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.progress import Progress, no_progress
from makellos.errors import InputError, suggest
from makellos.sets.synthetic_layout import NODES, Layout, Pad, Track, draw_layout
from makellos.sets.synthetic_sets import SetPlan, check_rendering, write_png, write_set
from makellos.storage import storage_errors, write_bytes

__all__ = ["BOARD_DEFECTS", "RenderedBoard", "render_board", "write_boards"]

BOARD_DEFECTS = ("open", "short", "mouse_bite", "spur", "missing_pad")

_SMALLEST = 192  # pixels of a side, in which a track is two wide
_SHOWN = 36  # nodes of the lattice along a picture's side
_MARGIN = (NODES - _SHOWN) / 2  # nodes beyond each side, which a shifted board shows
_SHIFT, _TURN, _SCALE = 0.02, 1.2, 0.004  # share of a side; degrees; share
_VISIBLE = 6.0  # gray levels that a person tells from the same place without damage
_ATTEMPTS, _DRAWS = 12, 1000
_MOST_LAYOUTS = 999  # files are named by three digits

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

_LAMINATE = np.array([0.43, 0.41, 0.26], np.float32)
_MASK = np.array([0.055, 0.25, 0.15], np.float32)  # solder mask on laminate
_MASKED = np.array([0.13, 0.42, 0.25], np.float32)  # solder mask on copper
_TIN = np.array([0.70, 0.70, 0.67], np.float32)
_INK = np.array([0.86, 0.87, 0.83], np.float32)
_BORE = np.array([0.035, 0.035, 0.04], np.float32)


@dataclass(frozen=True, eq=False)
class RenderedBoard:
    """Hold one picture (H x W x 3, uint8, RGB), its mask (H x W, True on damage), the defect."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    defect: str | None


@dataclass(frozen=True, eq=False)
class _Plates:
    """Hold the films a board is made with, each on a canvas of `unit` pixels per pitch."""

    layout: Layout
    unit: float
    copper: Mask
    openings: Mask
    holes: Mask
    ink: Mask


@dataclass(frozen=True)
class _Run:
    """What differs from board to board: pose, light, etching, ink, shine; lengths in pitches."""

    turn: float
    scale: float
    shift: tuple[float, float]
    gain: tuple[float, float, float]
    slope: tuple[float, float]
    etched: float
    opened: float
    inked: tuple[float, float]
    lamp: tuple[float, float]
    blur: float
    noise: float


def render_board(
    *, seed: int, layout: int = 0, size: int = 512, defect: str | None = None
) -> RenderedBoard:
    """Render one board of a layout, `size` x `size` pixels; the same arguments, the same pixels.

    With a `defect` (one of `BOARD_DEFECTS`) pose, light and noise of the same `seed` stay, and the
    picture differs only within a few pixels around the mask. Raises `InputError` for a size outside
    192 to 2048, a negative seed or layout, or an unknown defect.
    """
    check_rendering(size, least=_SMALLEST, seed=seed, layout=layout)
    if defect is not None and defect not in BOARD_DEFECTS:
        raise InputError(f"There is no defect {defect!r}. {suggest(defect, BOARD_DEFECTS)}")
    plates, run = _plates(layout, size), _draw_run(np.random.default_rng([seed, 1]))
    good = _develop(plates, plates.copper, run, seed, size)
    if defect is None:
        untouched = np.zeros((size, size), np.bool_)
        return RenderedBoard(_digitise(good, run, seed), untouched, None)
    rng = np.random.default_rng([seed, 3, BOARD_DEFECTS.index(defect)])
    best, found = good, np.zeros((size, size), np.bool_)
    drawn = (_DAMAGE[defect](rng, plates) for _ in range(_DRAWS))
    for copper in islice((each for each in drawn if each is not None), _ATTEMPTS):
        bad = _develop(plates, copper, run, seed, size)
        mask = _changed(good, bad)
        if mask.sum() > found.sum():
            best, found = bad, mask
        if found.sum() >= max(4, 6e-5 * size * size):
            break
    return RenderedBoard(_digitise(best, run, seed), found, defect)


def write_boards(
    folder: Path | str,
    *,
    n_train: int = 120,
    n_test_good: int = 20,
    n_per_defect: int = 8,
    size: int = 512,
    seed: int = 0,
    n_layouts: int = 1,
    progress: Progress = no_progress,
) -> None:
    """Write a set of synthetic boards of one layout into `folder` in the MVTec AD layout.

    `seed` decides the layout and all boards. Of several layouts each has a good board in
    ``golden``, which the manifest ``parts.csv`` names as the reference of its boards. Files and
    errors are those of `write_screws`; raises `InputError` for fewer than one layout.
    """
    if not 1 <= n_layouts <= _MOST_LAYOUTS:
        raise InputError(f"The number of layouts is {n_layouts}; expected 1 to {_MOST_LAYOUTS}.")
    counts = (n_train, n_test_good, n_per_defect)
    plan = SetPlan("boards", BOARD_DEFECTS, *counts, size, seed, smallest=_SMALLEST)
    several = np.random.SeedSequence([seed, 5]).generate_state(n_layouts)
    layouts = [seed] if n_layouts == 1 else several.tolist()

    def render(own: int, defect: str | None) -> RenderedBoard:
        return render_board(seed=own, layout=layouts[own % n_layouts], size=size, defect=defect)

    write_set(Path(folder), plan, render, progress)
    if n_layouts > 1:
        advice = "Check that the disk has room and the folder may be written."
        with storage_errors(f"The boards could not be written to {folder}", advice):
            _write_references(Path(folder), plan, layouts)


def _write_references(folder: Path, plan: SetPlan, layouts: Sequence[int]) -> None:
    """Write a good board of each layout, and the manifest that names it for its boards."""
    for number, layout in enumerate(layouts):
        own = plan.seed_of(1_000_000 + number)
        board = render_board(seed=own, layout=layout, size=plan.size)
        write_png(folder / "golden" / f"{number:03d}.png", board.picture)
    rows = ["path,label,split,mask,reference"]
    for index, (place, name, defect) in enumerate(plan.jobs()):
        mask = "" if defect is None else f"ground_truth/{defect}/{name}_mask.png"
        reference = f"golden/{plan.seed_of(index) % len(layouts):03d}.png"
        split = place.partition("/")[0]
        rows.append(f"{place}/{name}.png,{defect or 'good'},{split},{mask},{reference}")
    write_bytes(folder / "parts.csv", "\n".join([*rows, ""]).encode())


@lru_cache(maxsize=16)
def _plates(layout: int, size: int) -> _Plates:
    drawn = draw_layout(layout)
    unit = (2 if size <= 1024 else 1) * size / _SHOWN
    side = round(NODES * unit)

    def empty() -> Mask:
        return np.zeros((side, side), np.uint8)

    copper, openings, holes, ink = empty(), empty(), empty(), empty()
    for track in drawn.tracks:
        _draw_track(copper, track, unit)
    for pad in drawn.pads:
        _draw_pad(copper, pad, unit)
        if not pad.is_covered:
            _draw_pad(openings, pad, unit, wider=0.12)
        if pad.hole:
            cv2.circle(holes, *_disc(pad.x, pad.y, pad.hole / 2, unit), 255, -1, cv2.LINE_AA, 4)
    line = max(1, round(0.13 * unit))
    for each in drawn.outlines:
        if each.radius:
            disc = _disc(*each.start, each.radius, unit)
            cv2.circle(ink, *disc, 255, line, cv2.LINE_AA, 4)
        else:
            ends = (_point(*each.start, unit), _point(*each.end, unit))
            cv2.line(ink, *ends, 255, line, cv2.LINE_AA, 4)
    for text in drawn.texts:
        at = (round(text.x * unit), round(text.y * unit))
        scale = 0.9 * unit / 21
        cv2.putText(ink, text.words, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, line, cv2.LINE_AA)
    return _Plates(drawn, unit, copper, openings, holes, ink)


def _point(x: float, y: float, unit: float) -> tuple[int, int]:
    """Return a point in sixteenths of a pixel, as OpenCV draws them."""
    return round(x * unit * 16), round(y * unit * 16)


def _disc(x: float, y: float, radius: float, unit: float) -> tuple[tuple[int, int], int]:
    return _point(x, y, unit), round(radius * unit * 16)


def _draw_track(film: Mask, track: Track, unit: float, value: int = 255) -> None:
    points = [_point(*point, unit) for point in track.points]
    for start, end in pairwise(points):
        cv2.line(film, start, end, value, max(1, round(track.width * unit)), cv2.LINE_AA, 4)


def _draw_pad(film: Mask, pad: Pad, unit: float, *, wider: float = 0.0, value: int = 255) -> None:
    width, height = pad.width + wider, pad.height + wider
    if pad.is_round:
        disc = _disc(pad.x, pad.y, width / 2, unit)
        cv2.circle(film, *disc, value, -1, cv2.LINE_AA, 4)
        return
    corner = _point(pad.x - width / 2, pad.y - height / 2, unit)
    opposite = _point(pad.x + width / 2, pad.y + height / 2, unit)
    cv2.rectangle(film, corner, opposite, value, -1, cv2.LINE_AA, 4)


def _draw_run(rng: np.random.Generator) -> _Run:
    gain = float(rng.uniform(0.88, 1.1))
    tints = 1 + rng.normal(0, 0.012, 3)
    angle = float(rng.normal(0.9, 0.15))
    return _Run(
        turn=float(rng.uniform(-_TURN, _TURN)),
        scale=float(1 + rng.uniform(-_SCALE, _SCALE)),
        shift=(float(rng.uniform(-_SHIFT, _SHIFT)), float(rng.uniform(-_SHIFT, _SHIFT))),
        gain=(gain * float(tints[0]), gain * float(tints[1]), gain * float(tints[2])),
        slope=(float(rng.normal(0, 0.06)), float(rng.normal(0, 0.06))),
        etched=float(rng.normal(0, 0.012)),
        opened=float(rng.normal(0, 0.02)),
        inked=(float(rng.normal(0, 0.035)), float(rng.normal(0, 0.035))),
        lamp=(float(np.cos(angle)), float(np.sin(angle))),
        blur=float(rng.uniform(0.6, 0.85)),
        noise=float(rng.uniform(0.7, 1.3)),
    )


def _develop(plates: _Plates, copper: Mask, run: _Run, seed: int, size: int) -> Floats:
    """Return the colours of a board as the camera sees it, H x W x 3 in [0, 255], without noise."""
    rng, unit = np.random.default_rng([seed, 2]), plates.unit
    side = len(copper)
    metal = _cover(copper, run.etched * unit)
    bare = _cover(plates.openings, run.opened * unit)
    tin = (bare * metal)[..., np.newaxis]
    weave = _cloud(rng, side, 0.22 * unit) * np.float32(0.35) + _cloud(rng, side, 1.6 * unit)
    colour = _MASK + (_MASKED - _MASK) * metal[..., np.newaxis]
    colour *= 1 + np.float32(0.025) * weave[..., np.newaxis]
    colour += _relief(metal, run, 0.10 * unit)[..., np.newaxis] * np.float32(0.30)
    uncovered = (bare * (1 - metal))[..., np.newaxis]
    colour += uncovered * (_LAMINATE - colour)
    ink = _inked(plates.ink, run, unit) * (1 - bare) * _worn(rng, side, unit)
    colour += ink[..., np.newaxis] * (_INK - colour)
    shine = _relief(cv2.GaussianBlur(metal * bare, (0, 0), 0.22 * unit), run, 0.1 * unit)
    dull = 1 + np.float32(0.09) * _cloud(rng, side, 0.5 * unit) + np.float32(2.4) * shine
    colour += tin * (_TIN * dull[..., np.newaxis] - colour)
    bore = plates.holes.astype(np.float32)[..., np.newaxis] / 255
    colour += bore * (_BORE - colour)
    return _photograph(colour, run, size, unit)


def _photograph(colour: Floats, run: _Run, size: int, unit: float) -> Floats:
    """Return a board as the camera sees it: turned, shifted, lit from one side, a little soft."""
    fine = round(_SHOWN * unit)
    middle = len(colour) / 2
    pose = cv2.getRotationMatrix2D((middle, middle), run.turn, run.scale)
    pose[:, 2] += np.array(run.shift) * fine - _MARGIN * unit
    seen = cv2.warpAffine(colour, pose, (fine, fine), flags=cv2.INTER_LINEAR)
    if fine != size:
        seen = cv2.resize(seen, (size, size), interpolation=cv2.INTER_AREA)
    seen = cv2.GaussianBlur(seen, (0, 0), max(0.3, run.blur * size / 512))
    place = np.linspace(-1, 1, size, dtype=np.float32)
    light = 1 + run.slope[0] * place[np.newaxis, :] + run.slope[1] * place[:, np.newaxis]
    lit: Floats = seen * light[..., np.newaxis].astype(np.float32)
    lit *= np.array(run.gain, np.float32) * np.float32(255)
    return lit


def _cover(film: Mask, wider: float) -> Floats:
    """Return the share of each pixel that a film covers once its edges moved out by `wider`."""
    inside = (film > 127).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    depth -= cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    # The middle of the first pixel inside lies half a pixel from the edge.
    depth -= np.where(inside > 0, np.float32(0.5), np.float32(-0.5))
    cover: Floats = np.clip(depth + np.float32(0.5 + wider), 0, 1)
    return cover


def _relief(height: Floats, run: _Run, sigma: float) -> Floats:
    """Return how much more or less light slopes get that face the lamp or turn from it."""
    soft = cv2.GaussianBlur(height, (0, 0), max(0.5, sigma))
    across, down = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    slope: Floats = -(across * np.float32(run.lamp[0]) + down * np.float32(run.lamp[1]))
    return np.asarray(np.clip(slope * np.float32(0.25), -0.3, 0.3))


def _cloud(rng: np.random.Generator, side: int, sigma: float) -> Floats:
    """Return smooth noise of mean 0 and standard deviation 1, with grains of about `sigma`."""
    n_grains = max(2, round(side / max(1.0, sigma)))
    grains = rng.standard_normal((n_grains, n_grains), np.float32)
    cloud: Floats = cv2.resize(grains, (side, side), interpolation=cv2.INTER_CUBIC)
    return cloud / max(float(cloud.std()), 1e-6)


def _inked(film: Mask, run: _Run, unit: float) -> Floats:
    """Return the silk screen where it was printed, which is never quite its place."""
    move = np.array([[1, 0, run.inked[0] * unit], [0, 1, run.inked[1] * unit]], np.float32)
    moved = cv2.warpAffine(film, move, film.shape[::-1], flags=cv2.INTER_LINEAR)
    cover: Floats = moved.astype(np.float32) / 255
    return cover


def _worn(rng: np.random.Generator, side: int, unit: float) -> Floats:
    ink = np.float32(0.93) + np.float32(0.05) * _cloud(rng, side, 0.25 * unit)
    return np.asarray(np.clip(ink, 0, 1))


def _digitise(colour: Floats, run: _Run, seed: int) -> NDArray[np.uint8]:
    """Add photon-like noise and round to levels."""
    noise = np.random.default_rng([seed, 4]).standard_normal(colour.shape, np.float32)
    shot = np.sqrt(np.maximum(colour, 2)) * np.float32(0.16 * run.noise)
    return np.clip(np.rint(colour + noise * shot), 0, 255).astype(np.uint8)


def _changed(good: Floats, bad: Floats) -> NDArray[np.bool_]:
    """Return the mask of visible change, closed and without holes."""
    change = (np.abs(bad - good).max(2) > _VISIBLE).astype(np.uint8)
    width = max(1, round(2 * len(good) / 512)) * 2 + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    change = cv2.morphologyEx(change, cv2.MORPH_CLOSE, kernel)
    outlines, _ = cv2.findContours(change, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(change, outlines, -1, 1, cv2.FILLED)
    return np.asarray(change > 0)


def _blob(
    rng: np.random.Generator, film: Mask, at: tuple[float, float], radius: float, value: int
) -> None:
    """Draw an uneven round spot; everything in pixels."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    reach = radius * (1 + 0.22 * rng.standard_normal(14))
    points = np.stack([at[0] + reach * np.cos(angles), at[1] + reach * np.sin(angles)], 1)
    cv2.fillPoly(film, [np.rint(points * 16).astype(np.int32)], value, cv2.LINE_AA, 4)


@dataclass(frozen=True)
class _Spot:
    """A place on a track, in pixels: its direction, the one across, half its width."""

    at: NDArray[np.float64]
    along: NDArray[np.float64]
    across: NDArray[np.float64]
    half: float


def _spot(rng: np.random.Generator, plates: _Plates) -> _Spot | None:
    """Draw a place on a straight piece of track that every board shows; None where it is none."""
    track = plates.layout.tracks[int(rng.integers(len(plates.layout.tracks)))]
    piece = int(rng.integers(len(track.points) - 1))
    start, end = (np.array(track.points[i], np.float64) for i in (piece, piece + 1))
    length = float(np.linalg.norm(end - start))
    at = start + (end - start) * rng.uniform(0.2, 0.8)
    if length < 1.2 or not _is_shown(*at) or _under_a_pad(plates, at):
        return None
    along = (end - start) / length
    across = np.array([-along[1], along[0]]) * (1 if rng.random() < 0.5 else -1)
    return _Spot(at * plates.unit, along, across, track.width / 2 * plates.unit)


def _is_shown(x: float, y: float) -> bool:
    low = _MARGIN + 2.0
    return low < x < NODES - low and low < y < NODES - low


def _under_a_pad(plates: _Plates, at: NDArray[np.float64]) -> bool:
    return any(
        abs(pad.x - at[0]) < pad.width / 2 + 0.4 and abs(pad.y - at[1]) < pad.height / 2 + 0.4
        for pad in plates.layout.pads
    )


def _open(rng: np.random.Generator, plates: _Plates) -> Mask | None:
    """Break a track."""
    spot, film = _spot(rng, plates), plates.copper.copy()
    if spot is None:
        return None
    gap = spot.half * float(rng.uniform(0.7, 2.2))
    for share in np.linspace(-1.4, 1.4, 5):
        at = spot.at + spot.across * share * spot.half
        _blob(rng, film, (float(at[0]), float(at[1])), gap * float(rng.uniform(0.85, 1.15)), 0)
    return film


def _short(rng: np.random.Generator, plates: _Plates) -> Mask | None:
    """Bridge a track and the copper beside it."""
    spot, film = _spot(rng, plates), plates.copper.copy()
    if spot is None:
        return None
    steps = np.arange(spot.half * 1.4, 1.7 * plates.unit)
    ways = spot.at + spot.across * steps[:, np.newaxis]
    columns, rows = np.rint(ways).astype(int).T
    touched = np.flatnonzero(film[rows.clip(0, len(film) - 1), columns.clip(0, len(film) - 1)])
    if not touched.size or touched[0] < 0.2 * plates.unit:
        return None
    width = spot.half * float(rng.uniform(0.5, 1.2))
    for place in np.arange(0, touched[0] + width, max(1.0, width / 2)):
        at = spot.at + spot.across * (spot.half + place)
        _blob(rng, film, (float(at[0]), float(at[1])), width * float(rng.uniform(0.8, 1.2)), 255)
    return film


def _mouse_bite(rng: np.random.Generator, plates: _Plates) -> Mask | None:
    """Etch a bite of a third to three quarters of its width out of a track's edge."""
    spot, film = _spot(rng, plates), plates.copper.copy()
    if spot is None:
        return None
    depth = 2 * spot.half * float(rng.uniform(0.35, 0.75))
    radius = spot.half * float(rng.uniform(0.8, 1.4))
    at = spot.at + spot.across * (spot.half + radius - depth)
    _blob(rng, film, (float(at[0]), float(at[1])), radius, 0)
    return film


def _spur(rng: np.random.Generator, plates: _Plates) -> Mask | None:
    """Leave a spike of copper at a track's edge, which touches nothing else."""
    spot, film = _spot(rng, plates), plates.copper.copy()
    if spot is None:
        return None
    length = 2 * spot.half * float(rng.uniform(0.55, 1.15))
    foot = spot.half * float(rng.uniform(0.5, 0.9))
    tip = spot.at + spot.across * (spot.half + length)
    tip += spot.along * float(rng.normal(0, 0.3)) * length
    middle = spot.at + spot.across * spot.half * 0.6
    corners = [middle - spot.along * foot, tip - spot.along * foot * 0.35]
    corners += [tip + spot.along * foot * 0.35, middle + spot.along * foot]
    around = np.zeros_like(film)
    cv2.fillPoly(around, [np.rint(np.array(corners) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    beyond = tip + spot.across * 0.25 * plates.unit
    column, row = np.rint(beyond).astype(int)
    if film[row, column]:
        return None
    return np.maximum(film, around)


def _missing_pad(rng: np.random.Generator, plates: _Plates) -> Mask | None:
    """Take a pad off: its opening shows the laminate."""
    pads = [each for each in plates.layout.pads if not each.is_covered and each.hole < 2]
    pad, film = pads[int(rng.integers(len(pads)))], plates.copper.copy()
    if not _is_shown(pad.x, pad.y):
        return None
    _draw_pad(film, pad, plates.unit, wider=0.06, value=0)
    return film


_DAMAGE: dict[str, Callable[[np.random.Generator, _Plates], Mask | None]] = {
    "open": _open,
    "short": _short,
    "mouse_bite": _mouse_bite,
    "spur": _spur,
    "missing_pad": _missing_pad,
}
