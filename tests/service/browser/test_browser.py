"""The pages in a browser: every one, in both languages, by mouse, keyboard and finger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser_station import PASSWORD, SCRIPT, Served

from makellos.service.queue import NewPart
from makellos.store import Filter

AXE = Path(__file__).with_name("vendor") / "axe.min.js"
PAGES = (
    *("/", "/inspect", "/history", "/history?view=table", "/history/1", "/review", "/models"),
    *("/models/screws", "/models/screws/candidates", "/drift", "/people", "/audit", "/start"),
    "/retention",
)
SERIOUS = "serious", "critical"


def is_wide(page: Any) -> bool:
    """Tell whether a page is wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


def faults(page: Any) -> list[str]:
    """Return what axe finds serious or worse, with where it is."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{each['id']}: {node['target']} {node['failureSummary'][:300]}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(visit: Callable[..., Any], dark: bool) -> None:
    page = visit("/", dark=dark)
    for path in PAGES:
        page.goto(path)
        assert faults(page) == [], path
    page.context.clear_cookies()
    page.goto("/login")
    assert faults(page) == []


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("language", ["en", "de"])
def test_no_page_is_wider_than_its_window(
    visit: Callable[..., Any], language: str, width: int
) -> None:
    page = visit("/login", role="administrator", width=width)
    cookie = {"name": "makellos_language", "value": language, "url": page.url}
    page.context.add_cookies([cookie])
    page.goto("/")
    assert page.locator("html").get_attribute("lang") == language
    for path in PAGES:
        page.goto(path)
        assert not is_wide(page), path
    if width == 390:
        page.locator("[data-menu]").click()
        assert page.locator("nav#menu a").count() == 8
        assert not is_wide(page)


@pytest.mark.parametrize(
    ("role", "seen"),
    [
        ("viewer", ["/", "/history", "/models", "/drift"]),
        ("operator", ["/", "/inspect", "/history", "/review", "/models", "/drift"]),
        ("engineer", ["/", "/inspect", "/history", "/review", "/models", "/drift"]),
    ],
)
def test_each_role_sees_what_it_may_do(
    visit: Callable[..., Any], role: str, seen: list[str]
) -> None:
    page = visit("/models/screws", role=role)
    links = page.locator("nav#menu a")
    assert [links.nth(i).get_attribute("href") for i in range(links.count())] == seen
    assert page.locator("form[action='/models']").count() == (role == "engineer")
    assert page.goto("/people").status == 403
    page.goto("/history/1")
    assert page.locator("[data-decide]").count() == (role != "viewer")


def test_login_by_keyboard_leads_back_and_language_stays(
    visit: Callable[..., Any], served: Served
) -> None:
    page = visit("/history?view=table", role=None)
    assert "/login" in page.url
    page.keyboard.type("operator")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/history?view=table")
    page.get_by_role("button", name="Deutsch").click()
    page.wait_for_load_state()
    assert page.locator("h1").inner_text() == "Historie"
    page.goto("/drift")
    assert page.locator("html").get_attribute("lang") == "de"
    page.get_by_role("button", name="Abmelden").click()
    page.wait_for_url("**/login")


def test_scripts_in_names_are_text(visit: Callable[..., Any], served: Served) -> None:
    store = served.store
    odd = store.history(Filter(serial=SCRIPT), before=None, limit=1)[0]
    evil = "Eve" + SCRIPT[:40]
    store.review(odd.id, person=evil, decision="good", note=SCRIPT)
    page = visit("/")
    for path in (*PAGES, f"/history/{odd.id}", f"/?part={odd.id}", f"/inspected?ids={odd.id}"):
        page.goto(path)
        page.wait_for_timeout(50)
        assert page.evaluate("window.owned") is None, path
    page.goto(f"/history/{odd.id}")
    assert page.locator("h1").inner_text() == SCRIPT
    assert page.get_by_text(SCRIPT, exact=True).count() >= 4  # name, serial, lot, field
    page.goto("/people")
    assert page.get_by_text(evil, exact=True).count() == 1
    page.goto("/audit")
    assert page.get_by_text(evil, exact=True).count() >= 1


def test_live_shows_the_next_part_by_itself_and_listens_to_keys(
    visit: Callable[..., Any], served: Served, screws: Path
) -> None:
    page = visit("/", role="operator")
    page.wait_for_load_state("load")
    content = sorted((screws / "test" / "good").glob("*.png"))[-1].read_bytes()
    served.station.judge("screws", [NewPart("next.png", content, serial="THE-NEXT")])
    page.get_by_text("THE-NEXT").first.wait_for(timeout=10_000)
    assert page.locator("[data-spoken]").inner_text().startswith("THE-NEXT")
    page.keyboard.press("ArrowRight")
    page.locator(".strip a:nth-child(2)[aria-current]").wait_for()
    page.keyboard.press("Escape")
    page.locator(".strip a:nth-child(1)[aria-current]").wait_for()
    heat = "getComputedStyle(document.querySelector('[data-heat]')).opacity"
    page.locator("[data-heat-slider]").fill("25")
    assert page.evaluate(heat) == "0.25"
    page.locator("h1").first.evaluate("document.activeElement.blur()")
    page.keyboard.press("h")
    assert page.evaluate(heat) == "0"
    page.keyboard.press("h")
    assert page.evaluate(heat) == "0.25"
    shown = page.locator(".found").first
    page.keyboard.press("o")
    assert shown.evaluate("node => getComputedStyle(node).display") == "none"


def test_dropped_pictures_get_verdicts_and_others_a_reason(
    visit: Callable[..., Any], screws: Path
) -> None:
    page = visit("/inspect", role="operator")
    picture = sorted((screws / "test" / "good").glob("*.png"))[0].read_bytes()
    files = [
        {"name": "fine.png", "mimeType": "image/png", "buffer": picture},
        {"name": f"{SCRIPT}.png", "mimeType": "image/png", "buffer": b"no picture"},
    ]
    page.locator("input[type=file]").set_input_files(files)
    page.locator("[data-results] .thumb").wait_for()
    assert "fine.png" in page.locator("[data-results]").inner_text()
    page.locator("[data-refusals] .message").wait_for()
    assert SCRIPT in page.locator("[data-refusals]").inner_text()
    assert page.evaluate("window.owned") is None


def test_filters_of_the_history_act_at_once(visit: Callable[..., Any]) -> None:
    page = visit("/history", role="viewer")
    page.get_by_label("Verdict").select_option("unreadable")
    page.get_by_text("No parts match").wait_for()
    assert "verdict=unreadable" in page.url
    page.get_by_label("Verdict").select_option("")
    page.locator(".gallery .thumb").first.wait_for()
    page.get_by_role("searchbox").fill("S-1")
    page.get_by_text("S-0", exact=True).first.wait_for(state="detached")
    assert page.locator(".gallery .thumb").count() >= 2


def test_box_is_drawn_by_mouse_and_by_keyboard(visit: Callable[..., Any], served: Served) -> None:
    page = visit("/history/2?draw=1", role="operator")
    edge = page.locator("svg.outlines").bounding_box()
    scale = edge["width"] / 128
    page.mouse.move(edge["x"] + 10 * scale, edge["y"] + 20 * scale)
    page.mouse.down()
    page.mouse.move(edge["x"] + 50 * scale, edge["y"] + 40 * scale, steps=3)
    page.mouse.up()
    (box,) = json.loads(page.locator("[data-boxes]").input_value())
    assert box == pytest.approx([10, 20, 40, 20], abs=1.0)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("b")
    before = json.loads(page.locator("[data-boxes]").input_value())[1]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    after = json.loads(page.locator("[data-boxes]").input_value())[1]
    assert after[0] < before[0] and after[3] > before[3]
    page.keyboard.press("d")
    page.wait_for_load_state()
    page.get_by_text("Who decided what").wait_for()
    assert [len(each.boxes) for each in served.store.reviews(2)] == [2]


def test_box_is_drawn_by_finger(visit: Callable[..., Any]) -> None:
    page = visit("/history/3?draw=1", role="operator", width=390, has_touch=True)
    drawn = page.evaluate("""() => {
      const svg = document.querySelector("svg.outlines");
      svg.setPointerCapture = () => {};
      const edge = svg.getBoundingClientRect();
      const touch = (name, x, y) => svg.dispatchEvent(new PointerEvent(name, {pointerId: 7,
        pointerType: "touch", bubbles: true, clientX: edge.x + x * edge.width,
        clientY: edge.y + y * edge.height}));
      touch("pointerdown", 0.5, 0.5); touch("pointermove", 0.75, 1.0); touch("pointerup", 0.75, 1);
      return [document.querySelector("[data-boxes]").value, getComputedStyle(svg).touchAction];
    }""")
    assert json.loads(drawn[0]) == [pytest.approx([64, 64, 32, 64], abs=0.5)]
    assert drawn[1] == "none"


def test_budget_slider_shows_what_would_have_been(visit: Callable[..., Any]) -> None:
    page = visit("/models/screws", role="engineer")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    page.get_by_role("button", name=re.compile("Apply 20")).wait_for()
    assert "rejected of" in page.locator("#budget").inner_text()


def test_first_start_leads_from_good_pictures_to_a_verdict(
    visit: Callable[..., Any], empty: Served, screws: Path
) -> None:
    page = visit("/", role=None, at=empty)
    page.get_by_role("link", name="Set up the first model").click()
    page.get_by_label("Name of the recipe").wait_for()
    assert faults(page) == []
    pictures = sorted((screws / "train" / "good").glob("*.png"))[:12]
    page.locator("[data-learn] input[type=file]").set_input_files(pictures)
    page.get_by_text("12 pictures received").wait_for()
    page.get_by_label("Name of the recipe").fill("mine")
    page.get_by_label("Preset").select_option("fast")
    page.get_by_label(re.compile("Good parts that may be rejected")).fill("20")
    page.get_by_role("button", name="Learn", exact=True).click()
    page.get_by_text("Learning mine").wait_for()
    page.get_by_text("In use: mine").wait_for(timeout=100_000)
    page.get_by_role("link", name="Inspect your own pictures").click()
    page.locator("input[type=file]").set_input_files(pictures[:1])
    page.locator("[data-results] .thumb").wait_for()
    page.goto("/")
    assert page.locator(".band strong").inner_text() in {"OK", "Look again", "Reject"}
