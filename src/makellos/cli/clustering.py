"""What the verbs say and ask about a cluster: --cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from makellos.cli.console import bars, say

if TYPE_CHECKING:
    from makellos.cluster.inspecting import ClusterSummary
    from makellos.jobs.processes import Runners
    from makellos.workflows.inspect import Frames, Outputs

__all__ = ["ClusterAddress", "inspect_on_cluster", "refuse_with_cluster", "runners_of"]

ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="auto|ADDRESS",
        help="Work on the Ray cluster at ADDRESS; auto: on the one that runs on this machine, or "
        "on one that is started for this command.",
    ),
]


def refuse_with_cluster(rows: Outputs, taken: Frames, **others: object) -> None:
    """Raise `ConfigurationError` for what was asked and --cluster does not know."""
    from makellos.errors import ConfigurationError

    options = {field.name: getattr(rows, field.name) for field in fields(rows)}
    frames = {"every": taken.every != 1, "frames": taken.most, "pages": taken.pages}
    names = [f"--{name}" for name, value in {**options, **frames, **others}.items() if value]
    if names:
        raise ConfigurationError(
            f"{', '.join(names)} cannot be combined with --cluster. Leave out one or the other."
        )


def inspect_on_cluster(
    model: Path,
    inputs: Sequence[str],
    output: str | None,
    address: str,
    quietly: bool,
    how: dict[str, Any],
) -> ClusterSummary:
    """Inspect on a cluster, and say what was found as `inspect` does."""
    from makellos.cli.inspection_texts import inspect_text
    from makellos.cluster.inspecting import inspect
    from makellos.errors import ConfigurationError, legible
    from makellos.workflows.inspect import Outputs

    if output is None:
        raise ConfigurationError(
            "-o is missing: --cluster writes rows as Parquet files into a folder. Name that "
            "folder, such as -o rows."
        )

    def on_unreadable(_name: str, error: str) -> None:
        say(f"unreadable  {legible(error)}", quietly=True)

    with bars() as progress:
        found = inspect(
            model,
            inputs,
            output,
            address=address,
            on_unreadable=on_unreadable,
            progress=progress,
            **how,
        )
    say(f"{inspect_text(found, Outputs())}\n{_written(found)}", quietly=quietly)
    return found


@contextmanager
def runners_of(address: str | None, module: str = "makellos") -> Iterator[Runners | None]:
    """Give what runs processes on a cluster; None without an address."""
    if address is None:
        yield None
        return
    from makellos.cluster.runs import runners_on

    with runners_on(address, module=module) as runners:
        yield runners


def _written(summary: ClusterSummary) -> str:
    """Say where the rows are, and how many an earlier run wrote."""
    earlier = f", {summary.n_earlier} of them from an earlier run" if summary.n_earlier else ""
    plural = "" if summary.n_shards == 1 else "s"
    return f"Written: {summary.n_shards} Parquet file{plural} in {summary.output}{earlier}"
