"""How long a fit will take and how much memory, told before it starts, and a bound on the latter.

A few parts are read, sketched, embedded and scored for about a second, as the fit will do; what it
does beside that is known from the number of parts.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

from makellos.data.copies import sketch
from makellos.data.memory import Means, size_text, used_memory
from makellos.data.parts import PICTURES, Part, PartSet
from makellos.detectors import Detector
from makellos.detectors.patches.trial import BankCost, pace_of
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.engines import default_workers
from makellos.inspection.statistics import statistics_of
from makellos.models.coverage import Frame
from makellos.models.partition import Partition, split_parts

__all__ = ["Forecast", "forecast_of"]

_N_TRIED = 8  # parts
_SERIES = 120, 256  # parts that series are looked for in, and the side that they are seen at
_PAIRS = 5000, 1.6e-3  # parts that are compared with those most like them, s each
_MOST_STATES = 4096  # parts that tell the good state
_STEADY = 3.0  # s of work that does not depend on the number of parts
_HELD = 8 << 10  # bytes that each part takes: its names, and its sketch while copies are looked for
_PER_PIXEL = 30  # bytes, of a picture that is being read and sketched


@dataclass(frozen=True)
class Forecast:
    """Hold what a fit will take: `seconds`, `memory` in bytes, for parts of which `picture` H, W.

    `means` is what it may use for that, `bound` what it was asked to keep to, 0 for nothing.
    """

    seconds: float
    memory: float
    n_parts: int
    picture: tuple[int, int]
    means: Means = field(default_factory=Means)
    bound: int = 0

    def row(self) -> dict[str, float | int]:
        """Return it as plain data."""
        return {
            "seconds": round(self.seconds, 1),
            "memory_bytes": round(self.memory),
            "n_pictures": self.n_parts,
        }

    def __str__(self) -> str:
        """Say it in one line."""
        height, width = self.picture
        return (
            f"About {_time_text(self.seconds)} and {size_text(self.memory)} of memory for "
            f"{self.n_parts:,} pictures of {width} x {height} (estimated from a one-second trial)."
        )


def forecast_of(
    parts: PartSet, detector: Detector, frame: Frame, seed: int, bound: int = 0
) -> Forecast | None:
    """Return what a fit will take, within a `bound` of bytes where it is not 0.

    None where nobody can tell: of recordings, of detectors without a trial, of tiles, and where the
    parts cannot be read or are too few. Raises `ConfigurationError` for a bound that cannot be kept
    to, either because it is too small or because nobody can tell, and `InputError` where there is a
    bound and the parts that are tried cannot be read.
    """
    try:
        found = _tried(parts, detector, frame, seed)
    except InputError:
        if bound:
            raise
        found = None  # what is wrong is said where all parts are read
    if found is None:
        if bound:
            raise ConfigurationError(
                "--memory is accepted only for patchcore on whole pictures; this is "
                f"{detector.name} on {parts.kind.name}{' in tiles' if frame.tiling else ''}. Leave "
                "it out."
            )
        return None
    workers = default_workers()
    if not bound:
        means, memory = Means(), found.memory(workers, found.bank.layer)
    else:
        means = found.means_within(bound)
        memory = found.memory(means.workers or 1, means.candidate_bytes or 0)
    return Forecast(
        found.seconds(means.workers or workers, workers),
        memory,
        found.n_parts,
        found.picture,
        means,
        bound,
    )


@dataclass(frozen=True)
class _Tried:
    """Hold what was measured on a few parts, and of how many there will be more."""

    bank: BankCost
    partition: Partition
    n_parts: int
    picture: tuple[int, int]
    n_turns: int
    base: int
    per_read: float
    per_state: float
    per_hash: float

    def seconds(self, workers: int, tried_with: int) -> float:
        """Return how long the whole fit takes."""
        n_learn, n_calibrate = len(self.partition.learn), len(self.partition.calibrate)
        bank, n_folds = self.bank, self.bank.n_graphs - 1
        height, width = self.picture
        small = min(1.0, _SERIES[1] ** 2 / (height * width))
        series = min(_SERIES[0], self.n_parts) * bank.per_part * small
        looks = n_learn * self.n_turns + min(64, n_learn)
        spread = looks * bank.per_part + n_calibrate * bank.per_score
        reading = self.n_parts * (self.per_read + 2 * self.per_hash)
        return (
            _STEADY
            + reading
            + min(_PAIRS[0], self.n_parts) * _PAIRS[1]
            + series
            + spread * tried_with / workers
            + bank.choosing
            + (n_folds + 3) * bank.per_graph
            + min(_MOST_STATES, self.n_parts) * self.per_state
        )

    def memory(self, workers: int, candidates: float) -> float:
        """Return the bytes that the process will hold at most."""
        height, width = self.picture
        reading = (workers + 1) * _PER_PIXEL * height * width
        return self.base + self.n_parts * _HELD + reading + self.bank.memory(workers, candidates)

    def means_within(self, bound: int) -> Means:
        """Return the most that fits into a bound; raise `ConfigurationError` where nothing does."""
        for workers in range(default_workers(), 0, -1):
            other = self.memory(workers, 0) - self.bank.memory(workers, 0)
            candidates = self.bank.candidates(workers, bound - other)
            if candidates >= self.bank.least_layer:
                return Means(workers, int(candidates))
        least = self.memory(1, self.bank.least_layer)
        raise ConfigurationError(
            f"--memory is {size_text(bound)}, but this fit takes at least {size_text(least)}. Give "
            f"--memory {math.ceil(1.02 * least / (1 << 20))}M or more, or make pictures smaller "
            "with --preset fast or --set max_image_size=256."
        )


def _tried(parts: PartSet, detector: Detector, frame: Frame, seed: int) -> _Tried | None:
    good, calibration = list(parts.good()), list(parts.calibration())
    if parts.kind is not PICTURES or frame.tiling is not None or not good:
        return None
    partition = split_parts(good, calibration, detector, frame.smallest_budget, seed)
    n_folds = detector.n_folds if partition.method == "cross-fitted" else 0
    sample = good[:: max(1, len(good) // _N_TRIED)][:_N_TRIED]
    picture = sample[0].read()
    base = used_memory()
    bank = detector.trial(sample, len(partition.learn), n_folds)
    if bank is None:
        return None
    workers, white = default_workers(), frame.white_level
    reading = pace_of(lambda part: sketch(part.read()), sample, threads=workers, seconds=0.15)
    state = pace_of(
        lambda part: statistics_of(part.read(), white), sample, threads=workers, seconds=0.15
    )
    hashing = pace_of(_hash, sample, threads=1, seconds=0.01)
    return _Tried(
        bank,
        partition,
        len(good) + len(calibration),
        (picture.shape[0], picture.shape[1]),
        1,
        base,
        reading.seconds,
        state.seconds,
        hashing.seconds,
    )


def _hash(part: Part) -> bytes:
    held = part.path.read_bytes() if part.element is None else part.element.content()
    return hashlib.sha256(held).digest()


def _time_text(seconds: float) -> str:
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
