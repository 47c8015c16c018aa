"""Parts through the API: inspected, stored, answered; what is refused, and how."""

from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from makellos import Inspector
from makellos.errors import StorageError
from makellos.service.failures import CODES
from makellos.service.queue import NewPart
from makellos.service.station import Station
from makellos.store import Store

URL = "/api/inspections"


def files(*contents: bytes, name: str = "part.png") -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{i}-{name}", content)) for i, content in enumerate(contents)]


def refused(answer: Any, code: str) -> str:
    assert answer.json()["error"]["code"] == code, answer.text
    assert answer.status_code == CODES[code].status
    return str(answer.json()["error"]["message"])


def test_a_part_is_answered_as_the_command_line_says_it(
    client: TestClient, station: Station, picture: Callable[..., bytes], toy_model: Path
) -> None:
    content = picture(spot=True)
    answer = client.post(
        URL, files=files(content), data={"serial": "A-7", "lot": "3", "machine": "left"}
    )
    assert answer.status_code == 201
    (row,) = answer.json()["inspections"]
    expected = Inspector(toy_model).inspect(content, name="0-part.png").row()
    for name in expected.keys() - {"milliseconds"}:
        assert row[name] == expected[name], name
    assert (row["serial"], row["lot"], row["fields"]) == ("A-7", "3", {"machine": "left"})
    assert row["recipe"] == "toy"
    assert row["source"] == "api"
    assert client.get(f"{URL}/{row['id']}").json() == row
    assert client.get(f"{URL}/{row['id']}/picture").content == content


def test_heat_map_and_overlay_are_pictures(
    client: TestClient, picture: Callable[..., bytes]
) -> None:
    client.post(URL, files=files(picture(spot=True)))
    for name in ("map.png", "overlay.png"):
        answer = client.get(f"{URL}/1/{name}")
        assert answer.status_code == 200
        assert answer.content.startswith(b"\x89PNG")
    refused(client.get(f"{URL}/99/map.png"), "not_found")


def test_among_several_files_a_bad_one_costs_itself_alone(
    client: TestClient, picture: Callable[..., bytes]
) -> None:
    answer = client.post(URL, files=files(picture(1), b"no picture", picture(2)))
    assert answer.status_code == 201
    verdicts = [row["verdict"] for row in answer.json()["inspections"]]
    assert verdicts[1] == "unreadable"
    assert "unreadable" not in {verdicts[0], verdicts[2]}


