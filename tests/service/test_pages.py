"""The pages without a browser: who reaches them, what they are protected by, what they work out."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

import makellos.service as service
from makellos.errors import ConfigurationError, InputError
from makellos.service.language import words
from makellos.service.pages.charts import budget_chart, control_chart
from makellos.service.pages.history import parse_boxes
from makellos.service.pages.live import budget_of
from makellos.service.pages.modelling import check_recipe_name, outcome
from makellos.service.pages.parts import model_facts
from makellos.service.pages.pictures import heat_picture, small_picture
from makellos.service.pages.rendering import back_to
from makellos.service.processes import Processes
from makellos.service.queue import NewPart
from makellos.service.station import Station
from makellos.store import Box, Change, Store

ROOM = Path(str(service.__file__)).parent
FOREIGN = [ROOM / "static" / "vendor", Path(__file__).parent / "browser" / "vendor"]
ROLES = ("viewer", "operator", "engineer", "administrator")
# Each page, and the role from which on it is shown.
PAGES = {
    "/": "viewer",
    "/live-part": "viewer",
    "/inspect": "operator",
    "/inspected?ids=1": "operator",
    "/history": "viewer",
    "/history.csv": "viewer",
    "/history/1": "viewer",
    "/parts/1/view.jpg": "viewer",
    "/parts/1/heat.png": "viewer",
    "/review": "operator",
    "/models": "viewer",
    "/models/toy": "viewer",
    "/models/toy/budget?step=0": "viewer",
    "/drift": "viewer",
    "/start": "operator",
    "/retention": "viewer",
    "/account": "viewer",
    "/agreement": "engineer",
    "/people": "administrator",
    "/audit": "administrator",
}
CHANGES = {
    "/history/1/decision": ("operator", {"decision": "good"}),
    "/review/1/decision": ("operator", {"decision": "good"}),
    "/history/1/keep": ("operator", {"kept": "true"}),
    "/models/toy/activate": ("engineer", {"version": "1"}),
    "/models/toy/budget": ("engineer", {"false_alarms": "2"}),
    "/drift/reset": ("engineer", {"recipe": "toy"}),
    "/start/demo": ("engineer", None),
    "/start/fit": ("engineer", {"batch": "none", "name": "x"}),
    "/start/examples": ("operator", {}),
    "/processes/stop": ("engineer", {}),
    "/retention": ("engineer", {"row_days": "9"}),
    "/account/password": ("viewer", {"present": "x", "new": "y", "again": "z"}),
    "/said": ("viewer", {"text": "x"}),
    "/people": ("administrator", {"name": "", "password": "", "role": "viewer"}),
    "/people/role": ("administrator", {"name": "nobody", "role": "viewer"}),
    "/people/password": ("administrator", {"name": "nobody", "password": "long enough it is"}),
    "/people/disabled": ("administrator", {"name": "nobody", "disabled": "true"}),
    "/people/tokens": ("administrator", {"name": "", "role": "viewer"}),
    "/people/tokens/revoke": ("administrator", {"name": "nobody"}),
}


@pytest.mark.parametrize("role", [None, *ROLES])
def test_each_role_reaches_its_pages_and_no_others(
    judged: Station,
    connect: Callable[..., TestClient],
    log_in: Callable[..., TestClient],
    role: str | None,
) -> None:
    judged.store.people.add("Ada", "a long password", "administrator", by="test")
    client = connect(judged)
    if role is not None:
        log_in(client, f"the {role}", role)
    for path, needed in PAGES.items():
        answer = client.get(path)
        if role is None:
            assert answer.status_code == 303 and answer.headers["Location"].startswith(
                "/login?next="
            )
        elif ROLES.index(role) < ROLES.index(needed):
            assert answer.status_code == 403, path
        else:
            assert answer.status_code == 200, (path, answer.text)
    for path, (needed, form) in CHANGES.items():
        if form is None and role in {"engineer", "administrator"}:
            continue  # would begin to learn
        status = client.post(path, data=form or {}).status_code
        if role is None:
            assert status == 303, path
        elif ROLES.index(role) < ROLES.index(needed):
            assert status == 403, path
        else:
            assert status in {200, 303, 404, 422, 503}, path


def test_a_change_needs_the_token_of_the_session(
    judged: Station, connect: Callable[..., TestClient], log_in: Callable[..., TestClient]
) -> None:
    client = log_in(connect(judged), "Ada", "operator", csrf=False)
    assert client.post("/history/1/decision", data={"decision": "good"}).status_code == 403
    assert judged.store.inspection(1).decision is None
    page = client.get("/history/1").text
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token is not None
    form = {"decision": "good", "csrf": token[1], "back": "/history/1"}
    assert client.post("/history/1/decision", data=form).headers["Location"] == "/history/1"
    assert judged.store.inspection(1).decision == "good"


def test_pages_hold_no_script_and_no_style_of_their_own(
    judged: Station, connect: Callable[..., TestClient]
) -> None:
    client = connect(judged)
    for path in (*PAGES, "/login", "/nothing-here"):
        answer = client.get(path)
        if "text/html" not in answer.headers["Content-Type"]:
            continue
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", answer.text), path
        for tag in re.findall(r"<script[^>]*>", answer.text):
            assert 'src="/static/' in tag
        assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text), path


def test_foreign_files_are_those_that_are_named() -> None:
    for folder in FOREIGN:
        rows = re.findall(
            r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.M
        )
        assert rows
        for name, digest in rows:
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
        named = {name for name, _ in rows} | {"README.md"}
        others = {path.name for path in folder.iterdir()} - named
        assert all("LICENSE" in name for name in others), others


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil", "\n/x", "x"])
def test_nobody_is_sent_elsewhere(path: str) -> None:
    assert back_to(path).headers["Location"] == "/"
    assert back_to("/history?x=1").headers["Location"] == "/history?x=1"


def test_login_goes_back_and_says_when_it_fails(
    judged: Station, connect: Callable[..., TestClient]
) -> None:
    judged.store.people.add("Ada", "a long password", "viewer", by="test")
    client = connect(judged)
    form = {"name": "Ada", "password": "wrong", "back": "/history"}
    failed = client.post("/login", data=form)
    assert failed.status_code == 401 and "The name or the password is wrong." in failed.text
    done = client.post("/login", data=form | {"password": "a long password"})
    assert (done.status_code, done.headers["Location"]) == (303, "/history")
    assert "Ada" in client.get("/history").text
    token = re.search(r'name="csrf" content="([^"]+)"', client.get("/").text)
    assert token is not None
    client.post("/logout", data={"csrf": token[1]})
    assert client.get("/").status_code == 303


def test_list_as_csv_is_that_of_the_filters_and_no_formula(
    client: TestClient, judged: Station
) -> None:
    rows = list(csv.DictReader(io.StringIO(client.get("/history.csv").text)))
    assert [row["serial"] for row in rows] == ["A-2", "A-1"]
    assert rows[0]["input"] == "'=b.png"
    found = client.get("/history.csv", params={"serial": "A-1"}).text
    assert "A-1" in found and "A-2" not in found
    assert client.get("/history", params={"since": "yesterday"}).status_code == 422


def test_filters_and_times_narrow_the_history(client: TestClient, judged: Station) -> None:
    only = client.get("/history", params={"text": "a-2"}, headers={"HX-Request": "true"}).text
    assert "A-2" in only and "A-1" not in only and "<html" not in only
    later = client.get("/history", params={"since": "2100-01-01T00:00"}).text
    assert "No parts match" in later


def test_pictures_for_screens(client: TestClient, judged: Station) -> None:
    small = client.get("/parts/2/view.jpg?side=240")
    assert small.headers["Content-Type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(small.content, np.uint8), cv2.IMREAD_COLOR).shape == (
        32,
        32,
        3,
    )
    heat = client.get("/parts/2/heat.png")
    drawn = cv2.imdecode(np.frombuffer(heat.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert drawn.shape[2] == 4
    assert client.get("/parts/99/view.jpg").status_code == 404


def test_heat_is_transparent_where_usual() -> None:
    found = np.full((8, 8), 1.0, np.float32)
    found[2:4, 5:7] = 4.0
    drawn = cv2.imdecode(np.frombuffer(heat_picture(found, 2.0), np.uint8), cv2.IMREAD_UNCHANGED)
    assert drawn[0, 0, 3] == 0 and drawn[240, 480, 3] == 255  # 640 pixels for 8


def test_small_picture_keeps_its_shape_and_takes_16_bits() -> None:
    deep = np.full((100, 300), 4095, np.uint16)
    encoded = bytes(cv2.imencode(".png", deep)[1])
    shown = small_picture(encoded, 150, white_level=4095)
    seen = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert seen.shape == (50, 150) and seen.min() > 250
    with pytest.raises(InputError):
        small_picture(b"no picture", 100)


def test_budget_of_a_shift_says_what_is_spent_and_left() -> None:
    found = budget_of(words("en"), 4.0, 1, 2)
    assert found.sentence == "1 of 4 false alarms spent, 3 left."
    assert found.end == pytest.approx(320 / 1.25)
    assert found.spent_width == pytest.approx(64) and found.open_width == pytest.approx(128)
    assert not found.over and budget_of(words("en"), 0.5, 1, 0).over


def test_outcome_of_another_budget_follows_from_the_stored_p_values(
    judged: Station, store: Store
) -> None:
    facts = model_facts(store, judged.pool.get("toy").recipe.model_hash)
    assert facts is not None
    facts = replace(facts, budget=0.1, look_again_limit=0.3)
    part = store.inspection(1)
    p_values = [0.01, 0.05, 0.2, 0.5]
    decided = ["defective", "good", None, "defective"]
    stored = ["reject", "reject", "look_again", "ok"]
    parts = [
        replace(part, p_value=p, decision=word, verdict=verdict, result={})
        for p, word, verdict in zip(p_values, decided, stored, strict=True)
    ]
    found, verdicts = outcome(parts, 0.05, facts)
    assert verdicts == ["reject", "reject", "ok", "ok"]  # up to three times the budget: look again
    assert (found.reject, found.look_again) == (2, 0)
    assert (found.good_rejected, found.defects_missed) == (1, 1)
    assert outcome(parts, 0.1, facts)[1] == ["reject", "reject", "look_again", "ok"]
    ruled = replace(parts[3], verdict="reject", result={"broken_rules": ["larger_than_mm2"]})
    assert outcome([ruled], 0.05, facts)[1] == ["reject"]
    odd = replace(parts[3], verdict="look_again")  # for its pose, not for its p-value
    assert [outcome([odd], budget, facts)[1] for budget in (0.05, 0.1)] == [["look_again"]] * 2
    assert outcome([odd], 0.5, facts)[1] == ["reject"]
    tightened = replace(odd, result={"calibrated_verdict": "look_again", "broken_rules": []})
    assert outcome([tightened], 0.1, facts)[1] == ["look_again"]
    fixed = replace(facts, look_again_limit=0.1)  # nothing beside those rejected
    assert outcome(parts, 0.05, fixed, {part.model_hash: facts})[1] == [
        "reject",
        "reject",
        "ok",
        "ok",
    ]


def test_charts_show_shares_and_alarms_at_their_places() -> None:
    chart = budget_chart([0.01, 0.5, 0.5, 0.5], 0.05, 0.1, [0.01, 0.05, 0.1])
    assert chart.now < chart.asked
    assert chart.line.startswith("M46.0") and "nan" not in chart.line + chart.promise
    heights = [float(point.split()[1]) for point in chart.line[1:].split("L")]
    assert heights == sorted(heights, reverse=True)  # a larger budget rejects no fewer
    control = control_chart(
        [(1, 0.5, "ok"), (2, 0.01, "reject"), (3, 0.9, "ok")],
        budget=0.05,
        again=0.15,
        alarms=[(2, "dirt"), (99, "long ago")],
    )
    assert [name for _, name, _ in control.alarms] == ["dirt"]
    assert control.spots[1][1] < control.reject < control.again < control.spots[0][1]
    assert control_chart([], budget=0.05, again=0.1, alarms=[]).spots == ()


def test_drawn_boxes_are_read_or_refused() -> None:
    assert parse_boxes("[[1, 2, 3.5, 4]]") == (Box(1.0, 2.0, 3.5, 4.0),)
    assert parse_boxes(" ") == ()
    for wrong in (
        "x",
        "[[1,2,3]]",
        "[[1,2,0,4]]",
        "[[1,2,1e999,4]]",
        '{"a": 1}',
        "[" * 5000,
        "[1]",
    ):
        with pytest.raises(InputError):
            parse_boxes(wrong)


def test_names_of_recipes() -> None:
    assert check_recipe_name(" Screws M3, left ".replace(",", "")) == "Screws M3 left"
    for wrong in ("", "../x", "a/b", "x" * 65, "<b>", "a\nb"):
        with pytest.raises(InputError):
            check_recipe_name(wrong)


def test_a_word_on_a_part_is_kept_with_its_boxes(client: TestClient, judged: Station) -> None:
    form = {"decision": "defective", "boxes": "[[1,2,3,4]]", "note": "burr", "back": "/"}
    assert client.post("/history/1/decision", data=form).status_code == 303
    (review,) = judged.store.reviews(1)
    assert (review.person, review.note, review.boxes) == ("local", "burr", (Box(1, 2, 3, 4),))
    page = client.get("/history/1").text
    assert "burr" in page
    assert ("Missed defect" if judged.store.inspection(1).verdict == "ok" else "Confirmed") in page


def test_first_start_refuses_what_cannot_be_learned_from(
    client: TestClient, station: Station, picture: Callable[..., bytes]
) -> None:
    files = [
        ("files", ("a.png", picture(1))),
        ("files", ("b.png", b"text")),
        ("files", ("c.txt", b"")),
    ]
    told = client.post("/start/pictures", files=files).json()
    assert told["kept"] == 1 and [each["name"] for each in told["refused"]] == ["b.png", "c.txt"]
    few = client.post("/start/fit", data={"batch": told["batch"], "name": "own"})
    assert few.status_code == 422 and "at least 10" in few.text
    assert client.post("/start/pictures", data={"batch": "../../x"}, files=files).status_code == 422
    folder = station.store.folder / "start" / told["batch"]
    assert [path.suffix for path in folder.iterdir()] == [".png"]


def test_candidate_is_shown_with_what_it_would_change(client: TestClient, judged: Station) -> None:
    store = judged.store
    learned = {"n_good": 1, "n_assumed_good": 1, "n_defective": 0}
    times = {"since": "2026-09-14T00:00:00Z", "until": "2026-09-21T00:00:00Z"}
    made = store.candidates.begin(
        "toy", "calibrate", person="Ada", base_version=1, details=learned | times
    )
    at = f"/models/toy/candidates/{made.number}"
    assert "every 1s" in client.get(at).text
    model_hash = store.recipes.active("toy").model_hash
    store.candidates.made(made.number, model_hash, {})
    errors = {"false_alarms": 3, "missed": 1, "unreadable": 0}
    judged_set = {"set": "May", "hash": "0", "n_good": 9, "n_defective": 4, "n_learned": 2}
    comparison = {
        "version": 1,
        "regression": [judged_set | {"before": errors, "after": errors | {"false_alarms": 2}}],
        "replay": {"n": 2, "n_learned": 1, "before": {"ok": 2}, "after": {"ok": 1, "reject": 1}},
        "n_changes": {"regression": 0, "replay": 1},
    }
    flip = Change(
        inspection_id=1, of="replay", before="ok", after="reject", score_before=1, score_after=2
    )
    store.candidates.compared(made.number, [flip], comparison)
    assert client.get(f"{at}/state").headers["HX-Refresh"] == "true"
    page = client.get(at).text
    left_out = "2 parts it learned from are left out"
    for said in ("3 / 9", "2 / 9", "1 / 4", "A-1", "Release", left_out):
        assert said in page, said
    assert client.post(f"{at}/explode").status_code == 404
    assert client.get(f"/models/other/candidates/{made.number}").status_code == 404
    assert client.post(f"{at}/release").headers["Location"] == "/models/toy"
    assert store.recipes.active("toy").version == 2
    listed = client.get("/models/toy/candidates").text
    assert "released" in listed and "Nobody has decided" in listed


def test_decided_parts_are_locked_as_a_set(client: TestClient, judged: Station) -> None:
    assert client.post("/models/toy/sets", data={"title": "May"}).status_code == 422
    judged.store.review(1, person="Ada", decision="good")
    assert "Lock 1 decided part" in client.get("/models/toy/candidates").text
    client.post("/models/toy/sets", data={"title": "May"})
    (locked,) = judged.store.regression_sets.all("toy")
    assert (locked.name, locked.n_good, locked.n_defective) == ("May", 1, 0)


def test_a_process_tells_how_far_it_is_and_how_it_ended() -> None:
    runs = Processes()
    heard: list[str] = []
    process = runs.start("fit", [["--version"]], person="Ada", then=lambda: heard.append("then"))
    with pytest.raises(ConfigurationError, match="already"):
        runs.start("fit", [], person="Ada", then=lambda: None)
    _wait(lambda: process.status != "running")
    assert (process.status, heard) == ("done", ["then"]), process.error
    wrong = runs.start(
        "fit", [["fit", "nowhere", "-o", "x.makellos"]], person="Ada", then=lambda: None
    )
    _wait(lambda: wrong.status != "running")
    assert wrong.status == "failed" and "nowhere" in wrong.error
    assert runs.latest("fit") is wrong and runs.get(process.number) is process


def _wait(done: Callable[[], bool], seconds: float = 60.0) -> None:
    import time

    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/history/{}",
            "/parts/{}/view.jpg",
            "/parts/{}/heat.png",
            "/?part={}",
            "/audit?before={}",
        ),
        *("/review?part={}", "/history?before={}", "/inspected?ids={}"),
    ],
)
def test_numbers_that_no_database_takes_are_refused(
    judged: Station, connect: Callable[..., TestClient], path: str
) -> None:
    assert connect(judged).get(path.format(10**20)).status_code in {200, 422}


def test_a_second_demo_leaves_what_the_first_learns_from(
    station: Station, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_self: Processes) -> None:
        raise ConfigurationError("The station is learning already.")

    file = station.store.folder / "start" / "demo" / "screws" / "a.png"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr(Processes, "check_free", busy)
    assert client.post("/start/demo").status_code == 422
    assert file.exists()


def test_the_shift_of_the_live_page_is_that_of_the_station(
    build: Callable[..., Station], connect: Callable[..., TestClient], picture: Callable[..., bytes]
) -> None:
    station = build(shifts=(3,))
    station.judge("toy", [NewPart("a.png", picture(1))])
    page = connect(station).get("/").text
    assert words("en").clock(station.shift().since)[:5] == "03:00"
    assert "03:00" in page


def test_pictures_that_come_at_once_are_all_kept_and_old_batches_go(
    client: TestClient, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(seed: int, batch: str) -> dict[str, object]:
        picture = cv2.imencode(".png", np.full((8, 8), seed, np.uint8))[1].tobytes()
        files = [("files", ("a.png", picture)), ("files", ("a.png", picture))]
        answer: dict[str, object] = client.post(
            "/start/pictures", data={"batch": batch}, files=files
        ).json()
        return answer

    room = station.store.folder / "start"
    old, made = room / ("0" * 16), room / f"{'0' * 16}.makellos"
    old.mkdir(parents=True)
    made.touch()
    demo = room / "demo"
    demo.mkdir()
    for path in (old, made, demo):
        os.utime(path, (1, 1))
    batch = str(send(0, "")["batch"])
    assert sorted(path.name for path in room.iterdir()) == sorted([batch, "demo"])
    monkeypatch.setattr("makellos.service.pages.starting.time.time_ns", lambda: 7)
    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(lambda seed: send(seed, batch)["kept"], range(1, 5)))
    assert kept == [2] * 4
    assert len(list((room / batch).iterdir())) == 10
