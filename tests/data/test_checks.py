"""What is said of a data folder: what it holds, what is wrong with it, what it can promise."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from makellos import find_parts
from makellos.data import checks
from makellos.data._findings import advice
from makellos.data.checks import DataCheck, check_parts, readable
from makellos.data.parts import Part
from makellos.errors import InputError

Bits = NDArray[np.generic]


def noise(seed: int, shape: tuple[int, ...] = (8, 10)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(path: Path, picture: Bits) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
    return path


def mask(*marked: tuple[int, int], shape: tuple[int, int] = (8, 10)) -> NDArray[np.uint8]:
    drawn = np.zeros(shape, np.uint8)
    for place in marked:
        drawn[place] = 255
    return drawn


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Twelve good parts, two of them tested, and a dent with its mask."""
    for number in range(10):
        save(tmp_path / f"train/good/{number}.png", noise(number))
    for number in (10, 11):
        save(tmp_path / f"test/good/{number}.png", noise(number))
    save(tmp_path / "test/dent/0.png", noise(12))
    save(tmp_path / "ground_truth/dent/0_mask.png", mask((2, 3)))
    return tmp_path


def check(data: Path) -> DataCheck:
    return check_parts(find_parts(data))


def test_a_sound_folder_has_counts_and_no_problems(sound: Path) -> None:
    found = check(sound)
    assert found.problems == []
    assert (found.n_parts, found.n_groups, found.layout) == (13, 13, "MVTec AD")
    assert found.labels == {"dent": 1, "good": 12}
    assert found.counts == {"train": {"good": 10}, "test": {"dent": 1, "good": 2}}
    assert (found.n_good, found.n_test_good, found.n_test_defective) == (10, 2, 1)
    assert found.sizes == {"10x8": 13}
    assert found.modes == {"grey 8 bit": 13}
    assert found.peak_16_bit is None
    assert json.loads(json.dumps(asdict(found)))["n_parts"] == 13


def test_the_smallest_budget_and_what_the_next_one_takes(sound: Path) -> None:
    assert check(sound).advice[:2] == [
        (
            "With 10 good parts for calibration, the smallest false-alarm budget that can be "
            "promised is 1/11 = 9.09%."
        ),
        "A budget of 5% needs 19 good parts, 9 more.",
    ]


@pytest.mark.parametrize(
    ("n_parts", "n_needed"), [(18, 19), (19, 99), (98, 99), (99, 999), (998, 999), (999, None)]
)
def test_a_budget_takes_its_inverse_less_one(
    sound: Path, n_parts: int, n_needed: int | None
) -> None:
    found = replace(check(sound), n_parts=n_parts, n_groups=n_parts, n_calibration=n_parts)
    said = [sentence for sentence in advice(found) if sentence.startswith("A budget of")]
    assert [f" needs {n_needed} good parts, " in sentence for sentence in said] == [True] * (
        n_needed is not None
    )


def test_calibration_counts_groups_of_split_val(sound: Path) -> None:
    rows = [
        f"train/good/{n}.png,good,{'val' if n < 6 else 'train'},lot {n // 2}" for n in range(10)
    ]
    path = sound / "parts.csv"
    path.write_text("\n".join(["path,label,split,group", *rows]))
    found = check(path)
    assert found.n_groups == 5
    assert found.n_calibration == 3
    assert "With 3 groups of good parts for calibration" in found.advice[0]
    assert "1/4 = 25.00%" in found.advice[0]


def test_unreadable_pictures_are_named_and_not_counted_on(sound: Path) -> None:
    (sound / "train/good/3.png").write_bytes(b"")
    (sound / "test/good/10.png").write_text("lost")
    found = check(sound)
    assert [name for name, _ in found.unreadable] == ["test/good/10.png", "train/good/3.png"]
    assert "is not a picture" in found.unreadable[0][1]
    assert "is empty" in found.unreadable[1][1]
    assert (found.n_parts, found.n_good, found.n_calibration, found.n_test_good) == (13, 9, 9, 1)
    assert found.problems == ["2 pictures cannot be decoded: test/good/10.png, train/good/3.png."]


