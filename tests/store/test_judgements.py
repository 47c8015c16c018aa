"""What people said of parts, as a manifest for the study of agreement."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from makellos.cli import main
from makellos.data.layouts import list_parts
from makellos.errors import InputError
from makellos.store import NewInspection, Store
from makellos.store.judgements import write_judgements

Make = Callable[..., NewInspection]


def drawn(number: int) -> bytes:
    return cv2.imencode(".png", np.full((6, 9), number, np.uint8))[1].tobytes()


@pytest.fixture
def reviewed(store: Store, part: Make) -> Store:
    numbers = store.record(
        [part(n, picture=drawn(n), serial="s" if n < 2 else None) for n in range(5)]
    )
    for number, person, decision, blind in (
        (numbers[0], "anna", "good", False),
        (numbers[0], "ben", "defective", True),
        (numbers[0], "anna", "good", True),
        (numbers[1], "anna", "defective", False),
        (numbers[2], "ben", "good", False),
    ):
        store.review(number, person=person, decision=decision, blind=blind)
    return store


def test_manifest_is_read_as_judgements(reviewed: Store, tmp_path: Path) -> None:
    done = write_judgements(reviewed, tmp_path / "agreement")
    assert (done.n_parts, done.n_judgements, done.n_judges) == (3, 5, 2)
    parts = list_parts(tmp_path / "agreement" / "judgements.csv").parts
    assert [part.judgements for part in parts] == [
        {"anna": ("good", "good"), "ben": ("defective",)},
        {"anna": ("defective",)},
        {"ben": ("good",)},
    ]
    assert [part.label == "good" for part in parts] == [True, False, True]
    assert [part.read()[0, 0] for part in parts] == [0, 1, 2]
    assert len({part.group for part in parts}) == 2
    assert {part.split for part in parts} == {"test"}


def test_pictures_that_are_gone_are_counted(store: Store, part: Make, tmp_path: Path) -> None:
    numbers = store.record([part(1, picture=drawn(1)), part(2, picture=None)])
    for number in numbers:
        store.review(number, person="anna", decision="good")
    assert write_judgements(store, tmp_path / "a").n_without_picture == 1
    with pytest.raises(InputError, match="No part with a picture was reviewed"):
        write_judgements(store, tmp_path / "b", recipe="nuts")


def test_verb_writes_them(
    reviewed: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "sqlite" not in reviewed.address:
        pytest.skip("the command line is tried on SQLite")
    folder = tmp_path / "agreement"
    options = ["--store", str(reviewed.folder), "--json", str(tmp_path / "said.json")]
    assert main(["history", "judgements", str(folder), *options]) == 0
    assert "5 judgements of 3 parts by 2 people." in capsys.readouterr().out
    assert json.loads((tmp_path / "said.json").read_text())["n_parts"] == 3
