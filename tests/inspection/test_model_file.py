"""Reading model files: whole ones come back as they were, all others are refused with a reason."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import forge, golden_pictures, manifest, small_members, write_small_model

from makellos.errors import ModelFileError, StorageError
from makellos.inspection import read_model
from makellos.inspection.manifest import MemberRecord
from makellos.inspection.model_file import GRAPH, MANIFEST, WEIGHTS, ModelFile

SHORT = {"scores": [0.1, 0.2, 0.3], "asked": 0.25, "method": "held out"}


@dataclass(frozen=True)
class Whole:
    """A valid model file, all that is in it, and a place for damaged copies."""

    path: Path
    raw: bytes
    contents: dict[str, Any]
    copy: Path

    def read_copy(self, raw: bytes) -> str | None:
        """Return why a copy with these bytes is refused; None when it is read as the original."""
        self.copy.write_bytes(raw)
        try:
            contents = read_all(read_model(self.copy))
        except ModelFileError as error:
            return str(error)
        assert contents == self.contents
        return None


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a valid small model file; tests that change it make a copy."""
    return write_small_model(tmp_path_factory.mktemp("model") / "cells.makellos")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    path = write_small_model(folder / "whole.makellos", calibration=SHORT)
    return Whole(path, path.read_bytes(), read_all(read_model(path)), folder / "copy.makellos")


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Watch the folder for temporary files: nothing may stay in it."""
    folder = tmp_path / "temporary files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    if folder.exists():
        assert list(folder.iterdir()) == []


def read_all(model: ModelFile) -> dict[str, Any]:
    """Return everything that a model file holds, as plain data."""
    with model.unpacked() as folder:
        contents: dict[str, Any] = {item.name: item.read_bytes() for item in folder.iterdir()}
    for part in model.manifest.golden:
        picture = model.golden_picture(part.file)
        contents[part.file] = (picture.shape, picture.dtype, picture.tobytes())
    return {**contents, MANIFEST: model.manifest}


def refuse(path: Path, reason: str) -> str:
    """Return the message with which a model file is refused, wherever that happens."""
    with pytest.raises(ModelFileError, match=reason) as caught:
        read_all(read_model(path))
    assert str(path) in str(caught.value)
    return str(caught.value)


# Whole files


def test_members_come_back_as_they_were(model_path: Path) -> None:
    model = read_model(model_path)
    members = small_members()
    assert set(model.manifest.members) == set(members)
    with model.unpacked() as folder:
        assert {item.name for item in folder.iterdir()} == {GRAPH, WEIGHTS}
        assert (folder / GRAPH).read_bytes() == members[GRAPH]
        assert (folder / WEIGHTS).read_bytes() == members[WEIGHTS]
    assert not folder.exists()
    assert {name: model.read(name) for name in members} == members


def test_manifest_comes_back_as_it_was(model_path: Path) -> None:
    found = read_model(model_path).manifest
    assert found.model_copy(update={"members": {}}) == manifest()


def test_golden_pictures_come_back_without_loss(model_path: Path) -> None:
    model = read_model(model_path)
    for name, picture in golden_pictures().items():
        found = model.golden_picture(name)
        assert found.dtype == picture.dtype
        assert np.array_equal(found, picture)


def test_unpacked_files_are_gone_after_an_error(model_path: Path) -> None:
    model = read_model(model_path)
    with pytest.raises(KeyError, match="mine"), model.unpacked() as folder:
        raise KeyError("mine")
    assert not folder.exists()


def test_an_error_of_the_caller_is_not_renamed(model_path: Path) -> None:
    with pytest.raises(OSError, match="mine"), read_model(model_path).unpacked():
        raise OSError("mine")


def test_a_model_of_another_runtime_needs_no_graph(tmp_path: Path) -> None:
    members = small_members()
    golden = {name: raw for name, raw in members.items() if name.startswith("golden")}
    detector = {"name": "anogan", "parameters": {}, "runtime": "torch"}
    path = forge(tmp_path / "a.makellos", golden, {"detector": detector})
    with read_model(path).unpacked() as folder:
        assert list(folder.iterdir()) == []


# No model at all


def test_what_is_not_there(tmp_path: Path) -> None:
    assert "makellos fit" in refuse(tmp_path / "none.makellos", "does not exist")
    assert "makellos fit" in refuse(tmp_path, "is a folder")


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", b"PK", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18, b"\0" * 1000, b"\x80\x04K\x01."],
)
def test_what_is_no_model(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.makellos"
    path.write_bytes(raw)
    refuse(path, "not a model")


def test_another_zip_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "a.makellos"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"...")
    refuse(path, r"without manifest\.json, so not a model")


# Damage


def test_a_file_cut_off_anywhere_is_refused(whole: Whole) -> None:
    lengths = {*range(0, len(whole.raw), 61), *range(len(whole.raw) - 500, len(whole.raw))}
    for length in sorted(lengths):
        assert whole.read_copy(whole.raw[:length]) is not None


def zip_structure(raw: bytes) -> list[int]:
    """Return the places of all bytes that are no member's contents: headers and the directory."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        contents = set()
        for member in archive.infolist():
            start = member.header_offset + 30 + len(member.filename)
            contents |= set(range(start, start + member.file_size))
    return [place for place in range(len(raw)) if place not in contents]


