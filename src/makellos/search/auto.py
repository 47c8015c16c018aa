"""Auto: try a few detectors and settings within a time, and keep the one that sees damage best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from makellos.data.checks import check_readable, sketched
from makellos.data.copies import grouped
from makellos.data.parts import PartSet
from makellos.data.progress import Progress, no_progress
from makellos.data.white_level import filling_their_depth
from makellos.detectors import Detector, detectors
from makellos.errors import ConfigurationError, TrainingError, suggest
from makellos.inspection.manifest import AutoRecord, TrialRecord
from makellos.search.candidates import Candidate, find_candidates
from makellos.search.folds import Bench, Fold, lay_out, learns_labels
from makellos.search.planted_trials import Judgement, judge
from makellos.training import Training
from makellos.vibration.signals import SignalSettings

__all__ = ["AUTO", "TIME_BUDGET", "AutoSettings", "Choice", "check_auto", "choose"]

AUTO = "auto"
TIME_BUDGET = 10.0  # minutes

_FIRST_SHARE = 1 / 4  # of the parts, in the first round
_LEAST_LEARN, _LEAST_GOOD = 16, 12  # of the first round
_FIRST_TIME = 0.4  # of the time, for the first round
_GOES_ON, _AT_LEAST = 1 / 3, 3  # of the candidates go on to all parts


class _Late(Exception):  # noqa: N818 -- it is no error
    """Break a trial off, for its time is over."""


@dataclass(frozen=True, kw_only=True)
class AutoSettings:
    """Hold what a user asked of `auto`: `parameters` that keep their value, `minutes` (None: 10).

    `on_maps` says that tiles or zones need anomaly maps; `clock` gives seconds.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    seed: int = 0
    white_level: int | None = None
    skip_unreadable: bool = False
    training: Training = field(default_factory=Training)
    clock: Callable[[], float] = time.monotonic
    on_maps: bool = False


class Choice(NamedTuple):
    """Hold the detector that was chosen, not fitted; how to train it; and how it was chosen."""

    detector: Detector
    training: Training
    record: AutoRecord | None = None


def check_auto(
    detector: str,
    preset: str,
    minutes: float | None,
    training: Training,
    signal: SignalSettings | None,
) -> bool:
    """Tell whether `detector` is `auto`; raises `ConfigurationError` for options that do not fit.

    `minutes` are None where no time was asked for.
    """
    if detector != AUTO:
        known = detectors()
        if detector not in known:
            raise ConfigurationError(
                f"There is no detector {detector!r}. {suggest(detector, {AUTO, *known})}"
            )
        if minutes is not None:
            raise ConfigurationError(
                f"A time budget works only with --detector auto, which tries several; the detector "
                f"is {detector!r}. Leave --time-budget out, or give --detector auto."
            )
        return False
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigurationError(
            f"The time budget is {minutes:g} minutes; expected a number above 0."
        )
    if preset != "balanced":
        raise ConfigurationError(
            f"The preset is {preset!r}, but auto chooses among the presets itself. Leave "
            "--preset out, or name a detector."
        )
    if signal not in (None, SignalSettings()):
        raise ConfigurationError(
            "auto works on pictures; --rate, --channel, --window, --hop, --view, --bearing and "
            "--rpm are for vibration recordings. Leave them out, or name a detector."
        )
    if training.resume or training.n_devices * training.n_nodes > 1:
        raise ConfigurationError(
            "auto tries detectors one after another in one process, so --resume, --devices and "
            "--nodes are not accepted. Leave them out, or name a detector."
        )
    return True


def choose(parts: PartSet, asked: AutoSettings, progress: Progress | None = None) -> Choice:
    """Return the detector that misses the fewest damaged parts, and what was tried.

    Damage is planted in held-out good parts; labelled defective parts, but those of split test,
    count as well. Candidates are what the registered detectors declare. All are judged on a quarter
    of the parts, the better third and the default on all of them. The default is kept where the
    lead of the first is small, or may be chance in the parts. No trial goes on past the time, and
    the same seed chooses the same where time does not run out. Raises `ConfigurationError` for
    parameters that are not accepted, `InputError` for data that cannot be used,
    `MissingRuntimeError` where no candidate can be fitted on this machine.
    """
    parts.require_pictures("fit --detector auto")
    report, began = progress or no_progress, asked.clock()
    candidates, left_out = find_candidates(asked.parameters, asked.seed, on_maps=asked.on_maps)
    known = [part for part in parts if part.split != "test"]
    found, sketches, broken = sketched(known, report)
    if broken and not asked.skip_unreadable:
        check_readable(known, report)
    known, _, _ = grouped(found, sketches)
    bench = lay_out(
        replace(parts, parts=tuple(filling_their_depth(known, asked.white_level))),
        asked.seed,
        shares_labels=any(learns_labels(c.detector) for c in candidates),
    )
    search = _Search(bench, asked, began, report)
    search.run(candidates)
    return _choice(candidates, left_out, search)


