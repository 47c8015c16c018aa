"""What fuzzing feeds: a reader, what its inputs begin from, and how they are changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from makellos.errors import MakellosError

__all__ = ["Target", "first_inputs", "mutated", "written"]

FOUND = Path(__file__).with_name("found")
_BYTES = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\1\0")


@dataclass(frozen=True)
class Target:
    """Hold a reader of bytes, what makes its first inputs, and words of its language.

    `read` raises errors of makellos alone.
    """

    name: str
    read: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    words: Sequence[bytes] = ()
    max_bytes: int = 1 << 16

    def __call__(self, data: bytes) -> bool:
        """Read one input and tell whether it was accepted; other errors pass."""
        try:
            self.read(data)
        except MakellosError:
            return False
        return True


def first_inputs(target: Target) -> list[bytes]:
    """Return a target's seeds, and what was found for it before, from ``found/NAME/``."""
    found = sorted((FOUND / target.name).glob("*"))
    return [*target.seeds(), *(path.read_bytes() for path in found)]


def written(data: bytes, name: str) -> Path:
    """Return a file that holds an input, for readers that take a path; the next replaces it."""
    path = Path(_folder().name) / name
    path.write_bytes(data)
    return path


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="makellos-fuzz-")


def mutated(inputs: Sequence[bytes], words: Sequence[bytes], draw: random.Random) -> bytes:
    """Return one of the inputs, changed in up to eight places."""
    data = bytearray(draw.choice(inputs))
    for _ in range(draw.randint(1, 8)):
        at, length = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 16, 256))
        other = draw.choice(inputs)
        start = draw.randrange(len(other) + 1)
        piece = draw.choice((*words, *_BYTES))
        match draw.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                data[at : at + length] = draw.randbytes(length)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = other[start : start + length] * draw.choice((1, 1, 100))
            case 4:
                data[at:] = other[start:]
            case _:
                data[at : at + draw.choice((0, len(piece)))] = piece
    return bytes(data)
