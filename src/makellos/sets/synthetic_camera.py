"""From the body of a synthetic screw to gray levels: which pixel sees what, and the lens."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from makellos.sets.synthetic_geometry import Floats, Screw, trace
from makellos.sets.synthetic_shading import Scene, shade

__all__ = ["Layers", "develop", "observe"]

_SHADOW_GRID = 160
# how far from the screw, how soft (both in shares of the picture), how dark
_SHADOWS = ((0.004, 0.010, 0.08), (0.018, 0.032, 0.34), (0.050, 0.095, 0.50))


@dataclass(frozen=True, eq=False)
class Layers:
    """Hold what the supersampled sensor sees of the screw, all side x side float32."""

    radiance: Floats
    cover: Floats  # 1 where the screw is
    height: Floats  # toward the camera, in screw lengths


def _rays(scene: Scene, side: int) -> tuple[Floats, Floats]:
    pose, scale = scene.pose, 1 / (scene.pose.length * side)
    ca, sa = float(np.cos(pose.angle)) * scale, float(np.sin(pose.angle)) * scale
    column = np.arange(side, dtype=np.float32) + np.float32(0.5 - pose.centre[0] * side)
    row = np.arange(side, dtype=np.float32) + np.float32(0.5 - pose.centre[1] * side)
    along = (column * ca + 0.5)[None, :] + (row * sa)[:, None]
    across = (row * ca)[:, None] - (column * sa)[None, :]
    return along.ravel(), across.ravel()


def observe(screw: Screw, scene: Scene, size: int, before: Layers | None = None) -> Layers:
    """Look at the screw with 2 x 2 rays per pixel (one where pictures are large).

    With `before`, the layers of the same screw without damage, only what the damage can change
    is looked at again.
    """
    side = size * 2 if size <= 1024 else size
    along, across = _rays(scene, side)
    near = (np.abs(across) < 0.095) | ((along < 0.22) & (np.abs(across) < 0.16))
    near &= (along > -0.05) & (along < 1.04)
    if before is not None:
        low, high, left, right = screw.damage.window
        near &= (along > low) & (along < high) & (across > left) & (across < right)
    where = np.flatnonzero(near)
    hits = trace(screw, scene.pose.tilt, along[where], across[where])
    if before is None:
        layers = [np.zeros(side * side, dtype=np.float32) for _ in range(3)]
    else:
        layers = [x.ravel().copy() for x in (before.radiance, before.cover, before.height)]
    height = hits.w * np.float32(np.cos(scene.pose.tilt))
    height -= hits.u * np.float32(np.sin(scene.pose.tilt))
    # nothing keeps light from the steep face: take it to be as high as the rim beside it
    rim = screw.core_at(0.005) ** 2 - hits.v[hits.face] ** 2
    height[hits.face] = np.sqrt(np.maximum(rim, 0))
    values = (shade(screw, hits, scene), np.ones_like(height), height)
    for layer, value in zip(layers, values, strict=True):
        layer[where] = 0
        layer[where[hits.seen]] = value
    radiance, cover, relief = (layer.reshape(side, side) for layer in layers)
    return Layers(radiance, cover, relief)


def develop(layers: Layers, scene: Scene, shadow_of: Layers | None = None) -> Floats:
    """Return gray levels of the screw on its table, H x W, not yet noisy or rounded.

    The shadow on the table is that of `shadow_of`, or of the screw itself.
    """
    size = scene.table.shape[0]
    light = layers.radiance * _openness(layers)
    cover = layers.cover
    if cover.shape[0] != size:
        light = cv2.resize(light, (size, size), interpolation=cv2.INTER_AREA)
        cover = cv2.resize(cover, (size, size), interpolation=cv2.INTER_AREA)
    shadow = _shadow(layers.cover if shadow_of is None else shadow_of.cover, scene)
    ground = scene.table * (1 - np.float32(scene.shadow) * shadow)
    picture = ground * (1 - cover) + light
    sigma = max(scene.blur * size / 320, 0.25)
    result: Floats = cv2.GaussianBlur(picture, (0, 0), sigma) * np.float32(255)
    return result


def _openness(layers: Layers) -> Floats:
    """Return how much of the lamps' light reaches each pixel: less in the roots of the thread."""
    width = max(3, int(layers.cover.shape[0] * 0.022) | 1)
    share = cv2.blur(layers.cover, (width, width)) + np.float32(1e-6)
    around = cv2.blur(layers.height, (width, width)) / share
    result: Floats = 1 - np.clip((around - layers.height) * np.float32(22), 0, np.float32(0.6))
    return result


def _shadow(cover: Floats, scene: Scene) -> Floats:
    size = scene.table.shape[0]
    grid = min(_SHADOW_GRID, size)
    small = cv2.resize(cover, (grid, grid), interpolation=cv2.INTER_AREA)
    lamp = scene.light.lamps[0][0]
    shadow = np.zeros_like(small)
    for distance, softness, darkness in _SHADOWS:
        shift = [-lamp[0] * distance * grid, -lamp[1] * distance * grid]
        move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], dtype=np.float32)
        moved = cv2.warpAffine(small, move, (grid, grid))
        shadow += np.float32(darkness) * cv2.GaussianBlur(moved, (0, 0), softness * grid)
    result: Floats = cv2.resize(shadow, (size, size), interpolation=cv2.INTER_CUBIC)
    return result