class _Search:
    """Judge candidates in rounds until the time is over."""

    def __init__(self, bench: Bench, asked: AutoSettings, began: float, progress: Progress) -> None:
        self.bench, self.asked, self.began = bench, asked, began
        self.progress = progress
        self.minutes = TIME_BUDGET if asked.minutes is None else asked.minutes
        self.end = began + 60 * self.minutes  # of the round, while there are rounds to come

    def run(self, candidates: Sequence[Candidate]) -> None:
        """Judge all on some of the parts, and the best on all of them."""
        whole = self.bench.folds
        rounds = [[_smaller(fold) for fold in whole], whole]
        if rounds[0] == whole:
            rounds = [whole]
        going, end = list(candidates), self.end
        for number, folds in enumerate(rounds, start=1):
            is_last = number == len(rounds)
            self.end = end if is_last else self.began + _FIRST_TIME * 60 * self.minutes
            for place, candidate in enumerate(going):
                self.progress(f"trying detectors, round {number}", place, len(going))
                self._try(candidate, folds, number, is_last=is_last)
            self.progress(f"trying detectors, round {number}", len(going), len(going))
            judged = [c for c in going if c.stage == number]
            n_on = max(_AT_LEAST, math.ceil(_GOES_ON * len(judged)))
            # A tie goes to what stands first: the cheaper one.
            best = sorted(judged, key=lambda c: c.place)[:n_on]
            # All others are compared with the default, so its time may not run out.
            default = [c for c in judged if c.is_default]
            going = [*default, *(c for c in best if not c.is_default)]

    def _try(
        self, candidate: Candidate, folds: Sequence[Fold], number: int, *, is_last: bool
    ) -> None:
        """Judge a candidate, or say why not; what was judged before stays."""
        began = self.asked.clock()
        left = self.end - began
        expected = candidate.last_seconds * self._growth(folds) if candidate.stage else 0.0
        if left <= max(0.0, expected):
            candidate.reason = f"the time budget of {self.minutes:g} min was used up"
            candidate.is_late = True
            return
        if not self.bench.has_labels and candidate.reason_for_labels:
            candidate.reason = candidate.reason_for_labels
            return
        # Half of what is left at most, so that one slow candidate does not keep others out.
        limit = began + (left if is_last else left / 2)
        try:
            candidate.judgement = self._judged(candidate, folds, limit)
            candidate.stage, candidate.reason = number, ""
            candidate.n_learned = sum(len(fold.learn) for fold in folds) // len(folds)
        except _Late:
            candidate.reason = f"it would take longer than the {limit - began:.0f} s left"
            candidate.is_late = True
        except Exception as error:  # noqa: BLE001 -- one broken detector must not cost the others
            candidate.fail(error)
        candidate.last_seconds = self.asked.clock() - began
        candidate.seconds += candidate.last_seconds

    def _judged(self, candidate: Candidate, folds: Sequence[Fold], limit: float) -> Judgement:
        def progress(what: str, done: int, total: int | None) -> None:
            if self.asked.clock() > limit:
                raise _Late
            self.progress(f"{candidate.detector.name}: {what}", done, total)

        where = replace(self.asked.training, folder=None)
        return judge(candidate.detector, folds, where, progress)

    def _growth(self, folds: Sequence[Fold]) -> float:
        before = sum(_smaller(fold).n_pictures for fold in self.bench.folds)
        return sum(fold.n_pictures for fold in folds) / before


def _smaller(fold: Fold) -> Fold:
    n_learn = max(_LEAST_LEARN, math.ceil(_FIRST_SHARE * len(fold.learn)))
    return fold.first(n_learn, max(_LEAST_GOOD, math.ceil(_FIRST_SHARE * len(fold.good))))


def _choice(
    candidates: Sequence[Candidate], left_out: Sequence[TrialRecord], search: _Search
) -> Choice:
    last = max(candidate.stage for candidate in candidates)
    ranked = sorted(candidates, key=lambda c: (-c.stage, c.place))
    best = _unjudged(candidates) if not last else _best([c for c in ranked if c.stage == last])
    trials = [candidate.record(best, last) for candidate in ranked]
    record = AutoRecord(
        judged=search.bench.described,
        reason=_why(best, [c for c in ranked if c.stage == last and c is not best], last),
        trials=[*trials, *left_out],
        time_budget=search.minutes,
        seconds=round(search.asked.clock() - search.began, 2),
    )
    training = search.asked.training
    if not best.detector.trains:
        training = replace(training, device="auto")
    return Choice(best.detector, training, record)


def _best(ranked: Sequence[Candidate]) -> Candidate:
    """Return the first, or the default where the first does not clearly beat it.

    Candidates lie close together: the best of many that differ by chance is no better, and small
    differences in planted damage say little about real damage.
    """
    default = next((c for c in ranked if c.is_default and c.judgement), None)
    first = ranked[0]
    if default is None or first.judgement is None or default.judgement is None:
        return first
    return first if first.judgement.clearly_beats(default.judgement) else default


def _unjudged(candidates: Sequence[Candidate]) -> Candidate:
    """Return the first candidate that only lacked the time; raises where all failed."""
    late = [candidate for candidate in candidates if candidate.is_late]
    if late:
        return late[0]
    missing = [candidate.missing for candidate in candidates if candidate.missing]
    if missing:
        raise missing[0]
    told = "\n  ".join(f"{candidate.name}: {candidate.reason}" for candidate in candidates)
    raise TrainingError(
        f"None of the {len(candidates)} candidates could be judged:\n  {told}\nFix the causes, or "
        "name a detector with --detector."
    )


def _why(best: Candidate, others: Sequence[Candidate], last: int) -> str:
    if not last:
        return f"{best.name}, unjudged: there was no time to judge any candidate."
    if not others:
        text = f"{best.name} misses {_told(best)} of damaged parts"
        return f"{text}. No other was judged on as many parts."
    first = others[0]
    if first.place < best.place:
        return (
            f"{best.name}, the default, misses {_told(best)} of damaged parts; the leader, "
            f"{first.name}, misses {_told(first)}, too small a lead to call it better."
        )
    return (
        f"{best.name} misses the fewest damaged parts: {_told(best)}; {first.name} misses "
        f"{_told(first)}."
    )


def _told(candidate: Candidate) -> str:
    judged = candidate.judgement
    return "" if judged is None else f"{judged.misses:.1%} (AUROC {judged.auroc:.3f})"
