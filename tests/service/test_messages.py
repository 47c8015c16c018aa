"""Errors, notes and causes of drift are said in German on German pages, whatever they hold."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from fastapi.testclient import TestClient

import makellos
from makellos.service.messages import is_translated, said

ROOT = Path(makellos.__file__).parent
PLACE = re.compile(r"%\((\w+)\)s")
# What people are told, not programmers, by whom pages show it.
KINDS = {"Refusal", "InputError", "NotFoundError", "ConfigurationError", "StoppedError"}
# These speak to who starts programs on a terminal.
NOT_SHOWN = {"store/backup.py", "store/database.py", "service/server.py"}


def raised() -> dict[str, str]:
    """Return all messages that service and store raise, with {} for values, and where."""
    found = {}
    for path in [*(ROOT / "service").rglob("*.py"), *(ROOT / "store").rglob("*.py")]:
        where = path.relative_to(ROOT).as_posix()
        if where in NOT_SHOWN:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in KINDS:
                for text in filter(None, map(template, node.args)):
                    if " " in text and re.search(r"[a-z]{2}", text):
                        found[text] = f"{where}:{node.lineno}"
    return found


def template(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        pieces = [getattr(each, "value", "") for each in node.values]
        return "".join(piece if isinstance(piece, str) else "{}" for piece in pieces)
    return ""


def catalog() -> dict[str, str]:
    with (ROOT / "service" / "texts" / "de.messages.po").open("rb") as file:
        return {str(each.id): str(each.string) for each in read_po(file, locale="de") if each.id}


def test_every_message_that_pages_show_is_german() -> None:
    # Two values in a row, such as a list and "and more", are one place.
    known = {re.sub(r"(\{\})+", "{}", PLACE.sub("{}", english)) for english in catalog()}
    messages = {re.sub(r"(\{\})+", "{}", text): where for text, where in raised().items()}
    assert len(messages) > 70
    missing = {text: where for text, where in messages.items() if text not in known}
    assert missing == {}, "has no German text in de.messages.po"


def test_german_says_all_that_english_does() -> None:
    for english, german in catalog().items():
        assert german, english
        wanted = set(PLACE.findall(english))
        assert set(PLACE.findall(german)) <= wanted, english
        assert len(wanted) == len(PLACE.findall(english)), f"two places of one name: {english}"


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("There is no recipe 'bolts'.", "Es gibt kein Rezept „bolts“."),
        (
            "There is no person 'ada'. Did you mean 'Ada'? Known: Ada, Bo.",
            "Es gibt niemanden mit dem Namen „ada“. Meinten Sie „Ada“? Bekannt: Ada, Bo.",
        ),
        (
            "Recipe m cannot be used: The station is stopping.",
            "Das Rezept m lässt sich nicht verwenden: Die Station wird beendet.",
        ),
        ("brighter by 8.4%", "um 8,4\u00a0% heller"),
        ("a dark spot 25% from the left and 7% from the top",
         "ein dunkler Fleck, 25\u00a0% von links und 7\u00a0% von oben"),
        ("The body has 20,000,000 bytes; at most 1,048,576 are accepted here.",
         "Die Anfrage enthält 20.000.000 Bytes; hier sind höchstens 1.048.576 erlaubt."),
        ("fibre beside the part", "Faser neben dem Teil"),
        ("outer race: 106.8 Hz and 4 harmonics stand out, 21 dB over the good state, with 2 "
         "sidebands of the shaft (29.9 Hz)",
         "Außenring: 106,8 Hz und 4 Oberschwingungen ragen heraus, 21 dB über dem Gutzustand, mit "
         "2 Seitenbändern der Welle (29,9 Hz)"),
    ],
)  # fmt: skip
def test_messages_in_german(english: str, german: str) -> None:
    assert said(english, "de") == german
    assert said(english, "en") == english
    assert is_translated(english, "de")


def test_what_is_not_known_stays_as_it_is() -> None:
    for text in ("Nothing like it.", "", "x" * 5000, "There is no recipe \x00<b>%(name)s</b>!"):
        assert said(text, "de") == text
        assert not is_translated(text, "de") and is_translated(text, "en")


def test_values_are_no_templates() -> None:
    assert said("There is no recipe '%(name)s %s {0}'.", "de") == (
        "Es gibt kein Rezept „%(name)s %s {0}“."
    )
    nested = "There is no recipe x. " * 200
    assert said(nested, "de") == nested  # too long to look for


def test_pages_refuse_in_the_language_of_the_reader(client: TestClient) -> None:
    german = client.get("/history/99", headers={"accept-language": "de"})
    assert german.status_code == 404
    assert "Es gibt kein Teil 99 in der Historie." in german.text
    english = client.get("/history/99", headers={"accept-language": "en"})
    assert "There is no part 99 in the history." in english.text
    told = client.get("/api/inspections/99", headers={"accept-language": "de"})
    assert told.json()["error"]["message"] == "There is no part 99 in the history."


def test_scripts_ask_what_a_message_means(client: TestClient) -> None:
    asked = client.post(
        "/said", data={"text": "The station is stopping."}, headers={"accept-language": "de"}
    )
    assert asked.text == "Die Station wird beendet."
    assert asked.headers["content-type"].startswith("text/plain")


def test_a_hostile_text_is_looked_up_in_no_time() -> None:
    import time

    begun = time.perf_counter()
    for piece in (" has ", ": ", "; ", " x ", "'. ", " is damaged: ", " is in state ", "(%) "):
        said(f"a{piece}" * 160, "de")
        said(f"There is no recipe {piece * 100}", "de")
    assert time.perf_counter() - begun < 2


def test_a_message_of_many_values_is_not_divided_in_all_ways() -> None:
    import time

    told = "The store a: b cannot be opened: it is locked. Wait a little. Try again."
    assert said(told, "de").startswith(
        "Die Datenbank a: b lässt sich nicht benutzen: it is locked. "
    )
    begun = time.perf_counter()
    said(f"The store {'a cannot be ' * 20}{'b: c. ' * 120}x", "de")
    said(f"The store a cannot be {': . ' * 240}x", "de")
    assert time.perf_counter() - begun < 0.1
