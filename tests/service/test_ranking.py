"""Pages of models say how well a model's scores rank, where a comparison or a search has told."""

from __future__ import annotations

from fastapi.testclient import TestClient

from makellos.service.station import Station


def errors(auroc: float | None) -> dict[str, float | int | None]:
    return {"auroc": auroc, "false_alarms": 1, "missed": 0, "unreadable": 0}


def compared(station: Station, before: float | None, after: float | None) -> int:
    keep = station.store.candidates
    details = {"n_good": 9, "n_assumed_good": 0, "n_defective": 2, "since": "a", "until": "b"}
    begun = keep.begin("toy", "fit", person="eva", base_version=1, details=details)
    keep.made(begun.number, None, {})
    on_set = {"set": "may", "hash": "x", "n_good": 5, "n_defective": 4, "n_learned": 0}
    comparison = {
        "version": 1,
        "regression": [{**on_set, "before": errors(before), "after": errors(after)}],
        "replay": {"n": 0, "n_learned": 0, "before": {}, "after": {}},
        "n_changes": {"regression": 0, "replay": 0},
    }
    keep.compared(begun.number, [], comparison)
    return begun.number


def test_models_show_the_auroc_of_their_last_comparison(
    station: Station, client: TestClient
) -> None:
    client.headers["Accept-Language"] = "de"
    for page in ("/models", "/models/toy"):
        assert "AUROC" not in client.get(page).text
    compared(station, 0.9, 0.95)
    number = compared(station, 0.9375, 0.9625)
    for page in ("/models", "/models/toy"):
        text = client.get(page).text
        assert "0,9375" in text and "(may)" in text, page
        assert "0,9625" not in text  # of a model that is not in use
    of_candidate = client.get(f"/models/toy/candidates/{number}").text
    assert "0,9375" in of_candidate and "0,9625" in of_candidate


def test_comparisons_that_tell_no_auroc_show_none(station: Station, client: TestClient) -> None:
    number = compared(station, None, None)
    for page in ("/models", "/models/toy"):
        assert "<dt>AUROC</dt>" not in client.get(page).text
    assert client.get(f"/models/toy/candidates/{number}").status_code == 200
