"""Files that come with a request: read within the limits, looked at before they are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from makellos.data._headers import UnsuitableError, read_header
from makellos.errors import legible
from makellos.service.failures import Refusal
from makellos.service.pool import Loaded
from makellos.service.station import Settings

__all__ = ["Upload", "check_uploads", "read_uploads"]

_MAX_FIELDS = 64
_MAX_FIELD = 16_384  # bytes
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Upload:
    """Hold a file as it came; `name` is the last part of the one that the sender gave."""

    name: str
    content: bytes


async def read_uploads(request: Request, settings: Settings) -> tuple[list[Upload], dict[str, str]]:
    """Return the files of the field ``files``, and all other fields.

    Raises `Refusal` for a body that is no form, for no file, and for more than the limits allow.
    """
    if not request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        raise Refusal("wrong_type", "Send files as multipart/form-data, in the field 'files'.")
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=settings.max_files,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD,
    )
    parser.spool_max_size = settings.max_file  # stays in memory, which the gate bounds
    try:
        form = await parser.parse()
    except MultiPartException as error:
        too_many = error.message.startswith("Too many") or "exceeded" in error.message
        raise Refusal("too_large" if too_many else "invalid", error.message) from None
    except (KeyError, UnicodeDecodeError, ValueError) as error:
        raise Refusal("invalid", f"The form cannot be read: {error}") from None
    files, fields = [], {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                files.append(_upload(name, value, await value.read(), settings))
            elif name in fields:
                raise Refusal("invalid", f"The field {legible(name)!r} was sent twice.")
            else:
                fields[name] = value
    finally:
        await form.close()
    if not files:
        raise Refusal("invalid", "No file was sent. Send one or several in the field 'files'.")
    return files, fields


def _upload(field: str, file: UploadFile, content: bytes, settings: Settings) -> Upload:
    if field != "files":
        raise Refusal(
            "invalid", f"A file came in the field {legible(field)!r}; send it in 'files'."
        )
    name = PurePath((file.filename or "").replace("\\", "/")).name or "unnamed"
    if len(name) > _LONGEST_NAME:
        raise Refusal("invalid", f"The name of a file has more than {_LONGEST_NAME} characters.")
    if len(content) > settings.max_file:
        raise Refusal(
            "too_large",
            f"{legible(name)} has {len(content):,} bytes; at most {settings.max_file:,} are taken.",
        )
    return Upload(name, content)


async def check_uploads(uploads: list[Upload], loaded: Loaded, settings: Settings) -> None:
    """Refuse pictures that are too large to decode, and a single file that is no picture.

    Among several files one that is no picture costs that one alone: it gets a row that says so.
    """
    if loaded.takes_pictures:
        await run_in_threadpool(_check, uploads, settings)


def _check(uploads: list[Upload], settings: Settings) -> None:
    for upload in uploads:
        name = legible(upload.name)
        try:
            header = read_header(upload.content)
        except UnsuitableError as error:
            if len(uploads) == 1:
                raise Refusal("unreadable", f"{name} {error}") from None
            continue
        if header.width * header.height > settings.max_pixels:
            raise Refusal(
                "too_large",
                f"{name} has {header.width:,} x {header.height:,} pixels; this station takes at "
                f"most {settings.max_pixels:,}.",
            )
