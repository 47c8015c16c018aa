"""The findings of a data check, and the sentences that they amount to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass

from makellos.data.shapes import framed_text

__all__ = [
    "Findings",
    "advice",
    "blank_text",
    "copies_text",
    "idle_text",
    "left_out_text",
    "listed",
    "listed_sets",
    "misplaced_text",
    "n_of",
    "problems",
]

# Rounded budgets that people ask for; the first that is out of reach is named.
_BUDGETS = (0.05, 0.01, 0.001)
_MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Hold what was found in a data folder; names are those of the parts.

    Parameters
    ----------
    n_parts, n_groups : parts; groups of parts that belong together, a part alone is one.
    layout : how the folder was read.
    labels : label to number of parts.
    counts : split (``none`` without one) to label to number of parts.
    n_good : good parts that can be decoded and learned from.
    n_calibration : groups of good parts that can be decoded and calibrate: those of split val, or
        else those that are learned from, by cross-fitting.
    n_test_good, n_test_defective : parts that can be decoded and tested.
    sizes : ``WIDTHxHEIGHT`` in pixels, EXIF orientation applied, to number of pictures.
    modes : ``grey 8 bit``, ``RGB 16 bit`` and so on to number of pictures.
    giveaways : ``size``, ``mode`` and ``file format`` where that alone tells good parts from
        defective ones.
    peak_16_bit : largest value in the 16 bit pictures; None where there are none.
    framed : pictures of several pages or frames, of which the first is used.
    unreadable : name and reason of each picture that cannot be decoded.
    duplicates : names of files with identical bytes, one list for each set of them.
    leaks : those of `duplicates` of which some are in split test and others are not.
    contradictions : those of `duplicates` that have several labels.
    shared_groups : groups of which some parts are tested and others are not.
    n_sharing : tested parts in `shared_groups`.
    blank : pictures of one value throughout.
    unreadable_references : name and reason of each part whose reference cannot be decoded.
    without_reference : parts without a reference where others have one.
    unreadable_masks : name and reason of each part whose mask cannot be decoded.
    mismatched_masks : parts whose mask has another size than the picture.
    empty_masks : defective parts whose mask marks no pixel.
    marked_good : good parts whose mask marks pixels.
    without_mask : defective parts without mask.
    n_masks : parts with a mask.
    idle : defective parts without split where other parts have one: they are used for nothing.
    misplaced : name and label of each part that lies in a folder named after another class.
    singles : labels of which there is one part alone, where there are other labels.
    near_copies : names of pictures that are nearly identical, one list for each set of them.
    unused : picture files below the folder that are neither part nor mask.
    notes : how words and columns that are not those of makellos were read.
    """

    n_parts: int
    n_groups: int
    layout: str
    labels: dict[str, int]
    counts: dict[str, dict[str, int]]
    n_good: int
    n_calibration: int
    n_test_good: int
    n_test_defective: int
    sizes: dict[str, int]
    modes: dict[str, int]
    giveaways: list[str]
    peak_16_bit: int | None
    framed: list[str]
    unreadable: list[tuple[str, str]]
    duplicates: list[list[str]]
    leaks: list[list[str]]
    contradictions: list[list[str]]
    shared_groups: list[str]
    n_sharing: int
    blank: list[str]
    unreadable_references: list[tuple[str, str]]
    without_reference: list[str]
    unreadable_masks: list[tuple[str, str]]
    mismatched_masks: list[str]
    empty_masks: list[str]
    marked_good: list[str]
    without_mask: list[str]
    n_masks: int
    idle: list[str]
    misplaced: list[tuple[str, str]]
    singles: list[str]
    near_copies: list[list[str]]
    unused: list[str]
    notes: list[str]


