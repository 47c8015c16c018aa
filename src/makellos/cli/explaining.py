"""The verb that shows where a classifier looked: explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from makellos.cli.console import Json, answer, bars, table

if TYPE_CHECKING:
    from makellos.evaluation.intervals import Interval
    from makellos.evaluation.localisation import LocalisationFigures
    from makellos.workflows.explain import ExplainSummary, Explanation, Trust

EXIT_UNREADABLE = 1


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file of a classifier.")]
Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT",
        help="Pictures, folders or CSV manifests; of labelled sets, the test parts.",
    ),
]
Method = Annotated[
    str, typer.Option(metavar="NAME", help="gradcam, gradcam++, layercam or eigencam.")
]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the pictures.")
]
ClassName = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="The class to explain; by default defective, or the likeliest defect.",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A module of the network, such as blocks.4; by default the last feature map.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DATA",
        help="Labelled parts with masks that show how far the maps can be trusted; by default "
        "those of INPUT.",
    ),
]


def explain(
    model: Model,
    inputs: Inputs,
    method: Method = "gradcam",
    output: Output = Path("explanations"),
    class_name: ClassName = None,
    layer: Layer = None,
    data: Data = None,
    json: Json = None,
) -> None:
    """Show where a classifier looked: the part, a heat map and an overlay side by side.

    Exits with 0 when all pictures were explained, 1 when some could not be, 2 for wrong usage.

    Example: makellos explain tiles.makellos new/ --method gradcam -o looked
    """
    from makellos.workflows.explain import explain as run

    with bars() as progress:
        summary = run(
            model,
            inputs,
            method=method,
            output=output,
            class_name=class_name,
            layer=layer,
            data=data,
            progress=progress,
        )
    answer(explain_text(summary), json, summary.as_dict())
    if summary.n_unreadable:
        raise typer.Exit(EXIT_UNREADABLE)


def explain_text(summary: ExplainSummary) -> str:
    """Say what each part is, where the pictures are, and how far they can be trusted."""
    n = sum(part.panel is not None for part in summary.parts)
    lines = [_line(part) for part in summary.parts]
    lines += [f"Note: {note}" for note in summary.notes]
    noun = "picture" if n == 1 else "pictures"
    lines.append(
        f"{n} {noun} explained by {summary.method}, layer {summary.layer}, in {summary.output}"
    )
    return "\n".join(lines + ([] if summary.trust is None else ["", trust_text(summary.trust)]))


def trust_text(trust: Trust) -> str:
    """Say how often heat lies inside the damage, and what deleting it does."""
    heading = f"{trust.n_found} of {trust.n_masked} defective parts with a mask were rejected."
    if trust.overall is None or trust.deletion is None:
        return f"{heading} How far the maps can be trusted is unknown."
    rows = [[name, *_cells(figures)] for name, figures in trust.by_defect.items()]
    rows.append(["all", *_cells(trust.overall)])
    header = ["kind of damage", "parts", "peak inside", "95 % interval", "by chance"]
    shown = table([*header, "heat inside", "by chance"], rows)
    test = trust.deletion
    return "\n".join(
        [
            f"{heading} Of these (peak: up to {trust.margin} pixels beside the mask):",
            "",
            shown,
            "",
            "Deletion test: blurring the hottest tenth lowers the log odds by "
            f"{test.score_drop:.2f}, an equal area elsewhere by {test.score_drop_by_chance:.2f};",
            f"the hottest tenth mattered more in {test.better_than_chance:.0%} of the parts "
            f"({_interval(test.better_interval)}).",
        ]
    )


def _line(part: Explanation) -> str:
    if part.error is not None:
        return f"unreadable  {part.error}"
    label = part.explained or max(part.probabilities, key=lambda name: part.probabilities[name])
    verdict = part.verdict.replace("_", " ")
    return f"{verdict:<10}  {label} {part.probabilities[label]:.3f}  {part.input}"


def _cells(figures: LocalisationFigures) -> list[str]:
    return [
        str(figures.n),
        f"{figures.peak_inside:.2f}",
        _interval(figures.peak_interval),
        f"{figures.peak_by_chance:.2f}",
        f"{figures.heat_inside:.3f}",
        f"{figures.heat_by_chance:.3f}",
    ]


def _interval(interval: Interval) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"
