"""Files that makellos wrote itself: marked as such, and no parts of a folder that they lie in."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

__all__ = ["PARQUET_MARK", "ROW_BEGINNINGS", "is_own_output", "marked"]

PARQUET_MARK = b"makellos rows"  # a key in the metadata of a table
# The first columns of tables of parts and of windows, of those that were tested, of a history.
ROW_BEGINNINGS = (
    b"input,verdict,score,p_value,",
    b"input,start_s,end_s,verdict,",
    b"input,label,defect,",
    b"id,time,recipe,recipe_version,",
)
_TEXT = b"Software\0makellos"
_SIGNATURE, _AFTER_HEADER = b"\x89PNG\r\n\x1a\n", 33  # bytes of a PNG's signature and first chunk
_COMMENT = b"\xff\xfe" + struct.pack(">H", len(_TEXT) + 2) + _TEXT
_CHUNK = struct.pack(">I", len(_TEXT)) + b"tEXt" + _TEXT
_GENERATED = b"makellos generate"  # in the Exif data of pictures that a model made
_HEAD, _TAIL = 512, 1 << 16  # bytes where marks are, of a Parquet file at its end


def marked(encoded: bytes) -> bytes:
    """Return a PNG or JPEG file that says that makellos drew it; others as they are."""
    if encoded.startswith(_SIGNATURE):
        chunk = _CHUNK + struct.pack(">I", zlib.crc32(_CHUNK[4:]))
        return encoded[:_AFTER_HEADER] + chunk + encoded[_AFTER_HEADER:]
    if encoded.startswith(b"\xff\xd8"):
        return encoded[:2] + _COMMENT + encoded[2:]
    return encoded


def is_own_output(path: Path) -> bool:
    """Tell whether a file is a drawing or a table of an earlier run, whatever it is called."""
    try:
        if not path.is_file():  # a pipe or a device may have no end
            return False
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            if head.startswith(b"PAR1"):
                stream.seek(max(0, path.stat().st_size - _TAIL))
                return PARQUET_MARK in stream.read()
    except OSError:
        return False  # it is named when it is read
    return (
        head[_AFTER_HEADER:].startswith(_CHUNK)
        or head[2:].startswith(_COMMENT)
        or head.startswith(ROW_BEGINNINGS)
        or _GENERATED in head
    )
