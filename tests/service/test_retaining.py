"""How long a station keeps things: set by people, carried out by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from makellos.cli import main
from makellos.errors import InputError
from makellos.service.queue import NewPart
from makellos.service.retaining import forget, forgetting
from makellos.service.station import Station
from makellos.store import Retention, Store

DAY = 86_400_000_000


@pytest.fixture
def aged(station: Station, picture: Callable[..., bytes], clock: Callable[[], int]) -> Store:
    """Return a store with a part of ten days ago, a reviewed one of then, and a new one."""
    first, second = station.judge("toy", [NewPart(f"{n}.png", picture(n)) for n in range(2)])
    station.store.review(second, person="anna", decision="good")
    clock.now += 10 * DAY  # type: ignore[attr-defined]
    station.judge("toy", [NewPart("2.png", picture(2))])
    assert (first, second) == (1, 2)
    return station.store


def kept(store: Store) -> list[bool]:
    return [store.picture(store.inspection(number).picture) is not None for number in (1, 2, 3)]


def test_what_is_set_is_carried_out_and_decided_parts_stay(aged: Store) -> None:
    assert forget(aged).pictures == 0
    aged.set_retention(Retention(picture_days=5), person="eva")
    assert aged.retention() == Retention(picture_days=5)
    with forgetting(aged, every=60):
        deadline = time.monotonic() + 20
        while all(kept(aged)) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert kept(aged) == [False, True, True]
    actions = [entry.action for entry in aged.audit.entries()]
    assert "setting" in actions
    aged.set_retention(Retention(), person="eva")
    assert aged.retention() == Retention()


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_senseless_times_are_refused(aged: Store, wrong: float) -> None:
    with pytest.raises(InputError, match="above 0"):
        aged.set_retention(Retention(row_days=wrong), person="eva")


def test_retention_over_http_and_on_its_page(aged: Store, client: TestClient) -> None:
    assert client.get("/api/retention").json()["picture_days"] is None
    wanted = {"picture_days": 90, "picture_bytes": 1_500_000_000}
    assert client.put("/api/retention", json=wanted).json()["row_days"] is None
    assert client.put("/api/retention", json={"row_days": -1}).status_code == 422
    page = client.get("/retention").text
    assert 'value="90"' in page
    assert 'value="1.5"' in page
    form = {"picture_days": "", "row_days": "0,5", "picture_gb": ""}
    assert client.post("/retention", data=form).status_code == 303
    assert aged.retention() == Retention(row_days=0.5)
    assert client.post("/retention", data={"row_days": "soon"}).status_code == 422


def test_retention_by_the_command_line(
    aged: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--store", str(aged.folder)]
    assert main(["history", "retention", *place]) == 0
    assert "Everything is kept forever." in capsys.readouterr().out
    file = tmp_path / "kept.json"
    options = ["--picture-days", "90", "--picture-gb", "0.5", "--json", str(file)]
    assert main(["history", "retention", *options, *place]) == 0
    assert "Pictures and heat maps are kept for 90 days." in capsys.readouterr().out
    told = json.loads(file.read_text())
    assert told == {"picture_days": 90.0, "row_days": None, "picture_bytes": 500_000_000}
    assert main(["history", "retention", "--row-days", "0", *place]) == 2
    assert main(["history", "retention", "--forever", "--now", *place]) == 0
    assert "Removed: 0 parts" in capsys.readouterr().out
    assert aged.retention() == Retention()
