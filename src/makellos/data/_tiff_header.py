"""What the first directory of a TIFF says: size, kind, and how its pixels are packed."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass

from makellos.data._header import MAX_PIXELS, Header, UnsuitableError, refuse_many

__all__ = ["read_tiff", "tiff_page", "tiff_pages"]

_VALUES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_COLOURS = {
    0: "gray",
    1: "gray",
    2: "RGB",
    3: "palette",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
    32803: "raw camera",
}
_NUMBERS = {1: "integer", 2: "signed", 3: "floating point"}
_PLAIN, _DEFLATE = 1, frozenset({8, 32946})
_MAX_FIELDS = 1000  # a decoder sorts them anew for each that it does not know
_MAX_PAGES = 10_000
_BLOCK = 1 << 16  # bytes
_SURPLUS = 64  # bytes beyond twice its pixels that a strip may unpack to


@dataclass(frozen=True)
class _Directory:
    """Hold where the fields of a directory lie: position, struct format and number by tag."""

    encoded: bytes
    order: str
    fields: dict[int, tuple[int, str, int]]

    def first(self, tag: int, default: int = 0) -> int:
        if tag not in self.fields:
            return default
        at, kind, _ = self.fields[tag]
        value: int = struct.unpack_from(self.order + kind, self.encoded, at)[0]
        return value

    def all(self, tag: int, most: int) -> list[int]:
        """Return up to `most` values of a field; raises `ValueError` where the file ends before."""
        at, kind, number = self.fields.get(tag, (0, "B", 0))
        number = min(number, most)
        if at + number * struct.calcsize("=" + kind) > len(self.encoded):
            raise ValueError
        return list(struct.unpack_from(f"{self.order}{number}{kind}", self.encoded, at))


def read_tiff(encoded: bytes) -> Header:
    """Read the first directory and refuse what OpenCV decodes to other pixels than were stored.

    Raises `UnsuitableError`; `struct.error` or `ValueError` where the file ends before.
    """
    directory = _read_directory(encoded, _first_position(encoded))
    first = directory.first
    bits, channels, numbers = first(258, 1), first(277, 1), first(339, 1)
    colour = _COLOURS.get(first(262, -1), "unknown")
    planar = first(284, 1) == 2 and channels > 1
    if numbers != 1 or not _is_accepted(bits, channels, colour, planar=planar):
        raise UnsuitableError(
            f"is a TIFF with {channels} channel{'' if channels == 1 else 's'} of {bits}-bit "
            f"{_NUMBERS.get(numbers, 'unknown')} values, colour {colour}"
            f"{', stored plane by plane' if planar else ''}; expected grey or RGB with 8 or 16 "
            "bit integers. Save it as 8 or 16-bit PNG."
        )
    width, height = first(256), first(257)
    if 0 < width * height <= MAX_PIXELS:
        _check_pieces(directory, width, height, bits * channels)
    if colour == "RGB" and channels == 4 and bits == 8 and first(338) == 2:
        # libtiff multiplies colour by transparency; where the fourth channel is unspecified (0)
        # it leaves colour alone.
        at = directory.fields[338][0]
        encoded = b"".join((encoded[:at], b"\0\0", encoded[at + 2 :]))
    inverted = bits == 16 and first(262) == 0
    return Header(
        width=width,
        height=height,
        encoded=encoded,
        inverted=inverted,
        n_frames=max(1, len(tiff_pages(encoded))),
    )


def tiff_pages(encoded: bytes) -> list[int]:
    """Return the positions of a TIFF's directories, up to one that is damaged or was there."""
    order, big = _order(encoded), _is_big(encoded)
    offset, inline, counted = ("Q", 8, "Q") if big else ("I", 4, "H")
    found: dict[int, None] = {}
    with suppress(struct.error, OverflowError):
        at = _first_position(encoded)
        while at and at not in found and len(found) < _MAX_PAGES:
            (count,) = struct.unpack_from(order + counted, encoded, at)
            end = at + struct.calcsize("=" + counted) + count * (4 + 2 * inline)
            (following,) = struct.unpack_from(order + offset, encoded, end)
            found[at] = None
            at = following
    return list(found)


def tiff_page(encoded: bytes, number: int) -> bytes:
    """Return a TIFF that begins with a page, counted from 1; raises `IndexError` without it."""
    order, big = _order(encoded), _is_big(encoded)
    place = struct.pack(order + ("Q" if big else "I"), tiff_pages(encoded)[number - 1])
    at = 8 if big else 4
    return b"".join((encoded[:at], place, encoded[at + len(place) :]))


