"""The sentences of an evaluation report: what was missed, what was rejected, what was promised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from makellos.evaluation.promise import realised_range
from makellos.reports.formats import (
    MISSING,
    NARROW_SPACE,
    count,
    finite,
    interval_of,
    percent,
    percent_range,
    whole,
)

__all__ = [
    "Statement",
    "budget_note",
    "by_recording",
    "false_alarms_statement",
    "misses_statement",
    "n_of_rate",
    "noun_of",
    "promise_sentence",
    "range_sentence",
]


_BUDGETS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # that people ask for
_JUDGED = {  # tone and badge by what was found about the promise
    "kept": ("right", "Within the budget"),
    "chance": ("again", "Agrees with the budget"),
    "above": ("again", "Above the budget"),
    "broken": ("wrong", "More than promised"),
    "unknown": ("none", "Cannot be judged"),
}


@dataclass(frozen=True)
class Statement:
    """Hold one headline of the first screen: `verb number rest`, a badge and sentences.

    `shares` are (outcome, count) pairs that add up to the number of parts; an outcome is
    `right`, `again` or `wrong`. `tone` is `right`, `again`, `wrong` or `none`.
    """

    verb: str
    number: str
    rest: str
    tone: str
    badge: str | None
    sentences: tuple[str, ...]
    shares: tuple[tuple[str, int], ...]


def n_of_rate(rate: Any, n: int) -> int | None:
    """Return how many of `n` parts a rate stands for, or None where the rate is missing."""
    share = finite(rate)
    return None if share is None else min(n, max(0, round(share * n)))


def noun_of(figures: Mapping[str, Any], n: int = 2) -> str:
    """Return what the figures count: parts, or windows where they are of recordings."""
    noun = str(figures.get("noun") or ("window" if figures.get("recordings") else "part"))
    return noun if n == 1 else f"{noun}s"


def by_recording(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return figures whose counts and rates are of recordings in place of their windows.

    Those of pictures come back as they are.
    """
    entries = list((figures.get("recordings") or {}).values())
    if not entries:
        return figures
    good, bad = ([e for e in entries if (e["label"] == "good") is side] for side in (True, False))

    def n_of(judged: list[Mapping[str, Any]], verdict: str) -> int:
        return sum(each["verdict"] == verdict for each in judged)

    return {
        **figures,
        "noun": "recording",
        "n_good": len(good),
        "n_defective": len(bad),
        "false_alarm_rate": n_of(good, "reject") / len(good) if good else None,
        "miss_rate": 1 - n_of(bad, "reject") / len(bad) if bad else None,
        "n_look_again_good": n_of(good, "look_again"),
        "n_look_again_defective": n_of(bad, "look_again"),
        "intervals": {},
    }


def misses_statement(figures: Mapping[str, Any]) -> Statement:
    """Say how many defective parts were not rejected, and how many of them can still be caught."""
    n = whole(figures.get("n_defective")) or 0
    if n == 0:
        things = f"defective {noun_of(figures)}"
        sentence = f"How many {things} would be missed cannot be said from this data."
        advice = f"Add a few known {things} to measure it."
        return Statement("Tested", "0", things, "none", None, (sentence, advice), ())
    missed = n_of_rate(figures.get("miss_rate"), n)
    rest = f"of {count(n)} defective {noun_of(figures, n)}"
    if missed is None:
        sentences: tuple[str, ...] = ("No verdicts were counted for them.",)
        return Statement("Missed", MISSING, rest, "none", None, sentences, ())
    again = min(missed, whole(figures.get("n_look_again_defective")) or 0)
    shares = (("wrong", missed - again), ("again", again), ("right", n - missed))
    rate = _rate_sentence(figures, "miss_rate", missed)
    tone = "wrong" if missed - again else "again" if again else "right"
    return Statement(
        "Missed",
        count(missed),
        rest,
        tone,
        None,
        (_fate(missed, again, n, noun_of(figures, 1)), rate),
        shares,
    )


def false_alarms_statement(figures: Mapping[str, Any]) -> Statement:
    """Say how many good parts were rejected, beside the budget that was promised."""
    n = whole(figures.get("n_good")) or 0
    if n == 0:
        things = f"good {noun_of(figures)}"
        sentence = f"How many {things} would be rejected cannot be said from this data."
        return Statement("Tested", "0", things, "none", None, (_promise(figures, 0), sentence), ())
    rejected = n_of_rate(figures.get("false_alarm_rate"), n)
    rest = f"of {count(n)} good {noun_of(figures, n)}"
    if rejected is None:
        sentence = "No verdicts were counted for them."
        return Statement(
            "Rejected", MISSING, rest, "none", None, (_promise(figures, n), sentence), ()
        )
    again = min(n - rejected, whole(figures.get("n_look_again_good")) or 0)
    tone, badge, judgement = _against_budget(figures, rejected)
    sentences = (_promise(figures, n), judgement, _marked(again))
    shares = (("wrong", rejected), ("again", again), ("right", n - rejected - again))
    return Statement(
        "Rejected", count(rejected), rest, tone, badge, tuple(filter(None, sentences)), shares
    )


