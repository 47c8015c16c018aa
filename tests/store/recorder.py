"""Records parts until it is killed, and says which were answered: recorder.py ADDRESS PICTURES.

Every second line is of a part with a key, which the next process of the same test repeats. With
FORGET as a third argument it forgets pictures all the time instead.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from makellos.inspection import Inspection
from makellos.store import NewInspection, Retention, Store


def part(number: int) -> NewInspection:
    noise = np.random.default_rng(number % 50)  # some pictures and maps come again
    drawn = noise.random((8, 8), dtype=np.float32)
    return NewInspection(
        inspection=Inspection(f"{number}.png", "ok", 1.0, 0.5, 2.0, anomaly_map=drawn),
        recipe="screws",
        recipe_version=1,
        model_hash="0" * 64,
        picture=noise.bytes(3000),
        key=f"key {number}" if number % 2 else None,
    )


def main() -> None:
    store = Store.open(sys.argv[1], pictures=Path(sys.argv[2]))
    if sys.argv[3:]:
        while True:
            removed = store.apply_retention(Retention(picture_bytes=20_000), person="eva")
            if removed.pictures and store.audit.entries(limit=1):
                os.write(1, b"forgotten\n")
    number = store.newest()
    while True:
        parts = [part(number + i) for i in range(3)]
        ids = store.record(parts)
        said = "".join(
            f"{new.inspection.input}|{new.key or ''}|{at}\n"
            for new, at in zip(parts, ids, strict=True)
        )
        os.write(1, said.encode())
        number += 3


if __name__ == "__main__":
    main()
