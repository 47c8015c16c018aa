"""What verify and export say at their end, and what a model file keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from makellos.cli.console import figure_text, table
from makellos.errors import legible

if TYPE_CHECKING:
    from makellos.inspection.manifest import Manifest
    from makellos.workflows.export import ExportSummary
    from makellos.workflows.verify import VerifySummary

__all__ = ["export_text", "verified_lines", "verify_text"]

_MOST_NAMED = 10


def verify_text(summary: VerifySummary) -> str:
    """Say what each runtime makes of the parts, and whether a verdict flips."""
    heads = ["runtime", "largest score difference", "flips", "ok/look again changes"]
    further = ["flips of further parts"] if summary.n_parts else []
    lines = [
        _compared(summary),
        "",
        table([*heads, *further], [*map(_row, summary.runtimes, summary.runtimes.values())]),
        "",
        *(f"Not run: {name}, {why}." for name, why in summary.not_run.items()),
        *(f"Failed: {why}" for why in summary.failed.values()),
        *(_flip_text(each) for each in summary.flipped[:_MOST_NAMED]),
    ]
    if (more := len(summary.flipped) - _MOST_NAMED) > 0:
        lines.append(f"{more} more flip; --json lists them.")
    lines += [f"Not read: {error}" for error in summary.unreadable]
    lines += [f"Note: {note}" for note in summary.notes]
    lines += [risk] if (risk := _risk(summary)) else []
    return "\n".join([*lines, _conclusion(summary)])


def _compared(summary: VerifySummary) -> str:
    text = (
        f"{_counted(summary.n_golden, 'golden part')}, compared with the scores at release "
        f"({summary.released_with}; threshold {summary.threshold:.4g})"
    )
    if summary.n_parts:
        text += f"; {_counted(summary.n_parts, 'further part')}, with {summary.reference}"
    return f"{text}."


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _row(name: str, figures: dict[str, float]) -> list[str]:
    difference, changes = figures["max_score_difference"], figures["band_changes"]
    row = [name, figure_text(difference, 5), f"{figures['flips']:.0f}", f"{changes:.0f}"]
    return [*row, _share_text(figures)] if "n_further" in figures else row


def _share_text(figures: dict[str, float]) -> str:
    """Say which share of further parts flips, with its exact 95 % bounds."""
    low, high = figures["further_low"], figures["further_high"]
    counted = f"{figures['further_flips']:.0f} of {figures['n_further']:.0f}"
    return f"{counted} ({low:.1%} to {high:.1%})"


def _risk(summary: VerifySummary) -> str:
    """Say what golden parts cannot show: parts so near the threshold that a runtime decides."""
    near = {name: each["near_threshold"] for name, each in summary.runtimes.items()}
    name = max(near, key=near.__getitem__, default="")
    if not name or not near[name]:
        return ""
    what = f"{near[name]:.0f} of {_counted(summary.n_calibration, 'good calibration part')}"
    text = (
        f"On {name} scores differ by up to {summary.runtimes[name]['max_score_difference']:.3g}; "
        f"{what} lie{'s' if near[name] == 1 else ''} that near the threshold, where the runtime "
        "may decide. "
    )
    if summary.n_parts:
        return f"{text}Inspect everywhere in one runtime and precision."
    return f"{text}With DATA, verify counts how many parts of your own flip."


def _flip_text(flip: dict[str, Any]) -> str:
    expected, found = (
        verdict + ("" if score is None else f" ({score:.5g})")
        for verdict, score in (
            (flip["expected"], flip["expected_score"]),
            (flip["verdict"], flip["score"]),
        )
    )
    return f"Flips: {legible(flip['input'])} is {expected}, but {found} on {flip['runtime']}."


def _conclusion(summary: VerifySummary) -> str:
    if summary.released:
        return "No verdict flips: this machine gives the verdicts that the model was released with."
    figures = summary.runtimes.values()
    if not summary.failed and all(e["flips"] == e.get("further_flips", 0) for e in figures):
        return (
            "Golden parts keep their verdicts, but further parts flip: they lie near the threshold "
            "and get the verdict of the runtime that inspects them. Inspect everywhere with "
            f"{summary.reference}, or fit the model on a machine without bf16."
        )
    return (
        "This machine does not give the verdicts that the model was released with. Update openvino "
        "and onnxruntime, inspect with a runtime that does (--engine), or fit the model again here."
    )


def verified_lines(manifest: Manifest) -> list[str]:
    """Say when a model was verified, and what each runtime made of it; nothing if it was not."""
    record = manifest.verification
    if record is None:
        return []
    further = f" and {_counted(record.n_parts, 'further part')}" if record.n_parts else ""
    return [
        f"{record.at} on {record.machine}, {_counted(record.n_golden, 'golden part')}{further}: "
        + ("no verdict flips" if record.released else "verdicts flip, or a runtime fails"),
        *(
            f"{name}: {figures.get('flips', 0):.0f} flips, largest score difference "
            f"{figures['max_score_difference']:.5f}"
            + (f"; further parts {_share_text(figures)}" if "n_further" in figures else "")
            for name, figures in manifest.parity.items()
        ),
        *(f"{name}: not run, {why}" for name, why in record.not_run.items()),
        *(f"{name}: failed, {why}" for name, why in record.failed.items()),
    ]


def export_text(summary: ExportSummary) -> str:
    """Say what was written, how it was tested, and what another program has to do itself."""
    rows = [[name, figure_text(value, 5)] for name, value in summary.runtimes.items()]
    lines = [
        f"Golden parts keep their verdicts in {summary.precision}:",
        "",
        table(["runtime", "largest score difference"], rows),
        "",
    ]
    if summary.n_tested:
        lines.append(f"So do {summary.n_tested} good parts that did not set the ranges of values.")
    for name, each in summary.gain.items():
        unit, scale = ("MB", 1e-6) if name == "bytes" else ("ms for a part", 1.0)
        of = "" if name == "bytes" else f" on {name.removesuffix(' ms')}"
        lines.append(
            f"{each['after'] * scale:.1f} {unit}{of}, in place of {each['before'] * scale:.1f}."
        )
    if summary.format == "folder":
        lines.append(f"To inspect: python {summary.output}/verdict.py PICTURE...")
    if summary.not_in_the_graph:
        lines.append(
            "Not in the graph, and needed for the same verdicts: "
            f"{'; '.join(summary.not_in_the_graph)}."
        )
    if summary.format == "openvino":
        lines.append(
            "OpenVINO chooses the precision by itself; set INFERENCE_PRECISION_HINT to f32."
        )
    size = f"{summary.n_bytes / 1e6:.1f} MB"
    return "\n".join([*lines, f"Written: {', '.join(summary.files)} ({size})"])
