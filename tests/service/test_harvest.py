"""What a station may learn from the parts of a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from makellos.data.layouts import list_parts
from makellos.errors import InputError
from makellos.inspection import Inspection
from makellos.service.harvest import Harvest, harvest, write_manifest
from makellos.store import Box, NewInspection, Store

END = 1 << 51


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "station")


@pytest.fixture
def record(store: Store) -> Callable[..., list[int]]:
    """Return a function that stores parts of these verdicts, each with a picture of its own."""
    made = iter(range(1, 255))

    def make(*verdicts: str, serial: str | None = None, picture: bool = True) -> list[int]:
        parts = []
        for verdict in verdicts:
            drawn = cv2.imencode(".png", np.full((8, 12), next(made), np.uint8))[1].tobytes()
            parts.append(
                NewInspection(
                    inspection=Inspection("a.png", verdict),
                    recipe="screws",
                    recipe_version=1,
                    model_hash="0" * 64,
                    picture=drawn if picture else None,
                    serial=serial,
                )
            )
        return store.record(parts)

    return make


def of(store: Store, most: int = 1000) -> Harvest:
    return harvest(store, "screws", since=0, until=END, most=most)


def ids(parts: Sequence[object]) -> set[int]:
    return {part.id for part in parts}  # type: ignore[attr-defined]


def test_accepted_parts_are_good_unless_a_person_says_otherwise(
    store: Store, record: Callable[..., list[int]]
) -> None:
    accepted = record(*["ok"] * 24)
    overruled, doubtful = record("reject", "look_again")
    record("unreadable")
    for number, decision in (
        (accepted[0], "defective"),
        (accepted[1], "good"),
        (overruled, "good"),
        (doubtful, "defective"),
    ):
        store.review(number, person="anna", decision=decision)
    found = of(store)
    assert ids(found.good) == {*accepted[1:], overruled}
    assert ids(found.defective) == {accepted[0], doubtful}
    assert found.n_assumed == 22
    assert found.figures()["n_good"] == 24


@pytest.mark.parametrize("verdict", ["reject", "look_again"])
def test_what_the_model_doubted_must_be_decided_first(
    store: Store, record: Callable[..., list[int]], verdict: str
) -> None:
    record(*["ok"] * 30)
    (open_,) = record(verdict)
    with pytest.raises(InputError, match=r"^1 rejected or doubtful parts .* Review them first"):
        of(store)
    store.review(open_, person="anna", decision="good")
    assert of(store).n_assumed == 30


def test_parts_whose_pictures_are_gone_are_not_left_out_silently(
    store: Store, record: Callable[..., list[int]]
) -> None:
    record("ok", picture=False)
    record(*["ok"] * 30)
    with pytest.raises(InputError, match=r"pictures of 1 parts .* Begin after 20"):
        of(store)


def test_few_good_parts_are_refused(store: Store, record: Callable[..., list[int]]) -> None:
    record(*["ok"] * 19)
    with pytest.raises(InputError, match="There are 19 good parts"):
        of(store)


def test_of_locked_sets_good_parts_are_learned_from_and_defective_ones_are_not(
    store: Store, record: Callable[..., list[int]]
) -> None:
    numbers = record(*["ok"] * 25, "look_again", "reject", "reject")
    for number, decision in zip(numbers[25:], ("good", "defective", "defective"), strict=True):
        store.review(number, person="anna", decision=decision)
    store.regression_sets.lock("may", "screws", numbers[25:27], person="eva")
    found = of(store)
    assert ids(found.good) == {*numbers[:26]}
    assert ids(found.defective) == {numbers[27]}


def test_of_many_parts_as_many_are_drawn_as_are_wanted(
    store: Store, record: Callable[..., list[int]]
) -> None:
    record(*["ok"] * 60)
    few = of(store, most=30)
    assert len(few.good) == 30
    assert few.n_assumed == 30
    assert of(store, most=30) == few


def test_manifest_is_one_that_makellos_reads(
    store: Store, record: Callable[..., list[int]], tmp_path: Path
) -> None:
    good = record(*["ok"] * 20, serial="7") + record("ok")
    marked, unmarked = record("reject", "reject")
    store.review(good[0], person="anna", decision="good")
    box = Box(x=2, y=1, width=3, height=4)
    store.review(marked, person="anna", decision="defective", boxes=[box])
    store.review(unmarked, person="anna", decision="defective")
    file = tmp_path / "parts.csv"
    write_manifest(store, of(store), file, labelled=True)
    parts = list_parts(file).parts
    assert [part.label for part in parts].count("good") == 21
    assert {part.group for part in parts[1:21]} == {"serial 7"}
    assert all(part.read().shape == (8, 12) for part in parts)
    with file.open(encoding="utf-8") as stream:
        masks = [row["mask"] for row in csv.DictReader(stream) if row["label"] != "good"]
    (mask,) = (cv2.imread(name, cv2.IMREAD_GRAYSCALE) for name in masks if name)
    expected = np.zeros((8, 12), np.uint8)
    expected[1:5, 2:5] = 255
    assert mask is not None
    assert (mask == expected).all()
    write_manifest(store, of(store), file, labelled=False)
    assert {part.label for part in list_parts(file).parts} == {"good"}


def test_what_a_fit_learned_from_does_not_calibrate(
    store: Store, record: Callable[..., list[int]]
) -> None:
    numbers = record(*["ok"] * 25)
    made = store.candidates.begin("screws", "fit", person="eva", base_version=1, details={})
    learned = {number: str(store.inspection(number).picture) for number in numbers[:4]}
    store.candidates.made(made.number, None, learned)
    assert ids(of(store).good) == {*numbers}
    calibrating = harvest(store, "screws", since=0, until=END, most=1000, calibrates=True)
    assert ids(calibrating.good) == {*numbers[4:]}