def _is_accepted(bits: int, channels: int, colour: str, *, planar: bool) -> bool:
    if colour == "gray":
        return (channels == 1 and bits in {1, 8, 10, 12, 14, 16}) or (channels == 2 and bits == 8)
    if colour == "RGB":
        return channels in {3, 4} and (bits == 8 or (bits == 16 and not planar))
    return bits == 8 and colour in {"palette", "CMYK", "YCbCr"} and channels <= 4


def _order(encoded: bytes) -> str:
    return "<" if encoded[:2] == b"II" else ">"


def _is_big(encoded: bytes) -> bool:
    return 43 in encoded[2:4]


def _first_position(encoded: bytes) -> int:
    order, big = _order(encoded), _is_big(encoded)
    position: int = struct.unpack_from(order + ("Q" if big else "I"), encoded, 8 if big else 4)[0]
    return position


def _read_directory(encoded: bytes, at: int) -> _Directory:
    order, big = _order(encoded), _is_big(encoded)
    offset, inline = ("Q", 8) if big else ("I", 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), encoded, at)
    if count > _MAX_FIELDS:
        raise UnsuitableError(
            f"is a TIFF with {count:,} fields in its header and was not decoded; expected at most "
            f"{_MAX_FIELDS:,}. Save it again, or remove it."
        )
    at += 8 if big else 2
    end = at + count * (4 + 2 * inline)
    fields: dict[int, tuple[int, str, int]] = {}
    for start in range(at, end, 4 + 2 * inline):
        tag, kind, number = struct.unpack_from(f"{order}HH{offset}", encoded, start)
        if kind not in _VALUES:
            continue
        held = start + 4 + inline
        if number * struct.calcsize("=" + _VALUES[kind]) > inline:
            (held,) = struct.unpack_from(order + offset, encoded, held)
        fields.setdefault(tag, (held, _VALUES[kind], number))
    return _Directory(encoded, order, fields)


def _check_pieces(directory: _Directory, width: int, height: int, bits: int) -> None:
    """Refuse strips and tiles that are more work than the picture, or damaged by their check sums.

    Each is decoded whole, however little of it the picture shows, and several may be the same few
    bytes of the file.
    """
    first = directory.first
    tiled = 322 in directory.fields
    across, down = (first(322), first(323)) if tiled else (width, min(height, first(278, height)))
    if across < 1 or down < 1:
        raise ValueError
    columns, rows = -(-width // across), -(-height // down)
    if tiled and columns * across * rows * down > MAX_PIXELS:
        raise UnsuitableError(
            "claims tiles larger than any picture that is read and was not decoded. Save it "
            "again, or remove it."
        )
    n_planes = first(277, 1) if first(284, 1) == 2 else 1
    n_pieces = n_planes * columns * rows
    refuse_many(n_pieces, "strips or tiles", width * height)
    if first(259, _PLAIN) == _PLAIN:
        return
    places, lengths = (324, 325) if 324 in directory.fields else (273, 279)
    starts, sizes = directory.all(places, n_pieces), directory.all(lengths, n_pieces)
    if sum(sizes) > 2 * len(directory.encoded):
        raise UnsuitableError(
            "is damaged: its strips or tiles overlap, or lie beyond its end. Copy it again or "
            "remove it."
        )
    if first(259) in _DEFLATE:
        room = down * (-(-across * bits // n_planes // 8) + 1)
        for start, size in zip(starts, sizes, strict=False):
            _check_sum(directory.encoded[start : start + size], 2 * room + _SURPLUS)


def _check_sum(packed: bytes, room: int) -> None:
    """Refuse bytes that do not unpack to what their check sum is of; libtiff does not look at it.

    Without an end, or with one beyond `room` bytes, there is none to compare with.
    """
    unpacking = zlib.decompressobj()
    try:
        for at in range(0, len(packed), _BLOCK):
            room -= len(unpacking.decompress(packed[at : at + _BLOCK], room))
            if unpacking.eof or unpacking.unconsumed_tail or room <= 0:
                return
    except zlib.error:
        raise UnsuitableError(
            "is damaged: the checksum of its pixels does not match (a broken copy or disk?). Copy "
            "it again or remove it."
        ) from None
