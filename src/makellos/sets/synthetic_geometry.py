"""The solid body of a synthetic wood screw, and what a camera above it sees.

All lengths are in units of the screw's length. The screw's own frame is (u, v, w): u runs along
the axis from the face of the head (0) to the tip (1), v is the side, w points up from the table.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bend", "Burr", "Cut", "Damage", "Dent", "Hits", "Screw", "draw_screw", "trace"]

Floats = NDArray[np.float32]

_TABLE = 65536  # samples per screw length: steps between them must not show in normals
_COARSE = 4096  # enough where no normals come from it
_MARGIN = 0.03  # how far a tilted ray runs along the axis while it crosses the screw
_FAR = -1.0  # a radius that nothing lies within: beyond the ends of the screw
_STEPS = 22  # enough not to jump over a crest of the thread
_FEW_STEPS = 11  # where there is none
_BISECTIONS = 10
_TINY = np.float32(0.0006)


@dataclass(frozen=True, eq=False)
class Cut:
    """Hold a place where metal is filed or gouged off by a slightly curved tool."""

    centre: tuple[float, float, float]
    normal: tuple[float, float, float]  # unit, out of the metal
    along: tuple[float, float, float]  # unit, perpendicular to normal: the tool's way
    depth: float
    curve_along: float  # how fast the tool rises out of the metal, 1 / length
    curve_across: float
    ripple: float  # height of chatter marks
    wave: float  # chatter marks per length
    shine: float  # reflectance of the bare metal relative to the worn surface


@dataclass(frozen=True, eq=False)
class Dent:
    """Hold a place where the thread is crushed and pushed along the axis."""

    u: float
    theta: float
    width_u: float
    width_theta: float
    crush: float  # share of the height that is lost; negative raises a burr
    push: float  # in pitches


@dataclass(frozen=True, eq=False)
class Burr:
    """Hold a place where displaced metal lies on the core in rough lumps."""

    u: float
    theta: float
    width_u: float
    width_theta: float
    height: float
    wave: float  # lumps per length
    shine: float  # as a cut's


@dataclass(frozen=True, eq=False)
class Bend:
    """Hold how the tip is bent to a side, from `start` on."""

    start: float
    direction: float  # angle in the (v, w) plane
    strength: float  # sideways shift = strength * (u - start)^2


@dataclass(frozen=True, eq=False)
class Damage:
    """Hold everything that a defect does to the body.

    `window` is the lowest and highest u and v between which the picture can change.
    """

    window: tuple[float, float, float, float] = (-1.0, 2.0, -1.0, 1.0)
    cuts: tuple[Cut, ...] = ()
    dents: tuple[Dent, ...] = ()
    burrs: tuple[Burr, ...] = ()
    bend: Bend | None = None


@dataclass(frozen=True, eq=False)
class Screw:
    """Hold the shape of one screw: its tables of radii over u and its helix."""

    core: Floats  # radius without the thread
    height: Floats  # height of the thread above the core
    pitch: float
    phase: float  # where the helix starts, in turns
    base: float  # half width of the ridge at its foot
    crest: float  # half width of the ridge at its top
    thread_start: float
    recess: float  # outer radius of the drive recess in the face
    recess_angle: float
    damage: Damage = field(default_factory=Damage)

    def core_at(self, u: float) -> float:
        """Return the radius without the thread at `u`."""
        return float(self.core[_index(np.array([u], dtype=np.float32))][0])

    def height_at(self, u: float) -> float:
        """Return the height of the thread at `u`."""
        return float(self.height[_index(np.array([u], dtype=np.float32))][0])

    def threaded(self, u: Floats) -> NDArray[np.bool_]:
        """Tell for each `u` whether the thread runs there."""
        return self.height[_index(u)] > 0

    def crest_near(self, u: float, theta: float) -> float:
        """Return where the thread's crest passes the angle `theta` nearest to `u`."""
        turns = u / self.pitch + theta / (2 * np.pi) + self.phase
        return u + (round(turns) - turns) * self.pitch


@dataclass(frozen=True, eq=False)
class Hits:
    """Hold what is seen at each of N pixels; values mean nothing where `seen` is False."""

    seen: NDArray[np.bool_]
    u: Floats
    v: Floats
    w: Floats
    normal: Floats  # 3xN, unit, in the screw's frame
    shine: Floats  # 1 on the worn surface, otherwise the bare metal's
    streak: Floats  # a coordinate across the tool's marks, 0 on the worn surface
    face: NDArray[np.bool_]


