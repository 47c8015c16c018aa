"""Light, surface, table and camera for synthetic screws."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from makellos.sets.synthetic_geometry import Floats, Hits, Screw

__all__ = ["Light", "Pose", "Scene", "draw_scene", "shade"]


# azimuth from the main lamp's and elevation above the table in radians and degrees, and strength
_LAMPS = ((0.0, 34.0, 0.38), (2.2, 32.0, 0.30), (4.2, 32.0, 0.30))
_DOME = 0.22
_LOBE = 4.0  # how narrow highlights are


@dataclass(frozen=True, eq=False)
class Pose:
    """Hold where the screw lies; lengths are in shares of the picture's side."""

    angle: float  # of the axis in the picture, radians
    tilt: float  # of the axis against the picture plane, radians
    length: float
    centre: tuple[float, float]


_SPREAD, _PLAY = 0.02, 0.005  # of the middle of a screw that lies freely, and in a fixture


@dataclass(frozen=True, eq=False)
class Light:
    """Hold the lamps over the table: directions toward them and their strengths."""

    lamps: tuple[tuple[tuple[float, float, float], float], ...]
    dome: float


@dataclass(frozen=True, eq=False)
class Scene:
    """Hold everything about one picture except the screw's body."""

    pose: Pose
    light: Light
    grain: Floats  # 512x256 unit noise, tiled over the surface
    stain: Floats  # 512x256 smooth unit noise
    reflectance: float
    table: Floats  # HxW radiance of the empty table
    shadow: float
    blur: float  # pixels of a 320 picture
    noise: Floats  # HxW unit normal
    noise_strength: float


def _unit(azimuth: float, elevation: float) -> tuple[float, float, float]:
    flat = np.cos(elevation)
    return (
        float(flat * np.cos(azimuth)),
        float(flat * np.sin(azimuth)),
        float(np.sin(elevation)),
    )


def draw_scene(rng: np.random.Generator, size: int, *, aligned: bool = False) -> Scene:
    """Draw pose, light, surface, table and sensor noise of one picture of `size` pixels.

    `aligned` screws lie level, as in a fixture, with half a percent of play.
    """
    pose = _draw_pose(rng)
    if aligned:
        play = [0.5 + _PLAY * (place - 0.5) / _SPREAD for place in pose.centre]
        pose = replace(pose, angle=0.0, centre=(play[0], play[1]))
    light = _draw_light(rng)
    grain = rng.standard_normal((512, 256), dtype=np.float32)
    return Scene(
        pose=pose,
        light=light,
        grain=_unit_noise(grain, 0.7),
        stain=_unit_noise(rng.standard_normal((512, 256), dtype=np.float32), 7.0),
        reflectance=float(rng.uniform(0.96, 1.04)),
        table=_table(rng, size),
        shadow=float(rng.uniform(1.0, 1.12)),
        blur=float(rng.uniform(0.42, 0.48)),
        noise=rng.standard_normal((size, size), dtype=np.float32),
        noise_strength=float(rng.uniform(0.9, 1.1)),
    )


def _draw_light(rng: np.random.Generator) -> Light:
    """Draw the light of the one station where all screws are photographed."""
    azimuth = np.deg2rad(-125 + rng.uniform(-4, 4))
    return Light(
        lamps=tuple(
            (
                _unit(azimuth + turn, np.deg2rad(elevation + rng.uniform(-1.5, 1.5))),
                strength * float(rng.uniform(0.96, 1.04)),
            )
            for turn, elevation, strength in _LAMPS
        ),
        dome=_DOME * float(rng.uniform(0.97, 1.03)),
    )


def _draw_pose(rng: np.random.Generator) -> Pose:
    return Pose(
        angle=float(rng.uniform(0, 2 * np.pi)),
        tilt=float(np.deg2rad(rng.uniform(9.0, 10.0))),
        length=float(rng.uniform(0.860, 0.880)),
        centre=(
            float(rng.uniform(0.5 - _SPREAD, 0.5 + _SPREAD)),
            float(rng.uniform(0.5 - _SPREAD, 0.5 + _SPREAD)),
        ),
    )


