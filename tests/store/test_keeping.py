"""What is forgotten, what never is, and what comes back from a backup."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from postgres_server import new_database

from makellos.errors import InputError, StorageError
from makellos.storage import locked
from makellos.store import Filter, NewInspection, Retention, Store

DAY = 86_400_000_000
Make = Callable[..., NewInspection]


def files(store: Store) -> int:
    return len([path for path in store.folder.glob("[pm][ia][cp]*/*/*") if path.is_file()])


@pytest.fixture
def old(store: Store, part: Make, clock: Any) -> list[int]:
    """Return six parts of long ago: three free, one kept, one with a decision, one with a blind."""
    numbers = store.record([part(i, key=f"k{i}") for i in range(6)])
    store.keep(numbers[3], person="anna")
    store.review(numbers[4], person="anna", decision="good")
    store.review(numbers[5], person="anna", decision="good", blind=True)
    clock.now += 100 * DAY
    return numbers


def test_old_pictures_go_and_rows_stay(store: Store, part: Make, old: list[int]) -> None:
    (new,) = store.record([part(9)])
    removed = store.apply_retention(Retention(picture_days=30), person="eva")
    assert (removed.rows, removed.pictures) == (0, 6)
    assert [store.inspection(n).picture is None for n in [*old, new]] == [True] * 3 + [False] * 4
    assert store.picture(store.inspection(old[3]).picture) is not None
    assert files(store) == 8
    entry = store.audit.entries()[0]
    assert (entry.person, entry.action, entry.details) == ("eva", "pictures_removed", {"n": 3})


def test_old_rows_go_but_their_keys_are_still_known(
    store: Store, part: Make, old: list[int]
) -> None:
    removed = store.apply_retention(Retention(row_days=30), person="eva")
    assert removed.rows == 3
    assert [each.id for each in store.history()] == old[:2:-1]
    assert store.known(["k0", "k5"]) == {"k0": old[0], "k5": old[5]}
    assert store.record([part(0, key="k0")]) == [old[0]]
    assert store.audit.verify().whole


def test_number_of_a_removed_part_is_not_given_again(store: Store, part: Make, clock: Any) -> None:
    (number,) = store.record([part()])
    clock.now += DAY
    store.apply_retention(Retention(row_days=0), person="eva")
    assert store.history() == []
    assert store.record([part()])[0] > number


def test_size_takes_the_oldest_first(store: Store, part: Make) -> None:
    numbers = store.record([part(i, picture=b"%d" % i * 10_000) for i in range(4)])
    store.keep(numbers[0], person="anna")
    # All are in one step; the limit is only looked at between steps.
    store.apply_retention(Retention(picture_bytes=50_000), person="eva")
    assert all(store.inspection(n).picture for n in numbers)
    store.apply_retention(Retention(picture_bytes=15_000), person="eva")
    assert [bool(store.inspection(n).picture) for n in numbers] == [True, False, False, False]


def test_picture_that_two_parts_share_stays_for_the_younger(
    store: Store, part: Make, clock: Any
) -> None:
    (first,) = store.record([part(1)])
    clock.now += 100 * DAY
    (second,) = store.record([part(1)])
    store.apply_retention(Retention(picture_days=30), person="eva")
    assert store.inspection(first).picture is None
    assert store.picture(store.inspection(second).picture) is not None


def test_files_that_no_part_names_go(store: Store, part: Make) -> None:
    store.record([part()])
    stray = store.folder / "pictures" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"left by a killed process")
    removed = store.apply_retention(Retention(), person="eva")
    assert (removed.pictures, removed.bytes) == (1, 24)
    assert files(store) == 2
    assert store.audit.entries() == []


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf")])
def test_days_that_are_none_are_refused(store: Store, days: float) -> None:
    with pytest.raises(InputError, match="from 0"):
        store.apply_retention(Retention(row_days=days), person="eva")


def test_nothing_is_forgotten_during_a_back_up(store: Store) -> None:
    with locked(store.folder / "keeping.lock", ""), pytest.raises(StorageError, match="backup"):
        store.apply_retention(Retention(row_days=1), person="eva")


@pytest.fixture
def filled(store: Store, part: Make, old: list[int], tmp_path: Path) -> Store:
    (tmp_path / "m.makellos").write_bytes(b"model")
    model = store.recipes.add_model(tmp_path / "m.makellos", person="eva", detector="padim")
    store.recipes.add("screws", model.hash, person="eva")
    store.people.add("anna", "correct horse", "administrator", by="eva")
    store.people.begin_session("anna")
    return store


def everything(store: Store) -> list[Any]:
    parts = store.history(limit=100)
    return [
        parts,
        [store.reviews(each.id) for each in parts],
        [path.read_bytes() for each in parts if (path := store.picture(each.picture))],
        [drawn.tolist() for each in parts if (drawn := store.map(each.map)) is not None],
        [(model.hash, model.path.read_bytes()) for model in store.recipes.models()],
        store.recipes.all_active(),
        store.people.list(),
        store.known([f"k{i}" for i in range(6)]),
    ]


@pytest.fixture
def elsewhere(place: dict[str, Any], tmp_path: Path, request: Any) -> dict[str, Any]:
    """Return where a second station may be, of the same kind of database."""
    if "pictures" not in place:
        return {"address": tmp_path / "second"}
    server = request.getfixturevalue("postgres")
    return {"address": new_database(server), "pictures": tmp_path / "second"}


def test_back_up_brings_everything_back(
    filled: Store, part: Make, elsewhere: dict[str, Any], tmp_path: Path, opened: Any
) -> None:
    before = everything(filled)
    done = filled.back_up(tmp_path / "station.zip", person="eva")
    assert (done.parts, done.files, done.missing) == (6, 13, 0)
    assert Store.restore(tmp_path / "station.zip", **elsewhere, person="eva").parts == 6
    restored = opened(**elsewhere)
    assert everything(restored) == before
    assert restored.audit.verify().whole
    assert restored.audit.entries(limit=1)[0].action == "restored"
    assert restored.people.check_password("anna", "correct horse") is not None
    assert restored.record([part(20)])[0] > max(each.id for each in before[0])


@pytest.mark.skipif(find_spec("psycopg") is None, reason="psycopg is not installed")
def test_sqlite_moves_to_postgresql_and_back(
    opened: Callable[..., Store], part: Make, postgres: str, tmp_path: Path
) -> None:
    first = opened()
    first.record([part(i, serial="\x00\udc80") for i in range(3)])
    first.review(2, person="anna", decision="defective")
    first.back_up(tmp_path / "a.zip", person="eva")
    middle = {"address": new_database(postgres), "pictures": tmp_path / "middle"}
    Store.restore(tmp_path / "a.zip", **middle, person="eva")
    second = opened(**middle)
    assert everything(second) == everything(first)
    second.back_up(tmp_path / "b.zip", person="eva")
    last = {"address": tmp_path / "last", "pictures": None}
    Store.restore(tmp_path / "b.zip", **last, person="eva")
    third = opened(**last)
    assert everything(third) == everything(first)
    assert third.audit.verify().whole


def test_station_that_is_there_is_left_alone(
    filled: Store, place: dict[str, Any], tmp_path: Path
) -> None:
    filled.back_up(tmp_path / "station.zip", person="eva")
    before = everything(filled)
    with pytest.raises(StorageError, match="already a station at"):
        Store.restore(tmp_path / "station.zip", **place, person="eva")
    assert everything(filled) == before


@pytest.mark.parametrize("cut", [0, 10, 1000, -1000, -10])
def test_damaged_back_up_is_refused(filled: Store, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "station.zip"
    filled.back_up(path, person="eva")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StorageError, match="not a backup of a station"):
        Store.restore(path, tmp_path / "second", person="eva")
    assert not (tmp_path / "second" / "station.db").exists()


def test_altered_picture_in_a_back_up_is_refused(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "station.zip"
    filled.back_up(path, person="eva")
    data = path.read_bytes()
    at = data.index(b"picture 3")
    path.write_bytes(data[:at] + b"pictura 3" + data[at + 9 :])
    with pytest.raises(StorageError, match="is damaged"):
        Store.restore(path, tmp_path / "second", person="eva")
    assert not (tmp_path / "second" / "station.db").exists()


def test_names_in_a_back_up_lead_nowhere_else(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "station.zip"
    filled.back_up(path, person="eva")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../outside", b"x")
        archive.writestr(f"pictures/../{'a' * 64}", b"x")
    Store.restore(path, tmp_path / "second", person="eva")
    assert not (tmp_path / "outside").exists()
    assert not list((tmp_path / "second").rglob("a" * 64))


def test_filters_of_a_restored_station_work(
    filled: Store, elsewhere: dict[str, Any], tmp_path: Path, opened: Any
) -> None:
    filled.back_up(tmp_path / "s.zip", person="eva")
    Store.restore(tmp_path / "s.zip", **elsewhere, person="eva")
    assert len(opened(**elsewhere).history(Filter(text="PART 3"))) == 1
