"""The loop: from the operators' words to a candidate, its comparison and its release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from makellos.errors import ConfigurationError, InputError, StorageError
from makellos.service.candidates import CandidateMaker, Wanted
from makellos.service.queue import NewPart
from makellos.service.station import Station
from makellos.store import Candidate

PARTS = 30


@pytest.fixture
def maker(station: Station, toy_parts: Path) -> Iterator[CandidateMaker]:
    """Return what makes candidates of a station that has inspected and was told what is good."""
    spotted = sorted((toy_parts / "test" / "spotted").glob("*.png"))[:4:2]
    files = [*spotted, *sorted((toy_parts / "train" / "good").glob("*.png"))[:28]]
    numbers = station.judge("toy", [NewPart(file.name, file.read_bytes()) for file in files])
    assert len(numbers) == PARTS
    for number in numbers:
        part = station.store.inspection(number)
        if part.verdict != "ok" or number in numbers[:4]:
            decision = "defective" if number in numbers[:2] else "good"
            station.store.review(number, person="anna", decision=decision)
    made = CandidateMaker(station)
    yield made
    made.close()


def lock(station: Station) -> list[int]:
    numbers = [part.id for part in station.store.history() if part.decision is not None]
    station.store.regression_sets.lock("may", "toy", numbers, person="eva")
    return numbers


def made(maker: CandidateMaker, station: Station, **wanted: object) -> Candidate:
    begun = maker.start("toy", Wanted(how="calibrate", **wanted), person="eva")
    assert begun.state == "working"
    maker.wait()
    return station.store.candidates.get(begun.number)


def test_candidate_is_made_compared_and_released(
    maker: CandidateMaker, station: Station, client: TestClient
) -> None:
    locked = lock(station)
    found = made(maker, station, false_alarms=0.2)
    assert (found.state, found.message) == ("ready", "")
    comparison = found.details["comparison"]
    (on_set,) = comparison["regression"]
    # Good parts of the set were learned from as well, so that the promise holds; they do not count.
    assert (on_set["n_good"], on_set["n_defective"]) == (0, 2)
    assert on_set["n_learned"] == len(locked) - 2
    assert on_set["before"]["missed"] == on_set["after"]["missed"] == 0
    assert comparison["replay"]["n"] == PARTS
    assert comparison["replay"]["n_learned"] == PARTS - 2
    assert comparison["version"] == 1
    # Twice the budget: some parts that were accepted are not any more, and none the other way.
    changes = station.store.candidates.changes(found.number, "replay")
    assert len(changes) == comparison["n_changes"]["replay"] > 0
    assert {change.before for change in changes} <= {"ok", "look_again"}
    answer = client.get(f"/api/candidates/{found.number}").json()
    assert len(answer["changes"]) == sum(comparison["n_changes"].values())

    version = maker.release(found.number, person="kim")
    assert version.version == 2
    assert station.pool.get("toy").recipe == station.store.recipes.active("toy")
    assert station.pool.get("toy").false_alarms == pytest.approx(0.2)
    assert station.store.candidates.get(found.number).state == "released"
    with pytest.raises(InputError, match="is released; only a ready one"):
        maker.release(found.number, person="kim")
    station.activate("toy", 1, person="kim")
    assert station.pool.get("toy").recipe.version == 1
    assert not list((station.store.folder / "work").iterdir())


def test_candidate_that_met_no_locked_set_is_not_released(
    maker: CandidateMaker, station: Station
) -> None:
    found = made(maker, station)
    with pytest.raises(InputError, match="not compared on locked parts"):
        maker.release(found.number, person="eva")
    lock(station)
    maker.compare_again(found.number)
    maker.wait()
    station.add_model(
        station.store.recipes.model(station.store.recipes.active("toy").model_hash).path,
        person="eva",
        recipe="toy",
    )
    with pytest.raises(InputError, match=r"version 2 is in use now\. Compare it again"):
        maker.release(found.number, person="eva")
    assert maker.withdraw(found.number, person="eva").state == "withdrawn"
    assert station.store.recipes.active("toy").version == 2


def test_failure_of_a_process_is_said_in_its_words(maker: CandidateMaker, station: Station) -> None:
    begun = maker.start("toy", Wanted(how="fit", detector="nonsense"), person="eva")
    maker.wait()
    found = station.store.candidates.get(begun.number)
    assert found.state == "failed"
    assert found.message.startswith("Error: ")
    assert "nonsense" in found.message


def test_candidate_of_a_station_that_was_stopped_has_failed(
    maker: CandidateMaker, station: Station
) -> None:
    begun = maker.start("toy", Wanted(how="calibrate"), person="eva")
    maker.close()
    assert station.store.candidates.get(begun.number).state == "failed"
    left = station.store.candidates.begin("toy", "fit", person="eva", base_version=1, details={})
    CandidateMaker(station)
    found = station.store.candidates.get(left.number)
    assert (found.state, "Create the candidate again" in found.message) == ("failed", True)


@pytest.mark.parametrize(
    "wanted",
    [
        {"how": "guess"},
        {"how": "calibrate", "detector": "padim"},
        {"how": "fit", "false_alarms": 1.0},
    ],
)
def test_wrong_wishes_are_refused(wanted: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Wanted(**wanted)  # type: ignore[arg-type]


def test_loop_over_http(maker: CandidateMaker, station: Station, client: TestClient) -> None:
    del maker
    numbers = [part.id for part in station.store.history() if part.decision is not None]
    wanted = {"name": "may", "recipe": "toy", "parts": numbers}
    locked = client.post("/api/regression-sets", json=wanted)
    assert (locked.status_code, locked.json()["n_defective"]) == (201, 2)
    again = client.post("/api/regression-sets", json=wanted)
    assert (again.status_code, again.json()["error"]["code"]) == (422, "invalid")
    assert len(client.get("/api/regression-sets").json()["regression_sets"]) == 1
    begun = client.post("/api/recipes/toy/candidates", json={"how": "calibrate"})
    assert begun.status_code == 202
    number = begun.json()["number"]
    client.app.state.candidates.wait()  # type: ignore[attr-defined]
    assert client.get("/api/candidates").json()["candidates"][0]["state"] == "ready"
    assert client.post(f"/api/candidates/{number}/release").json()["version"] == 2
    assert client.post(f"/api/candidates/{number}/withdraw").status_code == 422
    assert client.get("/api/candidates/99").status_code == 404
    assert client.post("/api/recipes/none/candidates", json={}).status_code == 404


def test_a_comparison_that_fails_leaves_the_candidate_and_the_next_its_turn(
    maker: CandidateMaker, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock(station)
    found = made(maker, station)

    def full(*_: object, **__: object) -> None:
        raise StorageError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(station.store.candidates, "compared", full)
        maker.compare_again(found.number)
        maker.wait()
    again = station.store.candidates.get(found.number)
    assert (again.state, again.message) == ("ready", "The disk is full.")
    with monkeypatch.context() as patched:
        patched.setattr(station.store.candidates, "get", full)
        patched.setattr(station.store.candidates, "compared", full)
        maker._put(found.number, full)
        maker.wait()
    maker.compare_again(found.number)
    maker.wait()
    assert station.store.candidates.get(found.number).message == ""
