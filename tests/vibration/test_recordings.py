"""Recordings are read as they were written, and what is wrong with one is named."""

from __future__ import annotations

import os
import pickle
import struct
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.errors import ConfigurationError, InputError, MissingRuntimeError
from makellos.vibration._reader_process import READER
from makellos.vibration.recordings import (
    SIGNAL_SUFFIXES,
    Recording,
    check_recording,
    read_recording,
    refuse,
)

N = 500
RATE = 8000.0
RNG = np.random.default_rng(0)
DE = RNG.normal(size=N)
FE = RNG.normal(size=N)
TIME = np.arange(N) / RATE


def text(path: Path, rows: str) -> Path:
    path.write_text(rows, encoding="utf-8")
    return path


def table(*columns: NDArray[Any], separator: str = ",", decimal: str = ".") -> str:
    rows = (separator.join(f"{value:.9g}" for value in row) for row in zip(*columns, strict=True))
    return "\n".join(rows).replace(".", decimal) + "\n"


def recording(values: Any, **changes: Any) -> Recording:
    rows = np.atleast_2d(np.asarray(values, np.float32))
    names = tuple(f"ch{i + 1}" for i in range(len(rows)))
    return replace(Recording(rows, names, 1000.0, "g", Path("pump.csv")), **changes)


def holds(found: Recording, *expected: NDArray[Any]) -> bool:
    assert found.values.dtype == np.float32
    assert found.values.shape == (len(expected), len(expected[0]))
    return np.allclose(found.values, np.stack(expected), rtol=1e-6, atol=1e-7)


# Recording


def test_a_recording_gives_its_channels() -> None:
    one = recording([DE, FE], channels=("DE", "FE"), rate=RATE)
    assert one.n_samples == N
    assert one.seconds == N / RATE
    assert replace(one, rate=None).seconds is None
    assert np.array_equal(one.channel(), one.values[0])
    assert np.array_equal(one.channel("FE"), one.values[1])
    assert np.array_equal(one.channel(1), one.values[1])
    with pytest.raises(InputError, match=r"pump\.csv has no channel 'DES'\. Did you mean 'DE'"):
        one.channel("DES")
    with pytest.raises(InputError, match="position 2; expected 0 to 1"):
        one.channel(2)
    with pytest.raises(InputError, match="position -1"):
        one.channel(-1)


# NumPy


@pytest.mark.parametrize("key", ["rate", "fs", "sampling_rate", "sample_rate"])
def test_npz_channels_and_rate(tmp_path: Path, key: str) -> None:
    np.savez(tmp_path / "a.npz", DE=DE, FE=FE.astype(np.float32), unit="g", **{key: 48000})
    found = read_recording(tmp_path / "a.npz")
    assert found.channels == ("DE", "FE")
    assert (found.rate, found.unit) == (48000.0, "g")
    assert found.path == tmp_path / "a.npz"
    assert holds(found, DE, FE)


