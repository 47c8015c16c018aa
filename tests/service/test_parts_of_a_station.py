"""The pieces of a station, each by itself: events, metrics, shift, drift, recipes, throttles."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from makellos.errors import ConfigurationError, ModelFileError
from makellos.service import server
from makellos.service.access import log_in as try_login
from makellos.service.events import Events
from makellos.service.failures import CODES, Refusal
from makellos.service.queue import NewPart
from makellos.service.shift import shift_start
from makellos.service.station import Station
from makellos.service.throttle import LoginThrottle, elapsed
from makellos.store import Store

URL = "/api/inspections"


def post(client: TestClient, *contents: bytes, **data: str) -> list[dict[str, Any]]:
    sent = [("files", (f"{n}.png", content)) for n, content in enumerate(contents)]
    answer = client.post(URL, files=sent, data=data)
    assert answer.status_code == 201, answer.text
    rows: list[dict[str, Any]] = answer.json()["inspections"]
    return rows


def test_listeners_hear_events_and_slow_ones_are_let_go() -> None:
    async def listen() -> tuple[list[str], list[str]]:
        events = Events(heartbeat=0.05)
        quick, slow = events.listen(), events.listen()
        heard = [await anext(quick), await anext(quick)]  # the second is a heartbeat
        await anext(slow)
        events.publish("inspection", {"id": 1, "input": "\u2028ß"})
        heard.append(await anext(quick))
        for number in range(300):
            events.publish("inspection", {"id": number})
        await asyncio.sleep(0.05)
        left = [text async for text in slow]
        assert events.n_listeners == 0  # both were behind
        events.close()
        assert [text async for text in events.listen()] == []
        return heard, left

    with ThreadPoolExecutor(1) as pool:  # a browser of other tests may have the main thread's loop
        heard, left = pool.submit(lambda: asyncio.run(listen())).result()
    assert heard[0].startswith("retry:")
    assert heard[1].startswith(": ")
    kind, data = heard[2].strip().split("\n")
    assert kind == "event: inspection"
    assert json.loads(data.removeprefix("data: ")) == {"id": 1, "input": "\u2028ß"}
    assert left == []


def test_metrics_count_parts_and_refusals(
    client: TestClient, picture: Callable[..., bytes]
) -> None:
    post(client, picture(), picture(1), b"nothing")
    client.get("/api/inspections/77")
    text = client.get("/metrics").text
    assert 'makellos_parts_total{recipe="toy",verdict="unreadable"} 1.0' in text
    assert 'makellos_part_seconds_count{recipe="toy"} 3.0' in text
    assert 'makellos_refused_total{code="404"} 1.0' in text
    assert "makellos_queue_length 0.0" in text
    assert 'makellos_false_alarms_allowed{recipe="toy"} 0.2' in text
    assert 'makellos_drift_alarm{recipe="toy"} 0.0' in text


def test_the_shift_counts_what_a_person_overruled(
    client: TestClient, station: Station, picture: Callable[..., bytes]
) -> None:
    rows = post(client, picture(spot=True), picture(1, spot=True))
    assert {row["verdict"] for row in rows} == {"reject"}
    client.post(f"{URL}/1/reviews", json={"decision": "good"})
    found = client.get("/api/counts", params={"recipe": "toy"}).json()
    assert found["verdicts"]["reject"] == 2
    assert found["budget"] == {"allowed": 0.2, "spent": 1, "left": -0.8, "n_open": 1}
    client.post(f"{URL}/2/reviews", json={"decision": "defective"})  # no good part any more
    found = client.get("/api/counts").json()
    assert found["budget"] == {"allowed": 0.1, "spent": 1, "left": -0.9, "n_open": 0}
    later = client.get("/api/counts", params={"since": "2027-01-01T00:00:00Z"}).json()
    assert later["budget"]["spent"] == 0


def test_the_event_of_a_review_is_a_row_wherever_it_was_said(
    client: TestClient, station: Station, picture: Callable[..., bytes]
) -> None:
    post(client, picture())
    heard: list[Any] = []
    station.events.publish = lambda kind, data: heard.append((kind, data))  # type: ignore[method-assign]
    client.post(f"{URL}/1/reviews", json={"decision": "good"})
    client.post("/history/1/decision", data={"decision": "defective"})
    assert [kind for kind, _ in heard] == ["review", "review"]
    (_, first), (_, second) = heard
    assert set(first) == set(second)
    assert (first["review"], second["review"]) == ("good", "defective")


@pytest.mark.parametrize(("hour", "begun"), [(5, 22), (6, 6), (13, 6), (23, 22)])
def test_a_shift_begins_at_its_hour(hour: int, begun: int) -> None:
    now = datetime(2026, 3, 4, hour, 30).astimezone()
    start = datetime.fromtimestamp(
        shift_start(int(now.timestamp() * 1e6), (6, 14, 22)) / 1e6, UTC
    ).astimezone()
    assert (start.hour, start.minute) == (begun, 0)
    assert 0 <= (now - start).total_seconds() < 8 * 3600


def bright(n: int) -> bytes:
    """Return a part that is brighter than any good one."""
    import cv2

    picture = np.random.default_rng(n).integers(180, 200, (64, 96)).astype(np.uint8)
    return bytes(cv2.imencode(".png", picture)[1])


def test_a_drift_raises_an_alarm_that_outlives_a_restart_until_it_is_reset(
    build: Callable[..., Station], connect: Callable[..., TestClient]
) -> None:
    first = build()
    client = connect(first)
    heard: list[Any] = []
    first.events.publish = lambda kind, data: heard.append((kind, data))  # type: ignore[method-assign]
    for number in range(40):
        post(client, bright(number))
    assert client.get("/api/drift/toy").json()["drifted"]
    assert [data["recipe"] for kind, data in heard if kind == "drift"] == ["toy"]
    assert 'makellos_drift_alarm{recipe="toy"} 1.0' in client.get("/metrics").text
    standing = client.get("/api/drift/toy").json()
    second = build()  # without a clean end of the first: what was not saved is read back
    again = connect(second)
    restored = again.get("/api/drift/toy").json()
    assert restored["n_parts"] == standing["n_parts"] == 40
    assert restored["alarms"] == standing["alarms"]
    assert restored["wealth"] == pytest.approx(standing["wealth"])
    assert not again.post("/api/drift/toy/reset").json()["drifted"]
    assert again.get("/api/audit").json()["entries"][0]["action"] == "drift_reset"


def test_recipes_are_exchanged_and_brought_back_without_a_restart(
    client: TestClient, station: Station, picture: Callable[..., bytes]
) -> None:
    (active,) = client.get("/api/recipes").json()["recipes"]
    rules = {"rules": [{"more_than": 0}]}
    new = {"model_hash": active["model_hash"], "acceptance": rules}
    made = client.post("/api/recipes/toy/versions", json=new)
    assert (made.status_code, made.json()["version"], made.json()["active"]) == (201, 2, False)
    assert post(client, picture())[0]["recipe_version"] == 1
    assert client.post("/api/recipes/toy/activate", json={"version": 2}).json()["loaded"]
    row = post(client, picture(spot=True))[0]
    assert row["recipe_version"] == 2
    assert row["broken_rules"]
    client.post("/api/recipes/toy/activate", json={"version": 1})
    assert post(client, picture(spot=True))[0]["recipe_version"] == 1
    assert client.post("/api/recipes/toy/activate", json={"version": 9}).status_code == 404
    wrong = {**new, "acceptance": {"rules": [{"zone": "rim", "more_than": 0}]}}
    refused = client.post("/api/recipes/toy/versions", json=wrong)
    assert refused.json()["error"]["code"] == "invalid"
    assert "rim" in refused.json()["error"]["message"]


def test_a_model_comes_over_http_and_a_false_one_is_refused(
    client: TestClient, toy_model: Path, picture: Callable[..., bytes]
) -> None:
    files = {"file": ("new.makellos", toy_model.read_bytes())}
    made = client.post("/api/models", files=files, data={"recipe": "second"})
    assert made.status_code == 201, made.text
    assert post(client, picture(), recipe="second")[0]["recipe"] == "second"
    refused = client.post(
        "/api/models", files={"file": ("x.makellos", b"PK nonsense")}, data={"recipe": "third"}
    )
    assert refused.json()["error"]["code"] == "invalid"
    assert refused.json()["error"]["message"].startswith("x.makellos is not a model file")
    page = {"files": ("..\\y.makellos", b"PK nonsense")}
    shown = client.post("/models", files=page, data={"name": "third"})
    assert "y.makellos is not a model file" in shown.text
    assert "/" not in shown.text.split("y.makellos is not")[0].rpartition(">")[2]
    assert "third" not in client.get("/api/recipes").text


def test_a_new_budget_is_calibrated_into_a_version_of_its_own(
    client: TestClient, picture: Callable[..., bytes]
) -> None:
    made = client.post("/api/recipes/toy/budget", json={"false_alarms": 0.3, "activate": True})
    assert made.status_code == 201, made.text
    assert made.json()["note"] == "budget 30 %"
    post(client, picture())
    assert client.get("/api/counts").json()["budget"]["allowed"] == pytest.approx(0.3)
    client.post("/api/recipes/toy/activate", json={"version": 1})
    post(client, picture(), picture(1))  # each part by the budget that it was judged with
    assert client.get("/api/counts").json()["budget"]["allowed"] == pytest.approx(0.5)


def test_a_model_that_is_gone_costs_its_recipe_alone(
    build: Callable[..., Station], connect: Callable[..., TestClient], store: Store, toy_model: Path
) -> None:
    station = build()
    station.add_model(toy_model, person="test", recipe="other")
    path = store.recipes.model(store.recipes.active("toy").model_hash).path
    kept = path.read_bytes()
    path.write_bytes(b"broken")
    try:
        again = connect(build(model=None))
        answer = again.get("/readyz")
        assert answer.json()["error"]["code"] == "unavailable"
        assert set(answer.json()["error"]["details"]) == {"toy", "other"}
    finally:
        path.write_bytes(kept)


def test_failed_logins_wait_longer_each_time(clock: Any) -> None:
    logins = LoginThrottle(clock)
    for _ in range(5):
        assert logins.wait("ann", "10.0.0.1") == 0
        logins.failed("ann", "10.0.0.1")
    assert 0 < logins.wait("ann", "10.0.0.1") <= 1
    clock.wait(1.1)
    logins.failed("ann", "10.0.0.1")
    assert 1 < logins.wait("ann", "10.0.0.1") <= 2
    assert logins.wait("ann", "10.0.0.2") == 0  # not where somebody else sits
    logins.succeeded("ann", "10.0.0.1")
    assert logins.wait("ann", "10.0.0.1") == 0
    for number in range(20):
        logins.failed(f"guess {number}", "10.0.0.9")
    assert logins.wait("ben", "10.0.0.9") > 0
    assert logins.wait("ben", "10.0.0.1") == 0


def test_nobody_is_kept_out_by_who_fails_in_their_name(clock: Any) -> None:
    logins = LoginThrottle(clock)
    logins.succeeded("ann", "10.0.0.1")
    for number in range(200):  # from ever another address
        logins.failed("ann", f"10.0.1.{number}")
        clock.wait(1)
    assert logins.wait("ann", "10.0.0.1") == 0
    assert 20 < logins.wait("ann", "10.0.0.2") <= 30
    clock.wait(30)
    assert logins.wait("ann", "10.0.0.2") == 0
    for _ in range(40):  # from one
        logins.failed("ben", "10.0.0.9")
    assert logins.wait("ben", "10.0.0.9") > 800
    assert logins.wait("ben", "10.0.0.2") <= 30


def test_a_clock_that_is_set_back_makes_nobody_wait(
    station: Station, store: Store, clock: Any
) -> None:
    store.people.add("ann", "a long password", "viewer", by="test")
    for _ in range(5):
        station.logins.failed("ann", "10.0.0.1")
    clock.wait(-86_400)
    assert 0 < station.logins.wait("ann", "10.0.0.1") <= 1
    assert station.rate.wait("10.0.0.1") == 0
    earlier = elapsed()
    assert elapsed() >= earlier


def test_a_login_is_checked_counted_and_logged(station: Station, store: Store) -> None:
    store.people.add("ann", "a long password", "viewer", by="test")
    request: Any = type("Request", (), {"client": type("Client", (), {"host": "10.0.0.1"})()})()
    assert try_login(station, request, "ann", "a long password").role == "viewer"
    for _ in range(5):
        with pytest.raises(Refusal, match="wrong"):
            try_login(station, request, "ann", "guess")
    with pytest.raises(Refusal, match="Too many failed logins") as refused:
        try_login(station, request, "ann", "a long password")
    assert refused.value.code == "login_throttled"
    actions = [entry.action for entry in store.audit.entries(limit=6)]
    assert actions == ["login_failed"] * 5 + ["login"]


def test_any_address_but_this_machine_takes_users(store: Store) -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.3.2.1"):
        server.check_address(store, host, "makellos users add NAME")
    for host in ("0.0.0.0", "192.168.1.5", "::", "camera-pc"):  # noqa: S104
        with pytest.raises(ConfigurationError, match="makellos users add NAME"):
            server.check_address(store, host, "makellos users add NAME")
    store.people.add("boss", "a long password", "administrator", by="test")
    server.check_address(store, "0.0.0.0", "makellos users add NAME")  # noqa: S104


def test_a_port_in_use_is_said(store: Store) -> None:
    with (
        server.listening("127.0.0.1", 0) as taken,
        pytest.raises(ConfigurationError, match="--port"),
    ):
        server.listening("127.0.0.1", taken.getsockname()[1])


def test_what_is_no_model_does_not_start(store: Store, tmp_path: Path) -> None:
    (tmp_path / "x.makellos").write_bytes(b"nothing")
    with pytest.raises(ModelFileError):
        server.open_station(store, "127.0.0.1", [tmp_path / "x.makellos"])


def test_the_same_model_started_again_is_no_new_version(store: Store, toy_model: Path) -> None:
    for _ in range(2):
        server.open_station(store, "127.0.0.1", [toy_model]).close()
    assert [each.version for each in store.recipes.versions("toy")] == [1]


def test_the_description_is_whole_and_needs_nothing_from_elsewhere(client: TestClient) -> None:
    described = client.get("/api/openapi.json").json()
    assert described["openapi"].startswith("3.")
    assert "/api/inspections" in described["paths"]
    page = client.get("/api/docs").text
    assert "POST /api/inspections" in page
    assert "http://" not in page.replace("http://localhost", "")
    assert "https://" not in page
    assert "<script" not in page


def test_codes_are_listed_in_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "station-api.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    listed = {row[1].strip(" `"): (int(row[2]), row[3].strip()) for row in rows if len(row) == 5}
    assert listed == {name: (code.status, code.meaning) for name, code in CODES.items()}


def test_many_sources_at_once_lose_and_double_nothing(
    station: Station, picture: Callable[..., bytes]
) -> None:
    def source(number: int) -> list[int]:
        parts = [NewPart(f"{n}.png", picture(n), key=f"{number}:{n}") for n in range(12)]
        return station.judge(None, parts)

    with ThreadPoolExecutor(6) as pool:
        numbers = [n for found in pool.map(source, range(6)) for n in found]
    assert sorted(numbers) == list(range(1, 73))


def test_a_request_that_is_given_up_when_the_server_stops_is_no_fault() -> None:
    def record(error: BaseException | None) -> logging.LogRecord:
        raised = None if error is None else (type(error), error, None)
        return logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "", None, raised)

    told = [record(each) for each in (None, ValueError(), asyncio.CancelledError())]
    assert [server._was_no_cancelling(each) for each in told] == [True, True, False]