def budget_note(figures: Mapping[str, Any]) -> str | None:
    """Say that the budget asked for could not be promised, or return None where it was."""
    asked = finite(figures.get("false_alarms_asked"))
    promised = finite(figures.get("false_alarms"))
    if asked is None or promised is None or promised <= asked * (1 + 1e-9):
        return None
    return (
        f"Asked for at most {percent(asked)} false alarms; "
        f"the good parts at hand can promise {percent(promised)} at best."
    )


def promise_sentence(figures: Mapping[str, Any]) -> str | None:
    """Say how the rejected good parts agree with what was promised; None where they do."""
    found = figures.get("promise") or {}
    finding, p_value = found.get("finding"), finite(found.get("p_value"))
    if finding == "unknown":
        one = str(found.get("unit", "parts")).removesuffix("s")
        return (
            f"Whether that keeps the promise cannot be judged from a single {one}, which says "
            "nothing about others: test more."
        )
    if finding not in ("chance", "broken"):
        return None
    often = f"If the promise holds, {percent(p_value)} of such tests reject as many"
    if finding == "chance":
        return f"{often}: it may be chance."
    return (
        f"{often}: chance does not explain it. These {noun_of(figures)} differ from those that "
        "set the threshold: calibrate with them too."
    )


def range_sentence(n_units: int, budget: float, unit: str) -> str:
    """Say between which rates a promise is realised, and what more good parts or groups buy.

    `unit` is what is counted, such as ``good parts``.
    """
    low, high = realised_range(n_units, budget)
    told = (
        f"With {count(n_units)} {unit}: between {percent(low)} and {percent(high)} rejected in 95 "
        "of 100 plants"
    )
    smallest = next((each for each in _BUDGETS if each < budget * (1 - 1e-9)), None)
    if smallest is None:
        return f"{told}."
    needed = math.ceil((1 - 1e-9) / smallest) - 1
    if needed <= n_units:
        needed, smallest = 4 * n_units, budget
        _, near = realised_range(needed, budget)
        return f"{told}; {count(needed)} narrow that to at most {percent(near)}."
    return f"{told}; {count(needed)} can promise {percent(smallest)}."


def _fate(missed: int, again: int, n: int, noun: str) -> str:
    if missed == 0:
        return f"The one defective {noun} was rejected." if n == 1 else "Every one was rejected."
    if again == 0:
        return "It passed as ok." if missed == 1 else "They passed as ok."
    caught = "a second look can still catch it" if again == 1 else "a second look can catch them"
    if again == missed:
        return f"{'It was' if missed == 1 else 'All were'} marked look again: {caught}."
    return f"{count(missed - again)} passed as ok. {count(again)} marked look again: {caught}."


def _rate_sentence(figures: Mapping[str, Any], metric: str, missed: int) -> str:
    interval = interval_of(figures, metric)
    rate = percent(figures.get(metric))
    if interval is None:
        return f"That is {rate} of the defective {noun_of(figures)}."
    if missed == 0 and interval[0] == 0:
        possible, many = percent(interval[1]), f"this many {noun_of(figures)}"
        return f"From {many}, a true miss rate up to {possible} remains possible."
    return f"That is {rate}; 95{NARROW_SPACE}% interval {percent_range(interval)}."


def _promise(figures: Mapping[str, Any], n: int) -> str:
    budget = finite(figures.get("false_alarms"))
    if budget is None:
        return "No false-alarm budget was promised."
    if n == 0:
        return f"Promised: at most {percent(budget)} of good {noun_of(figures)}."
    expected = f"{budget * n:.1f}".removesuffix(".0")
    expected = "0.1" if expected == "0" else expected
    about = "fewer than" if budget * n < 0.1 else "about"
    return f"Promised: at most {percent(budget)}, {about} {expected} of {count(n)}."


def _against_budget(figures: Mapping[str, Any], rejected: int) -> tuple[str, str | None, str]:
    """Return tone, badge and sentence for the measured rate beside the budget."""
    rate, budget = finite(figures.get("false_alarm_rate")), finite(figures.get("false_alarms"))
    interval = interval_of(figures, "false_alarm_rate")
    measured = f"Measured: {percent(rate)}"
    if interval is not None:
        measured += f" (95{NARROW_SPACE}% interval {percent_range(interval)})"
    told = promise_sentence(figures)
    if rate is None or budget is None:
        return ("wrong" if rejected else "right"), None, f"{measured}."
    finding = (figures.get("promise") or {}).get("finding")
    if finding is None:
        finding = "kept" if rate <= budget else "above"
    tone, badge = _JUDGED[finding]
    return tone, badge, f"{measured}. {told or ''}".rstrip()


def _marked(again: int) -> str:
    if again == 0:
        return ""
    return f"{count(again)} more {'was' if again == 1 else 'were'} marked look again."
