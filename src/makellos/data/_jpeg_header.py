"""What a JPEG says of itself: its size, and how much work its scans are."""

from __future__ import annotations

import re
import struct

from makellos.data._header import MAX_PIXELS, Header, UnsuitableError, refuse_many

__all__ = ["read_jpeg"]

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Stuffed bytes, padding and restart marks are jumped over, in megabytes as in a byte.
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
# A progressive file has 10, in the finest division a few dozen; each goes over all pixels.
_MAX_SCANS = 100
# Each block of 8 x 8 pixels is two codes of a bit or more; colours and scans make it more, coarser
# colours at most four times less.
_BLOCKS_PER_BYTE = 16
_MAX_SCANNED = 12 * MAX_PIXELS


def read_jpeg(encoded: bytes) -> Header:
    """Walk the segments up to the end mark; raises `UnsuitableError`, `ValueError`, `struct.error`.

    Decoders fill up with gray what ends too early, and go over the whole picture for each scan.
    """
    at, size, n_segments, n_scans, n_blocks, start = 2, (0, 0), 0, 0, 0, 0
    while True:
        found = _MARKER.search(encoded, at)
        if found is None:
            raise ValueError
        kind, at = encoded[found.end() - 1], found.end()
        if kind == _END and n_scans and (found.start() - start) * _BLOCKS_PER_BYTE >= n_blocks:
            return Header(width=size[0], height=size[1], encoded=encoded)
        if kind in (_START, _END):
            raise ValueError
        if kind in _FRAMES and not n_scans:
            bits, height, width = struct.unpack_from(">BHH", encoded, at + 2)
            if bits != 8:
                raise UnsuitableError(
                    f"is a JPEG with {bits}-bit values; expected 8 bits. Save it as 16-bit PNG."
                )
            size = (width, height)
            # One that is too large is refused for its size.
            n_blocks = -(-width // 8) * -(-height // 8) if width * height <= MAX_PIXELS else 0
        n_segments += 1
        refuse_many(n_segments, "segments", len(encoded))
        if kind == _SCAN:
            n_scans += 1
            start = start or at
            if n_scans > _MAX_SCANS or n_scans * size[0] * size[1] > _MAX_SCANNED:
                raise UnsuitableError(
                    f"is a JPEG with {n_scans:,} scans or more and was not decoded; decoding them "
                    "would take too long. Save it again, or remove it."
                )
        at += struct.unpack_from(">H", encoded, at)[0]
