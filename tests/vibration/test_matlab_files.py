"""MATLAB files as public rigs have them, and those that are damaged or made to do harm."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makellos.errors import InputError
from makellos.vibration.recordings import read_recording

N = 500
X, Y = np.random.default_rng(0).normal(size=(2, N))


@pytest.fixture
def savemat() -> Any:
    return pytest.importorskip("scipy.io").savemat


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", ["f8", "f4", "i2", "u1", "i4", "i8", "u8"])
def test_numbers_of_every_kind(tmp_path: Path, savemat: Any, compressed: bool, kind: str) -> None:
    values = (100 + 10 * np.stack([X, Y], axis=1)).astype(kind)
    savemat(tmp_path / "a.mat", {"acc": values}, do_compression=compressed)
    found = read_recording(tmp_path / "a.mat")
    assert found.channels == ("acc_1", "acc_2")
    assert np.array_equal(found.values, values.T.astype(np.float32))


def test_version_4(tmp_path: Path, savemat: Any) -> None:
    savemat(tmp_path / "a.mat", {"DE": X[:, None], "fs": 12000.0, "note": "text"}, format="4")
    found = read_recording(tmp_path / "a.mat")
    assert (found.channels, found.rate) == (("DE",), 12000)
    assert np.allclose(found.values, X, atol=1e-6)


def test_the_speed_of_the_cwru_kind(tmp_path: Path, savemat: Any) -> None:
    savemat(tmp_path / "97.mat", {"X097_DE_time": X[:, None], "X097RPM": 1796})
    found = read_recording(tmp_path / "97.mat")
    assert (found.channels, found.rpm, found.rate) == (("DE",), 1796, None)
    savemat(tmp_path / "99.mat", {"X099_DE_time": X[:, None], "X098RPM": 1772, "X099RPM": 1750})
    assert read_recording(tmp_path / "99.mat").rpm is None


def test_structures_of_the_mfpt_kind(tmp_path: Path, savemat: Any) -> None:
    bearing = {"sr": 97656.0, "gs": X[:, None], "load": 270.0, "rate": 25.0}
    savemat(tmp_path / "baseline_1.mat", {"bearing": bearing})
    found = read_recording(tmp_path / "baseline_1.mat")
    assert (found.channels, found.rate) == (("gs",), 97656)
    assert np.allclose(found.values, X, atol=1e-6)


def paderborn() -> dict[str, Any]:
    rasters = np.zeros((1, 2), dtype=[("Name", "O"), ("Type", "O"), ("Data", "O")])
    rasters[0, 0] = ("HostService", "double", (np.arange(N) / 64000)[None])
    rasters[0, 1] = ("Mech_4kHz", "double", (np.arange(N // 16) / 4000)[None])
    signals = np.zeros((1, 3), dtype=[("Name", "O"), ("Data", "O"), ("Raster", "O"), ("Unit", "O")])
    signals[0, 0] = ("force", X[None, : N // 16], "Mech_4kHz", "N")
    signals[0, 1] = ("phase_current_1", Y[None], "HostService", "A")
    signals[0, 2] = ("vibration_1", X[None], "HostService", "m/s2")
    return {"Info": {"a": "b"}, "X": rasters, "Y": signals, "Description": {}}


def test_structures_of_the_paderborn_kind(tmp_path: Path, savemat: Any) -> None:
    savemat(tmp_path / "a.mat", {"N15_M07_F10_K001_1": paderborn()}, do_compression=True)
    found = read_recording(tmp_path / "a.mat")
    assert found.channels == ("phase_current_1 [A]", "vibration_1 [m/s2]")
    assert found.rate == 64000
    assert np.allclose(found.values, [Y, X], atol=1e-6)


def test_cells_and_nested_structures(tmp_path: Path, savemat: Any) -> None:
    cell = np.empty((1, 3), dtype=object)
    cell[0] = [X, "words", Y]
    savemat(tmp_path / "a.mat", {"run": {"data": cell, "settings": {"fs": 8000}}})
    found = read_recording(tmp_path / "a.mat")
    assert (found.channels, found.rate) == (("data(1)", "data(3)"), 8000)
    assert np.allclose(found.values, [X, Y], atol=1e-6)


def test_what_is_no_signal_is_passed_over(tmp_path: Path, savemat: Any) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    others = {"s": sparse.eye(N + 100).tocsc(), "c": X[:9] + 1j, "e": np.zeros((0, 3))}
    savemat(tmp_path / "a.mat", {**others, "DE": X, "flag": np.array([True, False])})
    assert read_recording(tmp_path / "a.mat").channels == ("DE",)


# Damaged, or made to


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, shape: tuple[int, ...], *inner: bytes, name: bytes = b"x") -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    dims = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + dims + element(1, name) + b"".join(inner))


def file(*elements: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"".join(elements)


def packed(content: bytes) -> bytes:
    deflated = zlib.compress(content)
    return struct.pack("<II", 15, len(deflated)) + deflated


NUMBERS = element(9, X.tobytes())


def refused(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mat cannot be read as \.mat: ") as raised:
        read_recording(tmp_path / "a.mat")
    return str(raised.value)


def test_sizes_that_are_not_there_are_refused(tmp_path: Path) -> None:
    sound = matrix(6, (N, 1), NUMBERS)
    (tmp_path / "a.mat").write_bytes(file(sound))
    assert np.allclose(read_recording(tmp_path / "a.mat").values, X, atol=1e-6)
    for at in range(len(file()) + 8, len(file(sound)), 512):
        refused(tmp_path, file(sound)[:at])
    assert "should have 4,294,967,288 bytes" in refused(
        tmp_path, file(struct.pack("<II", 14, 2**32 - 8) + sound[8:])
    )
    assert "holds 500 numbers" in refused(
        tmp_path, file(matrix(6, (2**31 - 1, 2**31 - 1), NUMBERS))
    )
    refused(tmp_path, file(matrix(6, (-N, 1), NUMBERS)))
    refused(tmp_path, file(matrix(6, (1,) * 40, NUMBERS)))
    refused(tmp_path, file(matrix(6, (N, 1), element(99, X.tobytes()))))
    refused(tmp_path, file(matrix(1, (2**31 - 1, 2**31 - 1))))  # cells that are not there
    names = element(5, struct.pack("<i", 0)) + element(1, b"a\0")
    refused(tmp_path, file(matrix(2, (1, 1), names)))


def test_what_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    bomb, zeros = zlib.compressobj(), bytes(1 << 20)
    start = bomb.compress(struct.pack("<II", 14, 700 << 20)) + bomb.flush(zlib.Z_FULL_FLUSH)
    piece = bomb.compress(zeros) + bomb.flush(zlib.Z_FULL_FLUSH)  # the same each time
    deflated = start + piece * 700 + bomb.flush()
    told = refused(tmp_path, file(struct.pack("<II", 15, len(deflated)) + deflated))
    assert "unpacks to more than" in told


def test_deep_and_many_elements_are_refused(tmp_path: Path) -> None:
    nested = matrix(6, (N, 1), NUMBERS)
    for _ in range(100):
        nested = matrix(1, (1, 1), nested)
    assert "nested more than" in refused(tmp_path, file(nested))
    many = matrix(1, (200_000, 1), struct.pack("<II", 14, 0) * 200_000)
    assert "more than 100,000 elements" in refused(tmp_path, file(packed(many)))


def test_changed_bytes_end_in_an_error_or_in_a_recording(tmp_path: Path, savemat: Any) -> None:
    savemat(tmp_path / "a.mat", {"run": paderborn(), "DE": X[:, None], "X097RPM": 1796})
    sound, draw = (tmp_path / "a.mat").read_bytes(), random.Random(0)
    n_read = 0
    for _ in range(300):
        content = bytearray(sound)
        for _ in range(4):
            content[draw.randrange(124, len(content))] = draw.choice((0, 1, 14, 15, 127, 255))
        (tmp_path / "b.mat").write_bytes(content)
        try:
            read_recording(tmp_path / "b.mat")
            n_read += 1
        except InputError:
            pass
    assert 0 < n_read < 300
