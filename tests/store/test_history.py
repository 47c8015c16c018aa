"""Filters of the history against a plain search through all parts, and pages."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from itertools import combinations, product
from typing import Any

import pytest

from makellos.inspection.regions import Region
from makellos.store import Filter, NewInspection, Store, StoredInspection


@pytest.fixture
def filled(store: Store, part: Callable[..., NewInspection]) -> Store:
    chance = random.Random(1)
    parts = []
    for number in range(60):
        zone = chance.choice(["head", "tip", None])
        region = Region(x=1, y=2, width=3, height=4, area=9, peak=3.5, zone=zone)
        parts.append(
            part(
                number,
                verdict=chance.choice(["ok", "ok", "look_again", "reject"]),
                name=f"Ähre_{number}%.png",
                recipe=chance.choice(["screws", "nuts"]),
                serial=chance.choice([None, f"S{number}"]),
                lot=chance.choice([None, "L1", "L2"]),
                source=chance.choice(["api", "page"]),
                picture=None,
                found={"regions": (region,), "anomaly_map": None},
            )
        )
    for some in range(0, 60, 20):
        store.record(parts[some : some + 20])
    for number in range(1, 61, 7):
        decision = chance.choice(["good", "defective"])
        store.review(number, person="anna", decision=decision)
    return store


def is_wanted(part: StoredInspection, wanted: Filter) -> bool:
    """Tell by plain words whether a filter lets a part through."""
    zones = {region.get("zone") for region in part.result["regions"]}
    words = f"{part.input}\n{part.serial or ''}\n{part.lot or ''}".casefold()
    return all(
        [
            *(
                getattr(wanted, name) in (None, getattr(part, name))
                for name in ("recipe", "verdict", "decision", "serial", "lot", "source")
            ),
            wanted.zone is None or wanted.zone in zones,
            wanted.since is None or part.time >= wanted.since,
            wanted.until is None or part.time < wanted.until,
            not wanted.text or wanted.text.casefold() in words,
            wanted.reviewed is None or wanted.reviewed == (part.decision is not None),
        ]
    )


def test_any_two_filters_let_through_what_they_should(filled: Store) -> None:
    everything = filled.history(limit=100)
    middle = everything[30].time
    values: dict[str, list[Any]] = {
        "recipe": ["screws", "brass"],
        "verdict": ["ok", "reject"],
        "decision": ["good", "defective"],
        "serial": [next(each.serial for each in everything if each.serial)],
        "lot": ["L1"],
        "zone": ["head", "none"],
        "source": ["page"],
        "since": [middle],
        "until": [middle],
        "text": ["ähre_3", "L2", "%", "_"],
        "reviewed": [True, False],
    }
    assert set(values) == set(asdict(Filter()))
    n_found = 0
    for names in (*combinations(values, 1), *combinations(values, 2)):
        for given in product(*(values[name] for name in names)):
            wanted = Filter(**dict(zip(names, given, strict=True)))
            expected = [part.id for part in everything if is_wanted(part, wanted)]
            assert [part.id for part in filled.history(wanted, limit=100)] == expected
            n_found += bool(expected)
    assert n_found > 50


def test_pages_follow_each_other(filled: Store) -> None:
    wanted = Filter(recipe="screws")
    everything = [part.id for part in filled.history(wanted, limit=100)]
    pages: list[int] = []
    while page := filled.history(wanted, before=pages[-1] if pages else None, limit=7):
        pages += [part.id for part in page]
    assert pages == everything
    assert pages == sorted(pages, reverse=True)


def test_tallies_tell_versions_and_decisions(
    store: Store, part: Callable[..., NewInspection]
) -> None:
    numbers = store.record([part(i, verdict="reject", recipe="a") for i in range(3)])
    store.record([part(4, verdict="ok", recipe="b"), part(5, recipe="a", recipe_version=2)])
    store.review(numbers[1], person="anna", decision="good")
    end = store.clock()
    found = sorted(store.tallies(0, end, "a"), key=str)
    rows = [(each.version, each.verdict, each.decision, each.n) for each in found]
    assert rows == [(1, "reject", "good", 1), (1, "reject", None, 2), (2, "ok", None, 1)]
    assert store.tallies(end, end + 1, "a") == []


def test_counts_are_those_of_the_time_and_the_recipe(filled: Store) -> None:
    everything = filled.history(limit=100)
    since, until = everything[45].time, everything[15].time
    for recipe in (None, "nuts"):
        counts = filled.counts(since, until, recipe)
        for verdict in ("ok", "look_again", "reject", "unreadable"):
            wanted = Filter(verdict=verdict, since=since, until=until, recipe=recipe)
            assert counts[verdict] == sum(is_wanted(part, wanted) for part in everything)
