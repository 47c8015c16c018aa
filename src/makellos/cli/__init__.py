"""The command line."""

from __future__ import annotations

import os
import sys
import tempfile

__all__ = ["main"]

EXIT_BUG = 70


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are told, never traced back."""
    from makellos.cli.arguments import expanded
    from makellos.cli.streams import forgiving_streams

    with forgiving_streams():
        return _run(expanded(sys.argv[1:] if arguments is None else arguments))


def _run(given: list[str]) -> int:
    if given == ["--version"]:
        from makellos import __version__

        print(f"makellos {__version__}")
        return 0
    # Where PyTorch would make a folder of its own, for what it compiles, and leave it there.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())
    # Else pydantic looks for plugins in every package that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from makellos.jobs.processes import INTERRUPTED, ending_as_interrupted

    try:
        with ending_as_interrupted() as asked_to_end:
            from makellos.cli.app import run
            from makellos.cli.arguments import check_named

            check_named(given)
            return run(given)
    except BrokenPipeError:
        return 0  # the reader of a pipe (head, say) has left; nothing is wrong
    except (Exception, KeyboardInterrupt) as error:
        # A library may have made another error of an interrupt.
        ours = hasattr(error, "exit_code")
        if not ours and (asked_to_end() or isinstance(error, KeyboardInterrupt)):
            sys.stderr.write("\nInterrupted.\n")
            return INTERRUPTED
        if os.environ.get("MAKELLOS_DEBUG") and not ours:
            raise
        return _told(error)


def _told(error: BaseException) -> int:
    """Say what ended a run and return the exit code for it."""
    from makellos.errors import HelperProcessError, MakellosError, legible

    if isinstance(error, HelperProcessError):  # the first process has told
        return error.exit_code
    if isinstance(error, MakellosError | OSError | MemoryError):
        known = isinstance(error, MakellosError)
        sys.stderr.write(f"Error: {error if known else _of_the_machine(error)}\n")
        return error.exit_code if isinstance(error, MakellosError) else MakellosError.exit_code
    sys.stderr.write(
        f"Unexpected error: {type(error).__name__}: {legible(str(error))[:4000]}\n"
        "This is a bug in makellos. Set MAKELLOS_DEBUG=1 and run again to see where it comes "
        "from.\n"
    )
    return EXIT_BUG


def _of_the_machine(error: BaseException) -> str:
    """Say what the system refused, for want of a right, of a path or of memory."""
    from makellos.errors import legible

    if isinstance(error, MemoryError):
        return "There is not enough memory for this. Close other programs, or do less at once."
    where = getattr(error, "filename", None)
    reason = getattr(error, "strerror", None) or str(error)
    text = legible(reason if where is None else f"{where}: {reason}")
    return f"{text[:1000]}. Check the path, its permissions and its drive."
