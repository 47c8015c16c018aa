"""Reader of MATLAB files of the versions 4 and 5: numbers and texts, in structures and cells too.

Written in Python alone, so that a damaged or hostile file ends in an error: sizes that a file
states are compared with what is there before anything is read. The format is described in MathWorks
(2019), MAT-File Format. Sparse matrices, functions and objects of classes are passed over.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from makellos.vibration._columns import MAX_SAMPLES, Array, Columns, called_by_name, from_variables

__all__ = ["read_matlab"]

_MATRIX, _COMPRESSED = 14, 15
_STORED = {
    **dict(zip(range(1, 8), ("i1", "u1", "i2", "u2", "i4", "u4", "f4"), strict=True)),
    **dict(zip((9, 12, 13), ("f8", "i8", "u8"), strict=True)),
    **dict(zip((16, 17, 18), ("u1", "u2", "u4"), strict=True)),  # text in UTF-8, 16, 32
}
_CELL, _STRUCT, _OBJECT, _TEXT, _NUMERIC = 1, 2, 3, 4, range(6, 16)
_COMPLEX = 0x0800
_MOST_BYTES = 8 * MAX_SAMPLES + (1 << 20)  # unpacked
_MOST_ELEMENTS = 100_000
_MOST_LEVELS = 16
_VERSION_4 = ("f8", "f4", "i4", "i2", "u2", "u1")


def read_matlab(path: Path) -> Columns:
    """Read variables; raises `ValueError` for what is no such file, or is damaged.

    Fields of structures are ``name.field``, cells and elements ``name(2)``. Elements with the
    fields ``Name`` and ``Data`` are called by that name, as in the files of Paderborn.
    """
    content = path.read_bytes()
    if len(content) < 20:
        raise ValueError("it is shorter than any MATLAB file")
    if b"\0" in content[:4]:
        variables = dict(_version_4(content))
    else:
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if order is None:
            raise ValueError("it does not begin as a MATLAB file does")
        unpacker = _Unpacker(order)
        unpacker.file(memoryview(content)[128:])
        variables = unpacker.variables
    return from_variables(path, variables, called_by_name(variables))


@dataclass
class _Unpacker:
    """Take a file of version 5 apart; `order` is that of its bytes."""

    order: str
    variables: dict[str, Array] = field(default_factory=dict)
    n_bytes: int = 0
    n_elements: int = 0

    def file(self, content: memoryview) -> None:
        """Take all variables of a file."""
        at = 0
        while at < len(content):
            kind, block, at = self._element(content, at)
            if kind == _COMPRESSED:
                kind, block, _ = self._element(self._unpacked(block), 0)
            if kind == _MATRIX:
                self._matrix(block, "", 0)

    def _element(self, content: memoryview, at: int) -> tuple[int, memoryview, int]:
        """Return type and bytes of the element at a place, and where the next one begins."""
        self.n_elements += 1
        if self.n_elements > _MOST_ELEMENTS:
            raise ValueError(f"it holds more than {_MOST_ELEMENTS:,} elements")
        if at + 8 > len(content):
            raise ValueError("it ends in the middle of a variable")
        kind, size = struct.unpack_from(f"{self.order}II", content, at)
        start = at + 8
        if kind >> 16:  # a small one, of up to four bytes
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise ValueError(f"a small element states {size} bytes")
        end = start + size
        if end > len(content):
            raise ValueError(
                f"an element should have {size:,} bytes, {len(content) - start:,} are there"
            )
        following = at + 8 if start == at + 4 else end if kind == _COMPRESSED else end + -size % 8
        return kind, content[start:end], following

    def _unpacked(self, block: memoryview) -> memoryview:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(block, _MOST_BYTES - self.n_bytes + 1)
        self.n_bytes += len(content)
        if self.n_bytes > _MOST_BYTES:
            raise ValueError(f"it unpacks to more than {_MOST_BYTES:,} bytes")
        if not unpacker.eof:
            raise ValueError("a compressed variable is cut off")
        return memoryview(content)

    def _numbers(self, content: memoryview, at: int) -> tuple[Array, int]:
        """Return the numbers of the element at a place, and where the next one begins."""
        kind, block, at = self._element(content, at)
        if kind not in _STORED:
            raise ValueError(f"an element of type {kind} is where numbers should be")
        dtype = np.dtype(self.order + _STORED[kind])
        if len(block) % dtype.itemsize:
            raise ValueError("an element holds a part of a number")
        return np.frombuffer(block, dtype), at

    def _matrix(self, block: memoryview, name: str, level: int) -> str | None:
        """Take an array of any class; return what a text says."""
        if not len(block):
            return None
        if level > _MOST_LEVELS:
            raise ValueError(f"its structures are nested more than {_MOST_LEVELS} deep")
        flags, at = self._numbers(block, 0)
        kind = int(flags[0]) & 0xFF if len(flags) else 0
        if kind not in (_CELL, _STRUCT, _OBJECT, _TEXT, *_NUMERIC):
            return None
        dims, at = self._numbers(block, at)
        shape = tuple(int(each) for each in dims)
        if not 1 < len(shape) <= 32 or min(shape) < 0:
            raise ValueError(f"an array has the shape {shape[:8]}")
        own, at = self._numbers(block, at)
        name = name or own.tobytes().decode("latin-1")
        if kind in _NUMERIC or kind == _TEXT:
            values, at = self._numbers(block, at)
            if kind == _TEXT:
                text = _text(values)
                self.variables[name] = np.array(text)
                return text
            if math.prod(shape) != len(values):
                raise ValueError(f"an array of {shape} holds {len(values):,} numbers")
            if not int(flags[0]) & _COMPLEX:
                self.variables[name] = values.reshape(shape, order="F")
            return None
        n = math.prod(shape)
        if kind == _CELL:
            for label in _numbered(name, n):
                at = self._nested(block, at, label, level)
        else:
            self._structure(block, at, name, n, level, is_object=kind == _OBJECT)
        return None

    def _nested(self, block: memoryview, at: int, name: str, level: int) -> int:
        kind, inner, at = self._element(block, at)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} is where an array should be")
        self._matrix(inner, name, level + 1)
        return at

    def _structure(
        self, block: memoryview, at: int, name: str, n: int, level: int, *, is_object: bool
    ) -> None:
        if is_object:
            _, at = self._numbers(block, at)  # the name of its class
        lengths, at = self._numbers(block, at)
        packed, at = self._numbers(block, at)
        length = int(lengths[0]) if len(lengths) else 0
        if length < 1 or packed.nbytes % length:
            raise ValueError(f"names of fields have {length} letters")
        raw = packed.tobytes()
        fields = [
            raw[i : i + length].split(b"\0")[0].decode("latin-1")
            for i in range(0, len(raw), length)
        ]
        for label in _numbered(name, n if fields else 0):
            for each in fields:
                at = self._nested(block, at, f"{label}.{each}", level)


def _numbered(name: str, n: int) -> Iterator[str]:
    """Yield a name for each of several elements; one alone keeps that of the whole."""
    yield from (name if n == 1 else f"{name}({i + 1})" for i in range(n))


def _text(values: Array) -> str:
    if values.dtype.itemsize == 1:
        return values.tobytes().decode("utf-8", "replace")
    return "".join(chr(code) if code < 0x110000 else "?" for code in values[:10_000].tolist())


def _version_4(content: bytes) -> Iterator[tuple[str, Array]]:
    """Yield the variables of a file of version 4, which has no header of its own."""
    at = 0
    while at < len(content):
        if at + 20 > len(content):
            raise ValueError("it ends in the middle of a variable")
        order = "<" if struct.unpack_from("<i", content, at)[0] in range(5000) else ">"
        kind, n_rows, n_columns, is_complex, n_name = struct.unpack_from(f"{order}5i", content, at)
        machine, rest = divmod(kind, 1000)
        precision, what = rest // 10, rest % 10
        if (
            machine not in (0, 1)
            or precision >= len(_VERSION_4)
            or min(n_rows, n_columns, n_name) < 0
        ):
            raise ValueError("it does not begin as a MATLAB file does")
        dtype = np.dtype(order + _VERSION_4[precision])
        start = at + 20 + n_name
        n = n_rows * n_columns
        end = start + n * dtype.itemsize
        at = end + n * dtype.itemsize * (is_complex == 1)
        if at > len(content):
            raise ValueError(f"a variable should end at byte {at:,}, {len(content):,} are there")
        name = content[start - n_name : start].split(b"\0")[0].decode("latin-1")
        values = np.frombuffer(content[start:end], dtype)
        if what == 0 and not is_complex:
            yield name, values.reshape((n_rows, n_columns), order="F")
        elif what == 1:
            yield name, np.array(_text(values.astype("u4")))
