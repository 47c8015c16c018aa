"""Has a station inspect a part and show it, without a network: ``station.py MODEL``."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import cv2
import numpy as np

warnings.simplefilter("ignore")  # of what the client of tests would rather have installed

from fastapi.testclient import TestClient  # noqa: E402

from makellos.service.app import create_app  # noqa: E402
from makellos.service.station import Station  # noqa: E402
from makellos.store import Store  # noqa: E402

if __name__ == "__main__":
    store = Store.open(Path("station"))
    station = Station(store)
    station.add_model(Path(sys.argv[1]), person="test", recipe="toy")
    client = TestClient(create_app(station), base_url="http://localhost")
    picture = bytes(cv2.imencode(".png", np.full((64, 96), 90, np.uint8))[1])
    found = client.post("/api/inspections", files={"files": ("a.png", picture)})
    pages = ["/api/inspections/1/overlay.png", "/metrics", "/api/docs", "/api/openapi.json"]
    codes = [found.status_code, *(client.get(page).status_code for page in pages)]
    station.close()
    store.close()
    if codes != [201, 200, 200, 200, 200]:
        sys.exit(f"the answers were {codes}")
    if "torch" in sys.modules:
        sys.exit("the station loaded PyTorch")
