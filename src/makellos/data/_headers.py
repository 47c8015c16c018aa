"""What a picture file says of itself before its pixels: size, kind, and whether it is whole.

The decoders trust these fields with memory, and print to stderr what they find wrong. Here the
fields are checked first, in microseconds and without decoding, and what fails gets a sentence.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["MAX_PIXELS", "Header", "UnsuitableError", "read_header"]

MAX_PIXELS = 178_956_970  # 13,377 x 13,377: half a gigabyte in 8 bit RGB

_ACCEPTED = "Accepted are PNG, JPEG, BMP, TIFF and WebP, judged by content and not by name"
_OTHER_KINDS = {
    b"GIF8": "GIF picture",
    b"%PDF": "PDF document",
    b"PK\x03\x04": "zip archive",
    b"\x00\x00\x00\x0cjP": "JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "JPEG 2000 picture",
}
_CONTAINERS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF"}

_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf"})
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that no length follows; two 0xFF are padding.
_JPEG_BARE = frozenset({0x00, 0x01, 0xFF, *range(0xD0, 0xD9)})
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
_TIFF_VALUES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_TIFF_COLOURS = {
    0: "gray",
    1: "gray",
    2: "RGB",
    3: "palette",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
    32803: "raw camera",
}
_TIFF_NUMBERS = {1: "integer", 2: "signed", 3: "floating point"}


class UnsuitableError(Exception):
    """Say why a file cannot be decoded, as the rest of a sentence that begins with its name."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Hold what a decoder needs to know of one file.

    `encoded` is what to decode: the file itself, or a copy without what decoders mishandle.
    `gray` says that colour channels, should there be any, are equal; `inverted` that 0 is white
    and that the decoder does not turn it around.
    """

    width: int
    height: int
    encoded: bytes
    gray: bool = False
    inverted: bool = False


def read_header(encoded: bytes) -> Header:
    """Return the header of a PNG, JPEG, BMP, TIFF or WebP file.

    Raises `UnsuitableError` for anything else, for files that are cut off, for variants that are
    not decoded faithfully, and for more than `MAX_PIXELS` pixels.
    """
    if not encoded:
        raise UnsuitableError("is empty (0 bytes). Copy it again or remove it.")
    try:
        header = _reader(encoded)(encoded)
    except (struct.error, IndexError, OverflowError, ValueError):
        raise UnsuitableError(
            "is damaged: the file ends before the picture does (a broken copy?). Copy it again or "
            "remove it."
        ) from None
    if min(header.width, header.height) < 1 or header.width * header.height > MAX_PIXELS:
        raise UnsuitableError(
            f"claims {header.width:,} x {header.height:,} pixels in its header and was not "
            f"decoded; accepted are 1 to {MAX_PIXELS:,} pixels. Cut it into smaller pictures, or "
            "remove it."
        )
    return header


def _reader(encoded: bytes) -> Callable[[bytes], Header]:
    for signature, reader in _READERS:
        if encoded.startswith(signature):
            return reader
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return _webp
    kind = next((kind for start, kind in _OTHER_KINDS.items() if encoded.startswith(start)), None)
    if encoded[4:8] == b"ftyp":
        kind = f"{_CONTAINERS.get(encoded[8:12], 'HEIF or video')} file"
    if not any(encoded[:4096]):
        kind = "file of zeros (a broken copy?)"
    found = f"is a {kind}" if kind else "is not a picture"
    raise UnsuitableError(f"{found}. {_ACCEPTED}. Save it as one of these, or remove it.")


def _png(encoded: bytes) -> Header:
    """Walk the chunks; keep those that pixels and orientation come from, if they are sound.

    The rest is left out: libpng prints warnings about the colour profiles of healthy pictures,
    and further frames and transparency are not used.
    """
    view, kept, at, kind = memoryview(encoded), [(0, 8)], 8, b""
    n_data = 0
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", encoded, at)
        end = at + 12 + length
        if kind in _PNG_KEPT:
            if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", encoded, end - 4)[0]:
                raise UnsuitableError(
                    f"is damaged: the check sum of its part {kind.decode()} at byte {at} does not "
                    "match (a broken copy or disk?). Copy it again or remove it."
                )
            kept.append((at, end))
            n_data += kind == b"IDAT"
        elif not kind[0] & 0x20:
            raise UnsuitableError(
                f"has a part {kind!r} that is not in the PNG standard. Save it again as PNG."
            )
        at = end
    if encoded[12:16] != b"IHDR" or not n_data:
        raise UnsuitableError("is damaged: it has no PNG data. Copy it again or remove it.")
    width, height, _, colour = struct.unpack_from(">IIBB", encoded, 16)
    whole = kept[-1][1] == sum(end - start for start, end in kept)
    return Header(
        width=width,
        height=height,
        gray=colour == 4,
        encoded=encoded if whole else b"".join(view[start:end] for start, end in kept),
    )


def _jpeg(encoded: bytes) -> Header:
    at, size, kind = 2, (0, 0), 0
    while kind != 0xDA:
        at = encoded.index(b"\xff", at)
        kind = encoded[at + 1]
        if kind in _JPEG_BARE:
            at += 1 if kind == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", encoded, at + 2)
        if kind in _JPEG_FRAMES:
            bits, height, width = struct.unpack_from(">BHH", encoded, at + 4)
            if bits != 8:
                raise UnsuitableError(
                    f"is a JPEG of {bits} bit values; accepted are 8. Save it as 16 bit PNG."
                )
            size = (width, height)
        at += 2 + length
    # Without the end marker some versions of the decoder fill up with gray and say nothing.
    encoded.rindex(b"\xff\xd9", at)
    return Header(width=size[0], height=size[1], encoded=encoded)


def _bmp(encoded: bytes) -> Header:
    (header_size,) = struct.unpack_from("<I", encoded, 14)
    if header_size not in _BMP_HEADERS:
        raise UnsuitableError(f"is not a picture. {_ACCEPTED}. Save it as one, or remove it.")
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", encoded, 18)
    return Header(width=width, height=abs(height), encoded=encoded)


def _webp(encoded: bytes) -> Header:
    (length,) = struct.unpack_from("<I", encoded, 4)
    if length + 8 > len(encoded):
        raise IndexError
    kind = encoded[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(encoded[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", encoded, 21)
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", encoded, 26))
    return Header(width=width, height=height, encoded=encoded)


def _tiff(encoded: bytes) -> Header:
    """Read the first directory and refuse what OpenCV decodes to other pixels than were stored."""
    fields = _tiff_fields(encoded)

    def first(tag: int, default: int = 0) -> int:
        if tag not in fields:
            return default
        value: int = struct.unpack_from(fields[tag][1], encoded, fields[tag][0])[0]
        return value

    bits, channels, numbers = first(258, 1), first(277, 1), first(339, 1)
    colour = _TIFF_COLOURS.get(first(262, -1), "unknown")
    inverted = bits == 16 and first(262) == 0
    planar = first(284, 1) == 2 and channels > 1
    if numbers != 1 or not _tiff_accepted(bits, channels, colour, planar=planar):
        raise UnsuitableError(
            f"is a TIFF of {channels} channel(s), {bits} bit "
            f"{_TIFF_NUMBERS.get(numbers, 'unknown')} values, colour {colour}"
            f"{', stored plane by plane' if planar else ''}; accepted are gray and RGB, 8 or 16 "
            "bit integers. Save it as 8 or 16 bit PNG."
        )
    if first(322) * first(323) > MAX_PIXELS:
        raise UnsuitableError("claims tiles larger than any picture that is read. Remove it.")
    if colour == "RGB" and channels == 4 and bits == 8 and first(338) == 2:
        # libtiff multiplies colour by transparency; where the fourth channel is unspecified (0)
        # it leaves colour alone.
        at = fields[338][0]
        encoded = b"".join((encoded[:at], b"\0\0", encoded[at + 2 :]))
    return Header(width=first(256), height=first(257), encoded=encoded, inverted=inverted)


def _tiff_accepted(bits: int, channels: int, colour: str, *, planar: bool) -> bool:
    if colour == "gray":
        return (channels == 1 and bits in {1, 8, 10, 12, 14, 16}) or (channels == 2 and bits == 8)
    if colour == "RGB":
        return channels in {3, 4} and (bits == 8 or (bits == 16 and not planar))
    return bits == 8 and colour in {"palette", "CMYK", "YCbCr"} and channels <= 4


def _tiff_fields(encoded: bytes) -> dict[int, tuple[int, str]]:
    """Map the tags of the first directory to position and struct format of their first value."""
    order = "<" if encoded[:2] == b"II" else ">"
    is_big = 43 in encoded[2:4]
    offset = "Q" if is_big else "I"
    inline = struct.calcsize("=" + offset)
    (at,) = struct.unpack_from(order + offset, encoded, inline)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), encoded, at)
    at += 8 if is_big else 2
    fields: dict[int, tuple[int, str]] = {}
    for start in range(at, at + count * (4 + 2 * inline), 4 + 2 * inline):
        tag, kind, number = struct.unpack_from(f"{order}HH{offset}", encoded, start)
        if kind not in _TIFF_VALUES:
            continue
        held = start + 4 + inline
        if number * struct.calcsize("=" + _TIFF_VALUES[kind]) > inline:
            (held,) = struct.unpack_from(order + offset, encoded, held)
        fields[tag] = (held, order + _TIFF_VALUES[kind])
    return fields


_READERS = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"BM", _bmp),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
)