def bomb() -> bytes:
    """Return a small PNG that claims to have a hundred thousand pixels a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return len(data).to_bytes(4, "big") + kind + data + crc.to_bytes(4, "big")

    head = (100_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    body = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "bomb", "zip", "svg"])
def test_a_single_file_that_is_no_picture_is_refused(
    client: TestClient, station: Station, picture: Callable[..., bytes], kind: str
) -> None:
    content = {
        "text": b"a,b\n1,2\n",
        "empty": b"",
        "truncated": picture(side=64)[:900],
        "bomb": bomb(),
        "zip": b"PK\x03\x04" + bytes(100),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    }[kind]
    assert "0-part.png" in refused(client.post(URL, files=files(content)), "unreadable")
    assert station.store.newest() == 0
    assert client.post(URL, files=files(picture())).status_code == 201


def test_limits_of_sizes_and_numbers(
    build: Callable[..., Station], connect: Callable[..., TestClient], picture: Callable[..., bytes]
) -> None:
    limits = {"max_file": 4000, "max_files": 3, "max_body": 9000, "max_pixels": 40 * 40}
    client = connect(build(**limits))
    assert client.post(URL, files=files(picture())).status_code == 201
    refused(client.post(URL, files=files(bytes(5000))), "too_large")
    refused(client.post(URL, files=files(bytes(20_000))), "too_large")
    refused(client.post(URL, files=files(*[picture(side=8)] * 4)), "too_large")
    refused(client.post(URL, files=files(picture(side=48))), "too_large")
    chunked = client.post(
        URL,
        content=(bytes(1000) for _ in range(20)),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    refused(chunked, "too_large")
    refused(client.post(f"{URL}/1/reviews", content=b" " * (2 << 20)), "too_large")


def test_what_is_no_form_is_refused(client: TestClient, picture: Callable[..., bytes]) -> None:
    refused(
        client.post(URL, content=picture(), headers={"Content-Type": "image/png"}), "wrong_type"
    )
    refused(client.post(URL, json={"files": []}), "wrong_type")
    refused(client.post(URL, data={"serial": "1"}), "wrong_type")
    multipart = {"Content-Type": "multipart/form-data"}
    refused(client.post(URL, content=b"x", headers=multipart), "invalid")
    broken = {"Content-Type": "multipart/form-data; boundary=y"}
    refused(client.post(URL, content=b"--x\r\nnonsense", headers=broken), "invalid")
    refused(client.post(URL, files={"picture": ("a.png", picture())}), "invalid")
    refused(client.post(URL, files=files(picture()), data={"serial": "1" * 300}), "invalid")


def test_a_recipe_must_be_known_and_named_where_there_are_several(
    client: TestClient, station: Station, picture: Callable[..., bytes], toy_model: Path
) -> None:
    station.add_model(toy_model, person="test", recipe="other")
    refused(client.post(URL, files=files(picture())), "recipe_needed")
    assert "Did you mean 'other'?" in refused(
        client.post(URL, files=files(picture()), data={"recipe": "othr"}), "not_found"
    )
    answer = client.post(URL, files=files(picture()), data={"recipe": "other"})
    assert answer.json()["inspections"][0]["recipe"] == "other"


def test_without_a_recipe_nothing_is_ready(
    build: Callable[..., Station], connect: Callable[..., TestClient], picture: Callable[..., bytes]
) -> None:
    client = connect(build(model=None))
    refused(client.post(URL, files=files(picture())), "no_recipe")
    refused(client.get("/readyz"), "unavailable")
    assert client.get("/healthz").status_code == 200


def test_a_key_stands_for_one_part(client: TestClient, picture: Callable[..., bytes]) -> None:
    key = {"Idempotency-Key": "shot-1"}
    first = client.post(URL, files=files(picture(1), picture(2)), headers=key)
    again = client.post(URL, files=files(picture(1), picture(2)), headers=key)
    assert again.json() == first.json()
    assert len(client.get(URL).json()["inspections"]) == 2
    refused(client.post(URL, files=files(picture(3)), headers=key), "key_reused")


def test_the_history_is_filtered_and_paged(
    client: TestClient, picture: Callable[..., bytes]
) -> None:
    for number in range(5):
        data = {"serial": f"S{number}", "lot": str(number % 2)}
        client.post(URL, files=files(picture(number)), data=data)
    page = client.get(URL, params={"limit": 2}).json()
    assert [row["serial"] for row in page["inspections"]] == ["S4", "S3"]
    page = client.get(URL, params={"limit": 10, "before": page["before"]}).json()
    assert [row["serial"] for row in page["inspections"]] == ["S2", "S1", "S0"]
    assert page["before"] is None
    odd = client.get(URL, params={"lot": "1"}).json()["inspections"]
    assert [row["serial"] for row in odd] == ["S3", "S1"]
    refused(client.get(URL, params={"limit": 0}), "invalid")
    refused(client.get(URL, params={"since": "yesterday"}), "invalid")
    refused(client.get(f"{URL}/{1 << 70}"), "invalid")


def test_a_word_overrules_a_verdict(client: TestClient, picture: Callable[..., bytes]) -> None:
    client.post(URL, files=files(picture()))
    box = {"x": 1, "y": 2, "width": 3, "height": 4}
    said = {"decision": "defective", "boxes": [box], "note": "scratch"}
    answer = client.post(f"{URL}/1/reviews", json=said)
    assert answer.status_code == 201
    assert answer.json()["review"] == "defective"
    (review,) = client.get(f"{URL}/1/reviews").json()["reviews"]
    assert (review["person"], review["boxes"], review["note"]) == ("local", [box], "scratch")
    refused(client.post(f"{URL}/9/reviews", json=said), "not_found")
    refused(client.post(f"{URL}/1/reviews", json={"decision": "maybe"}), "invalid")
    assert client.put(f"{URL}/1/kept", json={"kept": True}).status_code == 200


class Slow:
    """Inspect like an inspector, once it is let go."""

    def __init__(self, inspector: Inspector) -> None:
        self.inspector, self.go = inspector, threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inspector, name)

    def inspect(self, *given: Any, **named: Any) -> Any:
        assert self.go.wait(20)
        return self.inspector.inspect(*given, **named)


@pytest.fixture
def slow(store: Store, toy_model: Path) -> Iterator[tuple[Station, Slow]]:
    from makellos.service.pool import open_inspector
    from makellos.service.station import Settings

    made: list[Slow] = []

    def opener(path: Path, rules: Any) -> Any:
        made.append(Slow(open_inspector(path, rules)))
        return made[-1]

    station = Station(store, Settings(queue_length=3), opener=opener)
    station.add_model(toy_model, person="test", recipe="toy")
    yield station, made[-1]
    made[-1].go.set()
    station.close()


def test_a_full_queue_says_when_to_come_back(
    slow: tuple[Station, Slow], connect: Callable[..., TestClient], picture: Callable[..., bytes]
) -> None:
    station, inspector = slow
    parts = [NewPart(f"{n}.png", picture(n)) for n in range(3)]
    answers = station.inspect(None, parts)
    refusal = connect(station).post(URL, files=files(picture()))
    assert "3 parts are waiting" in refused(refusal, "queue_full")
    assert int(refusal.headers["Retry-After"]) >= 1
    inspector.go.set()
    assert [answer.result(10).input for answer in answers] == ["0.png", "1.png", "2.png"]
    assert connect(station).post(URL, files=files(picture())).status_code == 201


def test_a_shutdown_finishes_what_was_accepted(
    slow: tuple[Station, Slow], picture: Callable[..., bytes]
) -> None:
    station, inspector = slow
    answers = station.inspect(None, [NewPart(f"{n}.png", picture(n)) for n in range(3)])
    closing = threading.Thread(target=station.close)
    closing.start()
    inspector.go.set()
    closing.join(20)
    assert {answer.result(0).id for answer in answers} == {1, 2, 3}
    with pytest.raises(Exception, match="stopping"):
        station.inspect(None, [NewPart("4.png", picture(4))])


def test_a_source_of_this_machine_waits_for_room_and_repeats_nothing(
    slow: tuple[Station, Slow], picture: Callable[..., bytes]
) -> None:
    station, inspector = slow
    station.inspect(None, [NewPart(f"{n}.png", picture(n)) for n in range(3)])
    parts = [NewPart("a.png", picture(5), key="a"), NewPart("b.png", picture(6), key="b")]
    numbers: list[list[int]] = []
    source = threading.Thread(target=lambda: numbers.append(station.judge(None, parts)))
    source.start()
    inspector.go.set()
    source.join(20)
    assert numbers == [[4, 5]]
    assert station.judge(None, parts) == [4, 5]


def test_a_full_disk_is_told_and_over_when_there_is_room(
    client: TestClient, station: Station, picture: Callable[..., bytes], monkeypatch: Any
) -> None:
    def full(*given: object) -> None:
        raise StorageError("pictures cannot be written: No space left") from OSError(28, "No space")

    with monkeypatch.context() as patch:
        patch.setattr(station.store, "record", full)
        refused(client.post(URL, files=files(picture())), "disk_full")
    assert station.store.newest() == 0
    assert client.post(URL, files=files(picture())).status_code == 201


def test_a_part_that_is_stored_is_answered_whatever_follows_from_it(
    client: TestClient, station: Station, picture: Callable[..., bytes], monkeypatch: Any
) -> None:
    def broken(*given: object) -> None:
        raise StorageError("The state of the drift cannot be saved.")

    monkeypatch.setattr(station.drift, "update", broken)
    assert client.post(URL, files=files(picture())).status_code == 201
    assert station.store.newest() == 1


def test_a_fault_shows_no_traceback(
    client: TestClient, station: Station, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object, **named: object) -> None:
        raise RuntimeError("secret path /home/x")

    monkeypatch.setattr(station.store, "history", broken)
    answer = client.get(URL)
    assert "secret" not in refused(answer, "internal")
    assert "secret path" in caplog.text


def test_an_odd_file_name_comes_back_as_text(
    client: TestClient, picture: Callable[..., bytes]
) -> None:
    name = "../../etc/<script>alert(1)</script>\u202e.png"
    answer = client.post(URL, files=[("files", (name, io.BytesIO(picture())))])
    (row,) = answer.json()["inspections"]
    assert row["input"] == "script>\u202e.png"
    disposition = client.get(f"{URL}/1/picture").headers["Content-Disposition"]
    assert disposition.startswith("attachment")