def problems(found: Findings) -> Iterator[str]:
    """Say what should be put right, in the order of its weight."""
    if not found.n_good:
        yield (
            f"There are no good parts to learn from ({found.layout}, labels "
            f"{listed(list(found.labels))}). Put them into a folder train/good or good, or say "
            f"which label means good, as in --good {next(iter(found.labels), 'ok')}."
        )
    if found.unreadable:
        names = [name for name, _ in found.unreadable]
        yield f"{n_of(names, 'picture')} cannot be decoded: {listed(names)}."
    if found.misplaced:
        yield misplaced_text(found.misplaced)
    yield from _problems_of_separation(found)
    if found.blank:
        yield blank_text(found.blank)
    yield from _problems_of_masks(found)


def advice(found: Findings) -> Iterator[str]:
    """Say what is good to know: what can be promised, and what the pictures ask for."""
    yield from found.notes
    yield from _advice_on_budget(found)
    if found.near_copies:
        yield copies_text(found.near_copies)
    if found.framed:
        yield framed_text(found.framed)
    if len(found.sizes) > 1:
        yield (
            f"The pictures have {len(found.sizes)} sizes ({listed(list(found.sizes))}); each is "
            "scaled to one size. If their fields of view differ, crop them to the same one."
        )
    if len(found.modes) > 1:
        yield (
            f"The pictures have {len(found.modes)} kinds of values ({listed(list(found.modes))}). "
            "Save all of them the same way, as future parts will be."
        )
    white = (1 << (found.peak_16_bit or 65535).bit_length()) - 1
    if white < 65535:
        yield (
            f"No 16-bit picture goes above {found.peak_16_bit}. If the camera delivers fewer "
            f"bits, fit with --white-level {white}."
        )
    yield from _advice_on_tests(found)
    yield from _advice_on_labels(found)
    if found.unused:
        yield left_out_text(found.unused, "picture", found.layout)


def misplaced_text(misplaced: Sequence[tuple[str, str]]) -> str:
    """Say which parts lie in a folder named after another class than their label."""
    named = [f"{name} (label {label})" for name, label in misplaced]
    return (
        f"Labels disagree with folders: {n_of(named, 'part')} in a folder named after another "
        f"class: {listed(named)}. Correct the label, or move the picture."
    )


def blank_text(names: Sequence[str]) -> str:
    """Say which pictures show nothing."""
    return (
        f"{n_of(names, 'picture')} of a single value throughout (lens covered, light off?): "
        f"{listed(names)}."
    )


def copies_text(sets: Sequence[Sequence[str]]) -> str:
    """Say which pictures show the same part."""
    return (
        f"{n_of(sets, 'set')} of identical or nearly identical pictures; each set counts as one "
        f"part in calibration: {listed_sets(sets)}."
    )


def left_out_text(names: Sequence[str], noun: str, layout: str) -> str:
    """Say which files lie outside of a layout."""
    return f"{n_of(names, noun)} outside the layout ({layout}), left out: {listed(names)}."


def idle_text(names: Sequence[str]) -> str:
    """Say which defective parts are neither learned from nor tested."""
    return (
        f"{n_of(names, 'defective part')} without a split, where others have one, and not "
        f"used: {listed(names)}. Give them the split test."
    )


def _problems_of_separation(found: Findings) -> Iterator[str]:
    if found.contradictions:
        yield (
            f"{n_of(found.contradictions, 'set')} of identical files with different labels: "
            f"{listed_sets(found.contradictions)}. Keep each file under the label that is right."
        )
    if found.leaks:
        yield (
            f"Leak: {n_of(found.leaks, 'set')} of identical files both learned from and tested, so "
            f"results look better than they are: {listed_sets(found.leaks)}. Remove one of each."
        )
    rest = [
        names for names in found.duplicates if names not in (*found.leaks, *found.contradictions)
    ]
    if rest:
        yield (
            f"{n_of(rest, 'set')} of identical files, counted as several parts but only one: "
            f"{listed_sets(rest)}. Keep one of each."
        )
    if found.shared_groups:
        yield (
            f"Leak: {n_of(found.shared_groups, 'group')} both learned from and tested "
            f"({listed(found.shared_groups)}); {found.n_sharing} of "
            f"{found.n_test_good + found.n_test_defective} tested parts belong to such a group. "
            "Results hold for these groups, not for new ones. Split by group."
        )
    for name in found.giveaways:
        yield (
            f"The {name} alone tells pictures of good parts from defective ones, so results say "
            f"nothing about damage. Take pictures of both with the same {name}."
        )


