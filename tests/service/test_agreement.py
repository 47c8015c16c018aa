"""The page of the agreement study: people with each other and with the model."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient

from makellos.calibration import Verdict
from makellos.inspection.findings import Inspection
from makellos.service.agreement import agreements
from makellos.service.station import Station
from makellos.store import NewInspection


def decided(station: Station, number: int, person: str, decision: str, *, blind: bool) -> None:
    station.store.review(number, person=person, decision=decision, boxes=(), note="", blind=blind)


def test_parts_judged_twice_are_compared(
    station: Station, connect: Callable[..., TestClient]
) -> None:
    verdicts: tuple[Verdict, ...] = ("ok", "ok", "reject", "reject")
    parts = [
        NewInspection(
            inspection=Inspection(f"{number}.png", verdict),
            recipe="toy",
            recipe_version=1,
            model_hash="0" * 64,
        )
        for number, verdict in enumerate(verdicts)
    ]
    assert station.store.record(parts) == [1, 2, 3, 4]
    assert agreements(station.store, "toy").study is None
    client = connect(station)
    assert "No part has been judged twice yet" in client.get("/agreement").text
    for number, decision in enumerate(("good", "good", "defective", "defective"), start=1):
        decided(station, number, "Ada", decision, blind=False)
    decided(station, 1, "Bo", "good", blind=True)
    decided(station, 2, "Bo", "defective", blind=True)  # a draw counts as defective
    decided(station, 3, "Bo", "defective", blind=True)
    found = agreements(station.store, "toy")
    assert found.n_once == 1
    assert found.study is not None
    assert (found.study.n_parts, found.study.n_defective) == (3, 2)
    ada, bo, model = found.study.judges
    assert (ada.name, ada.miss_rate.n_hit, bo.miss_rate.n_hit) == ("Ada", 1, 0)
    assert model.is_system and model.miss_rate.n_hit == 1  # what Bo alone saw
    assert [each.n_judgements for each in found.study.agreements] == [3, 3, 3]
    assert agreements(station.store, "other").study is None
    page = client.get("/agreement", headers={"accept-language": "de"}).text
    assert "das Modell" in page and "Bo" in page and "Kappa" in page