def test_npz_keeps_the_longest_group(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", rpm=np.arange(20.0), DE=DE, names=np.array(["a", "b"]), load=3)
    found = read_recording(tmp_path / "a.npz")
    assert found.channels == ("DE",)
    assert found.rate is None


def test_npz_holds_channels_along_the_shorter_axis(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", acc=np.stack([DE, FE], axis=1))
    found = read_recording(tmp_path / "a.npz")
    assert found.channels == ("acc_1", "acc_2")
    assert holds(found, DE, FE)


def test_npz_time_gives_the_rate(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", DE=DE, time=TIME)
    found = read_recording(tmp_path / "a.npz")
    assert (found.channels, found.rate, found.gaps) == (("DE",), RATE, ())


def test_npz_without_a_signal(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", rate=5, name="x", picture=np.zeros((3, 4, 5)))
    with pytest.raises(InputError, match=r"a\.npz holds no signal"):
        read_recording(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(N,), (N, 1), (1, N)])
def test_npy_of_one_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", DE.reshape(shape))
    found = read_recording(tmp_path / "a.npy", rate=RATE)
    assert (found.channels, found.rate, found.unit) == (("ch1",), RATE, None)
    assert holds(found, DE)


def test_npy_of_several_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([DE, FE]))
    found = read_recording(tmp_path / "a.npy")
    assert found.channels == ("ch1", "ch2")
    assert holds(found, DE, FE)


def test_whole_numbers_become_float(tmp_path: Path) -> None:
    counts = np.array([-32768, 0, 32767] * 10, np.int16)
    np.save(tmp_path / "a.npy", counts)
    assert holds(read_recording(tmp_path / "a.npy"), counts)


class Trap:
    """Fail the test when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("unpickled",))


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_objects_are_refused_without_unpickling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"a{suffix}"
    trap = np.array([Trap()], dtype=object)
    if suffix == ".npz":
        np.savez(path, allow_pickle=True, DE=DE, trap=trap)
    else:
        np.save(path, trap, allow_pickle=True)
    with pytest.raises(InputError, match=rf"a\{suffix} holds Python objects \(pickle\)"):
        read_recording(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=rf"a\{suffix}"):
        read_recording(path)
    assert not (tmp_path / "unpickled").exists()


# MATLAB


def test_mat_version_5_of_the_cwru_kind(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    variables = {"X097_DE_time": DE[:, None], "X097_FE_time": FE[:, None], "X097RPM": [[1796]]}
    scipy_io.savemat(tmp_path / "97.mat", variables)
    found = read_recording(tmp_path / "97.mat")
    assert found.channels == ("DE", "FE")
    assert found.rate is None
    assert holds(found, DE, FE)


def test_mat_keeps_names_that_would_collide(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    scipy_io.savemat(tmp_path / "a.mat", {"X098_DE_time": DE, "X099_DE_time": FE, "fs": 12000.0})
    found = read_recording(tmp_path / "a.mat")
    assert found.channels == ("X098_DE_time", "X099_DE_time")
    assert found.rate == 12000.0


def test_mat_version_7_3(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["X097_DE_time"] = DE[None]
        file["X097_FE_time"] = FE[None]
        file["fs"] = np.array([[12000.0]])
        file["unit"] = np.array([[ord("g")]], np.uint16)
        file["unit"].attrs["MATLAB_class"] = np.bytes_(b"char")
        file["#refs#/a"] = np.arange(9000.0)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
    found = read_recording(path)
    assert found.channels == ("DE", "FE")
    assert (found.rate, found.unit) == (12000.0, "g")
    assert holds(found, DE, FE)


@pytest.mark.parametrize(
    ("name", "content", "package"),
    [
        ("a.mat", b"MATLAB 7.3 MAT-file", "h5py"),
        ("a.parquet", b"PAR1", "pyarrow"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, package: str
) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    READER.close()  # the next one starts without the package
    (tmp_path / name).write_bytes(content)
    try:
        with pytest.raises(MissingRuntimeError, match=r"pip install '.*\[signals\]'"):
            read_recording(tmp_path / name)
    finally:
        READER.close()


# Text


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".tsv"])
@pytest.mark.parametrize(
    ("separator", "decimal"),
    [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), (" ", "."), ("  ", ",")],
)
@pytest.mark.parametrize("header", [True, False])
def test_text_with_any_separator(
    tmp_path: Path, suffix: str, separator: str, decimal: str, header: bool
) -> None:
    names = separator.join(["DE", "FE"]) + "\n" if header else ""
    path = text(
        tmp_path / f"a{suffix}", names + table(DE, FE, separator=separator, decimal=decimal)
    )
    found = read_recording(path)
    assert found.channels == (("DE", "FE") if header else ("ch1", "ch2"))
    assert found.rate is None
    assert holds(found, DE, FE)


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("header", ["", "acc\n", "drive end [g]\n"])
def test_text_of_one_column(tmp_path: Path, decimal: str, header: str) -> None:
    found = read_recording(text(tmp_path / "a.txt", header + table(DE, decimal=decimal)))
    assert holds(found, DE)
    names = {"": ("ch1", None), "acc\n": ("acc", None), "drive end [g]\n": ("drive end", "g")}
    assert (found.channels[0], found.unit) == names[header]


def test_two_columns_of_whole_numbers_are_no_decimals(tmp_path: Path) -> None:
    left, right = np.round(DE * 1000), np.round(FE * 1000)
    found = read_recording(text(tmp_path / "a.csv", "# pump 3\nDE,FE\n" + table(left, right)))
    assert holds(found, left, right)


@pytest.mark.parametrize(
    ("header", "rate"),
    [
        ("time,acc [g]", RATE),
        ("t,acc (g)", RATE),
        ("s,acc[g]", RATE),
        ("Time [s],acc [g]", RATE),
        ("Time [ms],acc [g]", RATE * 1000),
        ('"Time (ms)","acc (g)"', RATE * 1000),
        ("# time,acc\n# (ms),(g)", RATE * 1000),
        ("time,acc\nms,g", RATE * 1000),
        ("Time [min],acc [g]", RATE / 60),
        ("something,acc [g]", RATE),
    ],
)
def test_a_time_column_gives_the_rate(tmp_path: Path, header: str, rate: float) -> None:
    found = read_recording(text(tmp_path / "a.csv", f"{header}\n" + table(TIME, DE)))
    assert (found.channels, found.unit) == (("acc",), "g")
    assert found.rate == pytest.approx(rate, rel=1e-6)
    assert found.gaps == ()
    assert holds(found, DE)


def test_units_that_differ_stay_with_their_channels(tmp_path: Path) -> None:
    rows = "time [s];acc [m/s2];speed [rpm]\n" + table(TIME, DE, FE, separator=";")
    found = read_recording(text(tmp_path / "a.csv", rows))
    assert found.channels == ("acc [m/s2]", "speed [rpm]")
    assert found.unit is None


@pytest.mark.parametrize("digits", [5, 6, 9])
def test_times_of_few_digits_give_the_rate(tmp_path: Path, digits: int) -> None:
    signal = RNG.normal(size=20_000)
    times = np.arange(len(signal)) / 48000
    rows = "\n".join(f"{t:.{digits}f}\t{x:.6f}" for t, x in zip(times, signal, strict=True))
    found = read_recording(text(tmp_path / "a.tsv", "time\tacc\n" + rows))
    assert found.rate == pytest.approx(48000, rel=1e-4)
    assert found.gaps == ()


def test_a_count_of_rows_is_neither_channel_nor_rate(tmp_path: Path) -> None:
    found = read_recording(text(tmp_path / "a.csv", ",acc\n" + table(np.arange(N), DE)))
    assert (found.channels, found.rate) == (("acc",), None)
    found = read_recording(text(tmp_path / "b.csv", ",0\n" + table(np.arange(N), DE)))
    assert (found.channels, found.rate) == (("0",), None)
    assert holds(found, DE)


def test_gaps_of_the_time_are_found(tmp_path: Path) -> None:
    times = TIME.copy()
    times[200:] += 9 / RATE
    times[400:] += 99 / RATE
    found = read_recording(text(tmp_path / "a.csv", "time,acc\n" + table(times, DE)))
    assert found.rate == RATE
    assert [place for place, _ in found.gaps] == [200, 400]
    assert [jump for _, jump in found.gaps] == pytest.approx([10, 100], rel=1e-4)
    (finding,) = check_recording(found, window=64)
    assert finding.startswith(f"{found.path} has 2 gaps: its time jumps by 10 sampling periods")
    assert "first at 0.025 s" in finding
    with pytest.raises(InputError, match="2 gaps"):
        refuse(found, window=64)


def test_a_time_that_goes_back_is_a_gap(tmp_path: Path) -> None:
    times = np.concatenate([TIME[:300], TIME[:200]])
    found = read_recording(text(tmp_path / "a.csv", "time,acc\n" + table(times, DE)))
    assert [place for place, _ in found.gaps] == [300]
    assert found.gaps[0][1] < 0


def test_a_time_that_stands_still_is_refused(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "time,acc\n" + table(np.zeros(N), DE))
    with pytest.raises(InputError, match=r"a\.csv: the column 'time' does not rise"):
        read_recording(path)


@pytest.mark.parametrize(
    "line", ["Sampling rate [Hz]: 51200", "# fs = 51.2 kHz", "sample_rate;51200", "Rate\t51200 Hz"]
)
def test_a_header_may_state_the_rate(tmp_path: Path, line: str) -> None:
    path = text(tmp_path / "a.txt", f"Recorder 7\n{line}\n\nDE;FE\n" + table(DE, FE, separator=";"))
    found = read_recording(path)
    assert (found.rate, found.channels) == (51200.0, ("DE", "FE"))
    assert holds(found, DE, FE)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_text_encodings_and_line_ends(tmp_path: Path, encoding: str) -> None:
    rows = "Gehäuse;Fuß\n" + table(DE, FE, separator=";", decimal=",")
    path = tmp_path / "a.csv"
    path.write_bytes(rows.replace("\n", "\r\n").encode(encoding))
    found = read_recording(path)
    assert found.channels == ("Gehäuse", "Fuß")
    assert holds(found, DE, FE)


def test_empty_fields_are_nan_and_empty_last_columns_none(tmp_path: Path) -> None:
    rows = table(DE, FE, separator=";").splitlines()
    rows[3] = ";" + rows[3].split(";")[1]
    rows[7] = rows[7].split(";")[0] + ";"
    found = read_recording(text(tmp_path / "a.csv", "DE;FE;\n" + "".join(f"{r};\n" for r in rows)))
    assert found.channels == ("DE", "FE")
    assert np.argwhere(np.isnan(found.values)).tolist() == [[0, 3], [1, 7]]


@pytest.mark.parametrize(
    ("wrong", "at", "told"),
    [
        ("1.0,oops", 0, r", column 2 \(FE\): 'oops' is not a number"),
        ("1.0,oops", N - 1, r", column 2 \(FE\): 'oops' is not a number"),
        ("1_0,2.0", 9, r", column 1 \(DE\): '1_0' is not a number"),
        ("1.0,2.0,3.0", 9, ": '1.0 | 2.0 | 3.0' has 3 fields, but the other rows have 2"),
        ("1.0", N - 1, ": '1.0' has 1 field, but the other rows have 2"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(
    tmp_path: Path, wrong: str, at: int, told: str
) -> None:
    rows = table(DE, FE).splitlines()
    rows[at] = wrong
    path = text(tmp_path / "a.csv", "DE,FE\n" + "\n".join(rows))
    with pytest.raises(InputError, match=rf"a\.csv, line {at + 2}{told.replace('|', '[|]')}"):
        read_recording(path)


def test_a_large_offset_keeps_the_precision_of_the_file(tmp_path: Path) -> None:
    signal = 1e5 + DE
    found = read_recording(text(tmp_path / "a.csv", "\n".join(map(repr, signal.tolist()))))
    assert np.array_equal(found.values[0], signal.astype(np.float32))


# Parquet


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    fields = [
        pyarrow.field("DE", pyarrow.float64(), metadata={"unit": "g"}),
        pyarrow.field("FE [g]", pyarrow.float32()),
        pyarrow.field("note", pyarrow.string()),
    ]
    schema = pyarrow.schema(fields, metadata={"fs": "48000"})
    columns = [DE, FE.astype(np.float32), ["x"] * N]
    parquet.write_table(pyarrow.table(columns, schema=schema), tmp_path / "a.parquet")
    found = read_recording(tmp_path / "a.parquet")
    assert (found.channels, found.rate, found.unit) == (("DE", "FE"), 48000.0, "g")
    assert holds(found, DE, FE)


def test_parquet_time_stamps_and_missing_values(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    start = np.datetime64("2024-05-01T12:00:00", "us")
    stamps = start + (np.arange(N) * 125).astype("timedelta64[us]")
    values = [None, *range(1, N)]
    table_ = pyarrow.table({"when": stamps, "acc": pyarrow.array(values, pyarrow.int32())})
    parquet.write_table(table_, tmp_path / "a.parquet")
    found = read_recording(tmp_path / "a.parquet")
    assert (found.channels, found.rate) == (("acc",), RATE)
    assert np.isnan(found.values[0, 0])
    assert np.array_equal(found.values[0, 1:], np.arange(1, N))


# WAV


def riff(form: bytes, data: bytes) -> bytes:
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # of odd length, and of no interest
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + extra
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_wav_of_whole_numbers(tmp_path: Path, width: int, n_channels: int) -> None:
    full = 2 ** (8 * width - 1)
    counts = RNG.integers(-full, full, (N, n_channels))
    counts[:2] = [[-full] * n_channels, [full - 1] * n_channels]
    stored = counts + full if width == 1 else counts
    content = b"".join(
        int(value).to_bytes(width, "little", signed=width > 1) for value in stored.ravel()
    )
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(n_channels)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(content)
    found = read_recording(tmp_path / "a.wav")
    assert (found.rate, found.unit) == (RATE, None)
    assert found.channels == ("ch1", "ch2")[:n_channels]
    assert np.array_equal(found.values, (counts.T / full).astype(np.float32))
    assert found.values.min() == -1


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("extensible", [True, False])
def test_wav_of_floats(tmp_path: Path, bits: int, extensible: bool) -> None:
    tag = 0xFFFE if extensible else 3
    form = struct.pack("<HHIIHH", tag, 2, 8000, 8000 * bits // 4, bits // 4, bits)
    if extensible:
        form += struct.pack("<HHIH", 22, bits, 3, 3) + bytes(14)
    samples = (3 * np.stack([DE, FE], axis=1)).astype(f"<f{bits // 8}")
    (tmp_path / "a.wav").write_bytes(riff(form, samples.tobytes()))
    found = read_recording(tmp_path / "a.wav")
    assert found.rate == RATE
    assert holds(found, 3 * DE, 3 * FE)


def test_wav_cut_off_or_of_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    path.write_bytes(riff(form, bytes(200))[:-10])
    with pytest.raises(InputError, match=r"a\.wav .*'data' should have 200 bytes, 190 are there"):
        read_recording(path)
    path.write_bytes(riff(struct.pack("<HHIIHH", 6, 1, 8000, 8000, 1, 8), bytes(200)))
    with pytest.raises(InputError, match=r"a\.wav .*format 6, 8 bits"):
        read_recording(path)


# Files that cannot be read


@pytest.mark.parametrize("suffix", sorted(SIGNAL_SUFFIXES))
def test_empty_and_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    for package in {".mat": ["h5py"], ".parquet": ["pyarrow"]}.get(suffix, []):
        pytest.importorskip(package)
    starts = {
        ".npz": [b"PK\x03\x04"],
        ".npy": [b"\x93NUMPY\x01\x00\x76\x00{'descr': "],
        ".mat": [b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"],
        ".parquet": [b"PAR1"],
        ".wav": [b"RIFF\x00\x00\x00\x00WAVEfmt "],
    }
    path = tmp_path / f"pump{suffix}"
    path.touch()
    with pytest.raises(InputError, match=rf"pump\{suffix} is empty"):
        read_recording(path)
    for start in [*starts.get(suffix, []), b"", b"\xff\x00\x01"]:
        path.write_bytes(start + np.random.default_rng(1).bytes(2000))
        with pytest.raises(InputError, match=rf"pump\{suffix} cannot be read as"):
            read_recording(path)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat", ".parquet"])
def test_files_cut_off_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pump{suffix}"
    if suffix == ".npz":
        np.savez(path, DE=DE)
    elif suffix == ".npy":
        np.save(path, DE)
    elif suffix == ".mat":
        pytest.importorskip("scipy.io").savemat(path, {"DE": DE})
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"DE": DE}), path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(InputError, match=rf"pump\{suffix} cannot be read as"):
        read_recording(path)


@pytest.mark.parametrize("content", ["\n\n", "no numbers here\n", "a,b\nc,d\n"])
def test_text_without_numbers(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"a\.csv holds no rows of numbers"):
        read_recording(text(tmp_path / "a.csv", content))


def test_paths_that_are_no_recording(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.npz does not exist"):
        read_recording(tmp_path / "a.npz")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(InputError, match=r"folder\.npy is a folder"):
        read_recording(tmp_path / "folder.npy")
    (tmp_path / "a.mp3").write_bytes(bytes(100))
    with pytest.raises(InputError, match=r"a\.mp3 is not a recording.*\.csv, \.lvm, \.mat, \.npy"):
        read_recording(tmp_path / "a.mp3")


# The rate


def test_the_rate_given_must_agree_with_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", DE=DE, fs=48000)
    assert read_recording(tmp_path / "a.npz", rate=48100).rate == 48100
    with pytest.raises(
        InputError, match=r"a\.npz states that it was recorded at 48,000 Hz, but 12,000 Hz was"
    ):
        read_recording(tmp_path / "a.npz", rate=12000)
    for rate in (0.0, -5.0, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="above 0"):
            read_recording(tmp_path / "a.npz", rate=rate)


# Findings


def test_a_sound_recording_has_no_findings() -> None:
    one = recording([DE, FE])
    assert check_recording(one, window=64, rate=1005, channels=["ch1"], n_channels=2) == []
    assert refuse(one, window=N) == []
    sine = recording(np.sin(np.arange(5000) * 0.01))
    assert check_recording(sine, window=64) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(value: float) -> None:
    signal = DE.copy()
    signal[[250, 300]] = value
    one = recording([FE, signal])
    (finding,) = check_recording(one, window=64)
    assert finding.startswith("pump.csv, channel ch2: 2 samples of 500 are NaN, infinite")
    assert "first at 0.25 s" in finding
    (finding,) = check_recording(replace(one, rate=None), window=64)
    assert "first at sample 250" in finding
    with pytest.raises(InputError, match="NaN"):
        refuse(one, window=64)
    assert refuse(one, window=64, channels=["ch1"]) == []


def test_values_too_large_for_float32_are_found(tmp_path: Path) -> None:
    signal = DE.copy()
    signal[7] = 1e300
    np.save(tmp_path / "a.npy", signal)
    with pytest.raises(InputError, match=r"1 sample of 500 is NaN, infinite or too large"):
        refuse(read_recording(tmp_path / "a.npy"), window=64)


def test_a_constant_channel() -> None:
    with pytest.raises(InputError, match=r"pump\.csv, channel ch2: constant at 0\.25"):
        refuse(recording([DE, np.full(N, 0.25)]), window=64)


def test_shorter_than_a_window() -> None:
    assert check_recording(recording(DE), window=N) == []
    with pytest.raises(
        InputError, match=r"pump\.csv has 500 samples, fewer than one window of 501"
    ):
        refuse(recording(DE), window=N + 1)
    with pytest.raises(ConfigurationError, match="The window is 8"):
        check_recording(recording(DE), window=8)


def test_another_rate_than_at_fit() -> None:
    assert check_recording(recording(DE), window=64, rate=1009) == []
    assert check_recording(recording(DE, rate=None), window=64, rate=1009) == []
    with pytest.raises(InputError, match=r"pump\.csv was recorded at 1,000 Hz, .* 1,020 Hz"):
        refuse(recording(DE), window=64, rate=1020)


def test_other_channels_than_at_fit() -> None:
    one = recording([DE, FE], channels=("DE", "FE"))
    with pytest.raises(InputError, match=r"pump\.csv has 2 channels \(DE, FE\), .* fitted on 3"):
        refuse(one, window=64, n_channels=3)
    with pytest.raises(InputError, match=r"pump\.csv has no channel 'BA', which"):
        refuse(one, window=64, channels=["DE", "BA"])


def test_clipping_warns() -> None:
    signal = np.sin(np.arange(5000) * 0.01)
    one = recording(np.clip(signal, -0.95, 2))
    (finding,) = refuse(one, window=64)
    share = (signal < -0.95).mean()
    assert finding.startswith(f"pump.csv, channel ch1: {share:.2%} of the samples sit")
    in_pairs = np.tile([1.0, 1.0, -1.0, -1.0, 0.3], 100)
    assert check_recording(recording(in_pairs), window=64) == []
    rare = np.concatenate([RNG.uniform(-0.9, 0.9, 2998), [1, 1, 1], RNG.uniform(-0.9, 0.9, 999)])
    assert check_recording(recording(rare), window=64) == []
    often = np.concatenate([rare, [1, 1, 1]])
    assert len(check_recording(recording(often), window=64)) == 1


def test_an_offset_that_leaves_nothing_of_the_signal_warns() -> None:
    (finding,) = refuse(recording(1e6 + np.clip(DE, -0.3, 0.3)), window=64)
    assert "too little for float32" in finding


def test_all_findings_come_at_once() -> None:
    one = recording([np.full(40, np.nan), np.zeros(40)])
    found = check_recording(one, window=64, rate=500, n_channels=1)
    assert len(found) == 5
    assert all(sentence.startswith("pump.csv") for sentence in found)
    with pytest.raises(InputError) as raised:
        refuse(one, window=64, rate=500, n_channels=1)
    assert str(raised.value) == " ".join(found)


@pytest.mark.real
@pytest.mark.skipif("MAKELLOS_DATA" not in os.environ, reason="needs MAKELLOS_DATA")
def test_a_recording_of_a_real_bearing() -> None:
    path = Path(os.environ["MAKELLOS_DATA"]) / "bearing_cwru_48k" / "Normal.npz"
    found = read_recording(path, rate=48000)
    assert found.channels == ("DE", "FE")
    assert found.n_samples == 243_938
    assert refuse(found, window=2048, rate=48000, channels=["FE"], n_channels=2) == []
