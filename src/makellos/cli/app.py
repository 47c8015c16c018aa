"""The verbs put together; what they do is imported when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from makellos.cli import data, inspecting, learning, listing

__all__ = ["app", "run"]

app = typer.Typer(
    name="makellos",
    help="Find, outline and explain damage on manufactured parts.",
    epilog="Begin with: makellos demo",
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


app.command("demo")(learning.demo)
app.add_typer(data.app, name="data")
app.command("fit")(learning.fit)
app.command("inspect")(inspecting.inspect)
app.command("evaluate")(inspecting.evaluate)
app.command("calibrate")(learning.calibrate)
app.command("info")(inspecting.info)
app.command("detectors")(listing.detectors)
app.command("devices")(listing.devices)


def run(arguments: list[str]) -> int:
    """Run the verb that the arguments name and return the exit code."""
    command = typer.main.get_command(app)
    try:
        result = command.main(args=arguments, prog_name="makellos", standalone_mode=False)
    except Exception as error:
        show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if show is None or code is None:
            raise
        # A mistake in the arguments, told in the words of the parser.
        show()
        return int(code)
    return result if isinstance(result, int) else 0
