"""Errors, sorted by who can do something about them.

Every message says what was wrong, what was received, what is accepted and what to do next.
`exit_code` is what the command line returns.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

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
    "adding",
    "legible",
    "suggest",
]

_LONGEST = 4000  # letters of a message
_LONGEST_WORD = 600  # of one without a blank, so that a name leaves room for what is said of it
# What moves the cursor, colours or turns text, or cannot be seen: C0 and C1, marks of direction.
_HIDDEN = [*range(0x20), *range(0x7F, 0xA0), 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F)]
_HIDDEN += [*range(0x2066, 0x206A), 0xFEFF]
_ESCAPED = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _HIDDEN}
_ESCAPED_IN_TEXT = {code: text for code, text in _ESCAPED.items() if chr(code) not in "\n\t"}


def legible(text: str, *, lines: bool = False) -> str:
    """Return a name from a file or a folder so that no terminal and no page takes it for a command.

    With `lines` text may have several lines, and tabs.

    >>> legible("scratch\\x1b[2J"), legible("a\\nb"), legible("a\\nb", lines=True)
    ('scratch\\\\x1b[2J', 'a\\\\x0ab', 'a\\nb')
    """
    return text.translate(_ESCAPED_IN_TEXT if lines else _ESCAPED)


class MakellosError(Exception):
    """Be the root of every error that makellos raises on purpose.

    A message has no control characters, whatever names are in it, and at most 4,000 letters; of
    words without a blank the middle is left out where they have more than 600.
    """

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        text = re.sub(r"\S+", _shortened, legible(message, lines=True))
        rest = len(text) - _LONGEST
        super().__init__(f"{text[:_LONGEST]}… ({rest:,} more characters)" if rest > 0 else text)


def _shortened(word: re.Match[str]) -> str:
    text = word[0]
    return text if len(text) <= _LONGEST_WORD else f"{text[:400]}…{text[-100:]}"


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


def adding(extras: str) -> str:
    """Return the command that adds extras, such as ``train``; no index has makellos yet.

    >>> adding("train")
    "pip install '.[train]' in the clone of makellos"
    """
    return f"pip install '.[{extras}]' in the clone of makellos"


def suggest(name: str, known: Iterable[str], others: Mapping[str, str] | None = None) -> str:
    """Return a sentence that names what `name` may mean of all that is known.

    `others` maps words that are known elsewhere to names. Case makes no difference.

    >>> suggest("patchcor", ["padim", "patchcore"])
    "Did you mean 'patchcore'? Known: padim, patchcore."
    """
    names = sorted(known)
    folded = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    other = (others or {}).get(name.casefold())
    meant = other if other in names else folded[close[0]] if close else None
    hint = f"Did you mean {meant!r}? " if meant else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
