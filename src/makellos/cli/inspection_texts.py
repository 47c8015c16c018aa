"""What `inspect` says of parts and at its end; it starts quickly, so this loads no reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from makellos.calibration import parts_needed
from makellos.errors import legible

if TYPE_CHECKING:
    from makellos.inspection import Inspection
    from makellos.inspection.findings import RecordingFinding
    from makellos.workflows.discoveries import Discoveries
    from makellos.workflows.inspect import InspectSummary, Outputs

VERDICTS = {
    "ok": "ok",
    "look_again": "look again",
    "reject": "reject",
    "unreadable": "unreadable",
}
_MAX_NOTES = 5
_MAX_NAMED = 20


def row_text(inspection: Inspection) -> str:
    """Say one part's verdict in a line."""
    if inspection.error is not None:
        return f"unreadable  {legible(inspection.error)}"
    if inspection.recording is not None:
        return _recording_text(inspection, inspection.recording)
    n_regions = len(inspection.regions)
    if inspection.probabilities:
        shares = inspection.probabilities
        name = inspection.rejected_as or max(shares, key=shares.__getitem__)
        return (
            f"{VERDICTS[inspection.verdict]:<10}  score {inspection.score:7.3f}  "
            f"p {inspection.p_value:.3f}  {name} {shares[name]:.1%}  {legible(inspection.input)}"
        )
    found = f"{n_regions} region{'s' if n_regions != 1 else ''}" if n_regions else ""
    found += "".join(f"  rule: {rule}" for rule in inspection.broken_rules)
    line = (
        f"{VERDICTS[inspection.verdict]:<10}  score {inspection.score:7.3f}  "
        f"p {inspection.p_value:.3f}  {legible(inspection.input)}  {found}"
    ).rstrip()
    return "\n".join([line, *(f"            Note: {note}" for note in inspection.notes)])


def _recording_text(inspection: Inspection, found: RecordingFinding) -> str:
    n, share = len(found.windows), found.share_rejected
    lines = [
        f"{VERDICTS[inspection.verdict]:<10}  {share:6.1%} of {n} windows rejected  "
        f"p {inspection.p_value:.2g}  {legible(inspection.input)}"
    ]
    if found.fault is not None:
        lines.append(f"            {found.fault.sentence}")
    return "\n".join([*lines, *(f"            Note: {note}" for note in found.notes)])


def inspect_text(summary: InspectSummary, outputs: Outputs) -> str:
    """Say how many parts had which verdict, and where rows and overlays are."""
    counts = ", ".join(f"{n} {VERDICTS[name]}" for name, n in summary.verdicts.items() if n)
    places = [
        outputs.csv,
        outputs.jsonl,
        outputs.parquet,
        outputs.windows,
        outputs.trend,
        outputs.overlays,
        outputs.reconstructions,
    ]
    written = [str(place) for place in places if place is not None and str(place) != "-"]
    noun = summary.noun if summary.n_parts == 1 else f"{summary.noun}s"
    text = f"{summary.n_parts} {noun}: {counts}."
    if summary.trend is not None:
        text += f"\n{summary.trend.headline}."
    if summary.discoveries is not None:
        text += f"\n{_discoveries_text(summary.discoveries, summary.noun)}"
    if summary.masks_left_out:
        text += (
            f"\nNote: {summary.masks_left_out} pictures were left out; they are masks of others."
        )
    noted = sorted(summary.notes.items(), key=lambda item: -item[1])
    for note, n in noted[:_MAX_NOTES]:
        text += f"\nNote ({n} part{'' if n == 1 else 's'}): {note}"
    if len(noted) > _MAX_NOTES:
        text += f"\nThe rows have {len(noted) - _MAX_NOTES} more notes."
    return f"{text}\nWritten: {', '.join(written)}" if written else text


def _discoveries_text(found: Discoveries, noun: str) -> str:
    """Say which parts of a batch to take out, or why none can be."""
    n, promise = len(found.inputs), f"on average at most {100 * found.share:g}% of them are good"
    if n:
        names = ", ".join(legible(name) for name in found.inputs[:_MAX_NAMED])
        more = f" and {n - _MAX_NAMED} more" if n > _MAX_NAMED else ""
        return f"Take out {n} of {found.n_parts} {noun}s; {promise}: {names}{more}"
    none = f"No {noun} can be taken out such that {promise}"
    if found.n_needed > found.n_parts:
        return (
            f"{none}: the model was calibrated on too few good parts for that. Calibrate it with "
            f"at least {parts_needed(min(found.share, 0.5))} (makellos calibrate), or ask for less."
        )
    return (
        f"{none}: with the good parts that this model was calibrated on, at least "
        f"{found.n_needed} of {found.n_parts} would have to be odder than all of these good parts."
    )
