"""Dirt on the table beside a synthetic screw: fibres, dust and stains."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from makellos.sets.synthetic_geometry import Floats

__all__ = ["DIRT", "lay_dirt"]

_CLEAR = 0.015  # of the side: as near as dirt comes to the screw
_TRIES = 40


def _fibre(rng: np.random.Generator, size: int) -> Floats:
    """Draw how much a curled fibre darkens each pixel, in gray levels; some are bright."""
    length, turn = size * float(rng.uniform(0.05, 0.22)), float(rng.uniform(0, 2 * np.pi))
    curl, wave = rng.normal(0, 2.5), rng.uniform(0.5, 2.0)
    steps = np.linspace(0, 1, 48)
    angles = turn + curl * steps + wave * np.sin(2 * np.pi * steps * rng.uniform(0.5, 1.5))
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=1) * length / len(steps)
    points = rng.uniform(0, size, 2) + np.cumsum(ways, axis=0)
    canvas = np.zeros((size, size), np.uint8)
    fixed = np.rint(points * 16).astype(np.int32).reshape(-1, 1, 2)
    thick = max(1, round(size / 320))
    cv2.polylines(
        canvas, [fixed], isClosed=False, color=255, thickness=thick, lineType=cv2.LINE_AA, shift=4
    )
    strength = float(rng.uniform(25, 90)) * (1 if rng.random() < 0.8 else -0.5)
    soft = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), 0.6 * size / 320)
    return np.asarray(soft * np.float32(strength / 255), np.float32)


def _dust(rng: np.random.Generator, size: int) -> Floats:
    """Draw some specks that lie together."""
    canvas = np.zeros((size, size), np.float32)
    centre, spread = rng.uniform(0, size, 2), size * float(rng.uniform(0.005, 0.03))
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.normal(centre, spread)
        radius = size / 320 * float(rng.uniform(0.6, 2.0))
        speck = np.zeros((size, size), np.uint8)
        place = (round(float(x) * 16), round(float(y) * 16))
        cv2.circle(speck, place, max(1, round(radius * 16)), 255, cv2.FILLED, cv2.LINE_AA, 4)
        canvas = np.maximum(canvas, speck.astype(np.float32) * float(rng.uniform(0.12, 0.35)))
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.5 * size / 320), np.float32)


def _stain(rng: np.random.Generator, size: int) -> Floats:
    """Draw a dried drop: a faint ragged spot whose rim is darker."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = rng.uniform(0, size, 2)
    radius, stretch = size * float(rng.uniform(0.02, 0.06)), float(rng.uniform(0.6, 1.0))
    turn = np.arctan2(rows - y, columns - x)
    ragged = 1 + sum(rng.uniform(0, 0.08) * np.cos(n * turn + rng.uniform(0, 6)) for n in (2, 3, 5))
    distance = np.hypot(columns - x, (rows - y) / stretch) / (radius * ragged)
    inside = np.clip((1.05 - distance) / 0.1, 0, 1)
    rim = np.exp(-np.square((distance - 0.95) / 0.08))
    strength = float(rng.uniform(8, 28))
    return np.asarray(strength * (0.5 * inside + rim), np.float32)


_DRAW: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "fibre": _fibre,
    "dust": _dust,
    "stain": _stain,
}
DIRT: tuple[str, ...] = tuple(_DRAW)


def lay_dirt(rng: np.random.Generator, gray: Floats, cover: Floats) -> Floats:
    """Return gray levels H×H with one to three pieces of dirt beside the screw.

    `cover` h×h is above 0 where the screw is; no dirt touches it, or lies nearer than 1.5 % of the
    side. Nothing is laid where there is no room.
    """
    size = gray.shape[0]
    screw = cv2.resize(cover, (size, size), interpolation=cv2.INTER_AREA) > 0
    away = cv2.distanceTransform((~screw).astype(np.uint8), cv2.DIST_L2, 5)
    dirty = gray.copy()
    for _ in range(int(rng.integers(1, 4))):
        draw = _DRAW[DIRT[int(rng.integers(len(DIRT)))]]
        for _ in range(_TRIES):
            darker = draw(rng, size)
            seen = np.abs(darker) > 1
            if seen.sum() > 4 and away[seen].min() > _CLEAR * size:
                dirty -= darker
                break
    return dirty
