"""Archives from elsewhere: what is unpacked, what is refused, and what is left after a refusal."""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.errors import InputError, StorageError
from makellos.sets import archives
from makellos.sets.archives import Limits, read_gzip, safe_path, staged, unpack

Maker = Callable[[Path, dict[str, bytes]], Path]
FILES = {"set/train/good/000.png": b"picture", "set/license.txt": b"be nice", "set/empty": b""}


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_tar_gz(path: Path, files: dict[str, bytes]) -> Path:
    return make_tar(path, files, "w:gz")


def make_tar_xz(path: Path, files: dict[str, bytes]) -> Path:
    return make_tar(path, files, "w:xz")


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar_of(path: Path, info: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.addfile(info)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_refused(archive: Path, reason: str, limits: Limits = archives.DEFAULT_LIMITS) -> None:
    """Refused, with the reason, and nothing is left anywhere beside the archive."""
    target = archive.parent / "inner" / "out"
    with pytest.raises(StorageError, match=reason):
        unpack(archive, target, limits=limits)
    assert tree(archive.parent) == {archive.name: archive.read_bytes()}
    assert list(target.parent.iterdir()) == []


makers = pytest.mark.parametrize("make", [make_tar, make_tar_gz, make_tar_xz, make_zip])


@makers
def test_unpacks_every_kind(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", FILES)
    assert unpack(archive, tmp_path / "out") == len(FILES)
    assert tree(tmp_path / "out") == FILES


@makers
def test_writes_wanted_files_only(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", FILES)
    assert unpack(archive, tmp_path / "out", wanted=lambda name: name.endswith(".png")) == 1
    assert list(tree(tmp_path / "out")) == ["set/train/good/000.png"]


@makers
def test_reports_progress_in_packed_bytes(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", {"a": bytes(range(256)) * 400, "b": b"x"})
    told: list[tuple[str, int, int | None]] = []
    unpack(archive, tmp_path / "out", progress=lambda *step: told.append(step))
    assert {what for what, _, _ in told} == {"unpack archive"}
    steps = [(done, total) for _, done, total in told]
    size = archive.stat().st_size
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert {total for _, total in steps} == {size}
    assert 0 < steps[-1][0] <= size


@makers
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.png", r"'\.\.' in its path"),
        ("set/../../evil.png", r"'\.\.' in its path"),
        ("set\\..\\..\\evil.png", r"'\.\.' in its path"),
        ("/tmp/evil.png", "an absolute path"),  # noqa: S108
        ("\\\\server\\share\\evil.png", "an absolute path"),
        ("C:evil.png", "a drive"),
        ("c:\\windows\\evil.png", "a drive"),
        ("set/aux", "a name that Windows reserves"),
        ("set/COM1.png", "a name that Windows reserves"),
        ("set/evil.png:stream", "not allowed in file names"),
        ("set/evil.png ", "not allowed in file names"),
        ("set/evil.", "not allowed in file names"),
    ],
)
def test_refuses_names_that_leave_the_folder(
    make: Maker, name: str, reason: str, tmp_path: Path
) -> None:
    assert_refused(make(tmp_path / "archive", {"good.png": b"1", name: b"2"}), reason)


def test_refuses_a_backslash_in_a_name(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "archive", {"set/a\\b.png": b"1"})
    assert_refused(archive, "not allowed in file names")


@makers
def test_refuses_an_escape_among_unwanted_members(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", {"good.png": b"1", "../evil.txt": b"2"})
    with pytest.raises(StorageError, match=r"'\.\.' in its path"):
        unpack(archive, tmp_path / "out", wanted=lambda name: name.endswith(".png"))
    assert not (tmp_path / "out").exists()


@makers
def test_skips_unwanted_members_that_windows_cannot_name(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", {"a.png": b"1", "a.png:Zone.Identifier": b"2"})
    assert unpack(archive, tmp_path / "out", wanted=lambda name: name.endswith(".png")) == 1


@makers
def test_refuses_names_that_differ_in_case_only(make: Maker, tmp_path: Path) -> None:
    assert_refused(
        make(tmp_path / "archive", {"set/a.png": b"1", "SET/A.PNG": b"2"}), "two members"
    )


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_refuses_links_and_devices_in_a_tar(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("set/link.png")
    info.type = kind
    info.linkname = "../../target"
    assert_refused(make_tar_of(tmp_path / "archive", info), "a link, a device")


def test_refuses_a_sparse_member_that_declares_a_size_it_has_not(tmp_path: Path) -> None:
    info = tarfile.TarInfo("set/hole.bin")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**20)}
    assert_refused(make_tar_of(tmp_path / "archive", info), "a link, a device, sparse")


def test_refuses_symbolic_links_in_a_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("set/link.png")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr(info, "../../target")
    assert_refused(tmp_path / "archive", "a link, a device")


@pytest.mark.parametrize("make", [make_tar_gz, make_tar_xz, make_zip])
def test_stops_a_bomb_long_before_it_is_unpacked(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make(tmp_path / "archive", {"zeros": bytes(32 * 2**20)})
    counted: list[int] = []
    add = archives._Ledger.add

    def count(ledger: archives._Ledger, n_bytes: int, packed: int) -> None:
        counted.append(n_bytes)
        add(ledger, n_bytes, packed)

    monkeypatch.setattr(archives._Ledger, "add", count)
    assert_refused(archive, "packed bytes became")
    assert sum(counted) < 16 * 2**20


def test_counts_what_comes_out_and_not_what_a_zip_declares(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "archive", {"zeros": bytes(8 * 2**20)})
    honest = (8 * 2**20).to_bytes(4, "little")
    forged = archive.read_bytes().replace(honest, (100).to_bytes(4, "little"))
    assert forged != archive.read_bytes()
    archive.write_bytes(forged)
    assert_refused(archive, "damaged|unsafe")


@makers
def test_refuses_more_bytes_than_allowed(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", {"a": bytes(600_000), "b": bytes(600_000)})
    assert_refused(archive, "unpacks to more than 1000000 bytes", Limits(n_bytes=1_000_000))


@makers
def test_refuses_more_members_than_allowed(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", {f"{number}.png": b"1" for number in range(11)})
    assert_refused(archive, "more than 10 members", Limits(n_members=10))


def test_refuses_a_tar_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.pax_headers = {"comment": "x" * (4 * 2**20)}
    assert_refused(make_tar_of(tmp_path / "archive", info), "a header is longer than")


@pytest.mark.parametrize("make", [make_tar_gz, make_tar_xz, make_zip, make_tar])
def test_says_of_a_cut_archive_that_it_is_damaged(make: Maker, tmp_path: Path) -> None:
    noise = b"".join(bytes([number * 7 % 251, number % 256]) for number in range(20_000))
    archive = make(tmp_path / "archive", {"a": noise})
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    assert_refused(archive, "damaged")


@pytest.mark.parametrize("content", [b"", b"<html>please log in</html>", bytes(20)])
def test_says_of_something_else_that_it_is_no_archive(content: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    assert_refused(archive, "not a zip or tar archive")


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "archive", FILES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(InputError, match="not an empty folder"):
        unpack(archive, tmp_path / "out" / "mine.txt")
    assert tree(tmp_path / "out") == {"mine.txt": b"mine"}


def test_fills_a_folder_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    unpack(make_zip(tmp_path / "archive", FILES), tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


def test_a_staged_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with pytest.raises(KeyboardInterrupt), staged(target) as stage:
        (stage / "half").write_text("half")
        assert not target.exists()
        raise KeyboardInterrupt
    assert list(target.parent.iterdir()) == []
    with staged(target) as stage:
        (stage / "whole").write_text("whole")
        assert not target.exists()
    assert tree(target) == {"whole": b"whole"}
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot write"):
        unpack(make_zip(tmp_path / "archive", FILES), tmp_path / "file" / "out")


def test_reads_gzip_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    content = bytes(range(256)) * 1000
    path.write_bytes(gzip.compress(content))
    assert read_gzip(path) == content
    with pytest.raises(StorageError, match="unpacks to more than 1000 bytes"):
        read_gzip(path, limits=Limits(n_bytes=1000))
    path.write_bytes(gzip.compress(bytes(64 * 2**20)))
    with pytest.raises(StorageError, match="packed bytes became"):
        read_gzip(path)


@pytest.mark.parametrize(
    "content", [b"no gzip", lzma.compress(b"x"), gzip.compress(b"x" * 99, mtime=0)[:-9]]
)
def test_says_of_another_file_that_it_is_no_gzip(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="cannot be read as a gzip file"):
        read_gzip(path)


@given(name=st.text(alphabet=st.sampled_from("ab./\\:C \x00~$"), max_size=12))
def test_a_safe_path_stays_inside(name: str) -> None:
    root = Path("root").absolute()
    try:
        path = safe_path(root, name)
    except StorageError:
        return
    assert path != root
    assert path.resolve().is_relative_to(root)
