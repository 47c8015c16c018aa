"""Calibrate: another false-alarm budget, or new good parts, without fitting again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from makellos.calibration import check_look_again, parts_needed
from makellos.data.parts import Part, PartSet, group_names
from makellos.data.progress import Progress, no_progress
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.good_state import GoodState
from makellos.inspection.inspector import choose_engine
from makellos.inspection.manifest import CalibrationRecord, EngineRecord, Manifest
from makellos.inspection.model_file import ModelFile, read_model
from makellos.inspection.opening import recipe_of
from makellos.models.coverage import check_enough
from makellos.models.good_state import learn_good_state
from makellos.models.partition import Partition
from makellos.models.provenance import budget_notes, contents_of, fingerprint, known
from makellos.models.recalibration import (
    by_new_parts,
    first_of_lot,
    in_lot,
    judged_again,
    settled,
    settled_anew,
    shares_of,
    sharing,
    with_class_budgets,
    with_earlier,
)
from makellos.models.release import Release, groups_of, plain, release
from makellos.models.writing import check_target, rewrite_manifest
from makellos.subjects import find_tested, open_inspector, subject_of, subject_of_model
from makellos.vibration.signal_record import SignalRecord

__all__ = ["CalibrationSummary", "Counted", "calibrate"]

_TELL_STATE = 20  # parts, or groups, of which the pictures tell what good ones are like
_FOLDERS_ABOVE = 2  # train/good below the folder of the fit


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
    class_budgets: Mapping[str, float] | None = None,
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
    written. `look_again` and `class_budgets` are those of `fit`; `counted` says how new and earlier
    parts count. Raises `InputError` for parts that cannot be read, `ConfigurationError` for values
    out of range.
    """
    report, counts = progress or no_progress, counted or Counted()
    counts.check(data)
    check_look_again(look_again)
    target = Path(output) if output is not None else Path(model)
    read = read_model(Path(model))
    check_target(target)
    manifest = read.manifest
    asked = manifest.calibration.asked if false_alarms is None else false_alarms
    again = manifest.calibration.look_again if look_again is None else look_again
    parts_needed(asked)  # refuses what is no budget
    record = manifest.calibration.model_copy(update={"asked": asked, "look_again": again})
    if class_budgets:
        record = with_class_budgets(record, class_budgets, manifest, has_data=data is not None)
    made = _Made(record) if data is None else _by_data(read, data, record, counts, report)
    written = _promising(read, made)
    golden = None if made.released is None else made.released.golden
    rewrite_manifest(read, written, target, golden)
    return _summary(target, written, made)


@dataclass(frozen=True)
class _Made:
    """Hold a calibration, how it was measured and recordings are seen, and what to say of it.

    `released` is None where no part was scored; `contents` are those of the parts that were, and
    `good_state` is what their pictures are like, None where that of the model is kept, and
    `of_state` says which.
    """

    record: CalibrationRecord
    released: Release | None = None
    signal: SignalRecord | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    contents: str = ""
    good_state: GoodState | None = None
    of_state: list[str] = field(default_factory=list)


def _promising(model: ModelFile, made: _Made) -> Manifest:
    """Return the manifest of a model that is calibrated anew, on whose verdicts engines agree."""
    manifest, released = model.manifest, made.released
    update: dict[str, Any] = {"calibration": made.record, "verification": None}
    update["signal"] = made.signal or manifest.signal
    update["good_state"] = made.good_state or manifest.good_state
    aside = manifest.training.set_aside + made.contents
    update["training"] = manifest.training.model_copy(update={"set_aside": aside})
    if released is None:
        record = settled_anew(model, manifest.model_copy(update=update))
        golden, name = manifest.golden, "max_score_difference"
        # Flips that were counted at another threshold say nothing now.
        update["parity"] = {k: {name: v[name]} for k, v in manifest.parity.items() if name in v}
    else:
        record, golden = settled(made.record, released.parity, released), released.golden_records()
        choice = released.choice
        update["engine"] = EngineRecord(
            runtime=choice.runtime, precision=choice.precision, exact=manifest.engine.exact
        )
        update["parity"] = released.parity_figures()
    update |= {"calibration": record, "golden": [judged_again(part, record) for part in golden]}
    return manifest.model_copy(update=update)


def _summary(target: Path, manifest: Manifest, made: _Made) -> CalibrationSummary:
    record, counted = manifest.calibration, subject_of_model(manifest).counted(manifest)
    calibration = record.calibration()
    return CalibrationSummary(
        model=str(target),
        n_calibration=calibration.scores.size,
        n_groups=calibration.n_groups,
        threshold=calibration.threshold,
        false_alarms=calibration.false_alarms,
        false_alarms_asked=calibration.asked,
        notes=[*made.notes, *budget_notes(calibration, counted, record), *made.of_state],
        counted=counted,
        promise=manifest.promise(),
        n_first=record.n_first,
        n_lots=record.n_lots,
        look_again=calibration.look_again_limit - calibration.false_alarms,
        counts_as=calibration.n_effective,
        skipped=made.skipped,
    )


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


