"""What becomes of a part whose sender has gone, or whose news nobody can be told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from makellos.service.queue import NewPart
from makellos.service.station import Station
from makellos.store import Store


def test_who_gives_up_costs_neither_the_part_nor_those_after_it(
    station: Station, store: Store, picture: Callable[..., bytes]
) -> None:
    (left,) = station.inspect("toy", [NewPart("a.png", picture(1))])
    assert not left.cancel()
    numbers = station.judge("toy", [NewPart("b.png", picture(2))])
    assert {*numbers, left.result().id} == {1, 2}
    assert store.newest() == 2


def test_a_part_that_is_stored_is_answered_whatever_fails_after_that(
    station: Station, picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("nobody listens")

    monkeypatch.setattr(station.events, "publish", broken)
    assert station.judge("toy", [NewPart("a.png", picture(1))]) == [1]


def test_a_picture_with_any_name_is_given_back(
    station: Station, client: TestClient, picture: Callable[..., bytes]
) -> None:
    for name in ("sub/\udcff\x00.png", 'a"\r\nX-Evil: 1.png', "\u202egnp.png"):
        (number,) = station.judge("toy", [NewPart(name, picture(1))])
        answer = client.get(f"/api/inspections/{number}/picture")
        assert answer.status_code == 200
        assert answer.content == picture(1)
        assert answer.headers["Content-Disposition"].startswith("attachment; ")
        assert "X-Evil" not in answer.headers


def test_a_recording_is_no_picture(store: Store) -> None:
    from makellos.service.sights import media_type

    file = store.folder / "x"
    file.write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    assert media_type(file) == "audio/wav"
    file.write_bytes(b"RIFF\0\0\0\0WEBPVP8 ")
    assert media_type(file) == "image/webp"
