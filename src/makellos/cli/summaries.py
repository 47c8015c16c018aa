"""What the verbs say at their end, in words and small tables; `inspect` has a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from makellos.cli.console import figure_text, table
from makellos.cli.inspection_texts import VERDICTS
from makellos.cli.release_texts import verified_lines
from makellos.errors import legible
from makellos.reports.formats import NARROW_SPACE
from makellos.reports.provenance import (
    calibrated_on,
    first_of_lot,
    guarantee_of,
    learned_by,
    learned_from,
)
from makellos.reports.statements import by_recording, noun_of, promise_sentence, range_sentence
from makellos.vibration.recording_checks import RecordingsCheck

if TYPE_CHECKING:
    from makellos.data.checks import DataCheck
    from makellos.inspection import ModelFile
    from makellos.inspection.manifest import AutoRecord
    from makellos.workflows.audit import AuditSummary
    from makellos.workflows.calibrate import CalibrationSummary
    from makellos.workflows.demo import DemoResult
    from makellos.workflows.drift import DriftSummary
    from makellos.workflows.fit import FitSummary
    from makellos.workflows.generate import GenerateSummary

_FEWEST_SHOWN, _MOST_SHOWN = 10, 30  # parts of an audit
_MOST_SETTERS = 3


def fit_text(summary: FitSummary) -> str:
    """Say what was learned and what is promised."""
    unit = {"groups": "groups of good parts"}.get(summary.counted, f"good {summary.counted}")
    learned = learned_from(summary.n_learned, summary.n_defective)
    if summary.counted in ("recordings", "windows"):
        learned = f"{summary.n_learned} windows of good recordings"
    is_counted = summary.counted in ("parts", "groups")
    lines = [
        *(auto_lines(summary.auto) if summary.auto else []),
        f"{summary.detector} learned from {learned} in {summary.fit_seconds:.0f} s.",
        f"Calibrated on {summary.n_groups} {unit} ({summary.method}): {summary.promise}.",
        *([range_sentence(summary.n_groups, summary.false_alarms, unit)] if is_counted else []),
        *_set_by_lines(summary),
        *(f"Note: {note}" for note in summary.notes),
    ]
    if summary.skipped:
        lines.append(f"Left out, unreadable: {', '.join(summary.skipped)}")
    return "\n".join([*lines, f"Model: {summary.model}"])


def _set_by_lines(summary: FitSummary) -> list[str]:
    """Name the parts that set the threshold, and what tells why they are odd."""
    if not summary.threshold_set_by:
        return []
    named = ", ".join(map(legible, summary.threshold_set_by[:_MOST_SETTERS]))
    n_more = len(summary.threshold_set_by) - _MOST_SETTERS
    more = f" and {n_more} more" if n_more > 0 else ""
    good = f" --good {legible(','.join(summary.good))}" if summary.good else ""
    return [
        f"The threshold is set by the oddest good parts: {named}{more}. "
        f"To see why: makellos audit {legible(summary.data)}{good} -o audit"
    ]


def auto_lines(found: Mapping[str, Any]) -> list[str]:
    """Say what `auto` tried, in a table with the best first, and why it chose."""
    rows, untried = [], dict[str, list[str]]()
    for trial in found["trials"]:
        settings = (f"{key}={value}" for key, value in trial["parameters"].items())
        name = " ".join([trial["detector"], *settings])
        if trial["result"] == "left out":
            untried.setdefault(trial["reason"], []).append(name)
            continue
        misses = "-" if trial["misses"] is None else f"{trial['misses']:.1%}"
        auroc, took = figure_text(trial["auroc"]), f"{trial['seconds']:.0f} s"
        result = trial["result"] + (f": {trial['reason']}" if trial["reason"] else "")
        rows.append([name, misses, auroc, str(trial["n_learned"]), took, result])
    return [
        f"Tried for {found['seconds']:.0f} s, judged by {found['judged']}:",
        "",
        table(["detector", "missed", "AUROC", "learned", "took", "result"], rows),
        "",
        *(f"Not tried ({reason}): {', '.join(names)}" for reason, names in untried.items()),
        f"Chosen: {found['reason']}",
        "",
    ]


def audit_text(summary: AuditSummary) -> str:
    """Say which good parts are suspects, and what keeping them costs."""
    n, damage = summary.n_suspects, summary.n_defective
    shown = summary.ranking[: max(_FEWEST_SHOWN, min(n, _MOST_SHOWN))]
    heads = ["suspicion", "threshold without", *(["missed without"] if damage else []), "part"]
    rows = [
        [
            f"{each['suspicion']:.1f}{' *' if each['is_suspect'] else ''}",
            f"{each['threshold_without']:.4g}",
            *([str(each["missed_without"])] if damage else []),
            f"{legible(each['input'])}: {each['reason'] or 'unusual'}",
        ]
        for each in shown
    ]
    missed = f", {summary.missed} of {damage} labelled defective parts missed" if damage else ""
    lines = [
        f"{n} of {summary.n_good} good parts {'is a suspect' if n == 1 else 'are suspects'} (*). "
        f"Threshold {summary.threshold:.4g} at a budget of {summary.false_alarms:.2%}{missed}.",
        *(f"Note: {note}" for note in summary.notes),
        "",
        table(heads, rows),
    ]
    without = next((each for each in summary.leaving_out if each["n"] == n), None)
    if n and without is not None:
        less = f", {without['missed']} missed" if damage else ""
        lines += [
            "",
            f"Without the suspects: threshold {without['threshold']:.4g}, budget "
            f"{without['false_alarms']:.2%}{less}; promised for parts like those kept.",
        ]
    places = [place for place in (summary.page, summary.manifest) if place is not None]
    return "\n".join([*lines, *([f"Written: {', '.join(places)}"] if places else [])])


def calibration_text(summary: CalibrationSummary) -> str:
    """Say what a calibrated model promises."""
    unit = {"groups": "groups of good parts"}.get(summary.counted, f"good {summary.counted}")
    counted = f"{summary.n_groups} {unit}"
    if summary.n_first:
        counted = first_of_lot(summary.n_first, summary.n_lots)
    elif summary.counts_as < summary.n_groups - 0.5:
        counted += f", which count as {summary.counts_as:.0f}"
    lines = [
        f"{summary.promise[0].upper()}{summary.promise[1:]} (threshold {summary.threshold:.4g}, "
        f"from {counted}).",
        f"In addition, at most {summary.look_again:.2%} of the good ones will get look_again.",
        *(f"Left out: {legible(reason)}" for reason in summary.skipped),
        *(f"Note: {note}" for note in summary.notes),
    ]
    return "\n".join([*lines, f"Model: {summary.model}"])


def drift_text(summary: DriftSummary) -> str:
    """Return the alarms of a stream, one a line, and what was watched."""
    n = len(summary.alarms)
    said = [
        f"{n} alarm{'' if n == 1 else 's'} in {_counted(summary.n_parts, 'part')}"
        f" ({summary.watched}; at most {summary.false_alarms_per_10000:g} false in 10,000)"
        if n
        else f"No drift in {_counted(summary.n_parts - summary.n_unreadable, 'part')}"
        f" ({summary.watched})"
    ]
    for each in summary.alarms:
        where = f"part {each['at']} ({each['input']}), since about part {each['since']}"
        said.append(f"  {each['cause']}: {each['detail']}. Noticed at {where}.")
    return "\n".join([*said, *("Note: " + note for note in summary.notes)])


def evaluation_text(figures: Mapping[str, Any]) -> str:
    """Say what was missed and what was rejected by mistake, then show the figures."""
    recordings = figures.get("recordings")
    lines = [_missed(by_recording(figures)), _rejected(by_recording(figures))]
    if (judged := promise_sentence(figures)) is not None:
        lines.append(judged.replace(NARROW_SPACE, " "))
    if recordings:
        lines += [_missed(figures), _rejected(figures, promised=False)]
    lines += [f"Not read: {part['error']}" for part in figures["unreadable"]]
    lines += [*(f"Note: {note}" for note in figures["notes"]), ""]
    if figures["by_defect"]:
        rows = [
            [name, str(d["n"]), str(round(d["n"] * d["miss_rate"])), figure_text(d["image_auroc"])]
            for name, d in figures["by_defect"].items()
        ]
        lines += [table(["kind of damage", noun_of(figures), "missed", "AUROC"], rows), ""]
    names = {
        "image_auroc": "Image AUROC: how often a defective part scores above a good one",
        "pixel_auroc": "Pixel AUROC: how often a damaged pixel is marked above a good one",
        "pixel_ap": "Pixel average precision: how much of what is marked is damage",
        "aupro": "AUPRO: how well damaged regions are covered, up to 30 % false positives",
        "aupro_5": "AUPRO up to 5 % false positives",
        "seg_f1": "SegF1: F1 of pixels at the calibrated threshold of maps",
        "pixel_f1_max": "F1 of pixels at the best threshold (optimistic)",
        "f1_max": "F1 at the best threshold (optimistic)",
        "accuracy": "Accuracy at the calibrated threshold",
        "optimistic_accuracy": "Accuracy with the best threshold on the test set (optimistic; "
        "this is what tutorials quote)",
    }
    if "confusion_matrix" in figures:
        names |= {
            "balanced_accuracy": "Balanced accuracy at the calibrated threshold",
            "macro_f1": "Macro F1 of the classes, by the highest probability",
            "ece": "Calibration error of the probabilities (ECE)",
        }
    if recordings:
        names["image_auroc"] = "AUROC of windows: how often a defective one scores above a good one"
    rows = [
        [text, figure_text(figures[key]), _interval(figures["intervals"].get(key))]
        for key, text in names.items()
        if not (recordings and figures[key] is None)  # windows have no masks
    ]
    rows += _localisation_rows(figures["localisation"])
    lines.append(table(["figure", "value", "95 % interval"], rows))
    lines += _recordings_table(recordings)
    return "\n".join(lines)


def _recordings_table(found: Mapping[str, Any] | None) -> list[str]:
    if not found:
        return []
    rows = [
        [
            name,
            each["label"],
            VERDICTS[each["verdict"]],
            str(each["n_windows"]),
            f"{each['share_rejected']:.1%}",
            each["fault"] or "-",
        ]
        for name, each in found.items()
    ]
    header = ["recording", "label", "verdict", "windows", "rejected", "likely fault"]
    return ["", table(header, rows)]


def _localisation_rows(found: Mapping[str, Any] | None) -> list[list[str]]:
    if found is None:
        return []
    text = f"Peak of the map inside the damage, of {found['n']} defective parts rejected"
    return [[text, figure_text(found["peak_inside"]), _interval(found["peak_interval"])]]


def generate_text(summary: GenerateSummary) -> str:
    """Say what was made, and how like real parts it is."""
    if summary.dimensions is not None:
        shown = ", ".join(str(dimension) for dimension in summary.dimensions)
        lines = [f"Latent dimensions, those that change a part most first: {shown}."]
        return "\n".join([*lines, f"Picture: {summary.output}"])
    lines = [f"{summary.n} picture{'' if summary.n == 1 else 's'} generated by {summary.detector}."]
    if summary.diversity is not None:
        lines.append(
            f"Diversity {summary.diversity:.2f}: 1 is that of real parts, near 0 all are alike."
        )
    if summary.nearest_distance is not None:
        among = summary.real_nearest_distance
        beside = "" if among is None else f"; {among:.3f} between real parts"
        lines.append(f"Distance to the nearest real part {summary.nearest_distance:.3f}{beside}.")
    return "\n".join([*lines, f"Picture: {summary.output}"])


def _missed(figures: Mapping[str, Any]) -> str:
    if not figures["n_defective"]:
        none = f"There is no defective {noun_of(figures, 1)}"
        return f"{none}, so the share of damage found is unknown."
    missed = round(figures["miss_rate"] * figures["n_defective"])
    again = figures["n_look_again_defective"]
    marked = f" ({again} of these marked 'look again')" if again else ""
    n = figures["n_defective"]
    return f"Missed {missed} of {n} defective {noun_of(figures, n)}{marked}."


def _rejected(figures: Mapping[str, Any], *, promised: bool = True) -> str:
    promise = f" (promised: at most {figures['false_alarms']:.2%})" if promised else ""
    if not (n := figures["n_good"]):
        none = f"There is no good {noun_of(figures, 1)}"
        return f"{none}, so the share of false alarms is unknown{promise}."
    rejected = round(figures["false_alarm_rate"] * figures["n_good"])
    again = figures["n_look_again_good"]
    marked = f", {again} more marked 'look again'" if again else ""
    return f"Rejected {rejected} of {n} good {noun_of(figures, n)}{promise}{marked}."


def demo_text(result: DemoResult) -> str:
    """Say what the demo did, where its report is, and what to type next."""
    what, model = "pictures of good parts", "parts.makellos"
    if "recordings" in result.figures:
        what, model = "good recordings", "machine.makellos"
    return "\n".join(
        [
            "Recorded bearings, learned the good ones, inspected the rest:"
            if "recordings" in result.figures
            else "Rendered screws, learned the good ones, inspected the rest:",
            "",
            fit_text(result.fitted),
            "",
            evaluation_text(result.figures),
            "",
            f"Rows:     {result.folder / 'inspections.csv'}",
            f"Overlays: {result.folder / 'overlays'}",
            f"Report:   {result.report}",
            "",
            f"Next, with a folder of {what} of your own:",
            f"  makellos fit FOLDER -o {model} --false-alarms 0.05",
            f"  makellos inspect {model} NEW_FOLDER -o result --overlays",
        ]
    )


def info_rows(model: ModelFile) -> list[list[str]]:
    """Return what a model file is, as rows of a table."""
    manifest = model.manifest
    calibration = manifest.calibration.calibration()
    parameters = ", ".join(f"{k}={v}" for k, v in manifest.detector.parameters.items() if v != "")
    size, training = manifest.preprocessing, manifest.training
    return [
        ["model", f"{model.path} (format {manifest.format_version}, every hash checked)"],
        ["detector", f"{manifest.detector.name}: {parameters}"],
        ["input", f"{size}, {size.shape[0]} channels" if len(size.shape) > 1 else str(size)],
        *([name, text] for name, text in manifest.covered()),
        *([["map", manifest.map_name]] if manifest.map_name else []),
        ["engine", str(manifest.engine.choice())],
        ["learned from", f"{learned_by(manifest)} of {training.data}"],
        ["calibrated on", calibrated_on(manifest, calibration.n_groups)],
        ["promise", manifest.promise()],
        ["guarantee", guarantee_of(manifest.calibration)],
        [
            "look again",
            f"at most {calibration.look_again_limit - calibration.false_alarms:.2%} of the "
            "good ones, in addition",
        ],
        ["threshold", f"{calibration.threshold:.5g}"],
        ["fitted", f"{manifest.created}, {training.fit_seconds:.0f} s"],
        *(["chosen by auto", line] for line in _auto_facts(training.auto)),
        *(["note", note] for note in training.notes),
        *(["verified", line] for line in verified_lines(manifest)),
        ["data", f"SHA-256 {training.fingerprint[:16]}…"],
        ["versions", ", ".join(f"{k} {v}" for k, v in manifest.versions.items())],
    ]


def _auto_facts(found: AutoRecord | None) -> list[str]:
    if found is None:
        return []
    n_judged = sum(trial.auroc is not None for trial in found.trials)
    return [found.reason, f"{n_judged} candidates were judged by {found.judged}"]


def check_text(found: DataCheck | RecordingsCheck) -> str:
    """Say what a set holds, what is wrong with it and what to do."""
    rows = [[label, str(n)] for label, n in sorted(found.labels.items())]
    fine = "Nothing is wrong."
    if isinstance(found, RecordingsCheck):
        without = found.rates.get("0", 0)
        rates = [f"{rate} Hz" for rate in found.rates if rate != "0"]
        rates += [f"not stated by {without}"] if without else []
        length = f"{found.n_samples:,} samples"
        if found.seconds is not None:
            length += f", {found.seconds:g} s{' where a rate is stated' if without else ' in all'}"
        if without:
            fine = "Nothing is wrong, but a rate is needed: give it to fit with --rate HZ."
        lines = [
            f"{_counted(found.n_recordings, 'recording')}, {found.layout}, {length}",
            f"Channels: {'; '.join(found.channels) or '-'}. Rates: {', '.join(rates) or '-'}.",
            "",
            table(["label", "recordings"], rows),
            "",
        ]
    else:
        count = _counted(found.n_parts, "part")
        lines = [f"{count}, {found.layout}", "", table(["label", "parts"], rows), ""]
    lines += [f"Wrong: {problem}" for problem in found.problems] or [fine]
    return "\n".join([*lines, *(f"Advice: {advice}" for advice in found.advice)])


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _interval(value: tuple[float, float] | None) -> str:
    return "-" if value is None else f"{value[0]:.3f} to {value[1]:.3f}"
