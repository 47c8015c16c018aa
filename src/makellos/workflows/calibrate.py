"""Calibrate: another false-alarm budget, or new good parts, without fitting again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from makellos.calibration import check_look_again, lots_larger_than, parts_needed, scores_in_lot
from makellos.data.parts import Part, PartSet
from makellos.data.progress import Progress, no_progress
from makellos.errors import ConfigurationError, InputError
from makellos.inspection import Inspection
from makellos.inspection.manifest import (
    CalibrationRecord,
    GoldenRecord,
    Manifest,
    ZoneScoresRecord,
)
from makellos.inspection.model_file import read_model
from makellos.inspection.zones import Zones
from makellos.models.provenance import budget_notes, fingerprint, known
from makellos.models.release import plain
from makellos.models.writing import check_target, rewrite_manifest
from makellos.subjects import find_tested, open_inspector, subject_of, subject_of_model
from makellos.subjects.subject import Calibrating
from makellos.vibration.signal_record import SignalRecord

__all__ = ["CalibrationSummary", "Counted", "calibrate"]

_FOLDERS_ABOVE = 2  # train/good below the folder of the fit
_FEW_OF_LOT = 5  # parts that say little of a lot's level and spread


@dataclass(frozen=True)
class CalibrationSummary:
    """Hold what a model promises after calibration, of which parts in `promise`.

    Of a lot `n_first` parts are known and `n_lots` earlier ones count; `n_calibration` are those
    parts and what earlier lots lend it. `look_again` is the share of good parts that may be looked
    at again beside those rejected, `counts_as` as how many parts or groups all count, and `skipped`
    are what is wrong with files that were left out.
    """

    model: str
    n_calibration: int
    n_groups: int
    threshold: float
    false_alarms: float
    false_alarms_asked: float
    notes: list[str]
    counted: str = "parts"
    promise: str = ""
    n_first: int = 0
    n_lots: int = 0
    look_again: float = 0.0
    counts_as: float = 0.0
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Say how good parts count that calibrate anew.

    Those that calibrated before count as `earlier_weight` parts each beside the new ones, in (0,
    1]; None leaves them out. Files that cannot be used are left out if `skip_unreadable`.
    """

    earlier_weight: float | None = None
    skip_unreadable: bool = False

    def check(self, data: Path | str | None) -> None:
        """Raise `ConfigurationError` for a weight that is out of range or for parts there are."""
        weight = self.earlier_weight
        if weight is None:
            return
        if not 0.0 < weight <= 1.0:
            raise ConfigurationError(
                f"The weight of earlier parts is {weight:g}; expected a number above 0 and up to "
                "1, such as 0.2 where five of them count as one new part."
            )
        if data is None:
            raise ConfigurationError(
                "--earlier-weight weighs earlier parts against new ones. Give new good parts as "
                "well: makellos calibrate MODEL DATA --earlier-weight 0.2."
            )


def calibrate(
    model: Path | str,
    data: Path | str | None = None,
    *,
    false_alarms: float | None = None,
    look_again: float | None = None,
    counted: Counted | None = None,
    output: Path | str | None = None,
    progress: Progress | None = None,
) -> CalibrationSummary:
    """Give a model another budget, or the scores of new good parts, and write it back.

    `data` holds good parts that the detector has not learned from: split ``val``, if there is one,
    or all its good parts. None keeps the calibration parts, as do the very parts that the model was
    fitted on: scored again they would look better than future ones. Where the model knows lots
    (groups of good parts), parts of no group, or of one, are the first of a lot: with what all lots
    have in common they calibrate that lot, until another is given. With `output`, another model is
    written. `look_again` is that of `fit`; `counted` says how new and earlier parts count. Raises
    `InputError` for parts that cannot be read, `ConfigurationError` for values out of range.
    """
    report, counts = progress or no_progress, counted or Counted()
    counts.check(data)
    check_look_again(look_again)
    target = Path(output) if output is not None else Path(model)
    read = read_model(Path(model))
    check_target(target)
    record, signal, notes = read.manifest.calibration, read.manifest.signal, list[str]()
    skipped: list[str] = []
    asked = record.asked if false_alarms is None else false_alarms
    parts_needed(asked)
    if data is not None:
        found = find_tested(model, data)
        notes = found.remarks()
        parts = found.calibration() or found.good()
        seen = {part.name for part in known(parts, read.manifest.training.contents)}
        if _fitted_on(found, read.manifest) or (parts and len(seen) == len(parts)):
            notes += [
                f"{data} holds the parts that the model was fitted on. Its own calibration with "
                f"them ({record.method}) is kept; for a new one, give good parts that it has not "
                "seen."
            ]
            record = record.earlier or record
        else:
            new = [part for part in parts if part.name not in seen]
            if seen:
                notes.append(
                    f"{len(seen)} of {len(parts)} parts were left out: the model was "
                    "fitted on them."
                )
            made = _measure(Path(model), found, new, record, counts, report)
            record, signal, skipped = made.record, made.signal or signal, made.skipped
            notes += made.notes
    again = record.look_again if look_again is None else look_again
    record = record.model_copy(update={"asked": asked, "look_again": again})
    golden = [_judged_again(part, record) for part in read.manifest.golden]
    manifest = read.manifest.model_copy(
        update={"calibration": record, "golden": golden, "signal": signal}
    )
    rewrite_manifest(read, manifest, target)
    return _summary(target, manifest, notes, skipped)


