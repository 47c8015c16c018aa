"""Picture files made byte by byte, for what no library here writes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(
    width: int, height: int, *, bits: int, colour: int, rows: list[bytes], extra: bytes = b""
) -> bytes:
    """A PNG of rows that are packed already; `extra` are chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        PNG_SIGNATURE
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def tiff(
    picture: NDArray[np.generic],
    *,
    colour: int,
    bits: int | None = None,
    extra: int | None = None,
    numbers: int = 1,
    order: str = "<",
    big: bool = False,
    by_plane: bool = False,
    packed: bool = False,
    rows_per_strip: int | None = None,
    tags: dict[int, int] | None = None,
    strips: list[bytes] | None = None,
) -> bytes:
    """A TIFF with its directory first, so that what is cut off at the end is pixels.

    `colour` is the photometric interpretation, `numbers` the sample format, `extra` what the
    fourth channel means; `packed` compresses with Deflate; `strips` replaces the pixels.
    """
    height, width = picture.shape[:2]
    n_channels = 1 if picture.ndim == 2 else picture.shape[2]
    step = rows_per_strip or height
    if strips is None:
        stored = picture.astype(picture.dtype.newbyteorder(order))
        planes = np.moveaxis(stored, -1, 0) if by_plane else stored[None]
        strips = [
            plane[row : row + step].tobytes() for plane in planes for row in range(0, height, step)
        ]
    if packed:
        strips = [zlib.compress(strip) for strip in strips]
    fields = {
        256: [width],
        257: [height],
        258: [bits or picture.dtype.itemsize * 8] * n_channels,
        259: [8 if packed else 1],
        262: [colour],
        273: [0] * len(strips),
        277: [n_channels],
        278: [step],
        279: [len(strip) for strip in strips],
        284: [2 if by_plane else 1],
        339: [numbers] * n_channels,
    } | {tag: [value] for tag, value in (tags or {}).items()}
    if extra is not None:
        fields[338] = [extra]
    # The directory's length does not depend on the positions in it.
    start = len(_directory(fields, order, big))
    fields[273] = [start + sum(map(len, strips[:i])) for i in range(len(strips))]
    return _directory(fields, order, big) + b"".join(strips)


def _directory(fields: dict[int, list[int]], order: str, big: bool) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    offset, size = ("Q", 8) if big else ("I", 4)
    first = 16 if big else 8
    head = mark + (
        struct.pack(order + "HHHQ", 43, 8, 0, first)
        if big
        else struct.pack(order + "HI", 42, first)
    )
    entries, beyond = b"", b""
    count = struct.pack(order + ("Q" if big else "H"), len(fields))
    values_at = first + len(count) + len(fields) * (4 + 2 * size) + size
    for tag, values in sorted(fields.items()):
        is_long = tag in {273, 279}
        packed = struct.pack(f"{order}{len(values)}{'I' if is_long else 'H'}", *values)
        if len(packed) <= size:
            held = packed.ljust(size, b"\0")
        else:
            held = struct.pack(order + offset, values_at + len(beyond))
            beyond += packed
        kind = 4 if is_long else 3
        entries += struct.pack(f"{order}HH{offset}", tag, kind, len(values)) + held
    return head + count + entries + struct.pack(order + offset, 0) + beyond