def test_flipped_bits_in_the_structure_are_refused_or_harmless(whole: Whole) -> None:
    places = np.random.default_rng(0).choice(zip_structure(whole.raw), 500, replace=False)
    refused = 0
    for place in places.tolist():
        damaged = bytearray(whole.raw)
        damaged[place] ^= 1 << (place % 8)
        refused += whole.read_copy(bytes(damaged)) is not None
    assert refused > 200


def test_a_flipped_bit_in_any_member_is_refused(whole: Whole) -> None:
    with zipfile.ZipFile(whole.path) as archive:
        members = archive.infolist()
    assert len(members) == 5
    for member in members:
        start = member.header_offset + 30 + len(member.filename)
        places = np.linspace(start, start + member.file_size - 1, 25).astype(int)
        for place in places.tolist():
            damaged = bytearray(whole.raw)
            damaged[place] ^= 1 << (place % 8)
            reason = whole.read_copy(bytes(damaged))
            assert reason is not None
            assert "again" in reason


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_damage_is_refused_or_harmless(whole: Whole, data: st.DataObject) -> None:
    damaged = bytearray(whole.raw)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged) - 1))
        piece = data.draw(st.binary(max_size=40))
        cut = data.draw(st.integers(0, 40))
        damaged[start : start + cut] = piece
        if not damaged:
            break
    whole.read_copy(bytes(damaged))


def test_changed_contents_under_a_right_check_sum_are_refused(tmp_path: Path) -> None:
    members = small_members()
    honest = {
        name: record.model_dump()
        for name, record in read_model(
            write_small_model(tmp_path / "honest.makellos")
        ).manifest.members.items()
    }
    for name in members:
        changed = {**members, name: members[name][:-1] + bytes([members[name][-1] ^ 1])}
        path = forge(tmp_path / "changed.makellos", changed, {"members": honest})
        message = refuse(path, f"{name} does not have the SHA-256 of the manifest")
        assert "fit again" in message


@pytest.mark.parametrize("difference", [-1, 1, -100, 10**9])
def test_a_wrong_size_in_the_manifest_is_refused(tmp_path: Path, difference: int) -> None:
    members = small_members()
    path = write_small_model(tmp_path / "a.makellos")
    records = {name: r.model_dump() for name, r in read_model(path).manifest.members.items()}
    records[WEIGHTS]["size"] += difference
    refuse(forge(path, members, {"members": records}), f"{WEIGHTS} does not have")


def test_a_model_that_vanishes_after_it_was_opened(tmp_path: Path) -> None:
    model = read_model(write_small_model(tmp_path / "a.makellos"))
    model.path.unlink()
    with pytest.raises(ModelFileError, match=r"a\.makellos"), model.unpacked():
        pass
    with pytest.raises(ModelFileError, match=r"a\.makellos"):
        model.golden_picture("golden/00.png")


