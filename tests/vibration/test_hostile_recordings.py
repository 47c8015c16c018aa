"""Recordings from anybody: no file opens another, and none takes the memory or the run with it."""

from __future__ import annotations

import io
import os
import struct
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makellos.errors import InputError
from makellos.vibration import _reader_process
from makellos.vibration._columns import MAX_CHANNELS, MAX_SAMPLES
from makellos.vibration._reader_process import ReaderProcess
from makellos.vibration.recordings import is_recording, read_recording

N = 900
X = np.random.default_rng(0).normal(size=N)


@pytest.fixture
def h5py() -> Any:
    return pytest.importorskip("h5py")


def refused(path: Path, told: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InputError, match=told) as raised:
        read_recording(path)
    assert str(path) in str(raised.value)
    assert time.perf_counter() - started < 20


# HDF5


def test_samples_in_another_file_are_refused(tmp_path: Path, h5py: Any) -> None:
    other = tmp_path / "other.txt"
    other.write_bytes(b"not a recording, but another file\n" * 40)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("x", (N,), "u1", external=[(str(other), 0, N)])
    refused(tmp_path / "a.mat", r"is in another file \('.*other.*'\), which is not opened")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_behind_a_data_set_does_not_hang(tmp_path: Path, h5py: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["fs"] = 12000.0
        file.create_dataset("x", (N,), "u1", external=[(str(tmp_path / "pipe"), 0, N)])
    refused(tmp_path / "a.mat", "is in another file")
    refused(tmp_path / "pipe", "is not a recording")
    os.mkfifo(tmp_path / "b.mat")
    refused(tmp_path / "b.mat", "is a device or a pipe")
    assert not is_recording(tmp_path / "pipe")


def test_virtual_data_sets_are_refused(tmp_path: Path, h5py: Any) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = X
    layout = h5py.VirtualLayout((N,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (N,))
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_virtual_dataset("x", layout)
    refused(tmp_path / "a.mat", r"a virtual data set is in another file \('.*other")


def test_links_to_another_file_are_refused_and_within_one_passed_over(
    tmp_path: Path, h5py: Any
) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = X
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["deep/y"] = X
        file["deep/x"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    refused(tmp_path / "a.mat", "what a link names is in another file")
    with h5py.File(tmp_path / "b.mat", "w") as file:
        file["deep/y"] = X
        file["deep/round"] = file["deep"]  # a circle
        file["soft"] = h5py.SoftLink("/deep/y")
        file["lost"] = h5py.SoftLink("/nowhere")
    assert read_recording(tmp_path / "b.mat").channels == ("y",)


def test_cells_and_structures_of_version_7_3(tmp_path: Path, h5py: Any) -> None:
    def text(file: Any, name: str, content: str) -> Any:
        dataset = file.create_dataset(name, data=np.array([[ord(c)] for c in content], "u2"))
        dataset.attrs["MATLAB_class"] = np.bytes_(b"char")
        return dataset.ref

    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["#refs#/a"], file["#refs#/b"] = X[None], 2 * X[None]
        names = [text(file, "#refs#/n", "current"), text(file, "#refs#/m", "vibration_1")]
        group = file.create_group("run/Y")
        group.attrs["MATLAB_class"] = np.bytes_(b"struct")
        reference = h5py.special_dtype(ref=h5py.Reference)
        arrays = [file["#refs#/a"].ref, file["#refs#/b"].ref]
        for field, content in (("Data", arrays), ("Name", names)):
            group.create_dataset(field, (2, 1), reference)[:, 0] = content
    found = read_recording(tmp_path / "a.mat")
    assert found.channels == ("current", "vibration_1")
    assert np.allclose(found.values, [X, 2 * X], atol=1e-6)


def test_large_data_sets_in_small_files_are_refused(tmp_path: Path, h5py: Any) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("x", (MAX_SAMPLES + 1,), "f8", chunks=(1 << 20,), compression="gzip")
    assert (tmp_path / "a.mat").stat().st_size < 100_000
    refused(tmp_path / "a.mat", r"holds 67,108,865 samples; at most 67,108,864 are read")
    with h5py.File(tmp_path / "b.mat", "w") as file:
        file.create_dataset("x", (10,), "f8", chunks=(1 << 26,), maxshape=(None,))
    refused(tmp_path / "b.mat", "chunks have more than")
    with h5py.File(tmp_path / "c.mat", "w") as file:
        for i in range(10_001):
            file.create_group(str(i))
    refused(tmp_path / "c.mat", "more than 10,000 items")


# The process that reads


def test_a_reader_that_ends_or_hangs_costs_its_file_alone(
    tmp_path: Path, h5py: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["x"] = X
    (tmp_path / "h5py.py").write_text("import os; os.abort()\n", encoding="utf-8")
    sound = list(sys.path)
    reader = ReaderProcess()
    monkeypatch.setattr("makellos.vibration._recording_files.READER", reader)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sound])
    refused(tmp_path / "a.mat", "crashed the reader, so it is damaged")
    monkeypatch.setattr(sys, "path", sound)
    assert np.allclose(read_recording(tmp_path / "a.mat").values, X, atol=1e-6)
    reader.close()
    (tmp_path / "h5py.py").write_text("import time; time.sleep(60)\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sound])
    with monkeypatch.context() as patch:
        patch.setattr(_reader_process, "_SECONDS", 1.0)
        refused(tmp_path / "a.mat", "took longer than 1 s")
    monkeypatch.setattr(sys, "path", sound)
    assert np.allclose(read_recording(tmp_path / "a.mat").values, X, atol=1e-6)
    reader.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the system limits no memory")
def test_a_chunk_that_unpacks_without_end_fails_in_the_reader_alone(
    tmp_path: Path, h5py: Any
) -> None:
    bomb = zlib.compressobj()
    start = bomb.compress(b"") + bomb.flush(zlib.Z_FULL_FLUSH)
    piece = bomb.compress(bytes(1 << 24)) + bomb.flush(zlib.Z_FULL_FLUSH)  # the same each time
    deflated = start + piece * 192  # 3 GiB
    with h5py.File(tmp_path / "a.mat", "w") as file:
        dataset = file.create_dataset("x", (N,), "f8", chunks=(N,), compression="gzip")
        dataset.id.write_direct_chunk((0,), deflated)
    refused(tmp_path / "a.mat", "cannot be read as|does not fit|crashed the reader")


def test_one_process_reads_many_files_and_another_those_of_a_fork(
    tmp_path: Path, h5py: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["x"] = X
    with h5py.File(tmp_path / "damaged.mat", "w") as file:
        file.create_dataset("x", (N,), "u1", external=[("other", 0, N)])
    reader = ReaderProcess()
    reader.read("hdf5", tmp_path / "a.mat")
    process = reader._process
    assert process is not None
    with pytest.raises(InputError):
        reader.read("hdf5", tmp_path / "damaged.mat")
    (column,) = reader.read("hdf5", tmp_path / "a.mat").columns
    assert np.array_equal(column.values, X)
    assert reader._process is process
    reader.forget()  # as a fork does
    reader.read("hdf5", tmp_path / "a.mat")
    assert reader._process is not process and process.poll() is None
    reader.close()
    reader._process = process
    reader.close()


# Sizes


def npy(shape: str, kind: str = "<f8") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_a_small_archive_of_many_samples_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"x.npy": npy("(250000000,)") + bytes(1 << 20)})
    refused(path, "holds 250,000,000 samples; at most 67,108,864")
    half = npy(f"({MAX_SAMPLES // 2 + 1},)", "|i1") + bytes(MAX_SAMPLES // 2 + 1)
    refused(archive(tmp_path / "b.npz", {"x.npy": half, "y.npy": half}), "samples; at most")
    refused(archive(tmp_path / "c.npz", {"x.npy": npy("(1000,)") + bytes(100)}), "100 are there")
    refused(archive(tmp_path / "d.npz", {"x.npy": npy("(-1,)") + bytes(100)}), "holds no signal")
    sound = io.BytesIO()
    np.save(sound, X)
    others = {"text.npy": npy("()", "<U100000000"), "cube.npy": npy("(900, 900, 900)")}
    path = archive(tmp_path / "e.npz", {**others, "x.npy": sound.getvalue()})
    assert np.allclose(read_recording(path).values, X, atol=1e-6)


def test_archives_of_many_members_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {f"{i}.npy": b"" for i in range(1001)})
    refused(path, "more than 1,000 arrays")


def test_an_array_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy("(60000000,)") + bytes(100))
    refused(tmp_path / "a.npy", "should have 480,000,000 bytes, 100 are there")


def riff(n_channels: int, data: bytes, extra: bytes = b"") -> bytes:
    form = struct.pack("<HHIIHH", 1, n_channels, 8000, 8000 * 2 * n_channels % 2**32, 2, 16)
    chunks = extra + b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def test_many_channels_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(riff(65535, bytes(2 * 2 * 65535)))
    refused(tmp_path / "a.wav", "has 65,535 channels; at most 1,024 are read")
    (tmp_path / "b.wav").write_bytes(riff(1, bytes(100), (b"LIST" + bytes(4)) * 100_000))
    refused(tmp_path / "b.wav", "more than 1,000 chunks")
    np.save(tmp_path / "c.npy", np.zeros((2000, 3000), np.float32))
    refused(tmp_path / "c.npy", "has 2,000 channels; at most 1,024")
    header = ",".join("a" * (1 + i % 3) for i in range(MAX_CHANNELS + 1))
    rows = "\n".join([",".join(["1"] * (MAX_CHANNELS + 1))] * 20)
    (tmp_path / "d.csv").write_text(f"{header}\n{rows}\n", encoding="utf-8")
    refused(tmp_path / "d.csv", "has 1,025 channels")


def test_channels_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    rows = "\n".join([",".join(["1", "2", "3", "4"])] * 20)
    (tmp_path / "a.csv").write_text(f"a,a,a_2,a\n{rows}\n", encoding="utf-8")
    channels = read_recording(tmp_path / "a.csv").channels
    assert len(set(channels)) == 4
    assert channels[0] == "a"


def test_files_of_more_than_a_gibibyte_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.wav").open("wb") as stream:
        stream.write(b"RIFF")
        stream.truncate((1 << 30) + 1)  # takes no room
    refused(tmp_path / "a.wav", "has 1,073,741,825 bytes; recordings of at most")


def test_parquet_that_states_many_rows_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    zeros = pyarrow.array(np.zeros(MAX_SAMPLES // 2, np.int8))
    table = pyarrow.table({"a": zeros, "b": zeros, "c": zeros})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    refused(tmp_path / "a.parquet", "samples; at most")