def test_identical_files_are_told_apart_by_what_they_spoil(sound: Path) -> None:
    for source, copy in [("train/good/0", "train/good/x"), ("train/good/1", "test/good/y")]:
        (sound / f"{copy}.png").write_bytes((sound / f"{source}.png").read_bytes())
    (sound / "test/good/z.png").write_bytes((sound / "test/dent/0.png").read_bytes())
    found = check(sound)
    leak, contradiction = (
        ["test/good/y.png", "train/good/1.png"],
        ["test/dent/0.png", "test/good/z.png"],
    )
    assert found.leaks == [leak]
    assert found.contradictions == [contradiction]
    assert found.duplicates == [contradiction, leak, ["train/good/0.png", "train/good/x.png"]]
    said = "\n".join(found.problems)
    assert len(found.problems) == 3
    assert "different labels: test/dent/0.png = test/good/z.png" in said
    assert "Leak: 1 set of identical files both learned from and tested" in said
    assert "1 set of identical files, counted as several parts but only one" in said


def test_groups_on_both_sides_of_the_test_are_a_leak(sound: Path) -> None:
    rows = [
        "train/good/0.png,good,train,a",
        "train/good/1.png,good,val,b",
        "train/good/2.png,good,train,c",
        "test/good/10.png,good,test,a",
        "test/good/11.png,good,test,b",
        "test/dent/0.png,dent,test,d",
    ]
    path = sound / "parts.csv"
    path.write_text("\n".join(["path,label,split,group", *rows]))
    found = check(path)
    assert found.shared_groups == ["a", "b"]
    assert found.n_sharing == 2
    assert len(found.problems) == 1
    assert "2 groups both learned from and tested (a, b); 2 of 3 tested parts" in found.problems[0]


def test_without_splits_nothing_leaks(sound: Path) -> None:
    (sound / "train/good/x.png").write_bytes((sound / "train/good/0.png").read_bytes())
    found = check(sound / "train/good")
    assert found.layout == "flat folder"
    assert len(found.duplicates) == 1
    assert found.leaks == []


def test_masks_that_cannot_be_used(sound: Path) -> None:
    for number in range(1, 6):
        save(sound / f"test/dent/{number}.png", noise(20 + number))
    save(sound / "ground_truth/dent/1.png", mask())
    save(sound / "ground_truth/dent/2.png", mask((0, 0), shape=(10, 8)))
    (sound / "ground_truth/dent/3.png").write_bytes(b"")
    found = check(sound)
    assert found.empty_masks == ["test/dent/1.png"]
    assert found.mismatched_masks == ["test/dent/2.png"]
    assert [name for name, _ in found.unreadable_masks] == ["test/dent/3.png"]
    assert found.without_mask == ["test/dent/4.png", "test/dent/5.png"]
    assert found.n_masks == 4
    assert len(found.problems) == 3
    assert any("2 defective parts without a mask" in sentence for sentence in found.advice)


def test_a_good_part_with_marked_damage_is_a_problem(sound: Path) -> None:
    save(sound / "black.png", mask())
    save(sound / "marked.png", mask((1, 1)))
    path = sound / "parts.csv"
    path.write_text(
        "path,label,mask\ntrain/good/0.png,good,black.png\ntrain/good/1.png,good,marked.png\n"
    )
    found = check(path)
    assert found.marked_good == ["train/good/1.png"]
    assert "labelled good with pixels marked as damage: train/good/1.png" in found.problems[0]


def test_a_folder_without_masks_is_told_so_once(sound: Path) -> None:
    (sound / "ground_truth/dent/0_mask.png").unlink()
    found = check(sound)
    assert found.problems == []
    assert found.without_mask == ["test/dent/0.png"]
    assert any("There are no masks" in sentence for sentence in found.advice)


@pytest.mark.parametrize(
    ("defective", "name"),
    [
        (("png", noise(50, (9, 9))), "size"),
        (("png", noise(51, (8, 10, 3))), "mode"),
        (("png", noise(52).astype(np.uint16)), "mode"),
        (("bmp", noise(53)), "file format"),
    ],
)
def test_what_gives_defects_away_is_a_problem(
    sound: Path, defective: tuple[str, Bits], name: str
) -> None:
    (sound / "test/dent/0.png").unlink()
    (sound / "ground_truth/dent/0_mask.png").unlink()
    save(sound / f"test/dent/0.{defective[0]}", defective[1])
    found = check(sound)
    assert found.giveaways == [name]
    assert f"The {name} alone tells pictures of good parts from defective ones" in found.problems[0]