def test_a_model_that_is_replaced_after_it_was_opened(tmp_path: Path) -> None:
    path = write_small_model(tmp_path / "a.makellos")
    model = read_model(path)
    forge(path, {**small_members(), WEIGHTS: b"other"})
    with pytest.raises(ModelFileError, match="SHA-256"), model.unpacked():
        pass


# Members that are missing, odd or hostile


@pytest.mark.parametrize("missing", [GRAPH, WEIGHTS, "golden/01.png"])
@pytest.mark.parametrize("listed", [True, False])
def test_missing_members_are_named(tmp_path: Path, missing: str, *, listed: bool) -> None:
    members = small_members()
    records = {name: MemberRecord(sha256="0" * 64, size=1).model_dump() for name in members}
    raw = members.pop(missing)
    assert raw
    path = forge(tmp_path / "a.makellos", members, {"members": records} if listed else None)
    refuse(path, f"disagree about {missing}")


def test_a_member_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    members = small_members()
    path = write_small_model(tmp_path / "a.makellos")
    records = {name: r.model_dump() for name, r in read_model(path).manifest.members.items()}
    extra = {**members, "golden/07.png": members["golden/00.png"]}
    refuse(forge(path, extra, {"members": records}), r"disagree about golden/07\.png")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "../../golden/00.png",
        "/etc/cron.d/x",
        "C:\\Windows\\x",
        "golden/../../x.png",
        "golden/../graph.onnx",
        "./graph.onnx",
        "golden/",
        "golden/000.png",
        "golden/00.png/x",
        "GRAPH.ONNX",
        "graph.onnx ",
        "graph.onnx\n",
        "weights.pkl",
        "weights.pt",
        "__main__.py",
        "",
        "golden/00.png",  # Arabic-Indic digits below
    ],
)
def test_odd_names_are_refused(tmp_path: Path, name: str) -> None:
    if name == "golden/00.png":
        name = "golden/\u0660\u0661.png"
    before = sorted(tmp_path.rglob("*"))
    path = forge(tmp_path / "a.makellos", {**small_members(), name: b"x"})
    message = refuse(path, "which no model contains")
    assert "Do not use it" in message
    path.unlink()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, WEIGHTS, "golden/00.png"])
def test_members_held_twice_are_refused(tmp_path: Path, name: str) -> None:
    pairs = [*small_members().items(), (name, b"another")]
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = forge(tmp_path / "a.makellos", pairs)
    refuse(path, "a member twice")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bombs_are_refused_before_they_unfold(tmp_path: Path, compression: int) -> None:
    members = {**small_members(), WEIGHTS: bytes(20_000_000)}
    path = forge(tmp_path / "a.makellos", members, compression=compression)
    assert path.stat().st_size < 100_000
    started = time.process_time()
    refuse(path, "is compressed or encrypted")
    assert time.process_time() - started < 1


def patched(
    source: Path, target: Path, name: str, change: Callable[[bytearray, int, int], None]
) -> Path:
    """Copy a zip, changing its two records of a member: `change` gets their places in it."""
    raw = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        local = archive.getinfo(name).header_offset
    central = -1
    while raw[central + 46 : central + 46 + len(name)] != name.encode():
        central = raw.index(b"PK\x01\x02", central + 1)
    change(raw, local, central)
    target.write_bytes(raw)
    return target


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, "golden/00.png"])
def test_claims_of_a_giant_size_are_refused(model_path: Path, tmp_path: Path, name: str) -> None:
    def enlarge(raw: bytearray, local: int, central: int) -> None:
        struct.pack_into("<II", raw, local + 18, 0xFFFFFFF0, 0xFFFFFFF0)
        struct.pack_into("<II", raw, central + 20, 0xFFFFFFF0, 0xFFFFFFF0)

    path = patched(model_path, tmp_path / "a.makellos", name, enlarge)
    refuse(path, "claims 4,294,967,280 bytes")


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, WEIGHTS, "golden/01.png"])
def test_encrypted_members_are_refused(model_path: Path, tmp_path: Path, name: str) -> None:
    def encrypt(raw: bytearray, local: int, central: int) -> None:
        raw[local + 6] |= 1
        raw[central + 8] |= 1

    path = patched(model_path, tmp_path / "a.makellos", name, encrypt)
    refuse(path, "is compressed or encrypted")


