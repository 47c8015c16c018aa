"""Good pictures as a fit sees them: what can be used, which belong together, and what is odd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from makellos.data.checks import refuse_marked, sketched
from makellos.data.copies import Sketch, grouped, unlearned
from makellos.data.labelled import check_labelled
from makellos.data.parts import Part, PartSet
from makellos.data.progress import Progress
from makellos.data.shapes import Shapes, framed_text
from makellos.detectors import Detector
from makellos.detectors.registry import detectors
from makellos.errors import InputError
from makellos.models.partition import Partition, PartitionRequest, split_parts
from makellos.models.structure import (
    Structure,
    closely_seen,
    find_structure,
    structure_text,
)
from makellos.subjects.subject import Calibrating

__all__ = ["calibrating_pictures", "partition_pictures"]

_FEW = 5  # good parts, of which fewer tell little of what may vary


def partition_pictures(parts: PartSet, request: PartitionRequest, progress: Progress) -> Partition:
    """Return the pictures that are learned from, and those that calibrate.

    Raises `InputError` for pictures that cannot be used.
    """
    detector = request.detector
    found = _usable(parts, request, progress)
    split = split_parts(
        found.learnable, found.calibration, detector, request.false_alarms, request.seed
    )
    few = detector.learns != "labels"
    from_labels = not (few and all(part.is_good for part in split.learn))
    return Partition(
        split.learn,
        split.calibrate,
        split.method,
        used=[*found.learnable, *found.calibration],
        skipped=found.skipped,
        numbers_groups=found.numbers_groups,
        shapes=found.shapes,
        grouping=found.grouping,
        workers=request.workers,
        notes=[
            *parts.remarks(),
            *([framed_text(found.shapes.framed)] if found.shapes.framed else []),
            *(parts.idle_remarks() if detector.learns == "good" else []),
            *found.notes,
            *_few_notes(split, detector),
            *(_label_notes(parts, split, few=few) if from_labels else []),
        ],
    )


def calibrating_pictures(
    parts: Sequence[Part], progress: Progress, *, compared: bool
) -> Calibrating:
    """Return how good pictures count that calibrate a model anew; those broken are set aside.

    Where they are `compared`, each is looked at with its reference.
    """
    readable, sketches, broken = sketched(parts, progress, compared=compared)
    known, has_copies, notes = grouped(readable, sketches) if readable else ([], False, [])
    counted = Partition([], known, "new good parts", notes=notes, numbers_groups=has_copies)
    return Calibrating(readable, counted, [reason for _, reason in broken])


def _few_notes(split: Partition, detector: Detector) -> list[str]:
    """Return what a user loses who learns from a few good parts and calibrates by many."""
    n_learned, n_aside = sum(part.is_good for part in split.learn), len(split.calibrate)
    folds = detector.cross_fits_on(split.learn)
    if split.method != "split val" or not folds or n_learned >= min(_FEW, n_aside):
        return []
    return [
        f"Only {n_learned} good {'part is' if n_learned == 1 else 'parts are'} learned from, and "
        f"the {n_aside} of split val only calibrate. Without split val, all are learned from and "
        "all calibrate, by cross-fitting, with the same promise."
    ]


class _Usable(NamedTuple):
    """Hold parts to learn from, parts that calibrate, and the names of those left out.

    Copies are of one group; `notes` say which. `numbers_groups` where names of groups say nothing,
    `grouping` says what made them, `shapes` say what the pictures of both are like.
    """

    learnable: list[Part]
    calibration: list[Part]
    skipped: list[str]
    notes: list[str]
    numbers_groups: bool
    shapes: Shapes
    grouping: str


def _usable(parts: PartSet, request: PartitionRequest, progress: Progress) -> _Usable:
    """Return the parts that can be decoded, defective ones too where those are learned from.

    One that only uses labels validates with none: good parts come first, then defective ones.
    """
    detector: Detector = request.detector
    good, calibration = parts.good(), parts.calibration()
    learnable = parts.labelled() if detector.learns == "labels" else good
    if detector.learns == "good and labelled":
        learnable += tuple(p for p in parts if not p.is_good and p.split in (None, "train"))
    parts.require_good()
    shapes = Shapes()
    has_references = any(part.reference is not None for part in (*learnable, *calibration))
    compared = detector.compares and has_references
    known_parts = [*learnable, *calibration]
    closely = closely_seen(len(known_parts), regroups=request.finds_groups)
    found, sketches, broken = sketched(
        known_parts,
        progress,
        shapes,
        compared=compared,
        closely=closely,
        threads=request.workers,
    )
    if broken and not request.skip_unreadable:
        listed = "\n  ".join(reason for _, reason in broken)
        raise InputError(
            f"{len(broken)} of {len(learnable) + len(calibration)} files cannot be used:\n  "
            f"{listed}\nFix or remove them, or leave them out with --skip-unreadable."
        )
    refuse_marked(found)
    known, has_copies, notes = grouped(found, sketches)
    known, structure = _structured(parts, known, sketches, request, progress)
    aside = {part.name for part in calibration}
    learned = [part for part in known if part.name not in aside]
    calibrating = [part for part in known if part.name in aside]
    calibrating, more = unlearned(calibrating, learned, has_copies)
    skipped = [part.name for part, _ in broken]
    notes = [*notes, *more, *([structure_text(structure)] if structure.speaks else [])]
    if has_references and not compared:
        comparing = ", ".join(name for name, cls in detectors().items() if cls.compares)
        notes.append(f"The column 'reference' is used only by {comparing}, not by {detector.name}.")
    finds = request.finds_groups and bool(structure.by)
    by = structure.by if finds else parts.grouping
    return _Usable(learned, calibrating, skipped, notes, has_copies or finds, shapes, by)


def _structured(
    parts: PartSet,
    known: list[Part],
    sketches: Sequence[Sketch],
    request: PartitionRequest,
    progress: Progress,
) -> tuple[list[Part], Structure]:
    """Return parts by the groups that are found where the user asks for it, and what was found."""
    good = [i for i, part in enumerate(known) if part.is_good and sketches[i].looks]
    if parts.grouping and not request.finds_groups:
        return known, Structure.none(len(good))
    found = find_structure(
        [known[i] for i in good],
        [sketches[i] for i in good],
        request.false_alarms,
        seed=request.seed,
        progress=progress,
        regroups=request.finds_groups,
    )
    if request.finds_groups:
        groups = dict(zip(good, found.groups, strict=True))
        known = [
            replace(part, group=groups[i]) if i in groups else part for i, part in enumerate(known)
        ]
    return known, found


def _label_notes(parts: PartSet, split: Partition, *, few: bool) -> list[str]:
    """Return what spoils learning from labels, or a test of it; raise where nothing is learned.

    `few` defective parts are nothing to remark on.
    """
    learn = [part for part in split.learn if part.split != "val"]
    # Cross-fitted parts calibrate by fits that have not seen them.
    apart = [] if split.method == "cross-fitted" else split.calibrate
    held_out = [*apart, *(part for part in split.learn if part.split == "val")]
    if any(part.split == "test" for part in parts):
        return check_labelled(learn, held_out, parts.test(), few=few)
    return [
        *check_labelled(learn, held_out, few=few),
        "No parts are kept for testing, and those learned from would flatter the figures. "
        "'makellos data split' divides a set, by group where parts have groups.",
    ]
