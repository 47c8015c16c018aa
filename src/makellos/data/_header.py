"""What a reader of headers gives, and what it raises for a file that is not decoded."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ACCEPTED", "MAX_PIXELS", "Header", "UnsuitableError", "refuse_many"]

MAX_PIXELS = 178_956_970  # 13,377 x 13,377: half a gigabyte in 8 bit RGB
ACCEPTED = "Accepted are PNG, JPEG, BMP, TIFF, WebP, PGM and PPM, judged by content, not by name"

_FREE_PIECES = 10_000
_BYTES_PER_PIECE = 4096


class UnsuitableError(Exception):
    """Say why a file cannot be decoded, as the rest of a sentence that begins with its name."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Hold what a decoder needs to know of one file.

    `encoded` is what to decode: the file itself, or a copy without what decoders mishandle.
    `gray` says that colour channels, should there be any, are equal; `inverted` that 0 is white
    and that the decoder does not turn it around; `white` the value of white where that is not the
    largest of its depth; `n_frames` how many frames or pages there are, of which it is the first.
    """

    width: int
    height: int
    encoded: bytes
    gray: bool = False
    inverted: bool = False
    white: int | None = None
    n_frames: int = 1


def refuse_many(n_pieces: int, of: str, n_bytes: int) -> None:
    """Raise `UnsuitableError` for more pieces `of` a kind than a sane file of `n_bytes` has.

    Each costs time, however little it holds.
    """
    if n_pieces > _FREE_PIECES + n_bytes // _BYTES_PER_PIECE:
        raise UnsuitableError(
            f"has {n_pieces:,} {of} or more and was not decoded: no picture needs so many. Save it "
            "again, or remove it."
        )
