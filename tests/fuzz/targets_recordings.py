"""Recordings of vibration, in every format that is read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import numpy as np
from target import Target, written

from makellos.vibration.recordings import check_recording, read_recording

X, Y = np.random.default_rng(0).normal(size=(2, 40)).round(4)


def read(data: bytes, name: str) -> None:
    check_recording(read_recording(written(data, name)), window=16)


def texts() -> list[bytes]:
    rows = "".join(f"{i / 12:.4f},{x},{y}\n" for i, (x, y) in enumerate(zip(X, Y, strict=True)))
    quoted = "".join(f'"{x}";"{y}"\n'.replace(".", ",") for x, y in zip(X, Y, strict=True))
    stamps = "".join(f"2024-05-01T10:20:30.{i:06d},on,{x}\n" for i, x in enumerate(X))
    return [
        f"# pump 3\ntime,a,b\nms,g,g\n{rows}".encode(),
        f'"a";"b"\n{quoted}'.encode("utf-16"),
        f"when,state,acc [g]\n{stamps}".encode(),
        "\n".join(map(str, X)).encode(),
    ]


def labview() -> list[bytes]:
    mark = "***End_of_Header***\t\n"
    head = f"LabVIEW Measurement\t\nSeparator\tTab\nX_Columns\tOne\n{mark}\nChannels\t1\n"
    head += f"Y_Unit_Label\tg\nX_Dimension\tTime\nDelta_X\t8.3E-5\n{mark}X_Value\ta\tComment\n"
    return [(head + "".join(f"{i * 8.3e-5:.6f}\t{x}\n" for i, x in enumerate(X))).encode()]


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, shape: tuple[int, int], name: bytes, *inner: bytes) -> bytes:
    dims = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", *shape))
    return element(14, dims + element(1, name) + b"".join(inner))


def matlab() -> list[bytes]:
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    signal = partial(matrix, 6, (40, 1))
    speed = matrix(6, (1, 1), b"X097RPM", element(4, struct.pack("<H", 1797)))
    fields = element(5, struct.pack("<i", 8)) + element(1, b"Name\0\0\0\0Data\0\0\0\0")
    inner = matrix(4, (1, 4), b"", element(16, b"acc1")), signal(b"", element(9, X.tobytes()))
    cell = matrix(1, (1, 2), b"c", signal(b"", element(9, Y.tobytes())), element(14, b""))
    whole = signal(b"DE", element(9, X.tobytes())) + matrix(2, (1, 1), b"Y", fields, *inner)
    deflated = zlib.compress(whole)
    version_4 = struct.pack("<5i", 0, 40, 1, 0, 3) + b"DE\0" + X.tobytes()
    return [
        head + whole + cell + speed,
        head + struct.pack("<II", 15, len(deflated)) + deflated + speed,
        version_4,
    ]


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def hdf5() -> list[bytes]:
    import h5py

    def save(stream: io.BytesIO) -> None:
        with h5py.File(stream, "w") as file:
            file["run/DE"], file["fs"] = X[None], 12000.0
            file.create_dataset("FE", data=Y, chunks=(20,), compression="gzip")
            cell = file.create_dataset("c", (1,), h5py.special_dtype(ref=h5py.Reference))
            cell[0] = file["run/DE"].ref

    return [saved(save)]


def parquet() -> list[bytes]:
    import pyarrow
    from pyarrow.parquet import write_table

    table = pyarrow.table({"a": X, "n": range(40), "w": ["x"] * 40})
    return [saved(partial(write_table, table))]


def wav() -> list[bytes]:
    form = struct.pack("<HHIIHH", 1, 2, 8000, 32000, 4, 16)
    data = (X * 1000).astype("<i2").tobytes()
    chunks = [(b"fmt ", form), (b"LIST", b"abc\0"), (b"data", data)]
    body = b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return [b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body]


def recordings(
    name: str, suffix: str, seeds: Callable[[], Sequence[bytes]], *words: bytes
) -> Target:
    return Target(f"recording_{name}", partial(read, name=f"a{suffix}"), seeds, words)


TARGETS = [
    recordings("text", ".csv", texts, b",", b'"', b";", b"\n", b"1e999", b"nan", b"10:20:30"),
    recordings("labview", ".lvm", labview, b"***End_of_Header***\n", b"Delta_X\t", b"\t"),
    recordings("matlab", ".mat", matlab, b"\x0e\0\0\0", b"\x0f\0\0\0", b"\1\0\4\0"),
    recordings("npy", ".npy", lambda: [saved(partial(np.save, arr=X))], b"(2**40,)", b"'|O'"),
    recordings("npz", ".npz", lambda: [saved(lambda s: np.savez_compressed(s, DE=X, fs=12e3))]),
    recordings("wav", ".wav", wav, b"data", b"fmt ", b"\xfe\xff"),
]
if find_spec("h5py") is not None:
    TARGETS.append(recordings("hdf5", ".mat", hdf5, b"OHDR", b"SNOD", b"TREE"))
if find_spec("pyarrow") is not None:
    TARGETS.append(recordings("parquet", ".parquet", parquet))
