"""Public sets, fetched from a small server on this machine: resuming, checks and layouts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makellos.errors import InputError, StorageError
from makellos.sets import downloads, transfers
from makellos.sets.downloads import Fetched, get
from makellos.sets.public_sets import Layout, Licence, PublicSet, RemoteFile

RNG = np.random.default_rng(7)
LICENCE = Licence("CC BY-NC-SA 4.0", "non-commercial use only", "https://example.org/licence")
NOISE = RNG.integers(0, 256, 400_000, dtype=np.uint8).tobytes()


@dataclass
class Site:
    """Serve files from memory, as well or as badly as a test asks for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    heed_if_range: bool = True
    longest_range: int | None = None
    etag: str | None = '"v1"'
    last_modified: str | None = None
    lengths: bool = True
    # Bytes after which each answer in turn breaks off.
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    # Range and If-Range of each request, and the bytes each answer sent.
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def file(self, name: str, content: bytes, checksum: str | None = "sha256") -> RemoteFile:
        self.files[f"/{name}"] = content
        published = f"{checksum}:{hashlib.new(checksum, content).hexdigest()}" if checksum else None
        return RemoteFile(
            name, f"{self.address}/{name}", published, "the test" if published else ""
        )


class Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.site
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        site.asked.append((wanted, condition))
        content = site.files.get(self.path)
        status = site.statuses.pop(0) if site.statuses else 200
        if content is None or status != 200:
            self.send_error(404 if content is None else status)
            site.sent.append(0)
            return
        same = condition is None or condition in (site.etag, site.last_modified)
        start = 0
        if wanted and site.ranges and (same or not site.heed_if_range):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
        if start and start >= len(content):
            self.send_error(416)
            site.sent.append(0)
            return
        self._send(content, start)

    def _send(self, content: bytes, start: int) -> None:
        site = self.site
        stop = site.longest_range and start + site.longest_range
        body = content[start : stop if start else None]
        self.send_response(206 if start else 200)
        if start:
            last = start + len(body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        if site.lengths:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        for name, value in (("ETag", site.etag), ("Last-Modified", site.last_modified)):
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        stop = site.breaks.pop(0) if site.breaks else None
        sent = body[:stop]
        site.sent.append(len(sent))
        self.wfile.write(sent if site.lengths else b"%x\r\n%b\r\n" % (len(sent), sent))
        if stop is not None:
            self.close_connection = True
        elif not site.lengths:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep the output of the tests clean."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join(timeout=10)


def tar(files: Mapping[str, bytes], mode: str = "w:xz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


SCREWS = {
    "screw/license.txt": b"non-commercial",
    "screw/train/good/000.png": b"picture 1",
    "screw/train/good/001.png": b"picture 2",
    "screw/test/good/000.png": b"picture 3",
    "screw/test/thread_side/000.png": b"picture 4",
    "screw/ground_truth/thread_side/000_mask.png": b"picture 255",
    # Makes the archive long enough to be cut within.
    "screw/test/good/001.png": NOISE,
}


def one(name: str, file: RemoteFile, layout: Layout, category: str) -> dict[str, PublicSet]:
    return {name: PublicSet(name, (file,), layout, category, LICENCE, "https://example.org/home")}


def screws(site: Site, checksum: str | None = "sha256") -> dict[str, PublicSet]:
    file = site.file("screw.tar.xz", tar(SCREWS), checksum)
    return one("mvtec_ad/screw", file, "mvtec_ad", "screw")


def fetch(
    catalogue: dict[str, PublicSet], tmp_path: Path, out: str = "out", **options: Any
) -> Fetched:
    (name,) = catalogue
    default: dict[str, Any] = {"accept_license": True, "sleep": lambda _: None}
    cache = tmp_path / "cache"
    return get(name, tmp_path / out, cache=cache, catalogue=catalogue, **(default | options))


def break_off(site: Site, catalogue: dict[str, PublicSet], tmp_path: Path) -> None:
    """Let a whole call fail after 100 000 bytes."""
    site.breaks = [100_000, 0, 0, 0]
    with pytest.raises(StorageError, match=r"was lost|bytes arrived"):
        fetch(catalogue, tmp_path)


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_fetches_a_set_into_the_mvtec_layout(site: Site, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    catalogue = screws(site)
    fetched = fetch(catalogue, tmp_path, progress=lambda *step: steps.append(step))
    archive = site.files["/screw.tar.xz"]
    assert tree(tmp_path / "out") == sorted(
        [*(name.removeprefix("screw/") for name in SCREWS), "source.json"]
    )
    assert (tmp_path / "out/train/good/000.png").read_bytes() == SCREWS["screw/train/good/000.png"]
    assert fetched == Fetched(
        folder=tmp_path / "out",
        n_train=2,
        n_test_good=2,
        n_defective=1,
        licence="CC BY-NC-SA 4.0",
        source=f"{site.address}/screw.tar.xz",
        sha256=hashlib.sha256(archive).hexdigest(),
        verified=True,
        note="screw.tar.xz: agrees with the sha256 published by the test.",
    )
    assert {what for what, _, _ in steps} == {"download screw.tar.xz", "unpack screw.tar.xz"}
    assert ("download screw.tar.xz", len(archive), len(archive)) in steps
    source = json.loads((tmp_path / "out/source.json").read_text())
    assert source["licence"]["address"] == LICENCE.address
    assert source["sha256"] == fetched.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out"]


def test_takes_a_file_of_the_cache_without_asking_the_server(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    assert fetch(catalogue, tmp_path).n_train == fetch(catalogue, tmp_path, "again").n_train == 2
    assert len(site.asked) == 1


def test_asks_for_the_licence_before_anything_else(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fetch(screws(site), tmp_path, accept_license=False)
    for part in (LICENCE.name, LICENCE.terms, LICENCE.address, "--accept-license"):
        assert part in str(caught.value)
    assert site.asked == []
    assert list(tmp_path.iterdir()) == []


def test_suggests_a_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'mvtec_ad/screw'"):
        get("mvtec_ad/scew", tmp_path / "out", accept_license=True)


def test_refuses_a_filled_folder_before_it_downloads(site: Site, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.png").write_bytes(b"")
    with pytest.raises(InputError, match="not an empty folder"):
        fetch(screws(site), tmp_path)
    assert site.asked == []


def test_goes_on_within_one_call(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    site.breaks = [100_000, 50_000]
    fetched = fetch(catalogue, tmp_path)
    assert fetched.verified
    assert site.asked == [(None, None), ("bytes=100000-", '"v1"'), ("bytes=150000-", '"v1"')]
    assert sum(site.sent) == len(site.files["/screw.tar.xz"])


def test_asks_on_where_the_server_gives_less_than_the_rest(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    site.breaks, site.longest_range = [100_000], 150_000
    assert fetch(catalogue, tmp_path).verified
    assert [wanted for wanted, _ in site.asked[1:3]] == ["bytes=100000-", "bytes=250000-"]
    assert sum(site.sent) == len(site.files["/screw.tar.xz"])


def test_goes_on_in_the_next_call(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    break_off(site, catalogue, tmp_path)
    part = tmp_path / "cache/mvtec_ad/screw.tar.xz.part"
    assert part.stat().st_size == 100_000
    state = json.loads(part.with_name("screw.tar.xz.part.json").read_text())
    assert state["etag"] == '"v1"'
    assert state["total"] == str(len(site.files["/screw.tar.xz"]))
    assert not (tmp_path / "out").exists()
    fetch(catalogue, tmp_path)
    assert site.asked[-1] == ("bytes=100000-", '"v1"')
    assert sum(site.sent) == len(site.files["/screw.tar.xz"])
    assert tree(tmp_path / "cache") == ["mvtec_ad/screw.tar.xz"]


def test_goes_on_with_the_date_where_the_etag_is_weak(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    site.etag, site.last_modified = 'W/"v1"', "Thu, 22 Sep 2022 19:23:39 GMT"
    site.breaks = [100_000]
    fetch(catalogue, tmp_path)
    assert site.asked[1] == ("bytes=100000-", "Thu, 22 Sep 2022 19:23:39 GMT")


@pytest.mark.parametrize(("more", "n_requests"), [(b"", 0), (b"too long", 2)])
def test_ends_a_part_that_is_whole_or_longer(
    site: Site, tmp_path: Path, more: bytes, n_requests: int
) -> None:
    catalogue = screws(site)
    break_off(site, catalogue, tmp_path)
    part = tmp_path / "cache/mvtec_ad/screw.tar.xz.part"
    part.write_bytes(site.files["/screw.tar.xz"] + more)
    site.asked.clear()
    assert fetch(catalogue, tmp_path).verified
    assert len(site.asked) == n_requests


def test_starts_anew_where_the_server_gives_no_ranges(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    site.ranges = False
    site.breaks = [100_000]
    assert fetch(catalogue, tmp_path).verified
    assert site.asked == [(None, None), ("bytes=100000-", '"v1"')]
    assert site.sent == [100_000, len(site.files["/screw.tar.xz"])]


@pytest.mark.parametrize("heed_if_range", [True, False])
def test_starts_anew_where_the_file_has_changed(
    site: Site, tmp_path: Path, *, heed_if_range: bool
) -> None:
    old = screws(site)
    break_off(site, old, tmp_path)
    file = site.file("screw.tar.xz", tar(SCREWS | {"screw/test/good/002.png": b"picture 9"}))
    site.etag = '"v2"'
    site.heed_if_range = heed_if_range
    fetched = fetch(one("mvtec_ad/screw", file, "mvtec_ad", "screw"), tmp_path)
    assert fetched.verified
    assert fetched.n_test_good == 3
    assert site.sent[-1] == len(site.files["/screw.tar.xz"])


def test_starts_anew_where_nothing_tells_the_versions_apart(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    site.etag = None
    site.lengths = False
    site.breaks = [100_000]
    assert fetch(catalogue, tmp_path).verified
    assert site.asked == [(None, None), (None, None)]


def test_goes_on_by_length_alone_and_notices_another_length(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    site.etag = None
    break_off(site, catalogue, tmp_path)
    assert site.asked[1] == ("bytes=100000-", None)
    file = site.file("screw.tar.xz", tar(SCREWS | {"screw/test/good/002.png": b"picture 9"}))
    assert fetch(one("mvtec_ad/screw", file, "mvtec_ad", "screw"), tmp_path).verified


def test_ignores_a_part_of_which_nothing_is_known(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    part = tmp_path / "cache/mvtec_ad/screw.tar.xz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"whatever")
    assert fetch(catalogue, tmp_path).verified
    assert site.asked == [(None, None)]


def test_tries_a_busy_server_again_and_waits_longer_each_time(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    site.statuses = [503, 429]
    waited: list[float] = []
    fetch(catalogue, tmp_path, sleep=waited.append)
    assert len(waited) == 2
    assert 0 < waited[0] < waited[1]


def test_gives_up_on_a_server_that_always_breaks_at_the_same_place(
    site: Site, tmp_path: Path
) -> None:
    catalogue = screws(site)
    site.ranges = False
    site.breaks = [100_000] * 50
    with pytest.raises(StorageError, match="Cannot download"):
        fetch(catalogue, tmp_path)
    assert len(site.asked) == 1 + transfers.MAX_IDLE


def test_says_what_to_do_where_the_server_is_not_reached(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/screw.tar.xz"
        file = RemoteFile("screw.tar.xz", address)
        catalogue = one("mvtec_ad/screw", file, "mvtec_ad", "screw")
        with pytest.raises(StorageError, match="was not reached") as caught:
            fetch(catalogue, tmp_path)
    path = tmp_path / "cache/mvtec_ad/screw.tar.xz"
    for part in (address, str(path), "run the same command again", "https://example.org/home"):
        assert part in str(caught.value)
    # The advice works: the folder is there, and the file put into it is taken.
    path.write_bytes(tar(SCREWS))
    fetched = fetch(catalogue, tmp_path)
    assert (fetched.n_train, fetched.n_defective) == (2, 1)


def test_a_missing_page_is_told_at_once(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site)
    site.files.clear()
    with pytest.raises(StorageError, match="the server answered 404") as caught:
        fetch(catalogue, tmp_path)
    assert "by hand" in str(caught.value)
    assert len(site.asked) == 1


def test_takes_the_whole_set_from_the_cache_where_it_lies_there(site: Site, tmp_path: Path) -> None:
    (entry,) = screws(site).values()
    other = {name.replace("screw", "pill", 1): content for name, content in SCREWS.items()}
    whole = site.file("mvtec_anomaly_detection.tar.xz", tar(SCREWS | other))
    catalogue = {entry.name: replace(entry, instead=whole)}
    path = tmp_path / "cache/mvtec_ad" / whole.name
    path.parent.mkdir(parents=True)
    path.write_bytes(site.files[f"/{whole.name}"])
    fetched = fetch(catalogue, tmp_path)
    assert site.asked == []
    assert fetched.source == whole.address
    assert (fetched.n_train, fetched.n_test_good, fetched.n_defective) == (2, 2, 1)


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_refuses_a_file_that_is_not_the_published_one(
    site: Site, tmp_path: Path, algorithm: str
) -> None:
    catalogue = screws(site, algorithm)
    good = site.files["/screw.tar.xz"]
    wrong = tar(SCREWS | {"screw/train/good/666.png": b"picture 6"})
    site.files["/screw.tar.xz"] = wrong
    with pytest.raises(StorageError, match="published by the test") as caught:
        fetch(catalogue, tmp_path)
    assert hashlib.new(algorithm, good).hexdigest() in str(caught.value)
    assert hashlib.new(algorithm, wrong).hexdigest() in str(caught.value)
    assert tree(tmp_path) == ["cache/mvtec_ad/screw.tar.xz.rejected"]
    site.files["/screw.tar.xz"] = good
    fetched = fetch(catalogue, tmp_path)
    assert fetched.verified
    assert algorithm in fetched.note


def test_refuses_a_wrong_file_put_there_by_hand(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "cache/mvtec_ad/screw.tar.xz"
    path.parent.mkdir(parents=True)
    path.write_bytes(tar({"screw/train/good/000.png": b"picture 0"}))
    with pytest.raises(StorageError, match="was moved to"):
        fetch(screws(site), tmp_path)
    assert site.asked == []


def test_records_the_hash_that_nobody_published_and_checks_it(site: Site, tmp_path: Path) -> None:
    catalogue = screws(site, None)
    first = fetch(catalogue, tmp_path)
    assert not first.verified
    assert f"recorded sha256 {first.sha256}; no published checksum" in first.note
    record = tmp_path / "cache/recorded_hashes.json"
    assert json.loads(record.read_text()) == {"mvtec_ad/screw.tar.xz": first.sha256}
    assert fetch(catalogue, tmp_path, "again").sha256 == first.sha256
    path = tmp_path / "cache/mvtec_ad/screw.tar.xz"
    path.write_bytes(tar(SCREWS | {"screw/train/good/666.png": b"picture 6"}))
    with pytest.raises(StorageError, match="recorded at the first download") as caught:
        fetch(catalogue, tmp_path, "third")
    assert first.sha256 in str(caught.value)
    assert str(record) in str(caught.value)
    assert not path.exists()
    assert not (tmp_path / "third").exists()


def test_does_not_record_a_page_that_came_instead_of_the_file(site: Site, tmp_path: Path) -> None:
    file = site.file("screw.tar.xz", b"<html>please log in</html>", None)
    with pytest.raises(StorageError, match="not a zip or tar archive"):
        fetch(one("mvtec_ad/screw", file, "mvtec_ad", "screw"), tmp_path)
    assert not (tmp_path / "cache/recorded_hashes.json").exists()


def test_a_set_that_only_a_person_can_download_says_how(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"LS Powder bed defects.*at https://data\.mendeley\.com"):
        downloads.get("ls_powder_bed", tmp_path / "out", accept_license=True)
    assert not (tmp_path / "out").exists()


def test_a_damaged_record_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/recorded_hashes.json").write_text("{")
    with pytest.raises(StorageError, match=r"recorded_hashes\.json is not valid JSON"):
        fetch(screws(site, None), tmp_path)


def test_a_cache_that_cannot_be_written_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match="Cannot use the cache"):
        fetch(screws(site), tmp_path)


def test_a_hostile_archive_leaves_nothing(site: Site, tmp_path: Path) -> None:
    file = site.file("screw.tar.xz", tar(SCREWS | {"../../evil.png": b"evil"}))
    with pytest.raises(StorageError, match="refused as unsafe"):
        fetch(one("mvtec_ad/screw", file, "mvtec_ad", "screw"), tmp_path)
    assert tree(tmp_path) == ["cache/mvtec_ad/screw.tar.xz"]
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]


def test_the_default_cache_is_the_users_own() -> None:
    assert downloads._default_cache().parts[-1] in ("makellos", "Cache")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name it otherwise")
def test_the_default_cache_may_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert downloads._default_cache() == tmp_path / "makellos"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert downloads._default_cache() == Path.home() / ".cache" / "makellos"


def test_names_the_hash_of_each_file_where_there_are_several(site: Site, tmp_path: Path) -> None:
    def idx(array: Any) -> bytes:
        header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
        return gzip.compress(header + array.astype(np.uint8).tobytes())

    pictures, labels = idx(np.zeros((3, 4, 4))), idx(np.array([3, 1, 3]))
    contents = {"a.gz": pictures, "b.gz": labels, "c.gz": pictures, "d.gz": labels}
    files = tuple(
        site.file(name, content, None if name == "d.gz" else "sha256")
        for name, content in contents.items()
    )
    entry = PublicSet("mnist/3", files, "mnist", "3", LICENCE, "https://example.org")
    fetched = fetch({"mnist/3": entry}, tmp_path)
    assert fetched.sha256.split() == [
        f"{name}:{hashlib.sha256(content).hexdigest()}" for name, content in contents.items()
    ]
    assert (fetched.n_train, fetched.n_test_good, fetched.n_defective) == (2, 2, 1)
    # One file that nobody vouches for is enough.
    assert not fetched.verified
    assert json.loads((tmp_path / "cache/recorded_hashes.json").read_text()) == {
        "mnist/d.gz": hashlib.sha256(labels).hexdigest()
    }
