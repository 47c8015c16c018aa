"""Pictures for screens: their size, and how many are drawn at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

import pytest
from fastapi.testclient import TestClient

from makellos.data.pictures import decode_picture
from makellos.service.pages.parts import picture_size
from makellos.service.station import Station


@pytest.mark.parametrize("orientation", [None, 1, 6])
def test_the_size_of_a_picture_is_read_from_its_header_unless_it_may_be_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int | None
) -> None:
    from PIL import Image

    path, decoded = tmp_path / f"{orientation}.jpg", list[str]()

    def decode(encoded: bytes, name: str) -> object:
        decoded.append(name)
        return decode_picture(encoded, name)

    monkeypatch.setattr("makellos.service.pages.parts.decode_picture", decode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    said = {} if orientation is None else {"exif": exif}
    Image.new("L", (30, 20)).save(path, **said)
    sizes = {picture_size(path) for _ in range(3)}
    assert sizes == {(30, 20) if orientation == 6 else (20, 30)}
    assert decoded == ([] if orientation is None else [path.name])
    assert picture_size(tmp_path / "none.jpg") is None


def test_two_pictures_at_most_are_drawn_for_screens_at_once(
    judged: Station, connect: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, now, most = Lock(), 0, 0

    def small(*_: object, **__: object) -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        Event().wait(0.05)
        with lock:
            now -= 1
        return b"picture"

    monkeypatch.setattr("makellos.service.pages.pictures.small_picture", small)
    monkeypatch.setattr("makellos.service.api.inspections.overlay_png", small)
    client = connect(judged)
    paths = ["/parts/1/view.jpg", "/api/inspections/1/overlay.png"] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda path: client.get(path).content, paths))
    assert (answers, most) == ([b"picture"] * 8, 2)