def test_sizes_and_modes_are_counted_the_most_frequent_first(sound: Path) -> None:
    save(sound / "train/good/a.png", noise(60, (20, 30, 3)))
    save(sound / "train/good/b.png", noise(61, (20, 30, 3)))
    save(sound / "train/good/c.tif", noise(62).astype(np.uint16) * 16)
    found = check(sound)
    assert list(found.sizes.items()) == [("10x8", 14), ("30x20", 2)]
    assert list(found.modes.items()) == [("grey 8 bit", 13), ("RGB 8 bit", 2), ("grey 16 bit", 1)]
    assert any("2 sizes (10x8, 30x20)" in sentence for sentence in found.advice)
    assert any("3 kinds of values" in sentence for sentence in found.advice)


@pytest.mark.parametrize(("peak", "level"), [(4000, 4095), (1023, 1023), (40_000, None)])
def test_unused_bits_ask_for_a_white_level(tmp_path: Path, peak: int, level: int | None) -> None:
    picture = noise(0).astype(np.uint16)
    picture[3, 3] = peak
    save(tmp_path / "a.png", picture)
    found = check(tmp_path)
    assert found.peak_16_bit == peak
    said = [sentence for sentence in found.advice if "--white-level" in sentence]
    assert [f"--white-level {level}" in sentence for sentence in said] == [True] * (
        level is not None
    )


def test_blank_pictures_are_a_problem(sound: Path) -> None:
    save(sound / "train/good/a.png", np.full((8, 10, 3), (0, 0, 255), np.uint8))
    almost = np.zeros((8, 10), np.uint8)
    almost[5, 5] = 1
    save(sound / "train/good/b.png", almost)
    found = check(sound)
    assert found.blank == ["train/good/a.png"]
    assert "1 picture of a single value throughout" in found.problems[0]


def test_no_good_parts_are_a_problem(tmp_path: Path) -> None:
    save(tmp_path / "dent/0.png", noise(0))
    save(tmp_path / "crack/0.png", noise(1))
    found = check(tmp_path)
    assert "no good parts to learn from (class folders, labels crack, dent)" in found.problems[0]


def test_what_is_not_tested_cannot_be_measured(sound: Path) -> None:
    (sound / "test/dent/0.png").unlink()
    assert any("No defective part is tested" in sentence for sentence in check(sound).advice)
    save(sound / "test/dent/0.png", noise(12))
    for number in (10, 11):
        (sound / f"test/good/{number}.png").unlink()
    assert any("No good part is tested" in sentence for sentence in check(sound).advice)


def test_what_is_left_out_is_named(sound: Path) -> None:
    save(sound / "overview.png", noise(70))
    save(sound / "ground_truth/dent/99_mask.png", mask())
    found = check(sound)
    assert found.unused == ["ground_truth/dent/99_mask.png", "overview.png"]
    assert any("2 pictures outside the layout" in sentence for sentence in found.advice)


def test_defective_parts_without_split_are_idle(sound: Path) -> None:
    path = sound / "parts.csv"
    path.write_text("path,label,split\ntrain/good/0.png,good,train\ntest/dent/0.png,dent,\n")
    found = check(path)
    assert found.idle == ["test/dent/0.png"]
    assert found.counts == {"train": {"good": 1}, "none": {"dent": 1}}
    assert found.unused == []


def test_progress_counts_parts_in_the_calling_thread(sound: Path) -> None:
    calls: list[tuple[object, ...]] = []
    report = lambda *step: calls.append((*step, threading.current_thread()))  # noqa: E731
    check_parts(find_parts(sound), progress=report)
    assert calls == [("reading", n, 13, threading.current_thread()) for n in range(1, 14)]
    calls.clear()
    readable(find_parts(sound).good(), progress=report)
    assert calls == [("reading", n, 10, threading.current_thread()) for n in range(1, 11)]


