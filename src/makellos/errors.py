"""Errors, sorted by who can do something about them.

Every message says what was wrong, what was received, what is accepted and what to do next.
`exit_code` is what the command line returns.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigurationError",
    "HelperProcessError",
    "InputError",
    "MakellosError",
    "MissingRuntimeError",
    "ModelFileError",
    "NotFittedError",
    "StorageError",
    "TrainingError",
    "suggest",
]


class MakellosError(Exception):
    """Be the root of every error that makellos raises on purpose."""

    exit_code = 2


class InputError(MakellosError):
    """Say that pictures, folders, manifests or signals cannot be used as they are."""


class ConfigurationError(MakellosError):
    """Say that a name, a parameter or an option is not accepted."""


class ModelFileError(MakellosError):
    """Say that a model file is damaged, foreign, newer or not to be trusted."""


class StorageError(MakellosError):
    """Say that something could not be written, read back or downloaded."""


class TrainingError(MakellosError):
    """Say that training diverged, collapsed or ran out of memory, and what to change."""


class MissingRuntimeError(MakellosError):
    """Say which package has to be installed for what was asked."""


class NotFittedError(MakellosError):
    """Say that a detector was used before `fit`."""


class HelperProcessError(MakellosError):
    """Say that this process only helped another to train; it has nothing to write or to tell.

    The command line ends it without a message, with 0 where all went well.
    """

    exit_code = 0

    def __init__(self, message: str, *, exit_code: int = 0) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that names close matches of `name` and all that is known.

    >>> suggest("patchcor", ["padim", "patchcore"])
    "Did you mean 'patchcore'? Known: padim, patchcore."
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
