"""A monitor of a stream of inspected parts: when they leave the good state, and why."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from makellos.calibration import ZonedCalibration
from makellos.calibration.drift import (
    ALLOWED,
    Limits,
    Watch,
    alarm_level,
    largest_share,
    learn_limits,
    ranks,
)
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.drift_causes import CAUSE_OF, Evidence, name_cause
from makellos.inspection.findings import Inspection
from makellos.inspection.good_state import LEVELS, GoodState, cells_of, figures_of
from makellos.inspection.manifest import CalibrationRecord
from makellos.inspection.model_file import ModelFile, read_model
from makellos.inspection.monitor_state import MonitorState
from makellos.inspection.statistics import CELLS, FIGURES, Statistics
from makellos.vibration.signal_record import SignalRecord

__all__ = ["N_START", "Alarm", "DriftMonitor"]

N_START = 100  # parts that stand for the good state where the model does not know it
N_AFTER = 80  # parts after an alarm that stand for the state from then on
NAMING = 10  # parts after the first sign of a drift, until its cause is named
_APART = ("held out", "split val", "new good parts")  # calibrated by what later parts meet
_RECENT = 60  # parts of which figures are kept
_DOUBT = 0.005
_EPS = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Alarm:
    """Say that parts have left the good state: at which part, since about when, and why.

    Parts count from 1. `at` is the part whose evidence sufficed, with the name `input`; `named_at`
    the one at which the cause was named, `since` about the first one that differs. `evidence` is
    the decimal logarithm of the wealth of bets on each cause, `changes` what each figure of
    pictures was and has become.
    """

    at: int
    cause: str
    detail: str
    since: int
    named_at: int
    input: str
    evidence: dict[str, float]
    changes: dict[str, tuple[float, float]]

    def row(self) -> dict[str, Any]:
        """Return the alarm as plain data."""
        return asdict(self)


class _Seen(NamedTuple):
    """Hold what a monitor takes of a part."""

    name: str
    p_value: float | None
    statistics: Statistics | None


class DriftMonitor:
    """Watch a stream of inspected parts, one by one, for a drift away from the good state.

    In the good state at most `false_alarms` alarms come in 10,000 parts on average, whatever the
    order of parts, as long as at most 2 % of them are unlike good ones. Statistics of pictures tell
    the cause, if inspections have them (``Inspector(..., statistics=True)``); without them the
    scores alone are watched. Where the model does not know its good state, the first 100 parts
    stand for it, and after an alarm the next 80 stand for the state from then on, so that a second
    change can be found; `reset` goes back to the model's own. Raises `ConfigurationError` for a
    rate out of range, `ModelFileError` for a model that cannot be trusted.
    """

    def __init__(self, model: Path | str | ModelFile, *, false_alarms: float = 1.0) -> None:
        read = model if isinstance(model, ModelFile) else read_model(Path(model))
        record = read.manifest.calibration
        self._of_scores = _limits_of_scores(record, read.manifest.signal)
        self._own = read.manifest.good_state
        self._model = _print_of(record, self._own)
        self._level = alarm_level(false_alarms)
        self.false_alarms = false_alarms
        self.n_parts = 0
        self.reset()

    def reset(self) -> None:
        """Go back to the model's good state, as after the cause of an alarm is gone."""
        self._learning: list[_Seen] = []
        self._pending: tuple[int, str] | None = None
        self._recent: deque[tuple[int, list[float | None]]] = deque(maxlen=_RECENT)
        self._score = self._of_scores
        self._take(self._own)

    def _take(self, good: GoodState | None) -> None:
        """Watch from here on against a good state; None where figures are not known yet."""
        self._good = good
        self._n_wanted = 0
        limits = self._score if good is None else self._score.joined(good.limits())
        names = ("score",) if good is None else ("score", *FIGURES)
        weights = _weights(names, limits, cells=good is not None)
        self._figures = Watch(limits, weights)
        self._cells: Watch | None = None
        if good is not None:
            each = (1 - weights.sum()) / CELLS**2
            self._cells = Watch(good.field_limits(), np.full(CELLS**2, each))

    def update(self, part: Inspection | Mapping[str, Any]) -> Alarm | None:
        """Take one inspected part, or its row, into account; return an alarm when one is due.

        An alarm comes ten parts after the first that told of a drift, with its cause. Parts that
        could not be read count, and say nothing. Raises `InputError` for a row without a p-value.
        """
        self.n_parts += 1
        seen = _seen(part)
        if seen.p_value is None:
            return self._named() if self._is_due() else None
        self._learn(seen)
        if self._n_wanted:
            return None
        figures = figures_of(seen.statistics, self._good)
        kept = [None if math.isnan(value) else value for value in figures.tolist()]
        self._recent.append((self.n_parts, kept))
        values = np.array([1 - seen.p_value])
        if self._good is not None:
            values = np.concatenate([values, figures])
        self._figures.update(values, self.n_parts)
        if self._cells is not None and self._good is not None and seen.statistics is not None:
            cells = cells_of(seen.statistics, self._good.covered)
            self._cells.update(cells, self.n_parts)
        if self._pending is None and self.wealth >= self._level:
            self._pending = (self.n_parts, seen.name)
        return self._named() if self._is_due() else None

    def finish(self) -> Alarm | None:
        """Return the alarm that waits for its cause where the stream ends, if one does."""
        return None if self._pending is None else self._named()

    @property
    def wealth(self) -> float:
        """Return the sum of all bets' wealths: 10,000 over the rate of false alarms is an alarm."""
        return self._figures.total() + (0.0 if self._cells is None else self._cells.total())

    @property
    def n_missing(self) -> int:
        """Return how many more parts are needed until the state to compare with is known."""
        return max(0, self._n_wanted - len(self._learning))

    def _is_due(self) -> bool:
        return self._pending is not None and self.n_parts >= self._pending[0] + NAMING

    def _learn(self, seen: _Seen) -> None:
        """Collect parts where the state to compare with is not known, and take it when it is."""
        if not self._n_wanted:
            if self._good is not None or seen.statistics is None:
                return
            if self._pending is not None or self._figures.total() >= self._level:
                return  # the scores tell of a drift already
            self._learning.append(seen)
            if len(self._learning) == N_START:
                found = [each.statistics for each in self._learning if each.statistics is not None]
                self._learning = []
                self._widen(GoodState.learned(found))
            return
        self._learning.append(seen)
        if len(self._learning) < self._n_wanted:
            return
        known, self._learning = self._learning, []
        scores = np.array([[1 - each.p_value] for each in known if each.p_value is not None])
        self._score = learn_limits(scores, LEVELS, _DOUBT)
        found = [each.statistics for each in known if each.statistics is not None]
        self._take(GoodState.learned(found) if 2 * len(found) > len(known) else None)

    def _widen(self, good: GoodState) -> None:
        """Watch figures as well, and go on with the scores."""
        before = self._figures
        self._take(good)
        for name in ("sums", "runs", "begun"):
            getattr(self._figures, name)[:, :1] = getattr(before, name)

    def _named(self) -> Alarm:
        """Return the alarm that is due, and begin to learn the state from here on."""
        at, name = self._pending or (self.n_parts, "")
        evidence = self._evidence(at)
        cause, detail, since = name_cause(evidence)
        alarm = Alarm(
            at=at,
            cause=cause,
            detail=detail,
            since=min(since, at),
            named_at=self.n_parts,
            input=name,
            evidence=evidence.by_cause(),
            changes=evidence.changes,
        )
        self._take(self._good)
        self._pending, self._n_wanted = None, N_AFTER
        self._learning = []
        self._recent.clear()
        return alarm

    def _evidence(self, at: int) -> Evidence:
        names = ("score", *FIGURES) if self._good is not None else ("score",)
        runs, _, begun = self._figures.evidence()
        shape = (2, CELLS, CELLS)
        cells, since = np.zeros(shape), np.zeros(shape, np.int64)
        if self._cells is not None:
            found, _, began = self._cells.evidence()
            cells, since = found.reshape(shape), began.reshape(shape)
        return Evidence(names, runs, begun, cells, since, *self._changes(at))

    def _changes(self, at: int) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
        """Return what figures were and have become, and by how many spreads they moved."""
        late = [row for number, row in self._recent if number >= at - 2 * NAMING]
        changes, effects = {}, {}
        for i, name in enumerate(FIGURES):
            record = None if self._good is None else self._good.figures.get(name)
            values = [v for row in late if (v := row[i]) is not None]
            if record is None or not values:
                continue
            now = float(np.median(values[-2 * NAMING :]))
            changes[name] = (record.middle, round(now, 6))
            effects[name] = (now - record.middle) / max(record.spread, _EPS)
        return changes, effects

    def state(self) -> dict[str, Any]:
        """Return what `from_state` goes on from, as data for JSON."""
        return {
            "model": self._model,
            "false_alarms": self.false_alarms,
            "n_parts": self.n_parts,
            "good": None
            if self._good is None or self._good is self._own
            else self._good.model_dump(),
            "of_model": self._good is not None and self._good is self._own,
            "score": [
                side.tolist() for side in (self._score.low, self._score.high, self._score.share)
            ],
            "n_wanted": self._n_wanted,
            "learning": [
                (each.name, each.p_value, each.statistics and each.statistics.row())
                for each in self._learning
            ],
            "pending": self._pending,
            "recent": list(self._recent),
            "figures": self._figures.state(),
            "cells": None if self._cells is None else self._cells.state(),
        }

    @classmethod
    def from_state(cls, model: Path | str | ModelFile, state: Mapping[str, Any]) -> Self:
        """Return a monitor that goes on where another of the same model was.

        Raises `InputError` for a state that is none, or of another model.
        """
        try:
            kept = MonitorState.model_validate(dict(state))
            made = cls(model, false_alarms=kept.false_alarms)
            if kept.model != made._model:
                raise InputError(
                    "The state of the monitor is of another model, or of this one before it was "
                    "calibrated anew. Begin without it."
                )
            made._score = kept.limits(made._score)
            made._take(made._own if kept.of_model else kept.good)
            made.n_parts, made._n_wanted, made._pending = kept.n_parts, kept.n_wanted, kept.pending
            made._learning = [
                _Seen(name, p_value, None if row is None else Statistics.of_row(row))
                for name, p_value, row in kept.learning
            ]
            made._recent.extend(kept.recent)
            made._figures.restored(kept.figures.model_dump())
            if (made._cells is None) != (kept.cells is None):
                raise InputError("The state of the monitor lacks cells, or has too many.")
            if made._cells is not None and kept.cells is not None:
                made._cells.restored(kept.cells.model_dump())
        except (TypeError, ValueError, ConfigurationError, ValidationError) as error:
            raise InputError(
                f"The state of the monitor cannot be used: {_first(error)}. Begin without it."
            ) from None
        return made


