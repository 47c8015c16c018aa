"""What a picture file says of itself before its pixels: size, kind, and whether it is whole.

The decoders trust these fields with memory, and print to stderr what they find wrong. Here the
fields are checked first, in microseconds and without decoding, and what fails gets a sentence.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

from makellos.data._header import ACCEPTED, MAX_PIXELS, Header, UnsuitableError, refuse_many
from makellos.data._jpeg_header import read_jpeg
from makellos.data._tiff_header import read_tiff

__all__ = ["MAX_PIXELS", "Header", "UnsuitableError", "kind_of", "read_header"]

_OTHER_KINDS = {
    b"GIF8": "GIF picture",
    b"%PDF": "PDF document",
    b"PK\x03\x04": "zip archive",
    b"\x00\x00\x00\x0cjP": "JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "JPEG 2000 picture",
}
_CONTAINERS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF"}

_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf"})
_PNG_CHANNELS = {2: 3, 3: 1, 4: 2, 6: 4}
_PNG_SURPLUS = 1 << 16  # bytes that a clumsy writer may put behind the last row, packed
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
_WEBP_MOVES = 0x02
_WEBP_CANVASES = 4  # of its whole size that the decoder of moving pictures holds
_PNM_BITS = frozenset({1, 4})
_PNM_HEADER = 65_536  # bytes in which size and white are looked for
_PNM_SPACE = rb"(?:\s|#[^\n\r]*[\n\r])+"
_PNM = re.compile(rb"P([1-6])" + _PNM_SPACE + rb"(\d{1,9})" + _PNM_SPACE + rb"(\d{1,9})(?=[\s#])")
_PNM_WHITE = re.compile(_PNM_SPACE + rb"(\d{1,9})\s")


def read_header(encoded: bytes) -> Header:
    """Return the header of a PNG, JPEG, BMP, TIFF, WebP, PBM, PGM or PPM file.

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
            f"decoded; expected 1 to {MAX_PIXELS:,} pixels. Cut it into smaller pictures, or "
            "remove it."
        )
    return header


def kind_of(begin: bytes) -> str | None:
    """Return the kind of a picture of which these are the first bytes; None where it is none."""
    if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return "WebP"
    kind = next((kind for kind, (signs, _) in _KINDS.items() if begin.startswith(signs)), None)
    sizes = (int.from_bytes(begin[14:18], "little"), _PNM.match(begin))
    if (kind == "BMP" and sizes[0] not in _BMP_HEADERS) or (kind == "PNM" and sizes[1] is None):
        return None
    return kind


def _reader(encoded: bytes) -> Callable[[bytes], Header]:
    known = kind_of(encoded[:_PNM_HEADER])
    if known is not None:
        return _KINDS[known][1]
    kind = next((kind for start, kind in _OTHER_KINDS.items() if encoded.startswith(start)), None)
    if encoded[4:8] == b"ftyp":
        kind = f"{_CONTAINERS.get(encoded[8:12], 'HEIF or video')} file"
    if encoded[:3] in (b"P7\n", b"Pf\n", b"PF\n"):
        kind = "PAM or PFM picture"
    if not any(encoded[:4096]):
        kind = "file of zeros (a broken copy?)"
    found = f"is a {kind}" if kind else "is not a picture"
    raise UnsuitableError(f"{found}. {ACCEPTED}. Save it as one of these, or remove it.")