def _problems_of_masks(found: Findings) -> Iterator[str]:
    if found.unreadable_references:
        names = [name for name, _ in found.unreadable_references]
        yield f"{n_of(names, 'reference')} cannot be decoded: those of {listed(names)}."
    if found.without_reference:
        names = found.without_reference
        yield f"{n_of(names, 'part')} without a reference, where others have one: {listed(names)}."
    if found.unreadable_masks:
        names = [name for name, _ in found.unreadable_masks]
        yield f"{n_of(names, 'mask')} cannot be decoded: those of {listed(names)}."
    if found.mismatched_masks:
        names = found.mismatched_masks
        yield f"{n_of(names, 'mask')} of another size than the picture: those of {listed(names)}."
    if found.empty_masks:
        names = found.empty_masks
        yield f"{n_of(names, 'mask')} of defective parts without a marked pixel: {listed(names)}."
    if found.marked_good:
        names = found.marked_good
        yield f"{n_of(names, 'part')} labelled good with pixels marked as damage: {listed(names)}."


def _advice_on_budget(found: Findings) -> Iterator[str]:
    n = found.n_calibration
    if not n:
        return
    single = found.n_groups == found.n_parts and not (found.duplicates or found.near_copies)
    unit = "good parts" if single else "groups of good parts"
    yield (
        f"With {n} {unit} for calibration, the smallest false-alarm budget that can be promised is "
        f"1/{n + 1} = {1 / (n + 1):.2%}."
    )
    # As many as 1 / budget - 1; the small step keeps 1 / 0.01 from becoming 101.
    needed = {budget: math.ceil(1 / budget - 1e-9) - 1 for budget in _BUDGETS}
    budget = next((budget for budget in _BUDGETS if needed[budget] > n), None)
    if budget is not None:
        short = needed[budget] - n
        yield f"A budget of {100 * budget:g}% needs {needed[budget]} {unit}, {short} more."


def _advice_on_tests(found: Findings) -> Iterator[str]:
    if not found.n_test_defective:
        yield "No defective part is tested: the share of damage found cannot be measured."
    elif not found.n_test_good:
        yield "No good part is tested: the share of false alarms cannot be measured."
    if found.idle:
        yield idle_text(found.idle)
    if not found.without_mask:
        return
    if found.n_masks:
        yield (
            f"{n_of(found.without_mask, 'defective part')} without a mask, left out of the pixel "
            f"figures: {listed(found.without_mask)}."
        )
    else:
        yield "There are no masks, so pixel figures (pixel_auroc, aupro) are not computed."


def _advice_on_labels(found: Findings) -> Iterator[str]:
    if found.n_good and len(found.labels) == 1:
        yield (
            f"All parts have the label {next(iter(found.labels))}: enough for detectors that learn "
            "from good parts alone, but not for those that learn from labelled defects."
        )
    if found.singles:
        yield (
            f"{n_of(found.singles, 'label')} with a single part: {listed(found.singles)}. It "
            "cannot be both learned from and tested: add pictures, or give it the label of a "
            "similar kind."
        )


def n_of(things: Sized, noun: str) -> str:
    """Return how many things there are, such as ``1 part`` or ``2 parts``."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return the first three names, and how many more there are."""
    shown = ", ".join(names[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED else f"{shown} and {len(names) - _MAX_NAMED} more"


def listed_sets(sets: Sequence[Sequence[str]]) -> str:
    """Return the first three sets of names that are the same thing."""
    return listed([" = ".join(names[:_MAX_NAMED]) + _more(names) for names in sets])


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
