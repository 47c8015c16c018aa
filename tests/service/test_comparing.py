"""What a candidate would change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from makellos.inspection import Inspection
from makellos.service.comparing import Asked, Judged, compare, judged
from makellos.store import NewInspection, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "station")


def record(store: Store, n_parts: int) -> list[int]:
    parts = [
        NewInspection(
            inspection=Inspection("a.png", "ok"),
            recipe="screws",
            recipe_version=1,
            model_hash="0" * 64,
            picture=b"%d" % number,
        )
        for number in range(n_parts)
    ]
    return store.record(parts)


def test_errors_and_changes_are_counted(store: Store) -> None:
    numbers = record(store, 6)
    for number, decision in zip(
        numbers[:4], ("good", "good", "defective", "defective"), strict=True
    ):
        store.review(number, person="anna", decision=decision)
    locked = store.regression_sets.lock("may", "screws", numbers[:4], person="eva")
    replayed = tuple(store.inspection(number) for number in numbers[3:])
    asked = Asked(sets=(locked,), replayed=replayed)
    hashes = [str(store.inspection(number).picture) for number in numbers]
    assert set(asked.pictures(store)) == set(hashes)
    old = ("ok", "reject", "ok", "reject", "ok", "look_again")
    new = ("ok", "ok", "look_again", "ok", "reject", "look_again")
    before = {name: Judged(verdict, 1.0) for name, verdict in zip(hashes, old, strict=True)}
    after = {name: Judged(verdict, 2.0) for name, verdict in zip(hashes, new, strict=True)}
    after[hashes[2]] = Judged("look_again", 1.0)  # a defective part below both good ones
    changes, figures = compare(store, asked, before, after, {numbers[4]: hashes[4]})
    (of_set,) = figures["regression"]
    assert of_set["before"] == {"auroc": 0.5, "false_alarms": 1, "missed": 1, "unreadable": 0}
    assert of_set["after"] == {"auroc": 0.25, "false_alarms": 0, "missed": 2, "unreadable": 0}
    assert (of_set["set"], of_set["hash"]) == ("may", locked.hash)
    assert (of_set["n_good"], of_set["n_defective"], of_set["n_learned"]) == (2, 2, 0)
    assert figures["replay"] == {
        "n": 3,
        "n_learned": 1,
        "before": {"reject": 1, "ok": 1, "look_again": 1},
        "after": {"ok": 1, "reject": 1, "look_again": 1},
    }
    assert figures["n_changes"] == {"regression": 3, "replay": 2}
    told = {(change.of, change.inspection_id): (change.before, change.after) for change in changes}
    assert told == {
        ("regression", numbers[1]): ("reject", "ok"),
        ("regression", numbers[2]): ("ok", "look_again"),
        ("regression", numbers[3]): ("reject", "ok"),
        ("replay", numbers[3]): ("reject", "ok"),
        ("replay", numbers[4]): ("ok", "reject"),
    }
    assert (changes[0].score_before, changes[0].score_after) == (1.0, 2.0)


def test_models_judge_by_the_verb_that_inspects(tmp_path: Path) -> None:
    pictures = {"aa": tmp_path / "a", "bb": tmp_path / "b"}
    asked = []

    def run(arguments: Sequence[str]) -> None:
        asked.append(list(arguments))
        rows = Path(arguments[arguments.index("--jsonl") + 1])
        lines = [
            {"input": str(path), "verdict": verdict, "score": score}
            for path, verdict, score in (
                (tmp_path / "b", "reject", 3.0),
                (tmp_path / "a", "ok", None),
            )
        ]
        rows.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        listed = Path(arguments[2]).read_text().splitlines()
        assert listed == ["path", str(tmp_path / "a"), str(tmp_path / "b")]

    found = judged(run, tmp_path / "m.makellos", {"rules": []}, pictures, tmp_path)
    assert found == {"aa": Judged("ok", None), "bb": Judged("reject", 3.0)}
    assert asked[0][:2] == ["inspect", str(tmp_path / "m.makellos")]
    rules = Path(asked[0][asked[0].index("--rules") + 1])
    assert json.loads(rules.read_text()) == {"rules": []}


def test_parts_that_were_learned_from_do_not_count_in_a_set(store: Store) -> None:
    numbers = record(store, 3)
    for number in numbers:
        store.review(number, person="anna", decision="good")
    locked = store.regression_sets.lock("may", "screws", numbers, person="eva")
    hashes = [str(store.inspection(number).picture) for number in numbers]
    judgements = {name: Judged("reject", 1.0) for name in hashes}
    asked = Asked(sets=(locked,), replayed=())
    _, figures = compare(store, asked, judgements, judgements, {numbers[1]: hashes[1]})
    (of_set,) = figures["regression"]
    assert (of_set["n_good"], of_set["n_learned"]) == (2, 1)
    assert of_set["after"]["false_alarms"] == 2
