"""Films and cameras: a frame is a part."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import cv2

from makellos.data.parts import PICTURES, FileKind, Mask, Part, Values
from makellos.data.pictures import MAX_PIXELS, Picture, quiet
from makellos.errors import ConfigurationError, InputError

__all__ = ["FILM_SUFFIXES", "Frames", "camera_of", "is_film", "with_films"]

FILM_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"}
)
_CAMERA = re.compile(r"camera:([0-9]{1,4})")
# By their first bytes, so that nothing else is opened: lists of films may name files and addresses.
_FILM = re.compile(
    rb".{4}(ftyp|moov|mdat|wide|free|skip)|RIFF.{4}AVI |\x1a\x45\xdf\xa3|\x00\x00\x01[\xb3\xba]|"
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    re.DOTALL,
)
_PICTURE_IN_BOXES = re.compile(rb".{4}ftyp(avif|avis|hei[cfmsx]|hev[cx]|mif1|msf1|crx )", re.DOTALL)
_ACCEPTED = "Expected MP4, MOV, AVI, MKV, WebM, MPEG or WMV"
_SLACK = 0.02  # of the frames that a film says it has, which is reckoned from its length at times
_LOG_LEVEL, _SILENT = "OPENCV_FFMPEG_LOGLEVEL", "-8"


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Say which frames of a film or a camera are parts: each `every`-th, and `most` at most.

    With `pages` each page of a TIFF is a part, without it the first alone. Raises
    `ConfigurationError` for numbers below 1.
    """

    every: int = 1
    most: int | None = None
    pages: bool = False

    def __post_init__(self) -> None:
        if self.every < 1 or (self.most is not None and self.most < 1):
            given = f"every {self.every}" if self.every < 1 else f"at most {self.most}"
            raise ConfigurationError(
                f"The frames asked for cannot be taken: {given}. Expected numbers of at least 1."
            )

    def of(self, path: Path) -> Iterator[tuple[int | None, Part]]:
        """Yield number and part of the frames of a film, or of a camera such as ``camera:0``.

        They are read as they are taken. What ends too early, or cannot be opened, ends with a part
        that cannot be read and says so. A camera goes on until it is stopped.
        """
        name, n_read = str(path), 0
        try:
            with _opened(path) as film:
                for number in count():
                    if self.most is not None and number > (self.most - 1) * self.every:
                        return
                    with quiet:
                        if not film.grab():
                            break
                        n_read = number + 1
                        there, frame = (False, None) if number % self.every else film.retrieve()
                    if there:
                        yield number, Part(source=Values(_rgb(frame)), name=_named(name, number))
                _check_end(path, film, n_read)
        except InputError as error:
            end = n_read or None
            yield end, Part(source=_Broken(str(error)), name=_named(name, end))


def camera_of(path: Path) -> int | None:
    """Return the number of the camera that an input names, as ``camera:0`` does; None for a file.

    A file of that name goes before the camera.
    """
    found = _CAMERA.fullmatch(str(path))
    return None if found is None or path.exists() else int(found[1])


def is_film(path: Path) -> bool:
    """Tell whether a file that is not named as a picture is a film, by name or first bytes."""
    suffix = path.suffix.lower()
    return suffix in FILM_SUFFIXES or (suffix not in PICTURES.suffixes and _begins_as_film(path))


class _PicturesAndFilms(FileKind):
    def begins(self, path: Path) -> bool:
        return PICTURES.begins(path) or is_film(path)


def with_films(kind: FileKind) -> FileKind:
    """Return a kind of files that counts films as well, where it is pictures."""
    if kind != PICTURES:
        return kind
    return _PicturesAndFilms(kind.name, kind.noun, kind.suffixes | FILM_SUFFIXES, kind.details)


@dataclass(frozen=True)
class _Broken:
    """Stand for a frame that is not there."""

    reason: str
    is_whole: ClassVar[bool] = True

    @property
    def path(self) -> Path:
        raise InputError(self.reason)

    def read(self) -> Picture:
        raise InputError(self.reason)

    def read_mask(self, mask: Path, size: tuple[int, int]) -> Mask:
        del mask, size
        raise InputError(self.reason)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Give the film or camera; raise `InputError` where it cannot be opened."""
    camera = camera_of(path)
    if camera is None and not _begins_as_film(path):
        raise InputError(f"{path} {_fault(path)}. {_ACCEPTED}.")
    with quiet, _silent_decoder():
        film = cv2.VideoCapture(camera) if camera is not None else _film(path)
    try:
        if not film.isOpened():
            raise InputError(
                f"{path} cannot be opened. Check that it is connected, and that no other program "
                "uses it."
                if camera is not None
                else f"{path} is damaged, cut off, or of a kind that is not decoded. {_ACCEPTED}. "
                "Copy it again, or convert it."
            )
        width, height = film.get(cv2.CAP_PROP_FRAME_WIDTH), film.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            raise InputError(
                f"{path} has frames of {width:,.0f} x {height:,.0f} pixels; expected at most "
                f"{MAX_PIXELS:,}. Make them smaller."
            )
        yield film
    finally:
        film.release()


def _check_end(path: Path, film: Any, n_read: int) -> None:
    """Raise `InputError` where there should be more than the frames that were read."""
    if camera_of(path) is not None:
        raise InputError(f"{path} gave no frame after {n_read}. Check its cable and power.")
    says = film.get(cv2.CAP_PROP_FRAME_COUNT)
    if n_read == 0 or n_read < (1 - _SLACK) * says - 1:
        whole = f" of about {says:.0f}" if says >= 1 else ""
        raise InputError(
            f"{path} ends after {n_read} frames{whole} (a broken copy?). Copy it again."
        )


def _named(name: str, number: int | None) -> str:
    return name if number is None else f"{name}#{number:06d}"


def _film(path: Path) -> Any:
    return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)


def _begins_as_film(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            begin = stream.read(16)
    except (OSError, ValueError):
        return False
    return _FILM.match(begin) is not None and _PICTURE_IN_BOXES.match(begin) is None


def _fault(path: Path) -> str:
    if not path.is_file():
        return "is not a file" if path.exists() else "does not exist"
    return "is not a video"


def _rgb(frame: Any) -> Picture:
    rgb: Picture = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return rgb


@contextmanager
def _silent_decoder() -> Iterator[None]:
    """Keep the decoder of films, which reads this when it first opens one, from printing."""
    before = os.environ.get(_LOG_LEVEL)
    os.environ[_LOG_LEVEL] = before or _SILENT
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_LOG_LEVEL, None)