@pytest.mark.parametrize("method", [1, 9, 12, 14, 93, 99])
def test_unknown_ways_of_compression_are_refused(
    model_path: Path, tmp_path: Path, method: int
) -> None:
    def recompress(raw: bytearray, local: int, central: int) -> None:
        struct.pack_into("<H", raw, local + 8, method)
        struct.pack_into("<H", raw, central + 10, method)

    path = patched(model_path, tmp_path / "a.makellos", GRAPH, recompress)
    refuse(path, "is compressed or encrypted")


# Manifests


def test_a_newer_format_asks_for_an_update_whatever_else_it_brings(tmp_path: Path) -> None:
    members = {**small_members(), "adapter.bin": b"new"}
    path = forge(tmp_path / "a.makellos", members, {"format_version": 7, "adapters": ["new"]})
    message = refuse(path, "has format 7; this makellos reads up to 1")
    assert "Update makellos: git pull" in message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"format_version": ' + b"9" * 5000 + b"}", "damaged"),
        (b"[]", "not valid"),
        (b"null", "not valid"),
        (b"{}", "not valid at created: Field required"),
        (b'{"format_version": "1"}', "not valid"),
        (b'{"format_version": true}', "not valid"),
    ],
)
def test_manifests_that_cannot_be_read(tmp_path: Path, data: bytes, reason: str) -> None:
    refuse(forge(tmp_path / "a.makellos", small_members(), data), reason)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"format": "other"}, "format"),
        ({"hook": "os.system"}, "hook"),
        ({"calibration": {**SHORT, "scores": []}}, r"calibration\.scores"),
        ({"calibration": {**SHORT, "groups": ["a"]}}, "calibration: Value error, 3 scores"),
        ({"calibration": {**SHORT, "asked": 2}}, r"calibration\.asked"),
        ({"preprocessing": {"height": 64, "width": 64, "channels": 10**9}}, "preprocessing"),
        ({"golden": [{"file": 3, "score": 1, "verdict": "ok"}]}, r"golden\.0\.file"),
    ],
)
def test_manifests_that_are_not_valid(tmp_path: Path, change: dict[str, Any], where: str) -> None:
    path = forge(tmp_path / "a.makellos", small_members(), change)
    assert "Fit again" in refuse(path, f"is not valid at {where}")


@pytest.mark.parametrize("file", ["../secret.png", "/etc/passwd", "golden/55.png"])
def test_golden_parts_are_members(tmp_path: Path, file: str) -> None:
    golden = [{"file": file, "score": 1.0, "verdict": "reject"}]
    refuse(forge(tmp_path / "a.makellos", small_members(), {"golden": golden}), file)


@pytest.mark.parametrize("raw", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_golden_parts_are_pictures(tmp_path: Path, raw: bytes) -> None:
    members = {**small_members(), "golden/00.png": raw}
    refuse(forge(tmp_path / "a.makellos", members), r"golden/00\.png")


def test_a_golden_part_of_a_giant_size_is_not_decoded(tmp_path: Path) -> None:
    encoded = bytearray(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    struct.pack_into(">II", encoded, 16, 60_000, 60_000)
    members = {**small_members(), "golden/00.png": bytes(encoded)}
    refuse(forge(tmp_path / "a.makellos", members), r"golden/00\.png")


def test_the_order_of_members_does_not_matter(tmp_path: Path) -> None:
    path = forge(tmp_path / "a.makellos", small_members())
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read(MANIFEST))
        pairs = [(name, archive.read(name)) for name in reversed(archive.namelist())]
    forge(tmp_path / "b.makellos", pairs, data, first=False)
    assert read_all(read_model(tmp_path / "b.makellos")) == read_all(read_model(path))


def test_no_room_for_temporary_files(
    model_path: Path, temporary_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary_files / "gone"))
    with pytest.raises(StorageError, match="cannot be unpacked") as caught:
        read_all(read_model(model_path))
    assert "TMPDIR" in str(caught.value)
