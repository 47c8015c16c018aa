"""The damage that synthetic screws can have, drawn as changes of their bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from makellos.sets.synthetic_geometry import Bend, Burr, Cut, Damage, Dent, Screw

__all__ = ["DEFECTS", "draw_damage"]

_UP = np.pi / 2  # the angle of the surface that faces the camera


class _Place(NamedTuple):
    """Where a cut is made: at (u, theta), `radius` from the axis, leaning toward the tip."""

    u: float
    theta: float
    radius: float
    lean: float


class _Shape(NamedTuple):
    """What a cut is like: `rough` is its ripple relative to the depth."""

    depth: float
    half_length: float
    half_width: float
    rough: float
    shine: float


def _cut(rng: np.random.Generator, place: _Place, turn: float, shape: _Shape) -> Cut:
    """Make a cut whose way is turned off the axis."""
    u, theta, radius, lean = place
    depth = shape.depth
    out, axis = np.array([0.0, np.cos(theta), np.sin(theta)]), np.array([1.0, 0.0, 0.0])
    normal = np.cos(lean) * out + np.sin(lean) * axis
    slope = np.cos(lean) * axis - np.sin(lean) * out
    around = np.cross(normal, slope)
    along = np.cos(turn) * slope + np.sin(turn) * around
    centre = radius * out + u * axis
    return Cut(
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        normal=(float(normal[0]), float(normal[1]), float(normal[2])),
        along=(float(along[0]), float(along[1]), float(along[2])),
        depth=depth,
        curve_along=depth / shape.half_length**2,
        curve_across=depth / shape.half_width**2,
        ripple=shape.rough * depth,
        wave=float(rng.uniform(250, 600)),
        shine=shape.shine,
    )


def _gouges(rng: np.random.Generator, place: _Place, strength: float, number: int) -> list[Cut]:
    """Draw some narrow grooves that run nearly side by side."""
    turn = float(rng.uniform(-1.2, 1.2))
    return [
        _cut(
            rng,
            place._replace(
                u=place.u + float(rng.normal(0, 0.014)),
                theta=place.theta + float(rng.normal(0, 0.014)) / place.radius,
            ),
            turn + float(rng.normal(0, 0.12)),
            _Shape(
                depth=float(rng.uniform(0.0024, 0.0036)) * (0.8 + 0.5 * strength),
                half_length=float(rng.uniform(0.026, 0.050)),
                half_width=float(rng.uniform(0.0040, 0.0060)),
                rough=0.1,
                shine=_shine(rng, strength),
            ),
        )
        for _ in range(number)
    ]


def _shine(rng: np.random.Generator, strength: float) -> float:
    """Draw how bright bare metal is: hardly brighter than the worn surface to nearly twice."""
    return 1.20 + (0.25 + 0.30 * strength) * float(rng.uniform(0.2, 1))


def _file(
    rng: np.random.Generator, place: _Place, strength: float, *, deeper: float, half_width: float
) -> list[Cut]:
    """Draw one or two filed flats and, often, grooves beside them; a weak one is grooves alone."""
    cuts: list[Cut] = []
    if strength > 0.12:
        for _ in range(int(rng.integers(1, 3))):
            beside = place._replace(
                u=place.u + float(rng.normal(0, 0.022)) * len(cuts),
                theta=place.theta + float(rng.normal(0, 0.25)) * len(cuts),
                lean=place.lean + float(rng.normal(0, 0.06)),
            )
            turn = float(rng.uniform(-0.6, 0.6))
            shape = _Shape(
                depth=deeper + 0.0055 + 0.0055 * strength,
                half_length=float(rng.uniform(0.022, 0.032)) * (0.85 + 0.45 * strength),
                half_width=half_width * float(rng.uniform(0.8, 1.25)),
                rough=float(rng.uniform(0.04, 0.10)),
                shine=_shine(rng, strength),
            )
            cuts.append(_cut(rng, beside, turn, shape))
    number = int(rng.integers(0, 4)) if cuts else int(rng.integers(3, 6))
    return cuts + _gouges(rng, place, strength, number)


def _window(cuts: list[Cut]) -> tuple[float, float, float, float]:
    us, vs = [cut.centre[0] for cut in cuts], [cut.centre[1] for cut in cuts]
    # the tilted camera sees what is high above the axis shifted by up to 0.03
    return min(us) - 0.09, max(us) + 0.09, min(vs) - 0.07, max(vs) + 0.07


def _scratch_head(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    theta = _UP + float(rng.uniform(-0.8, 0.8))
    if rng.random() < 0.7:  # across the edge between face and cone
        u, lean, deeper = 0.012, float(rng.uniform(-0.3, 0.5)), 0.013
    else:
        u, lean, deeper = float(rng.uniform(0.035, 0.085)), 0.63, 0.003  # the slope of the cone
    place = _Place(u, theta, screw.core_at(u), lean)
    cuts = _file(rng, place, strength, deeper=deeper, half_width=0.065)
    return Damage(window=_window(cuts), cuts=tuple(cuts))


def _scratch_neck(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    u = float(rng.uniform(0.20, screw.thread_start - 0.05))
    theta = _UP + float(rng.uniform(-0.75, 0.75))
    place = _Place(u, theta, screw.core_at(u), 0.0)
    cuts = _file(rng, place, strength, deeper=0.0005, half_width=0.080)
    return Damage(window=_window(cuts), cuts=tuple(cuts))


def _thread_cut(
    rng: np.random.Generator, crest: _Place, strength: float, *, depth: float, rough: float
) -> Cut:
    return _cut(
        rng,
        crest._replace(lean=float(rng.normal(0, 0.08))),
        float(rng.uniform(-0.5, 0.5)),
        _Shape(
            depth=depth,
            half_length=float(rng.uniform(0.055, 0.080)) * (0.8 + 0.4 * strength),
            half_width=float(rng.uniform(0.09, 0.16)),
            rough=rough,
            shine=_shine(rng, strength),
        ),
    )


def _crest(screw: Screw, u: float, theta: float) -> _Place:
    return _Place(u, theta, screw.core_at(u) + screw.height_at(u), 0.0)


def _dents(
    rng: np.random.Generator,
    screw: Screw,
    *,
    u: float,
    theta: float,
    strength: float,
    number: int,
) -> tuple[Dent, ...]:
    """Draw dents in `number` neighbouring turns of the thread about (u, theta)."""
    dents = []
    for k in range(number):
        angle = theta + float(rng.normal(0, 0.2))
        place = screw.crest_near(u + (k - (number - 1) / 2) * screw.pitch, angle)
        dents.append(
            Dent(
                u=place,
                theta=angle,
                width_u=0.025,
                width_theta=float(rng.uniform(0.25, 0.50)),
                crush=float(rng.uniform(0.2, 1.0)) * (0.4 + 0.6 * strength),
                push=float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.40)) * (0.5 + 0.5 * strength),
            )
        )
    return tuple(dents)


def _burrs(
    rng: np.random.Generator, *, u: float, theta: float, spread: float, height: float, number: int
) -> tuple[Burr, ...]:
    """Draw metal that was pushed out of its place and lies in lumps within `spread` of u."""
    return tuple(
        Burr(
            u=u + float(rng.uniform(-spread, spread)),
            theta=theta + float(rng.normal(0, 0.25)),
            width_u=float(rng.uniform(0.012, 0.026)),
            width_theta=float(rng.uniform(0.25, 0.60)),
            height=height * float(rng.uniform(0.5, 1.0)),
            wave=float(rng.uniform(380, 800)),
            shine=float(rng.uniform(0.45, 1.90)),
        )
        for _ in range(number)
    )


def _thread_side(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    side = float(rng.choice([0.0, np.pi])) + float(rng.normal(0, 0.10))
    # turned a little toward the camera, so that it sees more than the outline
    side += (1 if np.cos(side) > 0 else -1) * float(rng.uniform(0.1, 0.45))
    u = screw.crest_near(float(rng.uniform(screw.thread_start + 0.07, 0.84)), side)
    height = screw.height_at(u)
    cut = _thread_cut(
        rng,
        _crest(screw, u, side),
        strength,
        depth=height * (0.90 + 0.45 * strength),
        rough=float(rng.uniform(0.08, 0.20)),
    )
    number = int(rng.integers(2, 4))
    dents = _dents(rng, screw, u=u, theta=side, strength=strength, number=number)
    burrs = _burrs(
        rng,
        u=u,
        theta=side,
        spread=0.5 * number * screw.pitch,
        height=height * (0.45 + 0.35 * strength),
        number=int(rng.integers(2, 2 + 2 * number)),
    )
    window = (u - 0.20, u + 0.20, -1.0, 1.0)
    return Damage(window=window, cuts=(cut,), dents=dents, burrs=burrs)


def _thread_top(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    theta = _UP + float(rng.uniform(-0.45, 0.45))
    u = screw.crest_near(float(rng.uniform(screw.thread_start + 0.07, 0.84)), theta)
    u += float(rng.uniform(-0.5, 0.5)) * screw.pitch
    cut = _thread_cut(
        rng,
        _crest(screw, u, theta),
        strength,
        # a strong one grinds the core between the ridges too
        depth=screw.height_at(u) * 0.95 + 0.012 * strength,
        rough=float(rng.uniform(0.03, 0.08)),
    )
    number = int(rng.integers(0, 4))
    theta += float(rng.choice([-0.6, 0.6]))
    dents = _dents(rng, screw, u=u, theta=theta, strength=strength, number=number)
    window = (u - 0.20, u + 0.20, -1.0, 1.0)
    return Damage(window=window, cuts=(cut,), dents=dents)


def _manipulated_front(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    start = float(rng.uniform(0.88, 0.93))
    direction = float(rng.choice([0.0, np.pi]) + rng.uniform(-0.6, 0.6))
    shift = 0.020 + 0.045 * strength
    bend = Bend(start=start, direction=direction, strength=shift / (1 - start) ** 2)
    cuts = []
    if rng.random() < 0.6:
        cuts.append(_break(rng, bend, end=float(rng.uniform(0.935, 0.965)) - 0.025 * strength))
    place, angle = float(rng.uniform(0.90, 0.95)), float(rng.uniform(0, np.pi))
    number = int(rng.integers(1, 3))
    dents = _dents(rng, screw, u=place, theta=angle, strength=strength, number=number)
    burrs = _burrs(
        rng,
        u=0.945,
        theta=angle,
        spread=0.025,
        height=0.010 + 0.010 * strength,
        number=int(rng.integers(3, 7)),
    )
    window = (start - 0.10, 2.0, -1.0, 1.0)
    return Damage(window=window, cuts=tuple(cuts), dents=dents, burrs=burrs, bend=bend)


def _break(rng: np.random.Generator, bend: Bend, end: float) -> Cut:
    """Draw the rough face where the outermost tip broke off."""
    shift = bend.strength * max(end - bend.start, 0.0) ** 2
    lean = 1.25 + float(rng.normal(0, 0.12))
    shape = _Shape(0.002, 0.05, 0.05, rough=0.6, shine=float(rng.uniform(1.05, 1.4)))
    return _cut(rng, _Place(end, bend.direction, shift, lean), 0.0, shape)


_DRAW: dict[str, Callable[[np.random.Generator, Screw, float], Damage]] = {
    "manipulated_front": _manipulated_front,
    "scratch_head": _scratch_head,
    "scratch_neck": _scratch_neck,
    "thread_side": _thread_side,
    "thread_top": _thread_top,
}

DEFECTS: tuple[str, ...] = tuple(_DRAW)


def draw_damage(rng: np.random.Generator, defect: str, screw: Screw, strength: float) -> Damage:
    """Draw damage of the kind `defect` (one of `DEFECTS`) with a strength from 0 to 1."""
    return _DRAW[defect](rng, screw, strength)
