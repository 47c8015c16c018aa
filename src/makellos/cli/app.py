"""The verbs put together: the one that is asked for, and of the others their names.

What a verb does is imported when it runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from makellos.errors import legible
from makellos.jobs.processes import INTERRUPTED

__all__ = ["application", "run"]

# Name, the file and what it is called there, and what the list of verbs says.
_VERBS = (
    ("demo", "learning.demo", "Try the whole workflow on rendered screws."),
    ("audit", "auditing.audit", "Rank what may be wrong among the good parts."),
    ("fit", "learning.fit", "Learn from good parts and write a calibrated model file."),
    ("inspect", "inspecting.inspect", "Give a verdict, a score and outlined damage."),
    ("evaluate", "inspecting.evaluate", "Measure a model on labelled parts; HTML report."),
    ("accept", "accepting.accept", "Judge a model on a locked test set; report to sign."),
    ("drift", "drifting.drift", "Tell whether and why parts have left the good state."),
    ("compare", "comparing.compare", "Compare detectors on the same parts."),
    ("explain", "explaining.explain", "Show where a classifier looked."),
    ("generate", "generating.generate", "Generate pictures with a generative model."),
    ("queue", "queueing.queue", "Run many fits one after another, overnight."),
    ("tune", "tuning.tune", "Search for a detector's best parameters with Hyperband."),
    ("calibrate", "learning.calibrate", "Change a model's budget or calibration parts."),
    ("verify", "releasing.verify", "Test that all runtimes give the same verdicts."),
    ("export", "releasing.export", "Write a model for programs without makellos."),
    ("info", "inspecting.info", "Show what a model file holds and promises."),
    ("watch", "watching.watch", "Inspect files as they appear in a folder."),
    ("serve", "serving.serve", "Run the inspection station: page, HTTP API, history."),
    ("detectors", "listing.detectors", "List the detectors and their parameters."),
    ("devices", "listing.devices", "Show what this machine can run on."),
    ("data", "data.app", "Render, download, check, split and align sets of parts."),
    ("history", "history.app", "List, export and back up what was inspected."),
    ("users", "keeping.users_app", "Manage who may use a station."),
)


def _version(value: bool) -> None:
    if value:
        from makellos import __version__

        typer.echo(f"makellos {__version__}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


def _not_asked_for() -> None:
    """Stand for a verb of which nothing but the name is needed."""


def application(*asked: str) -> typer.Typer:
    """Return the command line with the verbs that are asked for, all without any.

    Of the others it has the name and what the list of verbs says of them, for the options of all
    take as long to read as all else that ``--help`` does.
    """
    app = typer.Typer(
        name="makellos",
        help="Find, outline and explain damage on manufactured parts.",
        epilog="Example to start with: makellos demo -o demo",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_main)
    for name, place, text in _VERBS:
        verb = _not_asked_for
        if name in asked or not asked:
            file, _, called = place.partition(".")
            verb = getattr(importlib.import_module(f"makellos.cli.{file}"), called)
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, name=name, short_help=text)
        else:
            app.command(name, short_help=text)(verb)
    return app


def run(arguments: list[str]) -> int:
    """Run the verb that the arguments name and return the exit code."""
    verb = next((argument for argument in arguments if not argument.startswith("-")), "--help")
    command = typer.main.get_command(application(verb))
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
        message = legible(str(getattr(error, "message", "")), lines=True)
        from makellos.cli.hints import hint

        told = hint(error, arguments)
        # The parser suggests what is spelled alike, the hint what means the same.
        vars(error)["message"] = message.partition(" Did you mean")[0] if told else message
        show()
        if told:
            sys.stderr.write(f"{legible(told)}\n")
        return int(code)
    if result == INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0