def _unit_noise(noise: Floats, sigma: float) -> Floats:
    soft = cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(soft / soft.std(), dtype=np.float32)


def _table(rng: np.random.Generator, size: int) -> Floats:
    """Draw the empty table, size x size, radiance near 0.8: uneven light, fibres, dust."""
    grid = np.linspace(-1, 1, size, dtype=np.float32)
    slope = rng.normal(0, 0.016, 2).astype(np.float32)
    level = np.float32(rng.uniform(0.78, 0.82))
    uneven = cv2.resize(
        rng.standard_normal((6, 6), dtype=np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    fibre = rng.standard_normal((size, size), dtype=np.float32)
    scale = size / 320
    fibre = cv2.GaussianBlur(fibre, (0, 0), sigmaX=2.2 * scale, sigmaY=0.5 * scale)
    radiance = level * (1 + slope[0] * grid[None, :] + slope[1] * grid[:, None])
    radiance = radiance * (1 + np.float32(0.006) * uneven + np.float32(0.011) * fibre)
    vignette = 1 - np.float32(0.018) * (grid[None, :] ** 2 + grid[:, None] ** 2)
    return np.asarray(radiance * vignette * _dust(rng, size), dtype=np.float32)


def _dust(rng: np.random.Generator, size: int) -> Floats:
    canvas = np.zeros((size, size), dtype=np.uint8)
    scale = size / 320
    for _ in range(int(rng.poisson(16))):
        x, y = rng.uniform(0, size, 2)
        length, angle = min(rng.exponential(1.2), 3.0) * scale, rng.uniform(0, np.pi)
        ends = np.array(
            [[x, y], [x + length * np.cos(angle), y + length * np.sin(angle)]], dtype=np.float64
        )
        points = np.rint(ends * 16).astype(int)
        dark = int(rng.uniform(12, 60))
        thick = max(1, round(scale))
        cv2.line(canvas, tuple(points[0]), tuple(points[1]), dark, thick, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), 0.7 * scale)
    return np.asarray(1 - soft / 255, dtype=np.float32)


def _tile(noise: Floats, a: Floats, b: Floats) -> Floats:
    rows = a.astype(np.int32) & (noise.shape[0] - 1)
    columns = b.astype(np.int32) & (noise.shape[1] - 1)
    result: Floats = noise[rows, columns]
    return result


def shade(screw: Screw, hits: Hits, scene: Scene) -> Floats:
    """Return the radiance of each hit, N float32, about 0.1 to 0.9."""
    theta = np.arctan2(hits.w, hits.v)
    # on the face u and theta give no surface coordinates
    first = np.where(hits.face, hits.v * 900, hits.u * 900) + 4096
    second = np.where(hits.face, hits.w * 900, theta * 48) + 512
    grain = _tile(scene.grain, first, second)
    brushed = _tile(scene.grain, first + 77, np.where(hits.face, second, theta * 9 + 777))
    stain = _tile(scene.stain, hits.u * 260 + 4096, theta * 20 + 300)
    bare = hits.streak != 0
    # tool marks: fine across the tool's way, long along it
    marks = _tile(scene.grain, hits.streak * 420, hits.streak * 0)
    marks = np.float32(0.8) * marks + np.float32(0.5) * grain
    rough = np.where(bare, marks, 0.7 * grain + 0.6 * brushed)
    normal = hits.normal.copy()
    normal[0] += np.float32(0.065) * rough
    normal[1] += np.float32(0.04) * np.where(bare, marks, grain)
    normal /= np.sqrt((normal * normal).sum(axis=0))
    normal = _to_camera(normal, scene.pose)
    radiance = _environment(normal, scene.light)
    radiance = np.where(bare, _scattered(normal, scene.light), radiance)
    surface = 1 + np.float32(0.06) * grain + np.float32(0.06) * stain
    surface = np.where(bare, hits.shine * (1 + np.float32(0.14) * marks), surface)
    radiance = radiance * surface * np.float32(scene.reflectance)
    flank = np.where(screw.threaded(hits.u) & ~bare, hits.normal[0] ** 2, 0)
    radiance *= 1 - np.float32(0.5) * flank
    _shade_recess(screw, hits, scene, radiance)
    return radiance


def _to_camera(normal: Floats, pose: Pose) -> Floats:
    """Turn unit vectors from the screw's frame into right, down, toward the camera."""
    c, s = np.float32(np.cos(pose.tilt)), np.float32(np.sin(pose.tilt))
    along = normal[0] * c + normal[2] * s
    toward = normal[2] * c - normal[0] * s
    ca, sa = np.float32(np.cos(pose.angle)), np.float32(np.sin(pose.angle))
    return np.stack([along * ca - normal[1] * sa, along * sa + normal[1] * ca, toward])


def _environment(normal: Floats, light: Light) -> Floats:
    """Return what metal with these normals reflects of lamps, dome, dark lens and table."""
    mirror = 2 * np.clip(normal[2], 0, 1) * normal
    mirror[2] -= 1
    lens = 1 - np.float32(0.35) * np.exp(np.float32(7) * (mirror[2] - 1))
    ground = np.float32(0.16) * np.clip(-mirror[2], 0, 1)
    result = np.float32(light.dome) * lens + ground
    for direction, strength in light.lamps:
        way = np.array(direction, dtype=np.float32)[:, None]
        glance = (mirror * way).sum(axis=0)
        result = result + np.float32(strength * 1.15) * np.exp(np.float32(_LOBE) * (glance - 1))
        result = result + np.float32(strength * 0.12) * np.maximum((normal * way).sum(axis=0), 0)
    clean: Floats = result.astype(np.float32)
    return clean


def _scattered(normal: Floats, light: Light) -> Floats:
    """Return what filed or torn metal with these normals scatters, hardly glossy."""
    result: Floats = np.full_like(normal[2], light.dome * 0.75)
    for direction, strength in light.lamps:
        way = np.array(direction, dtype=np.float32)[:, None]
        result += np.float32(strength * 0.6) * np.maximum((normal * way).sum(axis=0), 0)
    return result


def _shade_recess(screw: Screw, hits: Hits, scene: Scene, radiance: Floats) -> None:
    """Shade the star-shaped drive recess, of which the camera sees the far wall."""
    index = np.flatnonzero(hits.u < 0.004)  # a cut into the face opens no recess
    index = index[_beyond_star(screw, hits.v[index], hits.w[index]) < 0]
    v, w = hits.v[index], hits.w[index].copy()
    start, step = hits.w[index], np.float32(screw.recess / 24)
    inside = np.ones(len(index), dtype=np.bool_)
    for _ in range(60):
        w[inside] -= step
        inside &= _beyond_star(screw, v, w) < 0
    over, tiny = _beyond_star(screw, v, w), np.float32(0.002)
    normal = np.stack(
        [
            np.zeros_like(v),
            over - _beyond_star(screw, v + tiny, w),
            over - _beyond_star(screw, v, w + tiny),
        ]
    )
    normal += np.float32(0.0006) * _tile(scene.grain, v * 900 + 4096, w * 900 + 4096)
    normal /= np.sqrt((normal * normal).sum(axis=0)) + np.float32(1e-9)
    depth = (start - w) * np.float32(1 / screw.recess)
    light = np.float32(0.22) + np.float32(1.1) * np.exp(np.float32(-1.3) * depth)
    wall = _environment(_to_camera(normal, scene.pose), scene.light)
    radiance[index] = np.clip(wall * light, 0.06, 0.9)


def _beyond_star(screw: Screw, v: Floats, w: Floats) -> Floats:
    angle = np.arctan2(w, v) + np.float32(screw.recess_angle)
    star = np.float32(screw.recess) * (1 + np.float32(0.15) * np.cos(6 * angle))
    result: Floats = np.hypot(v, w) - star
    return result
