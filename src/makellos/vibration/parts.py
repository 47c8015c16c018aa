"""Parts that are recordings: which files hold such, and what a manifest says of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from makellos.data.parts import FileKind, Part
from makellos.vibration.recordings import SIGNAL_SUFFIXES, is_recording
from makellos.vibration.windows import Piece, parse_piece, parse_rpm

__all__ = ["RECORDINGS", "described", "piece_of", "rpm_of"]

_DESCRIBED = ("machine", "sensor", "load")


class _Recordings(FileKind):
    """Recordings of vibration.

    Rows of a manifest may have ``start`` and ``end`` of the piece that counts (seconds, or per cent
    as in ``50%``), ``speed`` in turns per minute, ``machine``, ``sensor`` and ``load``.
    """

    def has(self, path: Path) -> bool:
        return is_recording(path)

    def problems(self, details: Mapping[str, str]) -> list[str]:
        found = []
        for check in (_piece, _rpm):
            try:
                check(details)
            except ValueError as error:
                found.append(str(error))
        return found

    def piece(self, details: Mapping[str, str]) -> str:
        try:
            return str(_piece(details) or "")
        except ValueError:
            return ""  # a problem, named as such

    def clash(self, part: Part, other: Part, line: int) -> str | None:
        mine, theirs = piece_of(part), piece_of(other)
        if mine is None or theirs is None:
            return super().clash(part, other, line)
        shared = f"{part.name} shares samples with line {line} ({theirs})"
        return shared if mine.overlaps(theirs) else None


RECORDINGS = _Recordings(
    "signals", "recording", SIGNAL_SUFFIXES, ("start", "end", "speed", *_DESCRIBED)
)


def piece_of(part: Part) -> Piece | None:
    """Return the piece of its recording that a part is; None for all of it."""
    return _piece(part.details)


def rpm_of(part: Part) -> float | None:
    """Return the speed of the shaft in turns per minute; None where it is not known."""
    return _rpm(part.details)


def described(part: Part) -> dict[str, str]:
    """Return what else a manifest says of a recording: machine, sensor and load."""
    return {key: value for key, value in part.details.items() if key in _DESCRIBED}


def _piece(details: Mapping[str, str]) -> Piece | None:
    return parse_piece(details.get("start", ""), details.get("end", ""))


def _rpm(details: Mapping[str, str]) -> float | None:
    return parse_rpm(details.get("speed", ""))
