"""The verb that sets detectors side by side: compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from makellos.cli.clustering import ClusterAddress, runners_of
from makellos.cli.console import (
    Good,
    Json,
    Keys,
    answer,
    failures_text,
    figure_text,
    shown_table,
    telling,
)
from makellos.cli.learning import Budget, Data, Preset, Seed

if TYPE_CHECKING:
    from makellos.jobs.compare_results import Compared, CompareResults, FewGood

EXIT_FAILED = 1


Detectors = Annotated[
    str,
    typer.Option(
        metavar="A,B,…",
        help="Detectors to fit, each NAME or NAME:PRESET; model files are used as they are.",
    ),
]
Models = Annotated[str, typer.Option(metavar="FILE,…", help="Model files to compare with them.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="DETECTOR.KEY=VALUE",
        help="A parameter of one detector, such as patchcore.image_size=512; repeatable.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Folder for compare.html, compare.csv, compare.json, models and reports.",
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The one to compare all others with; by default the one that misses the fewest.",
    ),
]


NumbersGood = Annotated[
    str,
    typer.Option(
        metavar="N,N,…",
        help="Fit on this many good parts only, such as 1,2,4,8,16,32, each drawn several times; "
        "with patchcore if no detector is named.",
    ),
]
Draws = Annotated[int, typer.Option(metavar="N", help="How often each number is drawn.")]


def compare(
    data: Data,
    detectors: Detectors = "",
    models: Models = "",
    preset: Preset = "balanced",
    settings: Settings = None,
    output: Output = None,
    false_alarms: Budget = 0.01,
    seed: Seed = 0,
    against: Against = None,
    n_good: NumbersGood = "",
    draws: Draws = 3,
    good: Good = None,
    keys: Keys = None,
    cluster: ClusterAddress = None,
    json: Json = None,
) -> None:
    """Compare detectors that are fitted and tested on the same parts.

    Every fit and every inspection is a process of its own. A detector that fails is named and
    stops no other. Exits with 0 when all were compared, 1 when some failed, 2 for wrong usage.

    With --n-good, each detector is fitted on that many good parts, drawn at random: what are so
    few worth, and what can they promise?

    With --cluster, detectors are fitted in parallel on its nodes. All nodes must see the data, the
    models and DIR under the same paths.

    Example: makellos compare screws --detectors patchcore,padim -o comparison
    """
    from makellos.jobs.compare_files import PAGE
    from makellos.workflows.compare import STEPS_MODULE
    from makellos.workflows.compare import compare as run

    named = _names(detectors)
    if n_good and not named and not models:
        named = ["patchcore"]
    with telling(quietly=str(json) == "-") as tell, runners_of(cluster, STEPS_MODULE) as runners:
        results = run(
            data,
            named,
            models=[Path(name).expanduser() for name in _names(models)],
            preset=preset,
            parameters=_parameters(settings or []),
            false_alarms=false_alarms,
            seed=seed,
            against=against,
            n_good=_numbers(n_good),
            draws=draws,
            good=good,
            keys=keys,
            output=output,
            tell=tell,
            runners=runners,
        )
    page = "" if output is None else f"\n\nPage: {output / PAGE}"
    answer(f"\n{_results_text(results)}{page}", json, results.model_dump(mode="json"))
    if results.count("failed"):
        raise typer.Exit(EXIT_FAILED)


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def _numbers(text: str) -> list[int]:
    """Return the numbers that ``--n-good`` names."""
    from makellos.errors import ConfigurationError

    try:
        return [int(word) for word in _names(text)]
    except ValueError:
        raise ConfigurationError(
            f"--n-good takes whole numbers with commas, such as 1,2,4,8; received {text!r}."
        ) from None


def _parameters(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the parameters that ``--set DETECTOR.KEY=VALUE`` options name, by detector."""
    from makellos.errors import ConfigurationError

    found: dict[str, dict[str, Any]] = {}
    for setting in settings:
        left, equals, value = setting.partition("=")
        detector, dot, key = left.strip().rpartition(".")
        if not (equals and dot and detector and key):
            raise ConfigurationError(
                "--set takes DETECTOR.KEY=VALUE, such as --set patchcore.image_size=512; received "
                f"{setting!r}."
            )
        found.setdefault(detector, {})[key] = value.strip()
    return found


_FIGURES = (
    ("image AUROC (95 %)", "image_auroc"),
    ("AP", "image_ap"),
    ("pixel AUROC", "pixel_auroc"),
    ("AUPRO", "aupro"),
    ("AUPRO 5 %", "aupro_5"),
    ("SegF1", "seg_f1"),
)


def _results_text(results: CompareResults) -> str:
    """Return two tables, figures and cost, then what chance explains and what failed."""
    done = [entry for entry in results.entries if entry.state == "done"]
    lines = []
    if results.few_good:
        lines += [_few_good_text(results.few_good)]
    elif done:
        heads = ["detector", "missed", "false alarms", *(head for head, _ in _FIGURES)]
        lines += [shown_table(heads, [_figures_row(entry) for entry in done]), ""]
        heads = ["detector", "fit s", "fit MB", "ms per part", "inspect MB", "first s", "file MB"]
        lines += [shown_table(heads, [_cost_row(entry) for entry in done])]
    lines += ["", *(each.sentence for each in results.differences)] if results.differences else []
    lines += [f"Note: {note}" for note in results.notes]
    return "\n".join([*lines, *failures_text(results.entries)]).lstrip("\n")


def _few_good_text(found: Sequence[FewGood]) -> str:
    """Return a table of what few good parts are worth: means, and the range over draws."""
    from makellos.reports.few_good import few_good_row

    heads = ["detector", "good parts", "can promise", "missed", "false alarms", "image AUROC"]
    rows = [
        [each.detector, *(f"{text} ({below})" if below else text for text, below in cells)]
        for each in found
        for cells in (few_good_row(each.model_dump()),)
    ]
    draws = max(each.n_draws for each in found)
    return f"{shown_table(heads, rows)}\n\nMeans of {draws} draws, the range in brackets."


def _figures_row(entry: Compared) -> list[str]:
    row = [entry.name]
    for rate, among in (("miss_rate", "n_defective"), ("false_alarm_rate", "n_good")):
        value, n = entry.figure(rate), entry.figure(among)
        row.append("-" if value is None else f"{round(value * n)} of {n}")
    for _, key in _FIGURES:
        value, span = entry.figure(key), (entry.figure("intervals") or {}).get(key)
        text = figure_text(value)
        if key == "image_auroc" and value is not None and span:
            text += f" ({span[0]:.3f} to {span[1]:.3f})"
        row.append(text)
    return row


def _cost_row(entry: Compared) -> list[str]:
    fitted, inspected = entry.fit or {}, entry.inspection or {}
    return [
        entry.name,
        figure_text(entry.figure("fit_seconds"), 1),
        figure_text(fitted.get("peak_mb"), 0),
        figure_text(entry.figure("inspect_ms_per_part"), 1),
        figure_text(inspected.get("peak_mb"), 0),
        figure_text(inspected.get("first_verdict_seconds"), 2),
        figure_text(entry.model_mb, 2),
    ]
