"""The damage that synthetic screws can have, drawn as changes of their bodies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from makellos.data.synthetic_geometry import Bend, Cut, Damage, Dent, Screw

__all__ = ["DEFECTS", "draw_damage"]

_UP = np.pi / 2  # the angle of the surface that faces the camera


def _radial(theta: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([0.0, np.cos(theta), np.sin(theta)])


def _cut(
    rng: np.random.Generator,
    *,
    u: float,
    theta: float,
    radius: float,
    lean: float,
    turn: float,
    depth: float,
    half_length: float,
    half_width: float,
    rough: float,
    shine: float,
) -> Cut:
    """Place a cut of `depth` at (u, theta), leaning toward the tip, its way turned off the axis."""
    out, axis = _radial(theta), np.array([1.0, 0.0, 0.0])
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
        curve_along=depth / half_length**2,
        curve_across=depth / half_width**2,
        ripple=rough * depth,
        wave=float(rng.uniform(250, 600)),
        shine=shine,
    )


def _gouges(
    rng: np.random.Generator,
    *,
    u: float,
    theta: float,
    radius: float,
    lean: float,
    strength: float,
    number: int,
) -> list[Cut]:
    """Draw some narrow grooves that run nearly side by side."""
    turn = float(rng.uniform(-1.2, 1.2))
    return [
        _cut(
            rng,
            u=u + float(rng.normal(0, 0.010)),
            theta=theta + float(rng.normal(0, 0.010)) / radius,
            radius=radius,
            lean=lean,
            turn=turn + float(rng.normal(0, 0.12)),
            depth=float(rng.uniform(0.0022, 0.0034)) * (0.6 + 0.6 * strength),
            half_length=float(rng.uniform(0.020, 0.045)),
            half_width=float(rng.uniform(0.0030, 0.0050)),
            rough=0.1,
            shine=1.08 + 0.80 * strength,
        )
        for _ in range(number)
    ]


def _file(
    rng: np.random.Generator, *, u: float, theta: float, radius: float, lean: float, strength: float
) -> list[Cut]:
    """Draw one or two filed flats and, often, grooves beside them; a weak one is grooves alone."""
    cuts: list[Cut] = []
    if strength > 0.2:
        for _ in range(int(rng.integers(1, 4))):
            cuts.append(
                _cut(
                    rng,
                    u=u + float(rng.normal(0, 0.014)) * len(cuts),
                    theta=theta + float(rng.normal(0, 0.2)) * len(cuts),
                    radius=radius,
                    lean=lean + float(rng.normal(0, 0.08)),
                    turn=float(rng.uniform(-0.6, 0.6)),
                    depth=0.0030 + 0.0050 * strength,
                    half_length=float(rng.uniform(0.017, 0.034)) * (0.75 + 0.5 * strength),
                    half_width=float(rng.uniform(0.03, 0.06)),
                    rough=float(rng.uniform(0.08, 0.2)),
                    shine=1.08 + 0.80 * strength,
                )
            )
    number = int(rng.integers(0, 4)) if cuts else int(rng.integers(2, 5))
    return cuts + _gouges(
        rng, u=u, theta=theta, radius=radius, lean=lean, strength=strength, number=number
    )


def _window(cuts: list[Cut]) -> tuple[float, float, float, float]:
    us, vs = [cut.centre[0] for cut in cuts], [cut.centre[1] for cut in cuts]
    # the tilted camera sees what is high above the axis shifted by up to 0.03
    return min(us) - 0.09, max(us) + 0.09, min(vs) - 0.07, max(vs) + 0.07


def _scratch_head(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    theta = _UP + float(rng.uniform(-0.8, 0.8))
    if rng.random() < 0.5:  # across the edge between face and cone
        u, lean = 0.013, float(rng.uniform(-0.5, 0.15))
    else:
        u, lean = float(rng.uniform(0.035, 0.095)), 0.63  # the slope of the cone
    cuts = _file(rng, u=u, theta=theta, radius=screw.core_at(u), lean=lean, strength=strength)
    return Damage(window=_window(cuts), cuts=tuple(cuts))


def _scratch_neck(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    u = float(rng.uniform(0.20, screw.thread_start - 0.05))
    theta = _UP + float(rng.uniform(-0.75, 0.75))
    cuts = _file(rng, u=u, theta=theta, radius=screw.core_at(u), lean=0.0, strength=strength)
    return Damage(window=_window(cuts), cuts=tuple(cuts))


def _thread_cut(
    rng: np.random.Generator,
    screw: Screw,
    *,
    u: float,
    theta: float,
    strength: float,
    share: float,
    rough: float,
) -> Cut:
    height = screw.height_at(u)
    return _cut(
        rng,
        u=u,
        theta=theta,
        radius=screw.core_at(u) + height,
        lean=float(rng.normal(0, 0.10)),
        turn=float(rng.uniform(-0.5, 0.5)),
        depth=height * share,
        half_length=float(rng.uniform(0.035, 0.085)) * (0.7 + 0.5 * strength),
        half_width=float(rng.uniform(0.06, 0.12)),
        rough=rough,
        shine=1.15 + 0.65 * strength * float(rng.uniform(0.5, 1)),
    )


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
        angle = theta + float(rng.normal(0, 0.25))
        place = screw.crest_near(u + (k - (number - 1) / 2) * screw.pitch, angle)
        dents.append(
            Dent(
                u=place,
                theta=angle,
                width_u=0.02,
                width_theta=float(rng.uniform(0.12, 0.30)),
                crush=float(rng.uniform(-0.15, 0.8)) * (0.4 + 0.6 * strength),
                push=float(rng.choice([-1, 1]) * rng.uniform(0.10, 0.28)) * (0.5 + 0.5 * strength),
            )
        )
    return tuple(dents)


def _thread_side(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    side = float(rng.choice([0.0, np.pi])) + float(rng.normal(0, 0.12))
    u = screw.crest_near(float(rng.uniform(screw.thread_start + 0.07, 0.86)), side)
    cut = _thread_cut(
        rng,
        screw,
        u=u,
        theta=side,
        strength=strength,
        share=0.75 + 0.60 * strength,
        rough=float(rng.uniform(0.08, 0.22)),
    )
    number = int(rng.integers(2, 5))
    dents = _dents(rng, screw, u=u, theta=side, strength=strength, number=number)
    window = (u - 0.17, u + 0.17, -1.0, 1.0)
    return Damage(window=window, cuts=(cut,), dents=dents)


def _thread_top(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    theta = _UP + float(rng.uniform(-0.55, 0.55))
    u = screw.crest_near(float(rng.uniform(screw.thread_start + 0.07, 0.86)), theta)
    u += float(rng.uniform(-0.3, 0.3)) * screw.pitch
    cut = _thread_cut(
        rng,
        screw,
        u=u,
        theta=theta,
        strength=strength,
        share=0.55 + 0.70 * strength,
        rough=float(rng.uniform(0.02, 0.08)),
    )
    number = int(rng.integers(0, 3))
    theta += float(rng.choice([-0.6, 0.6]))
    dents = _dents(rng, screw, u=u, theta=theta, strength=strength, number=number)
    window = (u - 0.17, u + 0.17, -1.0, 1.0)
    return Damage(window=window, cuts=(cut,), dents=dents)


def _manipulated_front(rng: np.random.Generator, screw: Screw, strength: float) -> Damage:
    start = float(rng.uniform(0.83, 0.92))
    direction = float(rng.choice([0.0, np.pi]) + rng.uniform(-0.6, 0.6))
    shift = 0.022 + 0.045 * strength
    bend = Bend(start=start, direction=direction, strength=shift / (1 - start) ** 2)
    cuts = []
    if rng.random() < 0.45:
        cuts.append(_break(rng, bend, end=float(rng.uniform(0.955, 0.985)) - 0.02 * strength))
    place, angle = float(rng.uniform(0.86, 0.94)), float(rng.uniform(0, np.pi))
    number = int(rng.integers(0, 3))
    dents = _dents(rng, screw, u=place, theta=angle, strength=strength, number=number)
    window = (start - 0.10, 2.0, -1.0, 1.0)
    return Damage(window=window, cuts=tuple(cuts), dents=dents, bend=bend)


def _break(rng: np.random.Generator, bend: Bend, end: float) -> Cut:
    """Draw the rough face where the outermost tip broke off."""
    shift = bend.strength * (end - bend.start) ** 2
    lean = 1.25 + float(rng.normal(0, 0.12))
    return _cut(
        rng,
        u=end,
        theta=bend.direction,
        radius=shift,
        lean=lean,
        turn=0.0,
        depth=0.002,
        half_length=0.05,
        half_width=0.05,
        rough=0.6,
        shine=float(rng.uniform(1.1, 1.5)),
    )


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
