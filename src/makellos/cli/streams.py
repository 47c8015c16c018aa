"""Standard streams that may be closed, full or not there: losing text must not lose the work."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

__all__ = ["forgiving_streams", "raise_if_reader_left"]

_NAMES = ("stdin", "stdout", "stderr")


class _Forgiving:
    """Write to a stream as long as it takes something; `lost` is why it no longer does."""

    def __init__(self, stream: TextIO, lost: OSError | None) -> None:
        self._stream, self.lost = stream, lost

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: OSError | ValueError) -> None:
        self.lost = self.lost or (error if isinstance(error, OSError) else OSError(str(error)))
        # What waits to be written is lost, too: else Python tries again at the very end.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Let text that standard output and standard error do not take be lost, for a while.

    Data that go there are an error all the same: see `makellos.storage.write_out`. Streams that
    another has put in place, as notebooks do, stay as they are.
    """
    _open_missing()
    before = sys.stdout, sys.stderr
    for name in _NAMES[1:]:
        stream = getattr(sys, name)
        if stream is None:
            lost = OSError("it is closed")
            null = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 -- no path
            setattr(sys, name, cast(TextIO, _Forgiving(null, lost)))
            continue
        if isinstance(stream, io.TextIOWrapper):
            # A file name that the terminal cannot show must not end a run.
            stream.reconfigure(errors="backslashreplace")
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, cast(TextIO, _Forgiving(stream, None)))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def raise_if_reader_left() -> None:
    """Raise `BrokenPipeError` where standard output was a pipe whose reader has left."""
    lost = getattr(sys.stdout, "lost", None)
    if isinstance(lost, BrokenPipeError):
        raise lost


def _open_missing() -> None:
    """Open what is closed of the first three descriptors: the next file would get its number.

    What libraries tell there would then land in that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
