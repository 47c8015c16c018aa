"""What goes on beyond one request: streams of events after a logout, drift beyond a swap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from makellos.service.events import Events
from makellos.service.queue import NewPart
from makellos.service.station import Station
from makellos.store import Store


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_stream_ends_with_the_right_to_it(is_busy: bool) -> None:
    async def listen() -> tuple[int, int]:
        events, asked = Events(heartbeat=0.05), iter([True, True, False])

        async def may_listen() -> bool:
            return next(asked)

        heard = 0
        async for _ in events.listen(may_listen):
            heard += 1
            if is_busy:  # there is never a pause as long as a heartbeat
                await asyncio.sleep(0.01)
                events.publish("inspection", {"id": heard})
        return heard, events.n_listeners

    with ThreadPoolExecutor(1) as pool:  # a browser of other tests may have the main thread's loop
        heard, left = pool.submit(lambda: asyncio.run(listen())).result(timeout=10)
    assert (heard > 5 if is_busy else heard == 3) and left == 0


@pytest.mark.parametrize("how", ["logout", "disabled", "revoked"])
def test_events_end_after_logout_disabling_and_revoking(
    build: Callable[..., Station], connect: Callable[..., TestClient], store: Store, how: str
) -> None:
    for name, role in (("Eve", "administrator"), ("Ada", "viewer")):
        store.people.add(name, "a long password", role, by="test")
    station = build(heartbeat=0.05)
    client = connect(station)
    session = store.people.begin_session("Ada", seconds=3600)
    if how == "revoked":
        secret = store.people.add_token("line", "viewer", by="Eve")
        client.headers["Authorization"] = f"Bearer {secret}"
    else:
        client.cookies.set("makellos_session", session.token)
    end: dict[str, Callable[[], Any]] = {
        "logout": lambda: store.people.end_session(session.token),
        "disabled": lambda: store.people.disable("Ada", by="test"),
        "revoked": lambda: store.people.revoke_token("line", by="Eve"),
    }
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, "/api/events")
        try:
            with pytest.raises(TimeoutError):
                answer.result(timeout=0.4)  # goes on
            end[how]()
            text = answer.result(timeout=10).text
        finally:
            station.events.close()
    assert text.startswith("retry:") and ": still here" in text


def bright(number: int) -> NewPart:
    """Return a part that is brighter than any good one."""
    picture = np.random.default_rng(number).integers(180, 200, (64, 96)).astype(np.uint8)
    return NewPart(f"{number}.png", bytes(cv2.imencode(".png", picture)[1]))


def test_a_former_model_keeps_its_alarms_and_leaves_those_of_the_next_alone(
    build: Callable[..., Station], connect: Callable[..., TestClient]
) -> None:
    station = build()
    former = station.pool.get("toy")
    for number in range(40):
        station.judge("toy", [bright(number)])
    alarms = station.drift.state(former)["alarms"]
    assert alarms
    asked = {"false_alarms": 0.3, "activate": True}
    connect(station).post("/api/recipes/toy/budget", json=asked)
    station.judge("toy", [bright(40)])
    assert station.drift.state(station.pool.get("toy"))["n_parts"] == 1
    (late,) = station.queue.put(former, [bright(41)])  # it was in work when the model was swapped
    late.result()
    following = station.drift.state(station.pool.get("toy"))
    assert (following["n_parts"], following["drifted"]) == (1, False)
    again = build()  # also after a restart
    again.activate("toy", 1, person="test")
    back = again.drift.state(again.pool.get("toy"))
    assert (back["n_parts"], back["drifted"]) == (41, True)
    assert json.loads(json.dumps(alarms)) == back["alarms"][: len(alarms)]
