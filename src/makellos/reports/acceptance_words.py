"""What an acceptance could not show, and what speaks against its figures, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from makellos.evaluation.acceptance import AcceptanceFigures, Promise
from makellos.evaluation.acceptance_record import History, KnownParts, Reservation, TestSet
from makellos.evaluation.exact import exact_bounds
from makellos.inspection.manifest import Manifest, VerificationRecord
from makellos.reports.formats import count, percent

__all__ = ["not_tested", "reservations"]

_FEW = 10  # parts of a kind
_SHOWN = 6
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_NO_KIND = "defective"  # a label that names no kind of damage


def not_tested(
    figures: AcceptanceFigures,
    data: TestSet,
    manifest: Manifest,
    engine: str,
    details: Sequence[Mapping[str, str]],
) -> Iterator[str]:
    """Yield what the tested parts cannot show; `details` are what a manifest says of each."""
    noun = data.unit
    yield from _kinds(figures, manifest, noun)
    yield from _sizes(figures, noun)
    if figures.n_good:
        _, high = exact_bounds(0, figures.false_alarm_rate.n_units)
        yield (
            f"False-alarm rates below {percent(high)}: {_units(figures.false_alarm_rate.n_units)} "
            f"of good {noun} cannot show them."
            if data.n_groups
            else f"False-alarm rates below {percent(high)}: {count(figures.n_good)} good {noun} "
            "cannot show them."
        )
    else:
        yield f"False alarms: no good {noun[:-1]} was tested."
    if data.n_groups is None:
        yield f"Differences between lots, machines or days: the data names no groups of {noun}."
    else:
        yield f"Lots, machines or days other than the {_units(data.n_groups)} tested."
    yield from _conditions(data, details)
    if manifest.zones is not None:
        yield f"Damage outside of the model's zones ({_some(manifest.zones.names)})."
    yield (
        f"Runtimes and precisions other than {engine}; what others did on the model's golden "
        f"{noun} stands under parity."
    )
    if figures.study is None:
        yield "How people judge the same parts: no judges were named."


def reservations(
    figures: AcceptanceFigures,
    data: TestSet,
    known: KnownParts,
    history: History,
    promise: Promise | None,
    n_unreadable: int,
    verification: VerificationRecord | None,
) -> Iterator[Reservation]:
    """Yield what speaks against relying upon the figures, the worst first."""
    noun = data.unit
    for names, what in ((known.learned, "learned from"), (known.calibrated, "calibrated with")):
        if names:
            yield Reservation(
                "known parts",
                f"{len(names)} of the {data.n_parts} {noun} were {what}, so the figures look "
                f"better than they are: {_some(names)}. Test with {noun} that the model has not "
                "seen.",
            )
    if history.others:
        yield Reservation("history", _history(history, data))
    yield from _on_promise(promise, noun)
    for n, name in ((figures.n_good, "good"), (figures.n_defective, "defective")):
        if n == 0:
            yield Reservation("sample", f"No {name} {noun[:-1]} was tested.")
    if figures.study is not None and (n := figures.study.n_by_majority):
        yield Reservation(
            "truth",
            f"For {n} {noun} the truth is what most judges say: none of their rows is without a "
            "judge.",
        )
    if n_unreadable:
        yield Reservation(
            "unreadable",
            f"{count(n_unreadable)} {noun if n_unreadable > 1 else noun[:-1]} could not be read "
            "and are counted nowhere else.",
        )
    if verification is not None and not verification.released:
        yield Reservation(
            "parity",
            f"Runtimes differ in their verdicts, or one fails, as 'makellos verify' found on "
            f"{verification.machine}: see parity.",
        )


def _kinds(figures: AcceptanceFigures, manifest: Manifest, noun: str) -> Iterator[str]:
    kinds = figures.by_defect
    if not kinds:
        yield f"Any damage: no defective {noun[:-1]} was tested, so nothing is known of misses."
        return
    untested = [name for name in manifest.classes[1:] if name not in {*kinds, _NO_KIND}]
    if untested:
        yield f"Kinds of damage that the model knows and the {noun} lack: {_some(untested)}."
    if set(kinds) == {_NO_KIND}:
        yield "Kinds of damage one by one: the data does not tell them apart."
    else:
        yield f"Kinds of damage other than {_some(list(kinds), 'and')}."
    few = [f"{name} ({share.n})" for name, share in kinds.items() if share.n < _FEW]
    if few and set(kinds) != {_NO_KIND}:
        yield f"Kinds with fewer than {_FEW} {noun}, which say little: {_some(few)}."


def _sizes(figures: AcceptanceFigures, noun: str) -> Iterator[str]:
    found = figures.detection
    curve = found.overall
    if curve.smallest is not None and curve.largest is not None:
        yield (
            f"Damage shorter than {curve.smallest:.3g} {found.unit} or longer than "
            f"{curve.largest:.4g} {found.unit}."
        )
    if found.n_unknown and figures.n_defective:
        n = "all" if found.n_unknown == figures.n_defective else f"{found.n_unknown} of the"
        yield (
            f"Sizes of damage on {n} {count(figures.n_defective)} defective {noun}: "
            f"{'no masks show' if noun == 'parts' else 'recordings do not show'} them."
        )


def _conditions(data: TestSet, details: Sequence[Mapping[str, str]]) -> Iterator[str]:
    if data.unit == "parts":
        yield (
            "Other light, focus, distance, pose or dirt than in these pictures, and whether a part "
            "gets the same verdict when another picture of it is taken."
        )
        return
    for name, plural in (("machine", "Machines"), ("sensor", "Sensors"), ("load", "Loads")):
        known = Counter(each[name] for each in details if name in each)
        if known:
            yield f"{plural} other than {_some(list(known), 'and')}."
    yield "Other speeds, loads and mountings of the sensor than in these recordings."


def _history(history: History, data: TestSet) -> str:
    place = len(history.others)
    ordinal = _ORDINALS[place] if place < len(_ORDINALS) else f"{place + 1}th"
    told = ", ".join(
        f"{each.file} ({each.identity[:8]}) on {each.first}"
        + ("" if each.n_shared >= data.n_parts else f" ({each.n_shared} of these {data.n_parts})")
        for each in history.others[-_SHOWN:]
    )
    return (
        f"This is the {ordinal} model judged on these {data.unit}, after {told}. Whoever changes "
        "a model by such figures and judges it again gets figures that are too good: keep new "
        f"{data.unit} for the last judgement."
    )


def _on_promise(promise: Promise | None, noun: str) -> Iterator[Reservation]:
    if promise is None:
        return
    if promise.budget > promise.budget_asked * (1 + 1e-9):
        yield Reservation(
            "budget",
            f"A false-alarm budget of {percent(promise.budget_asked)} was asked for; the good "
            f"{noun} in the calibration can promise only {percent(promise.budget)}.",
        )
    above = (
        f"The exact bound of the false-alarm rate, at least {percent(promise.low)}, is above the "
        f"budget of {percent(promise.budget)}"
    )
    if promise.finding == "broken":
        yield Reservation(
            "promise",
            f"{above}: these good {noun} differ from those that set the threshold. Calibrate with "
            f"{noun} like these, too.",
        )
    if promise.finding == "draw":
        yield Reservation(
            "promise",
            f"{above}. Which good {noun} set the threshold can explain it: the budget holds on "
            f"average over plants, and by chance {percent(promise.by_chance)} of them would see as "
            f"many or more. More good {noun} in the calibration narrow that.",
        )


def _units(n: int) -> str:
    return "1 group" if n == 1 else f"{count(n)} groups"


def _some(names: Sequence[str], last: str = "") -> str:
    shown = list(names[:_SHOWN])
    if len(names) > _SHOWN:
        return f"{', '.join(shown)} and {len(names) - _SHOWN} more"
    if last and len(shown) > 1:
        return f"{', '.join(shown[:-1])} {last} {shown[-1]}"
    return ", ".join(shown)