def test_an_interrupt_leaves_the_waiting_parts_alone(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    released = threading.Event()

    def read(path: Path) -> tuple[Bits, int]:
        decoded.append(path)
        if len(decoded) > 1:
            released.wait(20)
        return noise(0), 1

    def interrupt(what: str, done: int, total: int | None) -> None:
        threading.Timer(0.2, released.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "MAX_THREADS", 2)
    monkeypatch.setattr("makellos.data.parts.read_framed", read)
    with pytest.raises(KeyboardInterrupt):
        readable([*find_parts(sound)] * 10, progress=interrupt)
    assert len(decoded) < 10


def test_readable_sorts_parts_and_keeps_their_order(sound: Path) -> None:
    (sound / "train/good/3.png").write_bytes(b"")
    gone = Part(source=sound / "gone.png", name="gone.png")
    good = find_parts(sound).good()
    found, broken = readable([gone, *good])
    assert [part.name for part in found] == [p.name for p in good if p.name != "train/good/3.png"]
    assert [part.name for part, _ in broken] == ["gone.png", "train/good/3.png"]
    assert "does not exist" in broken[0][1]
    assert "is empty" in broken[1][1]


def test_readable_of_nothing() -> None:
    assert readable([]) == ([], [])


def test_other_errors_are_not_taken_for_bad_pictures(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> Bits:
        raise ZeroDivisionError

    monkeypatch.setattr("makellos.data.parts.read_framed", fail)
    with pytest.raises(ZeroDivisionError):
        readable(find_parts(sound))
    monkeypatch.setattr(
        "makellos.data.parts.read_framed", lambda path: (_ for _ in ()).throw(InputError("no"))
    )
    assert {reason for _, reason in readable(find_parts(sound))[1]} == {"no"}


def rows(root: Path, *lines: str) -> Path:
    path = root / "parts.csv"
    path.write_text("\n".join(["path,label", *lines]))
    return path


def test_labels_that_disagree_with_the_folder_are_a_problem(sound: Path) -> None:
    for number in range(20, 25):
        save(sound / f"defective/{number}.png", noise(number))
    found = check(
        rows(
            sound,
            *(f"train/good/{number}.png,good" for number in range(3)),
            "test/good/10.png,dent",
            "test/dent/0.png,good",
            *(
                f"defective/{number}.png,{'ok' if number < 24 else 'dent'}"
                for number in range(20, 25)
            ),
        )
    )
    assert found.misplaced[:2] == [("test/good/10.png", "dent"), ("test/dent/0.png", "good")]
    assert [name for name, _ in found.misplaced[2:]] == [
        f"defective/{n}.png" for n in range(20, 24)
    ]
    said = [problem for problem in found.problems if problem.startswith("Labels disagree")]
    assert len(said) == 1
    assert "6 parts in a folder named after another class" in said[0]
    assert (
        "test/good/10.png (label dent), test/dent/0.png (label good), defective/20.png" in said[0]
    )
    assert said[0].count(".png") == 3


@pytest.mark.parametrize(
    ("name", "label", "disagrees"),
    [
        ("OK/0.png", "dent", True),
        ("Defective/0.png", "good", True),
        ("Dent/0.png", "GOOD", True),
        ("scratch/0.png", "dent", True),
        ("dent/0.png", "defective", False),
        ("nok/0.png", "dent", False),
        ("bad/scratch/0.png", "scratch", False),
        ("good/lot 7/0.png", "dent", True),
        ("lot 7/0.png", "dent", False),
        ("good.png", "dent", False),
    ],
)
def test_which_folders_name_another_class(
    tmp_path: Path, name: str, label: str, disagrees: bool
) -> None:
    for number, place in enumerate([name, "a.png", "b.png", "c.png"]):
        save(tmp_path / place, noise(number))
    found = check(rows(tmp_path, f"{name},{label}", "a.png,good", "b.png,dent", "c.png,scratch"))
    assert bool(found.misplaced) == disagrees


def test_a_folder_that_is_no_label_says_nothing(sound: Path) -> None:
    assert check(rows(sound, "test/dent/0.png,good", "train/good/0.png,good")).misplaced == []


def test_folders_of_a_layout_agree_with_its_labels(sound: Path) -> None:
    assert check(sound).misplaced == []


def test_a_label_of_one_picture_is_said(sound: Path) -> None:
    found = check(sound)
    assert found.singles == ["dent"]
    assert any("1 label with a single part: dent" in sentence for sentence in found.advice)
    save(sound / "test/dent/1.png", noise(30))
    assert check(sound).singles == []


def test_one_label_alone_is_no_problem_but_said(sound: Path) -> None:
    found = check(sound / "train/good")
    assert found.problems == []
    assert found.singles == []
    said = [
        sentence for sentence in found.advice if sentence.startswith("All parts have the label")
    ]
    assert ["good: enough for detectors" in sentence for sentence in said] == [True]
    assert not any(sentence.startswith("All parts") for sentence in check(sound).advice)


@pytest.mark.real
def test_magnetic_tiles_leak_between_train_and_test(real_data: Path) -> None:
    found = check(real_data / "magnetic_tile" / "tiles.csv")
    assert (found.n_parts, found.n_groups, found.n_masks) == (1344, 251, 392)
    assert found.unreadable == found.duplicates == found.mismatched_masks == []
    assert len(found.empty_masks) == 4
    assert len(found.shared_groups) == 129
    assert check(real_data / "magnetic_tile" / "by_tile.csv").shared_groups == []
