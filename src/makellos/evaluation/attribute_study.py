"""Attribute agreement: how judges and the system agree with the truth and with each other.

After the attribute study of AIAG's Measurement Systems Analysis (4th edition, 2010), where a
judgement is to reject or to accept a part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from makellos.errors import InputError
from makellos.evaluation.exact import Share, share_of

__all__ = ["SYSTEM", "Agreement", "AttributeStudy", "Judge", "attribute_study", "cohen_kappa"]

SYSTEM = "makellos"
Rating = Literal["acceptable", "marginal", "unacceptable"]
# The guidance of the manual for an appraiser: effectiveness, miss rate and false-alarm rate.
_LIMITS = ((0.90, 0.02, 0.05), (0.80, 0.05, 0.10))
Judgements = Mapping[str, Sequence[bool]]


@dataclass(frozen=True)
class Judge:
    """Hold how one judge did, a person or the system.

    `effectiveness` is the share of parts that were judged rightly each time. `miss_rate` is of the
    judgements of defective parts, `false_alarm_rate` of those of good ones, with bounds that count
    parts. `repeatability` is the share of parts that were judged alike each time, None where none
    was judged twice. `kappa` is Cohen's, of judgements and truth. `rating` is by the guidance of
    the manual: acceptable from 90 % effectiveness with at most 2 % missed and 5 % false alarms,
    marginal from 80 % with at most 5 % and 10 %; None where good or defective parts are missing.
    """

    name: str
    is_system: bool
    n_parts: int
    n_judgements: int
    effectiveness: Share
    miss_rate: Share
    false_alarm_rate: Share
    repeatability: Share | None
    kappa: float | None
    rating: Rating | None


@dataclass(frozen=True)
class Agreement:
    """Hold how two judges agree on the parts that both have judged: Cohen's kappa, or None."""

    first: str
    second: str
    n_judgements: int
    kappa: float | None


@dataclass(frozen=True)
class AttributeStudy:
    """Hold an attribute study of `n_parts`, of which `n_defective` are truly defective.

    `n_by_majority` of them had no truth but that of most judges. The manual takes a kappa above
    0.75 for good agreement.
    """

    n_parts: int
    n_defective: int
    n_by_majority: int
    judges: tuple[Judge, ...]
    agreements: tuple[Agreement, ...]


def attribute_study(
    defective: Sequence[bool],
    judgements: Sequence[Judgements],
    rejected: Sequence[bool],
    groups: Sequence[str | None],
    *,
    n_by_majority: int = 0,
) -> AttributeStudy:
    """Compare judges of parts with the truth, with the system and with each other.

    `defective` (n,) is the truth, `judgements` (n,) has for each part whether a judge rejected it,
    once or several times, by the name of the judge; `rejected` (n,) is what the system did, and
    `groups` (n,) names the group of each part. Raises `InputError` for lengths that differ.
    """
    if not len(defective) == len(judgements) == len(rejected) == len(groups):
        raise InputError("Truth, judgements, verdicts and groups differ in length.")
    names = list(dict.fromkeys(name for each in judgements for name in each))
    system = SYSTEM if SYSTEM not in names else f"{SYSTEM} (the system)"
    every = [
        {**each, system: [verdict]} for each, verdict in zip(judgements, rejected, strict=True)
    ]
    return AttributeStudy(
        n_parts=len(defective),
        n_defective=sum(map(bool, defective)),
        n_by_majority=n_by_majority,
        judges=tuple(
            _judge(name, name == system, defective, every, groups) for name in (*names, system)
        ),
        agreements=tuple(
            _agreement(first, second, every) for first, second in combinations((*names, system), 2)
        ),
    )


def cohen_kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Return Cohen's kappa (1960) of two series of judgements; None where it is not defined.

    That is so without judgements, and where both always gave one and the same.

    >>> cohen_kappa([True, True, False, False], [True, False, False, False])
    0.5
    """
    n = len(first)
    if n == 0:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    p, q = sum(map(bool, first)) / n, sum(map(bool, second)) / n
    by_chance = p * q + (1 - p) * (1 - q)
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def _judge(
    name: str,
    is_system: bool,
    defective: Sequence[bool],
    every: Sequence[Judgements],
    groups: Sequence[str | None],
) -> Judge:
    rows = [
        (bool(truth), [bool(one) for one in each[name]], group, i)
        for i, (truth, each, group) in enumerate(zip(defective, every, groups, strict=True))
        if each.get(name)
    ]
    given = [(truth, one) for truth, trials, _, _ in rows for one in trials]
    rates = []
    for side in (True, False):  # judgements of one part are a group
        wrong = [
            (one is not side, f"part:{i}" if group is None else group)
            for truth, trials, group, i in rows
            if truth is side
            for one in trials
        ]
        rates.append(share_of([each for each, _ in wrong], [group for _, group in wrong]))
    twice = [(trials, group) for _, trials, group, _ in rows if len(trials) > 1]
    effectiveness = share_of(
        [all(one is truth for one in trials) for truth, trials, _, _ in rows],
        [group for _, _, group, _ in rows],
    )
    return Judge(
        name=name,
        is_system=is_system,
        n_parts=len(rows),
        n_judgements=len(given),
        effectiveness=effectiveness,
        miss_rate=rates[0],
        false_alarm_rate=rates[1],
        repeatability=share_of([len(set(t)) == 1 for t, _ in twice], [g for _, g in twice])
        if twice
        else None,
        kappa=cohen_kappa([truth for truth, _ in given], [one for _, one in given]),
        rating=_rating(effectiveness.share, rates[0].share, rates[1].share),
    )


def _rating(effective: float | None, missed: float | None, alarms: float | None) -> Rating | None:
    if effective is None or missed is None or alarms is None:
        return None
    ratings: tuple[Rating, Rating] = ("acceptable", "marginal")
    for rating, (least, most_missed, most_alarms) in zip(ratings, _LIMITS, strict=True):
        if effective >= least and missed <= most_missed and alarms <= most_alarms:
            return rating
    return "unacceptable"


def _agreement(first: str, second: str, every: Sequence[Judgements]) -> Agreement:
    """Compare trial with trial; one who judged once is compared with each trial of the other."""
    pairs: list[tuple[bool, bool]] = []
    for each in every:
        a, b = list(each.get(first, ())), list(each.get(second, ()))
        if a and b:
            a, b = (a * len(b) if len(a) == 1 else a), (b * len(a) if len(b) == 1 else b)
            pairs += zip(a, b, strict=False)
    kappa = cohen_kappa([a for a, _ in pairs], [b for _, b in pairs])
    return Agreement(first, second, len(pairs), kappa)