def _summary(
    target: Path, manifest: Manifest, notes: list[str], skipped: list[str]
) -> CalibrationSummary:
    record, counted = manifest.calibration, subject_of_model(manifest).counted(manifest)
    calibration = record.calibration()
    return CalibrationSummary(
        model=str(target),
        n_calibration=calibration.scores.size,
        n_groups=calibration.n_groups,
        threshold=calibration.threshold,
        false_alarms=calibration.false_alarms,
        false_alarms_asked=calibration.asked,
        notes=[*notes, *budget_notes(calibration, counted, record)],
        counted=counted,
        promise=manifest.promise(),
        n_first=record.n_first,
        n_lots=record.n_lots,
        look_again=calibration.look_again_limit - calibration.false_alarms,
        counts_as=calibration.n_effective,
        skipped=skipped,
    )


def _judged_again(part: GoldenRecord, record: CalibrationRecord) -> GoldenRecord:
    """Return a golden part with its verdict, and with zones its score in their new units."""
    score = part.score
    if record.zones:
        score = Zones.score(part.zone_scores, record.scales()[0])
    verdict = record.calibration().verdict(score)
    return part.model_copy(update={"score": score, "verdict": verdict})


def _fitted_on(found: PartSet, manifest: Manifest) -> bool:
    """Tell whether the parts are those of the fit, named from here or from folders above."""
    used = found.labelled() if manifest.training.n_defective else found.good()
    parts = [] if found.calibration() else used
    above = found.root.resolve()
    prefix = ""
    try:
        for _ in range(_FOLDERS_ABOVE + 1):
            named = [replace(part, name=prefix + part.name) for part in parts]
            if parts and fingerprint(named) == manifest.training.fingerprint:
                return True
            prefix, above = f"{above.name}/{prefix}", above.parent
    except OSError:
        pass  # scoring will name the file that cannot be read
    return False


@dataclass(frozen=True)
class _Measured:
    """Hold the calibration by new parts, how recordings are seen, and what is to be said of it."""

    record: CalibrationRecord
    signal: SignalRecord | None
    notes: list[str]
    skipped: list[str]


def _measure(
    model: Path,
    found: PartSet,
    parts: Sequence[Part],
    record: CalibrationRecord,
    counts: Counted,
    progress: Progress,
) -> _Measured:
    if not parts:
        raise InputError(
            f"{found.root} has no good parts to calibrate with ({found.layout}). Put them into a "
            "folder of their own, or label them 'good'."
        )
    inspector = open_inspector(model, found, len(parts))
    anew = subject_of(found).calibrating(inspector, parts, progress)
    if anew.broken and not (counts.skip_unreadable and anew.parts):
        raise InputError(
            f"{len(anew.broken)} of {len(parts)} calibration parts cannot be read:\n  "
            + "\n  ".join(anew.broken)
            + "\nFix or remove them, or leave them out with --skip-unreadable."
        )
    measured, before = _measured(anew, record), record.earlier or record
    if counts.earlier_weight is not None:
        if anew.signal is not None:
            raise ConfigurationError(
                "--earlier-weight is for models of pictures; this one is of recordings. Give all "
                "good recordings that are to count."
            )
        both = _with_earlier(measured, before, counts.earlier_weight)
        return _Measured(both, None, anew.notes, anew.broken)
    if anew.signal is not None:
        return _Measured(measured, anew.signal, anew.notes, anew.broken)
    first, notes = _first_of_lot(anew, before)
    notes = [*anew.notes, *notes]
    if not first:
        return _Measured(measured, None, notes, anew.broken)
    of_lot = _in_lot(measured, first, before)
    named = of_lot.model_copy(update={"lot": plain(found.root.resolve().stem)})
    return _Measured(named, None, notes, anew.broken)