def _png(encoded: bytes) -> Header:
    """Walk the chunks; keep those that pixels and orientation come from, if they are sound.

    The rest is left out: libpng prints warnings about the colour profiles of healthy pictures,
    and further frames and transparency are not used.
    """
    view, kept, at, n_chunks, n_packed = memoryview(encoded), [(0, 8)], 8, 0, 0
    wanted, kind, n_frames = _PNG_KEPT, b"", 1
    if encoded[25:26] != b"\3":
        wanted -= {b"PLTE"}  # only advice where pixels hold colours
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", encoded, at)
        end = at + 12 + length
        n_chunks += 1
        refuse_many(n_chunks, "parts", len(encoded))
        if kind in wanted:
            if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", encoded, end - 4)[0]:
                raise UnsuitableError(
                    f"is damaged: the checksum of its part {kind.decode()} at byte {at} does not "
                    "match (a broken copy or disk?). Copy it again or remove it."
                )
            if kind != b"IDAT":
                wanted -= {kind}  # one of each: a decoder prints a line for every further one
            if length or kind != b"IDAT":
                kept.append((at, end))
            n_packed += length if kind == b"IDAT" else 0
        elif kind == b"acTL" and length == 8:
            (n_frames,) = struct.unpack_from(">I", encoded, at + 8)
        elif not kind[0] & 0x20 and kind not in _PNG_KEPT:
            raise UnsuitableError(
                f"has a part {kind!r} that is not in the PNG standard. Save it again as PNG."
            )
        at = end
    if encoded[12:16] != b"IHDR" or not n_packed:
        raise UnsuitableError("is damaged: it has no PNG data. Copy it again or remove it.")
    width, height, bits, colour = struct.unpack_from(">IIBB", encoded, 16)
    n_bytes = height * (width * bits * _PNG_CHANNELS.get(colour, 1) // 8 + 2)
    if n_packed > _PNG_SURPLUS + n_bytes + n_bytes // 8:
        raise UnsuitableError(
            f"holds {n_packed:,} bytes of pixels, more than {width:,} x {height:,} pixels can "
            "need, and was not decoded. Save it again, or remove it."
        )
    whole = kept[-1][1] == sum(end - start for start, end in kept)
    return Header(
        width=width,
        height=height,
        gray=colour == 4,
        encoded=encoded if whole else b"".join(view[start:end] for start, end in kept),
        n_frames=max(1, n_frames),
    )


def _bmp(encoded: bytes) -> Header:
    (header_size,) = struct.unpack_from("<I", encoded, 14)
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", encoded, 18)
    return Header(width=width, height=abs(height), encoded=encoded)


def _webp(encoded: bytes) -> Header:
    (length,) = struct.unpack_from("<I", encoded, 4)
    if length + 8 > len(encoded):
        raise IndexError
    kind, n_frames = encoded[12:16], 0
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(encoded[at : at + 3], "little") for at in (24, 27))
        n_frames = _count_webp_frames(encoded, length + 8)
        if encoded[20] & _WEBP_MOVES and width * height > MAX_PIXELS // _WEBP_CANVASES:
            raise UnsuitableError(
                f"is an animated WebP of {width:,} x {height:,} pixels; expected at most "
                f"{MAX_PIXELS // _WEBP_CANVASES:,} pixels for an animation. Save it as PNG."
            )
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", encoded, 21)
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", encoded, 26))
    return Header(width=width, height=height, encoded=encoded, n_frames=max(1, n_frames))


def _count_webp_frames(encoded: bytes, end: int) -> int:
    at, n_chunks, n_frames = 12, 0, 0
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", encoded, at)
        at += (8 + length + 1) & ~1
        n_chunks += 1
        n_frames += kind == b"ANMF"
        refuse_many(n_chunks, "parts", len(encoded))
    return n_frames


def _pnm(encoded: bytes) -> Header:
    """Read PBM, PGM and PPM; the decoder gets a plain header of its own and what it misses."""
    found = _PNM.match(encoded, 0, _PNM_HEADER)
    if found is None:
        raise ValueError
    kind, width, height = (int(number) for number in found.groups()[:3])
    if kind in _PNM_BITS:
        body, white = found.end(3) + 1, 1
    else:
        rest = _PNM_WHITE.match(encoded, found.end(3), _PNM_HEADER)
        if rest is None:
            raise ValueError
        body, white = rest.end(), int(rest[1])
    if not 1 <= white <= 65535:
        raise UnsuitableError(
            f"states {white:,} as the value of white; expected 1 to 65,535. Save it as PNG."
        )
    head = f"P{kind} {width} {height} {'' if kind in _PNM_BITS else white} ".encode()
    head = head.replace(b"  ", b" ")
    n_values = width * height * (3 if kind in {3, 6} else 1)
    n_bytes = {
        1: n_values,
        4: height * -(-width // 8),
        5: n_values << (white > 255),
        6: n_values << (white > 255),
    }.get(kind, 2 * n_values - 1)
    if len(encoded) - body < n_bytes and width * height <= MAX_PIXELS:
        raise ValueError
    return Header(
        width=width,
        height=height,
        # The decoder takes a number at the very end for one that is cut off.
        encoded=b"".join((head, memoryview(encoded)[body:], b"\n")),
        white=white if kind not in _PNM_BITS else None,
    )


_KINDS: dict[str, tuple[bytes | tuple[bytes, ...], Callable[[bytes], Header]]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n", _png),
    "JPEG": (b"\xff\xd8\xff", read_jpeg),
    "BMP": (b"BM", _bmp),
    "PNM": (tuple(f"P{kind}".encode() for kind in range(1, 7)), _pnm),
    "TIFF": ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), read_tiff),
    "WebP": ((), _webp),  # told by more than how it begins
}