def _mixed(manifest: Manifest, released: Release) -> list[str]:
    """Say where new parts were scored by another engine than the earlier ones that count, too."""
    earlier = manifest.engine.choice()
    if released.choice == earlier:
        return []
    return [
        f"The earlier parts that count were scored with {earlier}, which this machine does not "
        f"have; the new ones with {released.choice}. Their scores differ a little by that alone."
    ]


def _by_data(
    model: ModelFile,
    data: Path | str,
    record: CalibrationRecord,
    counts: Counted,
    progress: Progress,
) -> _Made:
    """Return the calibration by those good parts of `data` that the model was not fitted on."""
    found = find_tested(model.path, data)
    parts = found.calibration() or found.good()
    seen = {part.name for part in known(parts, model.manifest.training.contents)}
    if _fitted_on(found, model.manifest) or (parts and len(seen) == len(parts)):
        note = (
            f"{data} holds the parts that the model was fitted on. Its own calibration with them "
            f"({record.method}) is kept; for a new one, give good parts that it has not seen."
        )
        own = {"asked": record.asked, "look_again": record.look_again}
        before = (record.earlier or record).model_copy(update=own)
        made = _Made(sharing(before, shares_of(record)), notes=[*found.remarks(), note])
        if record.earlier is None:
            return made
        again = Partition([], list(parts), "new good parts")
        state, told = _good_state(model.manifest, again, progress)
        return replace(made, good_state=state, of_state=told)
    new = [part for part in parts if part.name not in seen]
    notes = found.remarks()
    if seen:
        notes.append(
            f"{len(seen)} of {len(parts)} parts were left out: the model was fitted on them."
        )
    made = _measure(model, found, new, record, counts, progress)
    return replace(made, notes=[*notes, *made.notes], contents="".join(contents_of(new).sums))


def _measure(
    model: ModelFile,
    found: PartSet,
    parts: Sequence[Part],
    record: CalibrationRecord,
    counts: Counted,
    progress: Progress,
) -> _Made:
    if not parts:
        raise InputError(
            f"{found.root} has no good parts to calibrate with ({found.layout}). Put them into a "
            "folder of their own, or label them 'good'."
        )
    if counts.earlier_weight is not None and model.manifest.signal is not None:
        raise ConfigurationError(
            "--earlier-weight is for models of pictures; this one is of recordings. Give all good "
            "recordings that are to count."
        )
    inspector = open_inspector(model.path, found, len(parts))
    anew = subject_of(found).calibrating(inspector, parts, progress)
    if anew.broken and not (counts.skip_unreadable and anew.parts):
        raise InputError(
            f"{len(anew.broken)} of {len(parts)} calibration parts cannot be read:\n  "
            + "\n  ".join(anew.broken)
            + "\nFix or remove them, or leave them out with --skip-unreadable."
        )
    partition, before = anew.partition, record.earlier or record
    groups = groups_of(partition.calibrate, neutral=partition.numbers_groups)
    weighs = counts.earlier_weight is not None
    first, notes = list[int](), list[str]()
    if not weighs and partition.signal is None:
        first, notes = first_of_lot(anew.parts, groups, before)
    with recipe_of(model) as recipe:
        on = choose_engine(model.manifest.engine.choice(), recipe.engines())
        joins = weighs or bool(first)
        asked, again = record.asked, record.look_again
        shares = shares_of(record)
        check_enough(len(shares), "classes", len(set(groups or range(len(anew.parts)))))
        kept = on if joins else None
        released = release(recipe, (), partition, asked, progress, again, kept, shares)
    notes = [*partition.notes, *notes, *(_mixed(model.manifest, released) if joins else [])]
    measured = by_new_parts(record, released, partition)
    if counts.earlier_weight is not None:
        measured = with_earlier(measured, before, counts.earlier_weight)
    if first:
        lot = plain(found.root.resolve().stem)
        measured = in_lot(measured, first, before).model_copy(update={"lot": lot})
    if first:  # parts of one lot count one by one
        alone = [replace(part, group=None) for part in partition.calibrate]
        partition = replace(partition, calibrate=alone)
    state, told = _good_state(model.manifest, partition, progress)
    made = _Made(measured, released, partition.signal, notes, anew.broken)
    return replace(made, good_state=state, of_state=told)


def _good_state(
    manifest: Manifest, partition: Partition, progress: Progress
) -> tuple[GoodState | None, list[str]]:
    """Return what `drift` compares with from now on, None for the same as before, and say so."""
    before, parts = manifest.good_state, partition.calibrate
    if manifest.signal is not None:
        return None, []
    n, n_groups = len(parts), len(set(group_names(parts)))
    if n_groups >= _TELL_STATE:
        white = manifest.preprocessing.white_level
        state = learn_good_state(replace(partition, used=parts), white, progress)
        told = f"'makellos drift' compares with these {n} parts from now on."
        return state, [told] if before is None or n < before.n_parts else []
    if before is None:
        return None, []
    return None, [
        f"'makellos drift' still compares with the {before.n_parts} parts before: these are too "
        f"few to tell what good pictures are like now. Calibrate with {_TELL_STATE} parts or "
        "groups, or more."
    ]