def _measured(anew: Calibrating, record: CalibrationRecord) -> CalibrationRecord:
    """Return the record of a calibration by new parts alone."""
    inspections = anew.inspections
    maps = [each.anomaly_map for each in inspections if each.anomaly_map is not None]
    zones = []
    for i, zone in enumerate(record.zones):
        pairs_of = [_of_zone(each, i) for each in inspections]
        scores, maxima = ([pair[place] for pair in pairs_of] for place in (0, 1))
        zones.append(ZoneScoresRecord(share=zone.share, scores=scores, map_maxima=maxima))
    return record.model_copy(
        update={
            "zones": zones,
            "scores": [each.score for each in inspections],
            "map_maxima": [float(anomaly_map.max()) for anomaly_map in maps] or None,
            "beside_maxima": [b for each in inspections if (b := each.beside_maximum) is not None]
            or None,
            "groups": anew.groups,
            "weights": None,
            "method": "new good parts",
            "lot": "",
            "n_first": 0,
            "earlier": None,
        }
    )


def _with_earlier(
    new: CalibrationRecord, earlier: CalibrationRecord, weight: float
) -> CalibrationRecord:
    """Return the calibration by new parts and by earlier ones, which count as `weight` parts each.

    So do those that had a weight before: theirs falls with every calibration.
    """

    def joined(name: str) -> list[float] | None:
        old, own = getattr(earlier, name), getattr(new, name)
        return None if old is None or own is None else [*old, *own]

    n_old, n_new = len(earlier.scores), len(new.scores)
    weights = [weight * each for each in earlier.weights or [1.0] * n_old] + [1.0] * n_new
    groups = None
    if earlier.groups or new.groups:
        # Names of both may be plain numbers that have nothing to do with each other.
        old_names = earlier.groups or [str(i) for i in range(n_old)]
        numbers = {name: f"earlier {i}" for i, name in enumerate(dict.fromkeys(old_names))}
        own_names = new.groups or [f"new {i}" for i in range(n_new)]
        groups = [*(numbers[name] for name in old_names), *own_names]
    zones = [
        own.model_copy(
            update={
                "scores": [*old.scores, *own.scores],
                "map_maxima": [*old.map_maxima, *own.map_maxima],
            }
        )
        for old, own in zip(earlier.zones, new.zones, strict=True)
    ]
    return new.model_copy(
        update={
            "zones": zones,
            "scores": [*earlier.scores, *new.scores],
            "map_maxima": joined("map_maxima"),
            "beside_maxima": joined("beside_maxima"),
            "groups": groups,
            "weights": weights,
            "method": "new and earlier good parts",
        }
    )


def _first_of_lot(anew: Calibrating, before: CalibrationRecord) -> tuple[list[int], list[str]]:
    """Return which parts are the first of a lot, one of each set of copies, and what to say of it.

    None where the parts are of several groups, or fewer than two earlier lots hold more parts.
    """
    if len({part.group for part in anew.parts}) > 1:
        return [], []
    copies = anew.groups if anew.parts[0].group is None else None
    one_of: dict[object, int] = {}
    for i, name in enumerate(copies or range(len(anew.parts))):
        one_of.setdefault(name, i)
    first = list(one_of.values())
    n, sizes = len(first), sorted(Counter(before.groups or ()).values())
    if n > 1 and lots_larger_than(n, before.groups) > 1:
        return first, []
    if n < _FEW_OF_LOT or len(sizes) < 2 or sizes[-2] <= _FEW_OF_LOT:
        return [], []
    return [], [
        f"These {n} parts calibrate by themselves: no two lots that the model knows hold more. "
        f"With {sizes[-2] - 1} of them, those lots count as well."
    ]


def _in_lot(
    measured: CalibrationRecord, first: Sequence[int], before: CalibrationRecord
) -> CalibrationRecord:
    """Return the calibration of a lot from its first parts and from what lots have in common."""

    def moved(old: Sequence[float], new: Sequence[float]) -> list[float]:
        found = scores_in_lot(old, before.groups or [], [new[i] for i in first])
        return [float(score) for score in found]

    zones = [
        new.model_copy(
            update={
                "scores": moved(old.scores, new.scores),
                "map_maxima": moved(old.map_maxima, new.map_maxima),
            }
        )
        for old, new in zip(before.zones, measured.zones, strict=True)
    ]
    maxima = None
    if before.map_maxima is not None and measured.map_maxima is not None:
        maxima = moved(before.map_maxima, measured.map_maxima)
    beside = None
    if before.beside_maxima is not None and measured.beside_maxima is not None:
        beside = moved(before.beside_maxima, measured.beside_maxima)
    return measured.model_copy(
        update={
            "zones": zones,
            "scores": moved(before.scores, measured.scores),
            "map_maxima": maxima,
            "beside_maxima": beside,
            "groups": None,
            "method": "first parts of a lot",
            "n_first": len(first),
            "earlier": before,
        }
    )


def _of_zone(inspection: Inspection, number: int) -> tuple[float, float]:
    """Return a part's score and map maximum in a zone; raise `InputError` for one not shown."""
    found = inspection.zones[number]
    if found.score is None or found.maximum is None:
        raise InputError(
            f"{inspection.input} does not show a whole cell of zone {found.name!r}. Leave it out."
        )
    return found.score, found.maximum
