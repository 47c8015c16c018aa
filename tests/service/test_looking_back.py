"""Pages that look back on parts: the budget slider, and second looks that are blind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from fastapi.testclient import TestClient

from makellos.service.queue import NewPart
from makellos.service.station import Station
from makellos.store import Filter


def until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_slider_takes_parts_of_comparable_versions_alone(
    client: TestClient, judged: Station, picture: Callable[..., bytes]
) -> None:
    def page() -> str:
        return client.get("/models/toy").text

    assert "share of the last 2 parts" in page() and "are taken" not in page()
    client.post("/models/toy/budget", data={"false_alarms": "0.3"})  # the same but for the budget
    until(lambda: judged.store.recipes.active("toy").version == 2)  # the page does not wait
    judged.judge("toy", [NewPart("c.png", picture(3))])
    assert "share of the last 3 parts" in page() and "are taken" not in page()
    active = judged.store.recipes.active("toy")
    rules = {"combine": "tighten", "rules": [{"more_than": 5}]}
    made = judged.store.recipes.add("toy", active.model_hash, person="x", acceptance=rules)
    judged.changed("toy")
    assert "0 of the last 3 parts count here" in page()
    judged.judge("toy", [NewPart("d.png", picture(4))])
    assert "1 of the last 4 parts count here" in page() and made.version == 3
    alone = {"combine": "replace", "rules": [{"more_than": 5}]}
    judged.store.recipes.add("toy", active.model_hash, person="x", acceptance=alone)
    judged.changed("toy")
    assert "the rules alone decide" in page() and "passed though" not in page()
    assert "the rules alone decide" in client.get("/models/toy/budget?step=1").text


def test_blind_second_look_hides_what_is_known(
    judged: Station, connect: Callable[..., TestClient], log_in: Callable[..., TestClient]
) -> None:
    store = judged.store
    for part in store.history(Filter(), before=None, limit=10):
        store.review(part.id, person="Ada", decision="good", note="first word")
    waiting = store.to_review("Ben", limit=20)
    client = log_in(connect(judged), "Ben", "operator")
    page = client.get("/review").text
    assert waiting and "A second look" in page
    for told in ("first word", "data-heat", "Reject", "p-value", "Ada"):
        assert told not in page, told
    number = re.search(r'action="/review/(\d+)/decision"', page)
    assert number is not None
    for _ in range(2):  # the second time is a slip of the hand
        answer = client.post(f"/review/{number[1]}/decision", data={"decision": "defective"})
        assert answer.headers["Location"] == "/review"
    assert store.inspection(int(number[1])).decision == "good"
    assert store.reviews(int(number[1]))[-1].blind
    assert len(store.reviews(int(number[1]))) == 2


def test_the_queue_shows_no_verdict_and_its_words_overrule_nobody(
    judged: Station, connect: Callable[..., TestClient], log_in: Callable[..., TestClient]
) -> None:
    store = judged.store
    ada, ben = (log_in(connect(judged), name, "operator") for name in ("Ada", "Ben"))
    store.review(1, person="Eve", decision="good")
    queue = ada.get("/review").text.split('<nav class="strip"')[1].split("</nav>")[0]
    assert queue.count("<a ") == 2
    for told in ("tone-", "shape", "unreadable"):
        assert told not in queue, told
    ada.post("/review/2/decision", data={"decision": "good"})  # both had it on their screens
    ben.post("/review/2/decision", data={"decision": "defective"})
    assert store.inspection(2).decision == "good"
    assert [word.blind for word in store.reviews(2)] == [False, True]
    ben.post("/history/2/decision", data={"decision": "defective"})  # where he sees what stands
    assert store.inspection(2).decision == "defective"
