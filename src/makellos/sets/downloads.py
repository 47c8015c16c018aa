"""Download a public set, check it and lay it out: the work of `makellos data get`.

What arrives is compared with a published checksum, or with the one recorded at the first download,
before anything is unpacked.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from makellos.data.progress import Progress, no_progress
from makellos.errors import InputError, StorageError, suggest
from makellos.sets.archives import refuse_filled, staged
from makellos.sets.public_layouts import Job, arrange_public_set
from makellos.sets.public_sets import PUBLIC_SETS, Licence, PublicSet, RemoteFile
from makellos.sets.transfers import Sleep, download
from makellos.storage import storage_errors, write_text

__all__ = ["PUBLIC_SETS", "Fetched", "get"]

RECORD_NAME = "recorded_hashes.json"
SOURCE_NAME = "source.json"


@dataclass(frozen=True)
class Fetched:
    """Hold what was downloaded and how far it can be trusted.

    Parameters
    ----------
    folder : the set, in the MVTec AD layout.
    n_train, n_test_good, n_defective : files in `train/good`, `test/good`, `test/<other>`; 0 where
        the set is one file.
    licence : the name of the licence that was accepted.
    source : the addresses of the files, separated by blanks.
    sha256 : of the file, 64 hexadecimal digits; `NAME:HEX` separated by blanks where a set has
        several.
    verified : whether every file agrees with a published checksum.
    note : how the files were checked and how the set is split.
    """

    folder: Path
    n_train: int
    n_test_good: int
    n_defective: int
    licence: str
    source: str
    sha256: str
    verified: bool
    note: str


@dataclass(frozen=True)
class _Checked:
    """Hold one file of the cache that passed its check."""

    file: RemoteFile
    path: Path
    sha256: str

    @property
    def note(self) -> str:
        if self.file.checksum is None:
            return f"{self.file.name}: recorded sha256 {self.sha256}; no published checksum"
        algorithm = self.file.checksum.partition(":")[0]
        return (
            f"{self.file.name}: agrees with the {algorithm} published by "
            f"{self.file.checksum_source}"
        )


def get(
    name: str,
    folder: Path,
    *,
    accept_license: bool = False,
    cache: Path | None = None,
    progress: Progress = no_progress,
    catalogue: Mapping[str, PublicSet] = PUBLIC_SETS,
    sleep: Sleep = time.sleep,
) -> Fetched:
    """Download a public set and write it into a folder in the MVTec AD layout.

    Parameters
    ----------
    name : a name of the catalogue, such as `mvtec_ad/screw`, `visa/candle`, `magnetic_tile`,
        `mnist`, `mnist/3`, `cifar10/automobile` or `cwru`.
    folder : new or empty; it appears when the set is whole.
    accept_license : says that the licence of the set was read and is accepted.
    cache : keeps the downloaded files; the user's cache folder without it. A file put there by
        hand, at the place that the messages name, is taken as if it had been downloaded.
    progress : called with what is done (`download NAME` and `unpack NAME` in bytes, the rest in
        pictures), how much of it is done, and how much there is, None where unknown.
    catalogue : the sets to choose from.
    sleep : waits the seconds between two attempts.

    Raises
    ------
    InputError : for an unknown name, a set that only a person can download, a licence not accepted,
        a folder that is not empty.
    StorageError : where a file cannot be downloaded, does not agree with its checksum, is unsafe
        to unpack or not what it should be, or where the folder or the cache cannot be written.
    """
    entry = catalogue.get(name)
    if entry is None:
        raise InputError(f"There is no public set {name!r}. {suggest(name, catalogue)}")
    if entry.by_hand:
        raise InputError(f"{name} cannot be downloaded by a program. {entry.by_hand}")
    if not accept_license:
        raise InputError(_ask_for_licence(name, entry.licence))
    refuse_filled(folder)
    cache = _default_cache() if cache is None else cache
    with _writing(cache):
        files = [
            _obtain(entry, file, cache, progress=progress, sleep=sleep)
            for file in _choose_files(entry, cache)
        ]
    with staged(folder) as stage:
        job = Job(
            files=[file.path for file in files],
            category=entry.category,
            raw=stage.with_name("raw"),
            out=stage,
            progress=progress,
        )
        remark = arrange_public_set(entry.layout, job)
        fetched = _describe(folder, stage, entry.licence, files, remark)
        _write_source(stage / SOURCE_NAME, name, entry, fetched)
    with _writing(cache):
        _record(cache, files)
    return fetched


def _default_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("makellos")


def _writing(cache: Path) -> AbstractContextManager[None]:
    advice = "Check its free space and permissions, or name another cache folder."
    return storage_errors(f"Cannot use the cache {cache}", advice)


def _ask_for_licence(name: str, licence: Licence) -> str:
    return (
        f"{name} has a licence of its own, which you must accept before the download. "
        f"{licence.name}: {licence.terms}. Read it at {licence.address} and, if you accept it, "
        "run the same command with --accept-license."
    )


def _cached(entry: PublicSet, file: RemoteFile, cache: Path) -> Path:
    return cache / entry.name.partition("/")[0] / file.name


def _key(path: Path, cache: Path) -> str:
    return path.relative_to(cache).as_posix()


def _choose_files(entry: PublicSet, cache: Path) -> tuple[RemoteFile, ...]:
    """Return the files to use: the other one only where it is here and they are not."""
    complete = all(_cached(entry, file, cache).is_file() for file in entry.files)
    if entry.instead is None or complete:
        return entry.files
    return (entry.instead,) if _cached(entry, entry.instead, cache).is_file() else entry.files


def _obtain(
    entry: PublicSet, file: RemoteFile, cache: Path, *, progress: Progress, sleep: Sleep
) -> _Checked:
    path = _cached(entry, file, cache)
    if not path.is_file():
        try:
            download(file, path, progress=progress, sleep=sleep)
        except StorageError as error:
            raise StorageError(f"{error} {_by_hand(entry, file, path)}") from error
    return _check(entry, file, path, cache)


def _by_hand(entry: PublicSet, file: RemoteFile, path: Path) -> str:
    return (
        "Check the internet connection and run the same command again: what has arrived is kept, "
        f"and the download continues. Or download it by hand from {file.address} (if that has "
        f"moved, from {entry.homepage}), put the file at {path}, and run the same command again."
    )


def _check(entry: PublicSet, file: RemoteFile, path: Path, cache: Path) -> _Checked:
    """Compare a file with its published checksum, or with the one recorded before."""
    sha256 = _digest(path, "sha256")
    expected, source = file.checksum, f"published by {file.checksum_source}"
    advice = f"see {entry.homepage}."
    if expected is None:
        recorded = _read_record(cache).get(_key(path, cache))
        expected = f"sha256:{recorded}" if recorded else None
        source = "recorded at the first download"
        advice += f" To accept it, delete its line in {cache / RECORD_NAME}."
    if expected is not None:
        algorithm, _, value = expected.partition(":")
        actual = sha256 if algorithm == "sha256" else _digest(path, algorithm)
        if actual != value.lower():
            aside = path.with_name(f"{path.name}.rejected")
            path.replace(aside)
            raise StorageError(
                f"{path.name} has {algorithm} {actual}, but {value} was {source}. Nothing was "
                f"unpacked; the file was moved to {aside}. Run the same command again to download "
                f"it again. If that gives the same value, the publisher has changed it: {advice}"
            )
    return _Checked(file, path, sha256)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, algorithm).hexdigest()


def _read_record(cache: Path) -> dict[str, str]:
    path = cache / RECORD_NAME
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StorageError(
            f"{path} is not valid JSON ({error}). It holds the checksums recorded at first "
            "downloads; repair it, or delete it to record them again."
        ) from error
    return {str(key): str(value) for key, value in record.items()}


def _record(cache: Path, files: list[_Checked]) -> None:
    """Keep the SHA-256 of files that nobody has published one for.

    It is done when the set is whole: a login page that came instead of the file is not recorded.
    """
    found = {_key(each.path, cache): each.sha256 for each in files if not each.file.checksum}
    record = _read_record(cache)
    if found.items() <= record.items():
        return
    write_text(cache / RECORD_NAME, json.dumps(record | found, indent=1, sort_keys=True))


def _describe(
    folder: Path, stage: Path, licence: Licence, files: list[_Checked], remark: str
) -> Fetched:
    hashes = [
        each.sha256 if len(files) == 1 else f"{each.file.name}:{each.sha256}" for each in files
    ]
    notes = [*(each.note for each in files), *([remark] if remark else [])]
    n_train, n_test_good = (_count(stage, f"{part}/good/*") for part in ("train", "test"))
    return Fetched(
        folder=folder,
        n_train=n_train,
        n_test_good=n_test_good,
        n_defective=_count(stage, "test/*/*") - n_test_good,
        licence=licence.name,
        source=" ".join(each.file.address for each in files),
        sha256=" ".join(hashes),
        verified=all(each.file.checksum for each in files),
        note=". ".join(notes) + ".",
    )


def _count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


def _write_source(path: Path, name: str, entry: PublicSet, fetched: Fetched) -> None:
    """Write beside the pictures where they come from and under which licence."""
    content = asdict(fetched) | {"name": name, "licence": asdict(entry.licence)}
    del content["folder"]
    write_text(path, json.dumps(content, indent=1))