def _first(error: Exception) -> str:
    """Return an error in a line; of many the first, and where it is."""
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors()[0]
    return f"{'.'.join(str(piece)[:80] for piece in found['loc'])}: {found['msg']}"


def _seen(part: Inspection | Mapping[str, Any]) -> _Seen:
    if isinstance(part, Inspection):
        return _Seen(part.input, part.p_value, part.statistics)
    p_value, row = part.get("p_value"), part.get("statistics")
    if "p_value" not in part or (p_value is not None and not 0 <= float(p_value) <= 1):
        raise InputError(
            f"A row has the p-value {part.get('p_value', 'none')}; expected a number from 0 to 1, "
            "as 'makellos inspect' writes it."
        )
    return _Seen(
        str(part.get("input", "")),
        None if p_value is None else float(p_value),
        None if row is None else Statistics.of_row(row),
    )


def _print_of(record: CalibrationRecord, good: GoodState | None) -> str:
    """Return the SHA-256 sum of what a model says of good parts, by which states are told apart."""
    known = [each.model_dump_json(exclude_defaults=True) for each in (record, good) if each]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()


def _limits_of_scores(record: CalibrationRecord, signal: SignalRecord | None) -> Limits:
    """Return limits of 1 - p, which is beyond where the k-th highest or lowest score is passed.

    Unless calibration parts were kept apart, the detector that calibrated them had learned from
    fewer parts, and later ones score a little lower: of low ranks the half is a limit then. Good
    recordings without rejected windows, and parts below the scores of zones, all have p = 1: no
    1 - p is too low there. Parts that have weights count as many as these sum to.
    """
    calibration = record.calibration()
    n = math.floor(calibration.n_effective + _EPS)
    which = np.array(ranks(n, LEVELS))
    each = _DOUBT / (2 * len(LEVELS))
    share = [min(1.0, largest_share(n, k, each) + ALLOWED) for k in which.tolist()]
    lowest = which if record.method in _APART else which // 2
    high, low = 1 - which / (n + 1) - _EPS, (lowest - 1) / (n + 1) + _EPS
    by_blocks = signal is not None and signal.calibrated_on == "blocks"
    if by_blocks or isinstance(calibration, ZonedCalibration):
        low = np.full(len(LEVELS), -1.0)
    return Limits(low[np.newaxis], high[np.newaxis], np.array(share)[np.newaxis])


def _weights(names: Sequence[str], limits: Limits, *, cells: bool) -> Floats:
    """Return shares of the first wealth: causes have the same, and so have the figures of each."""
    known = limits.share.min(axis=1) < 1
    causes = [CAUSE_OF[name] if there else "" for name, there in zip(names, known, strict=True)]
    n_causes = len(set(causes) - {""}) + cells
    found = [1 / (n_causes * causes.count(cause)) if cause else 0.0 for cause in causes]
    return np.array(found)
