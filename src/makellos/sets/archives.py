"""Unpack archives that came from elsewhere, without trusting what they say of themselves.

Sizes are counted while they stream out, so an archive that lies about them stops at the same
limits. A folder is filled under another name beside it and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from makellos.data.progress import Progress, no_progress
from makellos.errors import InputError, StorageError
from makellos.storage import storage_errors

__all__ = ["Limits", "read_gzip", "refuse_filled", "safe_path", "staged", "unpack"]

CHUNK = 256 * 1024
# Small archives of flat pictures compress without end of ratio: the ratio counts from here on.
RATIO_GRACE = 2 * 1024 * 1024
# tarfile reads long names and pax headers whole into memory; real ones are a few kilobytes.
TAR_HEADER_BYTES = 1024 * 1024

_DRIVE = re.compile(r"[A-Za-z]:")
_UNPORTABLE = re.compile(r'[\x00-\x1f<>:"|?*\\]|[. ]$')
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE
)
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
)

Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Limits:
    """Hold what an archive may contain at most.

    Parameters
    ----------
    n_members : members of every kind.
    n_bytes : bytes after unpacking, all members together.
    ratio : unpacked bytes for each packed byte.
    """

    n_members: int = 100_000
    n_bytes: int = 20 * 2**30
    ratio: float = 100.0


DEFAULT_LIMITS = Limits()
IN_MEMORY = Limits(n_bytes=2**28)


def refuse_filled(folder: Path) -> None:
    """Raise `InputError` where `folder` is a file or holds anything."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise InputError(
            f"{folder} exists and is not an empty folder. Nothing was changed. "
            "Name a folder that does not exist yet, or empty this one."
        )


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `folder` when the block ends without an error.

    It lies beside `folder`, in a temporary folder of its own that is deleted in every case.

    Raises
    ------
    InputError : where `folder` exists and is not empty.
    StorageError : where it cannot be written.
    """
    refuse_filled(folder)
    target = folder.absolute()
    advice = f"Check the free space and the permissions of {target.parent}, or name another folder."
    with storage_errors(f"Cannot write {folder}", advice):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".makellos-", dir=target.parent, ignore_cleanup_errors=True
        ) as beside:
            stage = Path(beside) / "stage"
            stage.mkdir()
            yield stage
            if target.exists():
                target.rmdir()
            stage.rename(target)


def safe_path(root: Path, name: str) -> Path:
    """Return `root / name` for a member name that stays inside `root` on every system.

    Raises
    ------
    StorageError : for an absolute path, a drive, `..`, or a name that Windows reserves.
    """
    reason = _escape(name) or _unportable(name)
    if reason is not None:
        raise StorageError(f"The name {name!r} has {reason}: it is not used as a path.")
    return root.joinpath(*_parts(name))


def unpack(
    archive: Path,
    folder: Path,
    *,
    wanted: Wanted | None = None,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = no_progress,
) -> int:
    """Unpack a zip, tar, tar.gz or tar.xz archive into a folder that is new or empty.

    Parameters
    ----------
    archive : the file; what it is is told by its first bytes.
    folder : receives the files; untouched when anything goes wrong.
    wanted : says by its name (`/` between folders) whether a file is written; all are without it.
        Unwanted members count towards the limits and must be harmless all the same.
    limits : what the archive may hold at most.
    progress : called with `unpack NAME`, packed bytes done and packed bytes in all.

    Returns
    -------
    The number of files written.

    Raises
    ------
    InputError : where `folder` exists and is not empty.
    StorageError : for a damaged archive, for members that leave the folder, links and devices,
        for names that are not files on every system, and beyond a limit.
    """
    ledger = _Ledger(archive, limits, progress)
    with staged(folder) as stage:
        writer = _Writer(stage, ledger, wanted or (lambda _: True))
        try:
            with archive.open("rb") as raw:
                is_zip = raw.read(4) == b"PK\x03\x04"
                raw.seek(0)
                (_unpack_zip if is_zip else _unpack_tar)(raw, writer)
        except _DAMAGED as error:
            raise StorageError(
                f"{archive} is damaged or not a zip or tar archive ({error}). Nothing was "
                "unpacked. Delete it and download it again."
            ) from error
    return writer.n_files


def read_gzip(path: Path, *, limits: Limits = IN_MEMORY) -> bytes:
    """Return the content of a `.gz` file, at most `limits.n_bytes` of it.

    Raises
    ------
    StorageError : for a damaged file and beyond a limit.
    """
    ledger = _Ledger(path, limits, no_progress)
    content = io.BytesIO()
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as source:
            while block := source.read(CHUNK):
                ledger.add(len(block), raw.tell())
                content.write(block)
    except (*_DAMAGED, OSError) as error:
        raise StorageError(
            f"{path} cannot be read as a gzip file ({error}). Delete it and download it again."
        ) from error
    return content.getvalue()


class _Ledger:
    """Count what comes out of one archive and stop it at the limits."""

    def __init__(self, archive: Path, limits: Limits, progress: Progress) -> None:
        self.archive = archive
        self.limits = limits
        self.size = archive.stat().st_size
        self.n_bytes = 0
        self._progress = progress

    def add(self, n_bytes: int, packed: int) -> None:
        self.n_bytes += n_bytes
        packed = min(max(packed, 1), self.size)
        if self.n_bytes > self.limits.n_bytes:
            raise self.refusal(f"it unpacks to more than {self.limits.n_bytes} bytes")
        if self.n_bytes > RATIO_GRACE and self.n_bytes > self.limits.ratio * packed:
            raise self.refusal(
                f"{packed} packed bytes became {self.n_bytes}, more than "
                f"{self.limits.ratio:g} for one"
            )
        self._progress(f"unpack {self.archive.name}", packed, self.size)

    def refusal(self, reason: str) -> StorageError:
        return StorageError(
            f"{self.archive} is refused as unsafe: {reason}. Nothing was unpacked. "
            "Do not use this file; download it again from its publisher."
        )


class _Source(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Writer:
    """Write the wanted members of one archive into a folder."""

    def __init__(self, folder: Path, ledger: _Ledger, wanted: Wanted) -> None:
        self.ledger = ledger
        self.n_files = self._n_members = 0
        self._folder = folder
        self._wanted = wanted
        self._taken: set[str] = set()

    def admit(self, name: str, *, harmless: bool) -> None:
        """Count a member and refuse one that leaves the folder or is no file or folder."""
        self._n_members += 1
        if self._n_members > self.ledger.limits.n_members:
            raise self.ledger.refusal(f"it holds more than {self.ledger.limits.n_members} members")
        reason = _escape(name)
        if reason is not None:
            raise self.ledger.refusal(f"the member {name!r} has {reason}")
        if not harmless:
            raise self.ledger.refusal(
                f"the member {name!r} is a link, a device, sparse or encrypted"
            )

    def target(self, name: str) -> Path | None:
        """Return where a file goes, None where it is not wanted."""
        if not self._wanted(name):
            return None
        reason = _unportable(name)
        if reason is not None:
            raise self.ledger.refusal(f"the member {name!r} has {reason}")
        path = self._folder.joinpath(*_parts(name))
        key = "/".join(_parts(name)).casefold()
        if key in self._taken:
            raise self.ledger.refusal(f"two members are called {name!r} where case is ignored")
        self._taken.add(key)
        return path

    def write(self, path: Path, source: _Source, count: Callable[[int], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as sink:
            while block := source.read(CHUNK):
                count(len(block))
                sink.write(block)
        self.n_files += 1


class _Metered(io.RawIOBase):
    """Pass a decompressed stream on, counted, and bounded by what the caller allows."""

    def __init__(self, source: _Source, raw: IO[bytes], ledger: _Ledger) -> None:
        super().__init__()
        self._source = source
        self._raw = raw
        self._ledger = ledger
        self._end = 0

    def allow(self, n_bytes: int) -> None:
        self._end = self._ledger.n_bytes + n_bytes

    def read(self, size: int = -1, /) -> bytes:
        block = self._source.read(size)
        self._ledger.add(len(block), self._raw.tell())
        if self._ledger.n_bytes > self._end:
            raise self._ledger.refusal(f"a header is longer than {TAR_HEADER_BYTES} bytes")
        return block


def _unpack_tar(raw: IO[bytes], writer: _Writer) -> None:
    ledger = writer.ledger
    with contextlib.ExitStack() as stack:
        reader = _Metered(_decompressed(raw, stack), raw, ledger)
        reader.allow(TAR_HEADER_BYTES)
        # A stream never seeks: what is counted is all that is read.
        with tarfile.open(fileobj=reader, mode="r|", bufsize=64 * 1024) as tar:
            for member in tar:
                reader.allow(member.size + TAR_HEADER_BYTES)
                is_file = member.isreg() and not member.issparse()
                writer.admit(member.name, harmless=is_file or member.isdir())
                target = writer.target(member.name) if is_file else None
                source = tar.extractfile(member) if target is not None else None
                if target is not None and source is not None:
                    writer.write(target, source, lambda _: None)


def _decompressed(raw: IO[bytes], stack: contextlib.ExitStack) -> _Source:
    start = raw.read(6)
    raw.seek(0)
    if start[:2] == b"\x1f\x8b":
        return stack.enter_context(gzip.GzipFile(fileobj=raw))
    if start == b"\xfd7zXZ\x00":
        return stack.enter_context(lzma.LZMAFile(raw))
    return raw


def _unpack_zip(raw: IO[bytes], writer: _Writer) -> None:
    packed = 0

    def count(n_bytes: int) -> None:
        writer.ledger.add(n_bytes, packed)

    with zipfile.ZipFile(raw) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            encrypted = bool(info.flag_bits & 0x1)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not encrypted
            writer.admit(info.filename, harmless=plain)
            target = None if info.is_dir() else writer.target(info.filename)
            if target is None:
                continue
            packed += info.compress_size
            with archive.open(info) as source:
                writer.write(target, source, count)


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _escape(name: str) -> str | None:
    """Say why a name would leave the folder it is put into, None if it would not."""
    if name.startswith(("/", "\\")):
        return "an absolute path"
    if _DRIVE.match(name):
        return "a drive"
    if ".." in re.split(r"[/\\]", name):
        return "'..' in its path"
    return None


def _unportable(name: str) -> str | None:
    """Say why a name is not a file on every system, None if it is."""
    parts = _parts(name)
    if not parts:
        return "no name"
    for part in parts:
        if _UNPORTABLE.search(part):
            return "characters that are not allowed in file names on every system"
        if _RESERVED.fullmatch(part):
            return "a name that Windows reserves"
    return None
