"""Films and cameras on the command line: rows, overlays, exit codes, all beside pictures."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

import makellos
from makellos import ConfigurationError, InputError
from makellos.subjects.vibration import VibrationSubject


@pytest.fixture
def folder(toy_parts: Path, tmp_path: Path) -> Path:
    """Return a folder with a picture and a film of good parts and spotted ones."""
    folder = tmp_path / "in"
    folder.mkdir()
    shots = sorted((toy_parts / "test").rglob("*.png"))
    shutil.copy(shots[0], folder / "a.png")
    frames = [cv2.imread(str(path)) for path in shots]
    height, width = frames[0].shape[:2]
    code = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(folder / "film.avi"), cv2.CAP_FFMPEG, code, 10, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_frames_of_a_film_have_rows_and_overlays(
    toy_model: Path, folder: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", toy_model, folder, "-o", tmp_path / "out", "--overlays", "--every", 5)
    assert told.code == 0
    found = rows(tmp_path / "out" / "inspections.csv")
    wanted = ["a.png", *(f"film.avi#{number:06d}" for number in (0, 5, 10, 15))]
    assert [row["input"] for row in found] == [str(folder / name) for name in wanted]
    assert {row["verdict"] for row in found} == {"ok", "reject"}
    drawn = sorted(path.name for path in (tmp_path / "out" / "overlays").rglob("*.png"))
    assert drawn == [f"{name}.overlay.png" for name in wanted]


def test_film_is_found_in_a_folder_by_its_content(toy_model: Path, folder: Path) -> None:
    (folder / "film.avi").rename(folder / "recorded at noon")
    assert makellos.inspect(toy_model, folder, frames=makellos.Frames(every=10)).n_parts == 3


def test_broken_film_costs_what_is_missing_of_it_alone(
    toy_model: Path, folder: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    film = folder / "film.avi"
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    (folder / "none.mp4").write_bytes(b"text")
    (folder / "z.png").write_bytes((folder / "a.png").read_bytes())
    assert cli("inspect", toy_model, folder, "--csv", tmp_path / "rows.csv").code == 1
    first, *frames, last, none, z = rows(tmp_path / "rows.csv")
    assert (first["error"], z["error"]) == ("", "")
    assert 3 < len(frames) < 17
    assert {row["error"] for row in frames} == {""}
    assert f"ends after {len(frames)} frames of about 20" in last["error"]
    assert "is not a video" in none["error"]


def test_camera_is_asked_for_by_its_number(
    toy_model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = cv2.imread(str(folder / "a.png"))

    class Camera:
        def __init__(self, number: int) -> None:
            assert number == 3

        def __getattr__(self, name: str) -> Callable[..., Any]:
            return {"isOpened": lambda: True, "retrieve": lambda: (True, picture)}.get(
                name, lambda *_: 1
            )

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    seen: list[tuple[str, int | None]] = []
    summary = makellos.inspect(
        toy_model,
        "camera:3",
        frames=makellos.Frames(every=10, most=4),
        outputs=makellos.Outputs(overlays=folder / "overlays"),
        on_row=lambda found, _, total: seen.append((found.input, total)),
    )
    assert summary.verdicts["ok"] == 4
    assert seen == [(f"camera:3#{number:06d}", None) for number in (0, 10, 20, 30)]
    assert (folder / "overlays" / "camera-3#000010.overlay.png").is_file()


def test_frames_cannot_be_none(toy_model: Path, folder: Path, cli: Callable[..., Any]) -> None:
    told = cli("inspect", toy_model, folder, "--every", 0)
    assert told.code == 2
    assert "every 0. Expected" in told.err
    with pytest.raises(ConfigurationError, match="at least 1"):
        makellos.Frames(most=0)


def test_frames_are_for_models_of_pictures(
    toy_model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    monkeypatch.setattr("makellos.workflows.inspect.subject_of_model", lambda _: VibrationSubject())
    told = cli("inspect", toy_model, folder, "--every", 2)
    assert told.code == 2
    assert "--every, --frames and --pages are for models of pictures" in told.err


def test_films_are_not_learned_from(folder: Path) -> None:
    (folder / "a.png").unlink()
    with pytest.raises(InputError, match="no picture"):
        makellos.find_parts(folder)
