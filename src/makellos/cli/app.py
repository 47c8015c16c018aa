"""The verbs put together; what they do is imported when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from makellos.cli import (
    comparing,
    data,
    explaining,
    generating,
    inspecting,
    learning,
    listing,
    queueing,
    tuning,
)
from makellos.jobs.processes import INTERRUPTED

__all__ = ["app", "run"]

app = typer.Typer(
    name="makellos",
    help="Find, outline and explain damage on manufactured parts.",
    epilog="Example, to begin with: makellos demo -o demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from makellos import __version__

        typer.echo(f"makellos {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


app.command("demo", short_help="Do the main job on rendered screws.")(learning.demo)
app.add_typer(data.app, name="data")
app.command("fit", short_help="Learn good parts and write a calibrated model file.")(learning.fit)
app.command("inspect", short_help="Give verdict, score and outlined damage.")(inspecting.inspect)
app.command("evaluate", short_help="Measure a model on labelled parts; HTML report.")(
    inspecting.evaluate
)
app.command("compare", short_help="Set detectors side by side on the same parts.")(
    comparing.compare
)
app.command("explain", short_help="Show where a classifier looked.")(explaining.explain)
app.command("generate", short_help="Draw pictures that a generative model makes.")(
    generating.generate
)
app.command("queue", short_help="Carry out many fits one after another, overnight.")(queueing.queue)
app.command("tune", short_help="Search a detector's parameters by Hyperband.")(tuning.tune)
app.command("calibrate", short_help="Change a model's budget or calibration parts.")(
    learning.calibrate
)
app.command("info", short_help="Show what a model file is and promises.")(inspecting.info)
app.command("detectors", short_help="List the detectors and their parameters.")(listing.detectors)
app.command("devices", short_help="Show what this machine can compute on.")(listing.devices)


def run(arguments: list[str]) -> int:
    """Run the verb that the arguments name and return the exit code."""
    command = typer.main.get_command(app)
    try:
        result = command.main(args=arguments, prog_name="makellos", standalone_mode=False)
    except SystemExit as left:
        # The parser leaves with 1 when the reader of a pipe has left.
        if isinstance(left.__context__, BrokenPipeError):
            raise left.__context__ from None
        raise
    except Exception as error:
        show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if show is None or code is None:
            raise
        # A mistake in the arguments, told in the words of the parser.
        show()
        return int(code)
    if result == INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0