def draw_screw(rng: np.random.Generator) -> Screw:
    """Draw a screw of the one product that is made here, within its tolerances."""

    def near(value: float, share: float = 0.006) -> float:
        return value * (1 + share * float(np.clip(rng.standard_normal(), -2, 2)))

    u = np.linspace(0, 1, _COARSE + 1)
    head, shank, root = near(0.146), near(0.0565), near(0.047)
    start = near(0.452, 0.004)
    knots = [
        (0.0, head * 0.985),
        (0.003, head),
        (0.010, head * 0.998),
        (0.021, head * 0.965),
        (0.070, head * 0.70),
        (0.105, head * 0.525),
        (0.122, head * 0.462),
        (0.152, shank * 1.075),
        (0.162, shank * 1.01),
        (0.175, shank),
        (start - 0.016, shank * 0.99),
        (start - 0.006, shank * 1.015),
        (start + 0.004, shank * 0.93),
        (start + 0.020, root),
        (0.78, root * 0.98),
        (0.87, root * 0.74),
        (0.94, root * 0.44),
        (0.98, root * 0.22),
        (0.994, root * 0.13),
        (1.0, 0.0),
    ]
    core = _smooth(np.interp(u, [k[0] for k in knots], [k[1] for k in knots]))
    height = np.interp(
        u,
        [0, start - 0.03, start + 0.03, 0.78, 0.90, 0.955, 0.985, 1],
        [0, 0, 0.0300, 0.0290, 0.0195, 0.011, 0.0, 0],
    )
    return Screw(
        core=_tabulate(core, _FAR),
        height=_tabulate(height * near(1.0, 0.012), 0),
        pitch=near(0.0735, 0.003),
        phase=float(rng.uniform(0, 1)),
        base=near(0.0118, 0.02),
        crest=near(0.0030, 0.04),
        thread_start=start,
        recess=near(0.072),
        recess_angle=float(rng.uniform(0, np.pi / 3)),
    )


