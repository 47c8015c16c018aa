"""What was recorded comes back as it was, whatever it holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from makellos.errors import InputError
from makellos.inspection.regions import Region
from makellos.store import Box, Filter, NewInspection, NotFoundError, Store, iso

ODD = "a\x00\x1a0000\x1b[2J\udc80\ud83d<script>'\"%_\\"
Make = Callable[..., NewInspection]


def test_part_comes_back_as_it_was(store: Store, part: Make) -> None:
    regions = (Region(x=1, y=2, width=3, height=4, area=9, peak=3.5),)
    new = part(serial="S1", lot="L1", fields={"station": 4}, found={"regions": regions})
    (number,) = store.record([new])
    got = store.inspection(number)
    assert got.result == new.inspection.row()
    assert list(got.result) == list(new.inspection.row())
    assert (got.serial, got.lot, got.fields, got.decision) == ("S1", "L1", {"station": 4}, None)
    row = got.row()
    assert row["time"] == iso(got.time)
    assert {name: row[name] for name in new.inspection.row()} == new.inspection.row()
    picture, drawn = store.picture(got.picture), store.map(got.map)
    assert picture is not None and picture.read_bytes() == new.picture
    np.testing.assert_array_equal(drawn, new.inspection.anomaly_map)


def test_any_text_comes_back(store: Store, part: Make) -> None:
    new = part(name=ODD, serial=ODD, lot=ODD, fields={ODD: [ODD]}, source=ODD, recipe=ODD, key=ODD)
    (number,) = store.record([new])
    got = store.inspection(number)
    assert {got.input, got.serial, got.lot, got.source, got.recipe} == {ODD}
    assert got.fields == {ODD: [ODD]}
    for wanted in (Filter(serial=ODD), Filter(lot=ODD), Filter(text=ODD), Filter(text="\udc80")):
        assert [each.id for each in store.history(wanted)] == [number]
    assert store.known([ODD, "else"]) == {ODD: number}
    review = store.review(number, person=ODD, decision="good", note=ODD)
    assert store.reviews(number)[0].note == ODD
    assert store.all_reviews()[0].id == review
    assert store.audit.entries()[0].person == ODD
    assert store.audit.verify().whole


def test_figures_that_are_not_finite_are_null(store: Store, part: Make) -> None:
    found = {"score": float("nan"), "p_value": float("inf")}
    (number,) = store.record([part(found=found, fields={"x": [float("-inf"), 1.0]})])
    got = store.inspection(number)
    assert (got.score, got.p_value, got.result["score"]) == (None, None, None)
    assert got.fields == {"x": [None, 1.0]}


def test_known_key_returns_the_number_that_stands(store: Store, part: Make) -> None:
    first = store.record([part(1, key="a"), part(2)])
    again = store.record([part(3, key="a"), part(4, key="b"), part(5, key="b")])
    assert again[0] == first[0]
    assert again[1] == again[2]
    assert store.inspection(first[0]).input == "part 1.png"
    assert len(store.history()) == 3
    assert len(list(store.folder.glob("pictures/*/*"))) == 3


def test_text_that_is_too_long_is_refused_and_nothing_is_stored(store: Store, part: Make) -> None:
    with pytest.raises(InputError, match="serial has 257 characters"):
        store.record([part(1), part(2, serial="x" * 257)])
    assert store.newest() == 0
    assert not list(store.folder.glob("pictures/*/*"))


def test_unknown_part_is_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no part 7"):
        store.inspection(7)
    with pytest.raises(NotFoundError, match="no part 7"):
        store.review(7, person="anna", decision="good")
    assert store.audit.entries() == []


def test_last_word_stands_and_a_blind_one_does_not_count(store: Store, part: Make) -> None:
    (number,) = store.record([part(verdict="look_again")])
    store.review(number, person="anna", decision="good", boxes=[Box(1, 2, 3.5, 4)])
    store.review(number, person="bert", decision="defective")
    store.review(number, person="carl", decision="good", blind=True)
    assert store.inspection(number).decision == "defective"
    words = [(word.person, word.decision, word.blind) for word in store.reviews(number)]
    assert words == [
        ("anna", "good", False),
        ("bert", "defective", False),
        ("carl", "good", True),
    ]
    assert store.reviews(number)[0].boxes == (Box(1, 2, 3.5, 4),)


def test_blind_is_what_the_store_knows_to_be_a_second_look(store: Store, part: Make) -> None:
    (number,) = store.record([part(verdict="look_again")])
    store.review(number, person="anna", decision="good", blind=True)  # nobody has decided yet
    assert store.inspection(number).decision == "good"
    store.review(number, person="bert", decision="defective", blind=True)
    assert store.inspection(number).decision == "good"
    store.review(number, person="bert", decision="defective", blind=True)  # he knows the part
    assert store.inspection(number).decision == "defective"
    assert [word.blind for word in store.reviews(number)] == [False, True, False]
    assert [entry.details["blind"] for entry in store.audit.entries()] == [False, True, False]


def test_parts_to_look_at_again_come_first_then_second_looks(store: Store, part: Make) -> None:
    numbers = store.record([part(i, verdict="look_again") for i in range(4)])
    store.review(numbers[0], person="anna", decision="good")
    store.review(numbers[1], person="anna", decision="defective")
    assert [each.id for each in store.to_review("anna")] == numbers[2:]
    seen = [each.id for each in store.to_review("bert")]
    assert seen[:2] == numbers[2:]
    assert set(seen[2:]) == set(numbers[:2])
