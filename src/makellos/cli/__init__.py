"""The command line."""

from __future__ import annotations

import io
import os
import sys
import tempfile

__all__ = ["main"]

EXIT_BUG = 70


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are told, never traced back."""
    given = sys.argv[1:] if arguments is None else arguments
    if given == ["--version"]:
        from makellos import __version__

        print(f"makellos {__version__}")
        return 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name that the terminal cannot show must not end a run.
            stream.reconfigure(errors="backslashreplace")
    # Where PyTorch would make a folder of its own, for what it compiles, and leave it there.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())
    from makellos.jobs.processes import INTERRUPTED, ending_as_interrupted

    try:
        with ending_as_interrupted():
            from makellos.cli.app import run

            return run(given)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe (head, say) has left; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from makellos.errors import HelperProcessError, MakellosError

        if isinstance(error, MakellosError):
            if not isinstance(error, HelperProcessError):  # the first process has told
                sys.stderr.write(f"Error: {error}\n")
            return error.exit_code
        if os.environ.get("MAKELLOS_DEBUG"):
            raise
        sys.stderr.write(
            f"Unexpected error: {type(error).__name__}: {error}\nThis is a bug in makellos. "
            "Set MAKELLOS_DEBUG=1 and run again to see where it comes from.\n"
        )
        return EXIT_BUG
