"""Candidates, and the locked sets that they are judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from makellos.errors import InputError
from makellos.store import Candidate, Change, NewInspection, NotFoundError, Store

Make = Callable[..., NewInspection]


@pytest.fixture
def decided(store: Store, part: Make) -> list[int]:
    """Store six parts of which the first two are good, the next two defective."""
    numbers = store.record([part(number) for number in range(6)])
    for number, decision in zip(numbers, ("good", "good", "defective", "defective"), strict=False):
        store.review(number, person="anna", decision=decision)
    return numbers


def test_locked_set_holds_what_was_decided_when_it_was_locked(
    store: Store, decided: Sequence[int]
) -> None:
    locked = store.regression_sets.lock("may", "screws", decided[:4], person="eva")
    assert (locked.n_good, locked.n_defective, locked.recipe) == (2, 2, "screws")
    store.review(decided[0], person="ben", decision="defective")
    decisions = [part.decision for part in store.regression_sets.parts("may")]
    assert decisions == ["good", "good", "defective", "defective"]
    assert store.regression_sets.get("may") == locked
    assert [entry.action for entry in store.audit.entries()][1] == "regression_set_locked"


def test_hash_of_a_set_is_that_of_its_pictures_and_decisions(
    store: Store, decided: Sequence[int]
) -> None:
    lock = store.regression_sets.lock
    first = lock("a", "screws", decided[:3], person="eva").hash
    assert lock("b", "screws", list(reversed(decided[:3])), person="eva").hash == first
    assert lock("c", "screws", decided[:2], person="eva").hash != first
    store.review(decided[0], person="eva", decision="defective")
    assert lock("d", "screws", decided[:3], person="eva").hash != first


def test_set_of_what_is_not_decided_is_refused(store: Store, decided: Sequence[int]) -> None:
    lock = store.regression_sets.lock
    with pytest.raises(InputError, match=f"{decided[5]} has no decision"):
        lock("may", "screws", decided, person="eva")
    with pytest.raises(InputError, match="is not a part of nuts"):
        lock("may", "nuts", decided[:1], person="eva")
    with pytest.raises(InputError, match="999 is not a part"):
        lock("may", "screws", [999], person="eva")
    with pytest.raises(InputError, match="at least one"):
        lock("may", "screws", [], person="eva")
    lock("may", "screws", decided[:1], person="eva")
    with pytest.raises(InputError, match="already"):
        lock("may", "screws", decided[:2], person="eva")
    with pytest.raises(NotFoundError, match="Did you mean"):
        store.regression_sets.get("mai")


def test_parts_of_a_set_stay(store: Store, decided: Sequence[int]) -> None:
    store.regression_sets.lock("may", "screws", decided[:2], person="eva")
    assert [store.inspection(number).kept for number in decided[:3]] == [True, True, False]
    with pytest.raises(InputError, match="locked set 'may'"):
        store.keep(decided[0], person="eva", kept=False)


def begin(store: Store) -> Candidate:
    return store.candidates.begin(
        "screws", "calibrate", person="eva", base_version=3, details={"n_good": 40}
    )


def change(number: int, of: str = "replay") -> Change:
    return Change(
        inspection_id=number,
        of=of,
        before="ok",
        after="reject",
        score_before=1.0,
        score_after=None,
    )


def test_candidate_goes_its_way(store: Store, tmp_path: Path) -> None:
    made = begin(store)
    assert (made.state, made.model_hash, made.details) == ("working", None, {"n_good": 40})
    (tmp_path / "m.makellos").write_bytes(b"model")
    model = store.recipes.add_model(tmp_path / "m.makellos", person="eva", detector="padim")
    store.candidates.made(made.number, model.hash, {7: "ab"})
    assert store.candidates.learned(made.number) == {7: "ab"}
    store.candidates.tell(made.number, "comparing")
    assert store.candidates.get(made.number).message == "comparing"
    changes = [change(7), change(9), change(7, "regression")]
    ready = store.candidates.compared(made.number, changes, {"n": 3})
    assert (ready.state, ready.message) == ("ready", "")
    assert ready.details == {"n_good": 40, "comparison": {"n": 3}}
    found = store.candidates.changes(made.number)
    assert [(each.of, each.inspection_id) for each in found] == [
        ("regression", 7),
        ("replay", 9),
        ("replay", 7),
    ]
    assert store.candidates.changes(made.number, "regression") == [change(7, "regression")]
    store.candidates.compared(made.number, [], {"n": 0})
    assert store.candidates.changes(made.number) == []
    ended = store.candidates.end(made.number, "released", person="kim")
    assert ended.state == "released"
    actions = [entry.action for entry in store.audit.entries()]
    assert actions[0] == "candidate_released"
    assert "candidate_begun" in actions
    assert ended.row()["time"].endswith("Z")


def test_candidates_are_listed_by_recipe_newest_first(store: Store) -> None:
    numbers = [begin(store).number for _ in range(3)]
    assert [each.number for each in store.candidates.all("screws")] == numbers[::-1]
    assert store.candidates.all("nuts") == []
    assert len(store.candidates.all(limit=2)) == 2
    with pytest.raises(NotFoundError, match="no candidate 99"):
        store.candidates.get(99)
