"""Recordings in a station: their chart on the pages, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from makellos.service.queue import NewPart
from makellos.service.station import Station
from makellos.sets.synthetic_bearings import synthetic_recording
from makellos.vibration.bearings import find_bearing
from makellos.vibration.signals import SignalSettings
from makellos.workflows.fit import fit

RATE, RPM = 12000.0, 1797.0


def record(path: Path, kind: str = "good", *, seed: int = 0) -> Path:
    signal = synthetic_recording(
        kind,
        rate=RATE,
        seconds=2.0,
        shaft_hz=RPM / 60,
        bearing=find_bearing("6205"),
        severity=2.0,
        seed=seed,
        machine=1,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, DE=signal, rate=np.float64(RATE))
    return path


@pytest.fixture(scope="module")
def bearings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of three good recordings."""
    folder = tmp_path_factory.mktemp("bearings")
    for seed in range(3):
        record(folder / "good" / f"{seed}.npz", seed=seed)
    settings = SignalSettings(window=1024, bearing="6205", rpm=RPM)
    fit(folder / "good", folder / "b.makellos", detector="pyod", false_alarms=0.1, signal=settings)
    return folder / "b.makellos"


@pytest.fixture
def heard(build: Callable[..., Station], bearings: Path, tmp_path: Path) -> Station:
    """Return a station that has inspected a damaged and a broken recording."""
    station = build(model=None)
    station.add_model(bearings, person="test", recipe="bearings")
    damaged = record(tmp_path / "outer.npz", "outer", seed=30).read_bytes()
    parts = [NewPart("outer.npz", damaged), NewPart("broken.npz", damaged[:100])]
    station.judge("bearings", parts)
    return station


def test_pages_show_the_chart_of_a_recording(
    heard: Station, connect: Callable[..., TestClient]
) -> None:
    client = connect(heard)
    for address in ("/history/1", "/?part=1", "/review"):
        page = client.get(address).text
        assert 'src="/parts/1/chart.png"' in page, address
    assert "chart.png" not in client.get("/history/2").text
    answer = client.get("/parts/1/chart.png")
    assert answer.headers["content-type"] == "image/png"
    drawn = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None and drawn.shape[1] == 1200
    assert np.ptp(drawn) > 100
    assert client.get("/parts/2/chart.png").status_code == 404


def test_the_chart_is_drawn_with_the_model_that_judged(
    heard: Station, connect: Callable[..., TestClient], toy_model: Path
) -> None:
    client = connect(heard)
    first = client.get("/parts/1/chart.png").content
    heard.add_model(toy_model, person="test", recipe="bearings")  # of pictures
    assert client.get("/parts/1/chart.png").content == first


def test_a_blind_second_look_sees_no_chart(
    heard: Station, connect: Callable[..., TestClient]
) -> None:
    heard.store.review(1, person="Ada", decision="defective", boxes=(), note="", blind=False)
    page = connect(heard).get("/review").text
    assert "chart.png" not in page
