"""How likely damage is found by its size: the curve, and the size found at 90 % with 95 %."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.errors import InputError
from makellos.evaluation._checks import check_defective, check_length

__all__ = ["FEWEST_SIZES", "DetectionCurve", "detection_curve"]

FEWEST_SIZES = 60  # that MIL-HDBK-1823A asks for, of parts that were found or missed
_FEWEST = 10  # below it no curve says anything
_DROP = 2.705543  # of the deviance of independent parts, chi-squared: one-sided 95 %
_FARTHEST = 60.0  # of the logarithm of a size, from that of the curve
_STEPS, _HALVINGS = 60, 50

Floats = NDArray[np.float64]
Finding = Literal["fitted", "few", "no size", "all found", "none found", "separable", "no slope"]


@dataclass(frozen=True)
class DetectionCurve:
    """Hold a probability of detection by size, POD(a) = 1 / (1 + exp(-(b0 + b1 ln a))).

    `n` parts of known size were tested, of `smallest` to `largest` size in the unit that was given,
    and `n_found` of them found. `finding` is ``fitted``, or why there is no curve: ``few`` (fewer
    than 10 parts), ``no size`` (all of one size), ``all found``, ``none found``, ``separable`` (no
    missed part is larger than a found one, so that the slope has no end) or ``no slope`` (larger
    damage is not found more often). The rest is None then. `a50` and `a90` are the sizes found at
    50 and 90 %; `a90_95` is the upper bound of `a90` with 95 % confidence, None where the data set
    none. `points` are (size, POD, and size at which that POD is reached with 95 % confidence, or
    None).
    """

    n: int
    n_found: int
    smallest: float | None
    largest: float | None
    finding: Finding
    intercept: float | None = None
    slope: float | None = None
    a50: float | None = None
    a90: float | None = None
    a90_95: float | None = None
    points: tuple[tuple[float, float, float | None], ...] = ()


def detection_curve(
    sizes: ArrayLike, found: ArrayLike, *, n_points: int = 0, n_units: float | None = None
) -> DetectionCurve:
    """Fit the probability that damage is found by its size, from parts found or missed.

    After MIL-HDBK-1823A (2009), hit/miss: maximum likelihood of a logit that is linear in the
    logarithm of the size, and bounds by the likelihood ratio. They are one-sided and of the profile
    of each size, so that 95 % is what `a90_95` itself has. `sizes` (n,) are above 0, `found` (n,)
    is bool or 0 and 1; `n_points` of the curve are returned beside the figures. Where parts belong
    to only `n_units` groups, the likelihood counts as that of so many parts. Raises `InputError`
    for others and for lengths that differ.
    """
    given = np.asarray(sizes, dtype=np.float64)
    check_length("sizes", given.shape, given.size)
    hit = check_defective(found, given.size, name="found")
    if not (np.isfinite(given) & (given > 0)).all():
        raise InputError("A size is not a number above 0. Leave out parts of unknown size.")
    curve = DetectionCurve(
        n=given.size,
        n_found=int(hit.sum()),
        smallest=float(given.min()) if given.size else None,
        largest=float(given.max()) if given.size else None,
        finding=_unfitted(given, hit) or "fitted",
    )
    if curve.finding != "fitted":
        return curve
    logs, signs = np.log(given), np.where(hit, 1.0, -1.0)
    centre = float(logs.mean())
    x = logs - centre
    b0, b1 = _fit(x, signs)
    if b1 <= 0:
        return replace(curve, finding="no slope")
    shares = sorted({*np.linspace(0.02, 0.98, n_points).tolist(), 0.9})
    at = {share: (math.log(share / (1 - share)) - b0) / b1 for share in shares}
    most = _loss(b0 + b1 * x, signs) + _DROP / 2 * given.size / (n_units or given.size)
    bounds = {share: _upper(x, signs, share, at[share], most) for share in at}

    def size(x: float | None) -> float | None:
        return None if x is None or abs(x + centre) > 700 else math.exp(x + centre)

    return replace(
        curve,
        intercept=b0 - b1 * centre,
        slope=b1,
        a50=size(-b0 / b1),
        a90=size(at[0.9]),
        a90_95=size(bounds[0.9]),
        points=tuple(
            (near, s, size(bounds[s])) for s in at if n_points and (near := size(at[s])) is not None
        ),
    )


def _unfitted(sizes: Floats, hit: NDArray[np.bool_]) -> Finding | None:
    """Return why the likelihood has no maximum, or None where it has one."""
    if sizes.size < _FEWEST:
        return "few"
    if hit.all() or not hit.any():
        return "all found" if hit.all() else "none found"
    if np.ptp(sizes) == 0:
        return "no size"
    if sizes[~hit].max() <= sizes[hit].min():
        return "separable"
    return "no slope" if sizes[hit].max() <= sizes[~hit].min() else None


def _loss(logits: Floats, signs: Floats) -> float:
    """Return minus the logarithm of the likelihood."""
    return float(np.logaddexp(0.0, -signs * logits).sum())


def _share(logits: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def _fit(x: Floats, signs: Floats) -> tuple[float, float]:
    """Return intercept and slope of the logit by Newton steps, halved until they descend."""
    design = np.column_stack([np.ones_like(x), x])
    b, hit = np.zeros(2), signs > 0
    loss = _loss(design @ b, signs)
    for _ in range(_STEPS):
        p = _share(design @ b)
        hessian = design.T @ (design * (p * (1 - p))[:, None])
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), design.T @ (hit - p))
        tried = _loss(design @ (b + step), signs)
        for _ in range(_HALVINGS):
            if tried <= loss:
                break
            step /= 2
            tried = _loss(design @ (b + step), signs)
        b, before, loss = b + step, loss, tried
        if abs(step).max() < 1e-10 or before - loss < 1e-14 * before:
            break
    return float(b[0]), float(b[1])


def _upper(x: Floats, signs: Floats, share: float, at: float, most: float) -> float | None:
    """Return the farthest logarithm of a size whose POD may be a `share`; None without an end.

    It may where the loss of its profile is at `most` that.
    """
    level = math.log(share / (1 - share))

    def beyond(place: float) -> float:
        return _best_slope(x - place, signs, level) - most

    low, step = at, 0.1
    while beyond(low + step) < 0:
        low, step = low + step, 2 * step
        if step > _FARTHEST:
            return None
    high = low + step
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) < 0 else (low, middle)
    return high


def _best_slope(x: Floats, signs: Floats, level: float) -> float:
    """Return the least loss of the logit `level` + b x over b >= 0."""
    hit, b = signs > 0, 0.0
    loss = _loss(level + b * x, signs)
    for _ in range(_STEPS):
        p = _share(level + b * x)
        bent = float((x * x * p * (1 - p)).sum())
        step = float((x * (hit - p)).sum()) / (bent + 1e-12)
        step = max(step, -b)
        tried = _loss(level + (b + step) * x, signs)
        for _ in range(_HALVINGS):
            if tried <= loss:
                break
            step /= 2
            tried = _loss(level + (b + step) * x, signs)
        if loss - tried < 1e-12 * max(1.0, loss):
            return min(loss, tried)
        b, loss = b + step, tried
    return loss
