"""What a shell would do to arguments where it does not: home folders, and wildcards on Windows."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence

__all__ = ["check_named", "expanded"]

# An option with its value attached; shells leave a tilde in there as it is.
_ATTACHED = re.compile(r"(--[\w-]+=|-[A-Za-z](?=~))(.*)", re.DOTALL)


def check_named(arguments: Sequence[str]) -> None:
    """Raise `ConfigurationError` for an argument without a character, as of an unset variable.

    A path of none would be the current folder. Options may have an empty value.
    """
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument and not before.startswith("-"):
            from makellos.errors import ConfigurationError

            which = f"The argument after {before!r}" if before else "The first argument"
            raise ConfigurationError(
                f"{which} is empty. Name a file or a folder; the current folder is '.'."
            )


def expanded(arguments: Iterable[str], *, wildcards: bool = sys.platform == "win32") -> list[str]:
    """Return arguments with ``~`` as the home folder and, with `wildcards`, the files they name.

    What is a file's name as it stands stays as it is, and so does what no file fits.
    """
    found: list[str] = []
    for argument in arguments:
        attached = _ATTACHED.fullmatch(argument)
        option, value = attached.groups() if attached else ("", argument)
        if value.startswith("~") and not os.path.lexists(value):
            value = os.path.expanduser(value)  # noqa: PTH111 -- a Path loses the slash at the end
        if wildcards and not argument.startswith("-") and glob.has_magic(value):
            fitting = [] if os.path.lexists(value) else sorted(glob.glob(value, recursive=True))  # noqa: PTH207
            found += fitting or [value]
        else:
            found.append(option + value)
    return found