def _tabulate(values: NDArray[np.float64], ends: float) -> Floats:
    """Refine a curve to _TABLE steps and add one entry at either end for what lies beyond."""
    between = np.linspace(0, 1, _TABLE // _COARSE, endpoint=False)
    fine = values[:-1, None] + (values[1:] - values[:-1])[:, None] * between
    return np.concatenate([[ends], fine.ravel(), [ends]]).astype(np.float32)


def _index(u: Floats) -> NDArray[np.int32]:
    place = u * np.float32(_TABLE) + np.float32(1)
    result: NDArray[np.int32] = np.clip(place, 0, _TABLE + 1).astype(np.int32)
    return result


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = np.hanning(33)
    padded = np.pad(values, 16, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _radius(screw: Screw, u: Floats, v: Floats, w: Floats) -> Floats:
    index = _index(u)
    radius = screw.core[index]
    height = screw.height[index]
    if not height.any():
        return radius
    theta = np.arctan2(w, v)
    turns = u * np.float32(1 / screw.pitch) + theta * np.float32(0.5 / np.pi)
    turns += np.float32(screw.phase)
    for dent in screw.damage.dents:
        bump = _bump(dent, u, theta)
        height = height * (1 - np.float32(dent.crush) * bump)
        turns += np.float32(dent.push) * bump
    distance = np.abs(turns - np.rint(turns)) * np.float32(screw.pitch)
    ridge = (np.float32(screw.base) - distance) * np.float32(1 / (screw.base - screw.crest))
    np.clip(ridge, 0, 1, out=ridge)
    ridge *= ridge * np.float32(0.35) + np.float32(0.65)  # flanks are slightly hollow
    above = height * ridge
    for burr in screw.damage.burrs:
        above = np.maximum(above, _lumps(burr, u, theta))
    return radius + above


def _lumps(burr: Burr, u: Floats, theta: Floats) -> Floats:
    wave = np.float32(burr.wave)
    ridges = np.sin(u * wave + np.float32(2) * theta)
    ridges += np.sin(u * (wave * np.float32(0.57)) - theta * np.float32(5) + np.float32(1.7))
    share = np.float32(0.55) + np.float32(0.225) * ridges
    return np.float32(burr.height) * share * _bump(burr, u, theta)


def _bump(dent: Dent | Burr, u: Floats, theta: Floats) -> Floats:
    turn = theta - np.float32(dent.theta)
    turn -= np.float32(2 * np.pi) * np.rint(turn * np.float32(0.5 / np.pi))
    along = (u - np.float32(dent.u)) * np.float32(1 / dent.width_u)
    around = turn * np.float32(1 / dent.width_theta)
    result: Floats = np.exp(-(along * along) - around * around)
    return result


def _unbend(bend: Bend, u: Floats, v: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    beyond = np.maximum(u - np.float32(bend.start), 0)
    slope = np.float32(2 * bend.strength) * beyond
    shift = slope * beyond * np.float32(0.5)
    # a bent tip keeps its length: it reaches less far along the axis
    u = u + beyond * slope * slope * np.float32(0.16)
    v = v - shift * np.float32(np.cos(bend.direction))
    w = w - shift * np.float32(np.sin(bend.direction))
    return u, v, w


def _body(screw: Screw, u: Floats, v: Floats, w: Floats) -> Floats:
    """Return how far outside the undamaged body a point is (negative: inside)."""
    if screw.damage.bend is not None:
        u, v, w = _unbend(screw.damage.bend, u, v, w)
    return np.sqrt(v * v + w * w) - _radius(screw, u, v, w)


def _cut_frame(cut: Cut, u: Floats, v: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    offset = (u - np.float32(cut.centre[0]), v - np.float32(cut.centre[1]))
    third = w - np.float32(cut.centre[2])

    def along(axis: NDArray[np.float64]) -> Floats:
        a, b, c = (np.float32(x) for x in axis)
        result: Floats = offset[0] * a + offset[1] * b + third * c
        return result

    normal, way = np.array(cut.normal), np.array(cut.along)
    return along(normal), along(way), along(np.cross(normal, way))


def _outside_cut(cut: Cut, u: Floats, v: Floats, w: Floats) -> Floats:
    out, s, t = _cut_frame(cut, u, v, w)
    wobble = np.float32(0.8) * np.sin(s * np.float32(0.31 * cut.wave))
    chatter = np.sin(t * np.float32(cut.wave) + wobble)
    chatter += np.float32(0.5) * np.sin(t * np.float32(2.3 * cut.wave) - s * np.float32(19))
    result: Floats = (
        out
        + np.float32(cut.depth)
        - np.float32(cut.curve_along) * s * s
        - np.float32(cut.curve_across) * t * t
        + np.float32(cut.ripple) * chatter
    )
    return result


def _outside(screw: Screw, u: Floats, v: Floats, w: Floats) -> Floats:
    result = _body(screw, u, v, w)
    for cut in screw.damage.cuts:
        result = np.maximum(result, _outside_cut(cut, u, v, w))
    return result


def _bracket(screw: Screw, axis: Floats, side: Floats) -> tuple[Floats, Floats]:
    """Return for each pixel the heights between which its ray can meet the body."""
    coarse = slice(1, -1, _TABLE // _COARSE)
    reach = int(_MARGIN * _COARSE)
    outer = _running((screw.core + screw.height)[coarse], reach, largest=True)
    inner = _running(screw.core[coarse], reach, largest=False)
    outer += np.float32(0.006 + max((x.height for x in screw.damage.burrs), default=0.0))
    inner[:reach] = 0  # rays that may enter through the face
    if screw.damage.cuts or screw.damage.dents or screw.damage.burrs:
        inner = inner * np.float32(0.4)
    if screw.damage.bend is not None:
        u = np.linspace(0, 1, _COARSE, dtype=np.float32)
        shift = np.maximum(u - screw.damage.bend.start, 0) ** 2 * abs(screw.damage.bend.strength)
        outer = outer + shift.astype(np.float32)
        inner = np.where(shift > 0, np.float32(0), inner)
    index = np.clip(axis * np.float32(_COARSE), 0, _COARSE - 1).astype(np.int32)
    top = np.sqrt(np.maximum(outer[index] ** 2 - side * side, 0))
    within = inner[index] ** 2 - side * side
    bottom = np.where(within > 0, np.sqrt(np.maximum(within, 0)), -top)
    return top, bottom.astype(np.float32)


def _running(values: Floats, reach: int, *, largest: bool) -> Floats:
    padded = np.pad(values, reach, mode="edge")
    blocks = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)[::8]
    extreme = blocks.max(axis=1) if largest else blocks.min(axis=1)
    return np.repeat(extreme, 8)[: len(values)].astype(np.float32)


def trace(screw: Screw, tilt: float, x: Floats, y: Floats) -> Hits:
    """Follow the camera's ray of each pixel to the body.

    `x` and `y` (N, float32) are pixel positions along the axis' image and to its side; the
    camera sees the axis under `tilt` radians, so that the face of the head shows.
    """
    slant = np.float32(np.tan(tilt))
    straight = x * np.float32(1 / np.cos(tilt))
    top, bottom = _bracket(screw, straight, y)
    w = np.full_like(x, np.nan)
    plain = straight < screw.thread_start - 2 * _MARGIN
    for group, steps in ((plain, _FEW_STEPS), (~plain, _STEPS)):
        rays = np.flatnonzero(group & (top > 0))
        step = (bottom[rays] - top[rays]) * np.float32(1 / steps)
        lines = _Rays(screw, straight[rays], y[rays], slant)
        w[rays] = _meet(lines, top[rays], step, steps)
    seen = ~np.isnan(w)
    return _describe(screw, seen, straight[seen] - w[seen] * slant, y[seen], w[seen])


@dataclass(frozen=True, eq=False)
class _Rays:
    screw: Screw
    straight: Floats  # u where the ray passes the axis' height
    side: Floats
    slant: np.float32  # how fast u falls as w grows

    def inside(self, which: NDArray[np.intp], w: Floats) -> NDArray[np.bool_]:
        u = self.straight[which] - w * self.slant
        return _outside(self.screw, u, self.side[which], w) < 0


def _meet(rays: _Rays, top: Floats, step: Floats, steps: int) -> Floats:
    """Return the height at which each ray meets the body, NaN where it passes by."""
    found = np.full(len(top), -1, dtype=np.int32)
    live = np.arange(len(top))
    for k in range(steps + 1):
        inside = rays.inside(live, top[live] + np.float32(k) * step[live])
        found[live[inside]] = k
        live = live[~inside]
    hit = np.flatnonzero(found >= 0)
    low: Floats = top[hit] + found[hit].astype(np.float32) * step[hit]
    high: Floats = low - step[hit]
    for _ in range(_BISECTIONS):
        middle: Floats = (low + high) * np.float32(0.5)
        inside = rays.inside(hit, middle)
        low = np.where(inside, middle, low)
        high = np.where(inside, high, middle)
    heights = np.full_like(top, np.nan)
    heights[hit] = low
    return heights


def _describe(screw: Screw, seen: NDArray[np.bool_], u: Floats, v: Floats, w: Floats) -> Hits:
    here = _outside(screw, u, v, w)
    normal = np.stack(
        [
            _outside(screw, u + _TINY, v, w) - here,
            _outside(screw, u, v + _TINY, w) - here,
            _outside(screw, u, v, w + _TINY) - here,
        ]
    )
    face = (u < 0.0012) & (np.hypot(v, w) < screw.core_at(0.0) * 0.995)
    normal[:, face] = np.array([[-1.0], [0.0], [0.0]], dtype=np.float32)
    normal /= np.sqrt((normal * normal).sum(axis=0)) + np.float32(1e-9)
    shine, streak = np.ones_like(u), np.zeros_like(u)
    if screw.damage.cuts:
        body = _body(screw, u, v, w)
        for cut in screw.damage.cuts:
            value = _outside_cut(cut, u, v, w)
            bare = (value > body) & (value > np.float32(-2e-4))
            _, s, t = _cut_frame(cut, u[bare], v[bare], w[bare])
            shine[bare] = cut.shine
            streak[bare] = t + np.float32(0.03) * s + np.float32(0.5)
            face[bare] = False
    if screw.damage.burrs:
        straight = (u, v, w)
        if screw.damage.bend is not None:
            straight = _unbend(screw.damage.bend, u, v, w)
        theta = np.arctan2(straight[2], straight[1])
        for burr in screw.damage.burrs:
            torn = (_bump(burr, straight[0], theta) > np.float32(0.35)) & (streak == 0)
            shine[torn] = burr.shine
            streak[torn] = straight[0][torn] + np.float32(0.5)
    return Hits(seen, u, v, w, normal, shine, streak, face)
