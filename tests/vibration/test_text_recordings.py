"""Text as people and their recorders write it: quotes, units, stamps, words, LabVIEW files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from makellos.errors import InputError
from makellos.vibration.recordings import check_recording, read_recording

N = 600
RNG = np.random.default_rng(0)
A, B = RNG.normal(0, 0.5, (2, N)).round(4)
SECONDS = np.arange(N) / 12000


def written(path: Path, header: str, *columns: Sequence[str], separator: str = ",") -> Path:
    rows = (separator.join(row) for row in zip(*columns, strict=True))
    path.write_text(header + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def cells(values: Sequence[float], form: str = "{:.4f}") -> list[str]:
    return [form.format(value) for value in values]


def comma(values: Sequence[float], form: str = '"{:.4f}"') -> list[str]:
    return [cell.replace(".", ",") for cell in cells(values, form)]


def assert_holds(path: Path, *, names: Sequence[str] = ("a", "b")) -> None:
    found = read_recording(path)
    assert found.channels == tuple(names)
    assert np.allclose(found.values, [A, B], atol=1e-6)
    assert not found.notes


# Quotes


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["a{}b\n", '"a"{}"b"\n', "{}\n"])
def test_quoted_decimal_commas_are_decimals(tmp_path: Path, separator: str, header: str) -> None:
    names = ("ch1", "ch2") if header == "{}\n" else ("a", "b")
    path = written(
        tmp_path / "a.csv", header.format(separator), comma(A), comma(B), separator=separator
    )
    assert_holds(path, names=names)


def test_quotes_hold_separators_and_thousands(tmp_path: Path) -> None:
    large = cells(1234.5 + A, '"{:,.4f}"')
    path = written(tmp_path / "a.csv", '"a, drive end","b"\n', large, cells(B))
    found = read_recording(path)
    assert found.channels == ("a, drive end", "b")
    assert np.allclose(found.values, [1234.5 + A, B], atol=1e-3)
    german = [cell.translate(str.maketrans(",.", ".,")) for cell in large]
    path = written(tmp_path / "b.csv", "a;b\n", german, comma(B, "{:.4f}"), separator=";")
    assert np.allclose(read_recording(path).values, [1234.5 + A, B], atol=1e-3)


def test_whole_rows_in_quotes_and_numbers_that_are_quoted_now_and_then(tmp_path: Path) -> None:
    rows = comma(A, "{:.4f}"), comma(B, "{:.4f}")
    path = written(
        tmp_path / "a.csv",
        "",
        ['"' + a for a in rows[0]],
        [b + '"' for b in rows[1]],
        separator=";",
    )
    assert_holds(path, names=("ch1", "ch2"))
    mixed = [f'"{a}"' if i < 3 else a for i, a in enumerate(cells(A))]
    assert_holds(written(tmp_path / "b.csv", "a,b\n", mixed, cells(B)))


# Units


@pytest.mark.parametrize(
    ("header", "rate", "channels", "unit"),
    [
        ("time,acc_x\nms,g\n", 12e3, ("acc_x",), "g"),
        ("time;acc_x\nms;g\n", 12e3, ("acc_x",), "g"),
        ("time,acc_x\n[ms],[g]\n", 12e3, ("acc_x",), "g"),
        ("Run 3\n\ntime,acc_x\nms,m/s^2\n", 12e3, ("acc_x",), "m/s^2"),
        ("time,acc_x\nms,\n", 12e3, ("acc_x",), None),
        ("time,acc_x\nms,bananas\n", 12e3, ("acc_x",), "bananas"),
        ("ms,acc_x\n", 12e3, ("acc_x",), None),
        ("ts,acc_x\nms,g\n", 12e3, ("acc_x",), "g"),
        ("time (ms),acc_x\n", 12e3, ("acc_x",), None),
        ("t_ms,acc_x\n", 12e3, ("acc_x",), None),
        ("Time [ms];acc_x [g]\n", 12e3, ("acc_x",), "g"),
    ],
)
def test_units_below_or_in_the_names(
    tmp_path: Path, header: str, rate: float, channels: tuple[str, ...], unit: str | None
) -> None:
    separator = ";" if ";" in header else ","
    path = written(tmp_path / "a.csv", header, cells(SECONDS * 1e3), cells(A), separator=separator)
    found = read_recording(path)
    assert (found.channels, found.rate, found.unit) == (
        channels,
        pytest.approx(rate, rel=1e-4),
        unit,
    )
    assert np.allclose(found.values, A, atol=1e-6)


# Times


@pytest.mark.parametrize(
    ("unit", "form"),
    [(1, "{:.7f}"), (1e3, "{:.4f}"), (1e3, "{:.0f}"), (1e6, "{:.0f}"), (1e9, "{:.0f}")],
)
@pytest.mark.parametrize("name", ["timestamp", "when"])
def test_times_since_1970_have_the_unit_of_their_size(
    tmp_path: Path, unit: float, form: str, name: str
) -> None:
    times = [form.format(1_700_000_000 * unit + each * unit) for each in SECONDS]
    found = read_recording(written(tmp_path / "a.csv", f"{name},acc_x\n", times, cells(A)))
    assert found.channels == ("acc_x",)
    assert found.rate == pytest.approx(12000, rel=2e-3)
    assert found.gaps == ()


@pytest.mark.parametrize("name", ["time [s]", "time_s", "s"])
def test_a_unit_that_times_since_1970_contradict_is_not_believed(tmp_path: Path, name: str) -> None:
    times = [f"{1_700_000_000_000 + each * 1e3:.4f}" for each in SECONDS]
    path = written(tmp_path / "a.csv", f"{name},acc_x\n", times, cells(A))
    with pytest.raises(InputError, match="12 Hz"):
        read_recording(path)
    assert read_recording(path, rate=12).rate == 12


def test_a_low_rate_of_times_is_noted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time [s],acc\n", cells(np.arange(N) / 50), cells(A))
    found = read_recording(path)
    assert found.rate == 50
    assert "50 Hz, which is low for vibration" in found.notes[0]
    assert read_recording(path, usual=50).notes == ()


def test_epoch_nanoseconds_of_whole_numbers_keep_every_digit(tmp_path: Path) -> None:
    times = 1_700_000_000_000_000_000 + np.round(SECONDS * 1e9).astype(np.int64)
    np.savez(tmp_path / "a.npz", time=times, acc=A)
    assert read_recording(tmp_path / "a.npz").rate == 12000
    np.savez(tmp_path / "b.npz", time=times.astype(np.uint64), acc=A)
    assert read_recording(tmp_path / "b.npz").rate == 12000


@pytest.mark.parametrize(
    ("header", "factor", "told"),
    [
        (
            "time,acc\n",
            1e3,
            r"rises by 0\.08333\d* .* in s \(no unit is stated\) .* 12 Hz.*12,000 Hz in ms",
        ),
        ("time,acc\n", 1e6, r"0\.012 Hz.*12,000 Hz in us"),
        ("time [s],acc\n", 1e6, r"in s \(as stated\) .* 0\.012 Hz"),
        ("something,acc\n", 1e3, "'something' rises"),
        (",acc\n", 1e3, "read as time .it rises evenly., rises"),
        ("time [ns],acc\n", 1, r"1\.2e\+13 Hz"),
        ("time,acc\n", 1 / 3600, r"4\.3\d*e\+07 Hz"),
    ],
)
def test_a_rate_that_cannot_be_is_refused(
    tmp_path: Path, header: str, factor: float, told: str
) -> None:
    path = written(tmp_path / "a.csv", header, cells(SECONDS * factor, "{:.9f}"), cells(A))
    with pytest.raises(InputError, match=told) as raised:
        read_recording(path)
    assert "a.csv" in str(raised.value) and "--rate HZ" in str(raised.value)


def test_a_known_rate_gives_times_their_unit(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,acc\n", cells(SECONDS * 1e3, "{:.7f}"), cells(A))
    assert read_recording(path, rate=12000).rate == 12000
    assert read_recording(path, usual=12000).rate == 12000
    slow = written(tmp_path / "b.csv", "time,acc\n", cells(np.arange(N) / 50), cells(A))
    with pytest.raises(InputError, match="50 Hz"):
        read_recording(slow)
    assert read_recording(slow, rate=50).rate == 50
    assert read_recording(slow, usual=50).rate == 50
    stated = written(
        tmp_path / "c.csv", "fs = 12000\ntime,acc\n", cells(SECONDS * 1e3, "{:.7f}"), cells(A)
    )
    assert read_recording(stated).rate == 12000


@pytest.mark.parametrize("rate", [0.5, 1e9])
def test_a_stated_rate_that_cannot_be_is_refused(tmp_path: Path, rate: float) -> None:
    np.savez(tmp_path / "a.npz", acc=A, fs=rate)
    with pytest.raises(InputError, match=r"states a sampling rate of (0\.5|1e\+09) Hz"):
        read_recording(tmp_path / "a.npz")
    assert read_recording(tmp_path / "a.npz", rate=rate).rate == rate


def test_a_low_stated_rate_is_noted(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", acc=A, fs=51.2)
    found = read_recording(tmp_path / "a.npz")
    assert found.rate == 51.2
    assert "51.2 Hz, which is low" in found.notes[0]
    assert found.notes[0] in check_recording(found, window=64)
    assert read_recording(tmp_path / "a.npz", usual=51.2).notes == ()


def test_header_and_times_that_disagree_are_refused(tmp_path: Path) -> None:
    header = "Sampling rate: 48000 Hz\ntime [s],acc\n"
    path = written(tmp_path / "a.csv", header, cells(SECONDS, "{:.7f}"), cells(A))
    with pytest.raises(InputError, match=r"states .* 48,000 Hz, but its times give 12,000"):
        read_recording(path)


def iso(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")


@pytest.mark.parametrize(
    "form",
    [
        iso,
        lambda at: iso(at).replace("T", " "),
        lambda at: iso(at) + "Z",
        lambda at: iso(at) + "+02:00",
        lambda at: f'"{at:%d.%m.%Y %H:%M:%S},{at.microsecond:06d}"',
        lambda at: f"{at:%m/%d/%Y %I:%M:%S}.{at.microsecond:06d} {at:%p}",
        lambda at: f"{at:%H:%M:%S}.{at.microsecond:06d}",
    ],
)
def test_time_stamps_give_the_rate(tmp_path: Path, form: Callable[[datetime], str]) -> None:
    start = datetime(2024, 2, 29, 23, 59, 59, 990_000)  # over midnight, and noon with AM and PM
    stamps = [form(start + timedelta(seconds=float(each))) for each in SECONDS]
    found = read_recording(written(tmp_path / "a.csv", "timestamp,acc\n", stamps, cells(A)))
    assert found.channels == ("acc",)
    assert found.rate == pytest.approx(12000, rel=1e-3)
    assert found.gaps == ()
    stamps[300:] = [form(start + timedelta(seconds=1 + float(each))) for each in SECONDS[300:]]
    found = read_recording(written(tmp_path / "b.csv", "timestamp,acc\n", stamps, cells(A)))
    assert [place for place, _ in found.gaps] == [300]


def test_date_and_time_in_two_columns(tmp_path: Path) -> None:
    start = datetime(2024, 2, 28, 23, 59, 59, 990_000)
    at = [start + timedelta(seconds=float(each)) for each in SECONDS]
    days, times = [f"{each:%Y-%m-%d}" for each in at], [f"{each:%H:%M:%S.%f}" for each in at]
    found = read_recording(written(tmp_path / "a.csv", "Date,Time,acc\n", days, times, cells(A)))
    assert (found.channels, found.notes) == (("acc",), ())
    assert found.rate == pytest.approx(12000, rel=1e-3)


def test_stamps_of_whole_seconds_give_the_rate_where_they_can(tmp_path: Path) -> None:
    times = np.arange(1700, 5200) / 1000  # 1000 Hz, from the middle of a second on
    stamps = [f"10:20:{int(each):02d}" for each in times]
    signal = cells(RNG.normal(size=len(times)))
    found = read_recording(written(tmp_path / "a.csv", "time,acc\n", stamps, signal))
    assert found.rate == 1000
    path = written(tmp_path / "b.csv", "time,acc\n", stamps[:1000], signal[:1000])
    with pytest.raises(InputError, match="'time' hardly rises"):
        read_recording(path)


def test_the_time_may_stand_after_a_count_of_rows_or_behind(tmp_path: Path) -> None:
    times, count = cells(SECONDS, "{:.7f}"), [str(i) for i in range(N)]
    found = read_recording(written(tmp_path / "a.csv", ",time,acc\n", count, times, cells(A)))
    assert (found.channels, found.rate) == (("acc",), 12000)
    found = read_recording(written(tmp_path / "b.csv", "acc,timestamp\n", cells(A), times))
    assert (found.channels, found.rate) == (("acc",), 12000)


# Words


def test_columns_of_words_are_left_out_and_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "a,state,b\n", cells(A), ["on"] * N, cells(B))
    found = read_recording(path)
    assert found.channels == ("a", "b")
    assert np.allclose(found.values, [A, B], atol=1e-6)
    assert found.notes == (f"{path}: the column state holds words and is left out.",)


def test_single_words_in_a_column_of_numbers_are_named(tmp_path: Path) -> None:
    wrong = cells(B)
    wrong[-5:] = ["overload"] * 5
    path = written(tmp_path / "a.csv", "a,b\n", cells(A), wrong)
    with pytest.raises(
        InputError, match=rf"line {N - 3}, column 2 \(b\): 'overload' is not a number"
    ):
        read_recording(path)
    stamps = ["10:20:30.1"] * N
    stamps[7] = "soon"
    path = written(tmp_path / "b.csv", "time,b\n", stamps, cells(B))
    with pytest.raises(InputError, match=r"line 9, column 1 \(time\): 'soon' is not a time"):
        read_recording(path)


def test_absent_values_are_nan(tmp_path: Path) -> None:
    values = ['"1,5"', "NaN", "NA", "", "null", *comma(A)]
    found = read_recording(written(tmp_path / "a.csv", "a,b\n", values, [*comma(B), *["0"] * 5]))
    assert np.isnan(found.values[0, 1:5]).all()
    assert np.isfinite(found.values[0, [0, 5]]).all()


@pytest.mark.parametrize("n_rows", [1, 2, 10])
def test_rows_and_columns_the_other_way_round_are_said(tmp_path: Path, n_rows: int) -> None:
    table = RNG.normal(size=(n_rows, 400))
    np.savetxt(tmp_path / "a.csv", table, delimiter=",")
    told = rf"a\.csv has 400 columns and {n_rows} rows?\. .*transpose it"
    with pytest.raises(InputError, match=told):
        read_recording(tmp_path / "a.csv")


def test_many_channels_of_an_array_are_noted(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", windows=RNG.normal(size=(2048, 100)), fs=12000)
    found = read_recording(tmp_path / "a.npz")
    assert found.values.shape == (100, 2048)
    assert found.notes[0].startswith("The array 'windows' of 100 x 2,048 numbers is read as 100 ch")


# LabVIEW


LVM = """LabVIEW Measurement\t
Writer_Version\t2
Reader_Version\t2
Separator\tTab
Decimal_Separator\t{decimal}
Multi_Headings\t{multi}
X_Columns\t{columns}
Time_Pref\tRelative
Operator\tsomeone
Date\t2024/05/01
Time\t10:20:30.1234567
***End_of_Header***\t
"""
SEGMENT = """
Channels\t2\t\t
Samples\t600\t600\t
Date\t2024/05/01\t2024/05/01\t
Time\t10:20:30.1\t10:20:30.1\t
Y_Unit_Label\tg\tg\t
X_Dimension\tTime\tTime\t
X0\t0.0000000000000000E+0\t0.0000000000000000E+0\t
Delta_X\t8.3333333333333E-5\t8.3333333333333E-5\t
***End_of_Header***\t\t\t
"""


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("columns", ["One", "Multi", "No"])
@pytest.mark.parametrize("comment", ["", "\tstarted"])
def test_labview_measurement_files(
    tmp_path: Path, decimal: str, columns: str, comment: str
) -> None:
    times = [""] * N if columns == "No" else cells(SECONDS, "{:.6f}")
    table = [times, cells(A), *([times] if columns == "Multi" else []), cells(B)]
    names = (
        "X_Value\ta\tX_Value\tb\tComment\n" if columns == "Multi" else "X_Value\ta\tb\tComment\n"
    )
    rows = ["\t".join(row) for row in zip(*table, strict=True)]
    rows[0] += comment
    text = LVM.format(decimal=decimal, multi="No", columns=columns) + SEGMENT + names
    body = "\n".join(rows) + "\n"
    if decimal == ",":
        text, body = text.replace("E-5", "E-5").replace("8.3", "8,3"), body.replace(".", ",")
    (tmp_path / "a.lvm").write_text(text + body, encoding="utf-8")
    found = read_recording(tmp_path / "a.lvm")
    assert (found.channels, found.unit) == (("a", "b"), "g")
    assert found.rate == pytest.approx(12000, rel=1e-3)
    assert np.allclose(found.values, [A, B], atol=1e-6)


def test_labview_segments_are_refused(tmp_path: Path) -> None:
    part = SEGMENT + "X_Value\ta\tb\tComment\n0.0\t1.0\t2.0\n0.1\t1.5\t2.5\n"
    (tmp_path / "a.lvm").write_text(LVM.format(decimal=".", multi="Yes", columns="One") + part * 2)
    with pytest.raises(InputError, match="holds 2 segments"):
        read_recording(tmp_path / "a.lvm")


@pytest.mark.parametrize("row", ["-0,1257,0,0640", "1,25,2,0640", "3,0,0640,-0,2000"])
@pytest.mark.parametrize("header", ["", "x,y\n"])
def test_decimal_commas_between_commas_are_refused(row: str, header: str, tmp_path: Path) -> None:
    if row.startswith("3") and header:
        header = "t," + header
    path = tmp_path / "two.csv"
    path.write_text(header + f"{row}\n" * 50, encoding="utf-8")
    with pytest.raises(InputError, match=r"decimals as well .*Export it with semicolons or tabs"):
        read_recording(path)


@pytest.mark.parametrize("row", ["1,25,2,640", "0,0,0,0", "-1,0,0,10", "0001,5,0001,7"])
def test_whole_numbers_between_commas_are_columns(row: str, tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(f"{row}\n" * 50, encoding="utf-8")
    assert read_recording(path).values.shape == (4, 50)


def test_a_universal_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    rows = "  1.00000e+00  2.00000e+00\n" * 50
    path.write_text(f"    -1\n    58\nmakellos\n{rows}    -1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"universal file \(UFF, dataset 58\), .*Export it as CSV"):
        read_recording(path)
