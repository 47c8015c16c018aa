"""Model files made to do harm, with hashes that agree: each is refused as a model file, at once."""

from __future__ import annotations

import json
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save
from small_models import forge, golden_pictures, small_members

from makellos.errors import ModelFileError
from makellos.inspection import Inspector, read_model
from makellos.inspection.zones import ZONES, encode_zones

STORED = Path(__file__).parent / "version_0_1"
SPECTRA, WEIGHTS = "good_spectra.safetensors", "weights.safetensors"
Arrays = dict[str, NDArray[Any]]


def opened(name: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the other members of a stored model."""
    with zipfile.ZipFile(STORED / f"{name}.makellos") as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    return json.loads(members.pop("manifest.json")), members


def forged(
    path: Path,
    name: str,
    members: Mapping[str, bytes] | None = None,
    change: Callable[[dict[str, Any]], object] | None = None,
) -> Path:
    """Write a stored model with members and manifest changed, and hashes that agree."""
    manifest, whole = opened(name)
    if change is not None:
        change(manifest)
    del manifest["members"]
    return forge(path, {**whole, **(members or {})}, manifest)


def refuse(path: Path, reason: str) -> None:
    """Check that a model is refused wherever it is opened."""
    for use in (lambda: read_model(path).check(), lambda: Inspector(path)):
        with pytest.raises(ModelFileError, match=reason):
            use()


def png(width: int, height: int, depth: int, colour: int) -> bytes:
    """Return the beginning of a PNG picture, which claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = zlib.compress(bytes(min(width * height, 1 << 16)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


# Members


@pytest.mark.parametrize("name", ["zones", "vibration", "features"])
def test_info_checks_every_member(name: str, tmp_path: Path, cli: Callable[..., Any]) -> None:
    whole = STORED / f"{name}.makellos"
    assert cli("info", whole).code == 0
    with zipfile.ZipFile(whole) as archive:
        infos = {each.filename: each for each in archive.infolist()}
    for member, info in infos.items():
        if member == "manifest.json":
            continue
        raw = bytearray(whole.read_bytes())
        start = info.header_offset + 30 + len(member)
        content = raw[start : start + info.file_size]
        content[-1] ^= 1
        raw[start : start + info.file_size] = content
        crc = struct.pack("<I", zlib.crc32(content))
        changed = raw.replace(struct.pack("<I", info.CRC), crc)  # where the zip says it
        path = tmp_path / "changed.makellos"
        path.write_bytes(changed)
        told = cli("info", path)
        assert told.code == 2, member
        assert f"{member} does not have the SHA-256" in told.err


@pytest.mark.parametrize(
    "member",
    ["golden/90.png", "examples/07.png", "golden/00.npy", ZONES, "notes.txt", "../graph.onnx"],
)
def test_members_that_nothing_names_are_refused(member: str, tmp_path: Path) -> None:
    raw = golden_pictures()["golden/00.png"].tobytes()
    path = forge(tmp_path / "m.makellos", {**small_members(), member: raw})
    with pytest.raises(ModelFileError, match=r"disagree about|which no model (has|contains)"):
        read_model(path)


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    path = forge(tmp_path / "m.makellos", small_members())
    raw = path.read_bytes()
    begin = raw.index(b"PK\x01\x02")
    end = raw.rindex(b"PK\x05\x06")
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda each: each.file_size)
    entry = next(e for e in raw[begin:end].split(b"PK\x01\x02") if largest.filename.encode() in e)
    more = b"".join(b"PK\x01\x02" + entry.replace(b"/0", b"/%d" % i) for i in range(1, 6))
    listed = struct.unpack("<HHII", raw[end + 8 : end + 20])
    tail = struct.pack("<HHII", listed[0] + 5, listed[1] + 5, listed[2] + len(more), listed[3])
    path.write_bytes(raw[:end] + more + raw[end : end + 8] + tail + raw[end + 20 :])
    with pytest.raises(ModelFileError):
        read_model(path)


@pytest.mark.parametrize(
    "raw",
    [
        png(60_000, 60_000, 8, 0),
        png(5000, 10, 8, 0),
        png(64, 64, 16, 0),
        png(64, 64, 8, 2),
        png(64, 64, 8, 3),
        encode_zones(np.full((8, 8), 200, np.uint8)),
        cv2.imencode(".jpg", np.ones((8, 8), np.uint8))[1].tobytes(),
        b"",
    ],
)
def test_zones_are_a_small_gray_raster(raw: bytes, tmp_path: Path) -> None:
    refuse(forged(tmp_path / "m.makellos", "zones", {ZONES: raw}), "zones")


def without(name: str) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.pop(name)


def as_kind(name: str, kind: str) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({name: arrays[name].astype(kind)})


def of(name: str, values: Any) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({name: np.asarray(values)})


def changed(raw: bytes, change: Callable[[Arrays], object]) -> bytes:
    arrays = dict(load(raw))
    change(arrays)
    return save({name: np.ascontiguousarray(values) for name, values in arrays.items()})


@pytest.mark.parametrize(
    "change",
    [
        *(without(f"torch/{name}") for name in ("rows", "mean", "deviation", "scores")),
        *(as_kind("torch/rows", kind) for kind in ("<f8", "<f2", "<i8", "?")),
        of("torch/rows", np.zeros((0, 0), np.float32)),
        of("torch/mean", np.zeros(3, np.float32)),
        of("torch/scores", np.zeros((), np.float32)),
        of("torch/scores", np.full(10_000, np.nan, np.float32)),
    ],
)
def test_weights_of_pyod_are_its_own(change: Callable[[Arrays], object], tmp_path: Path) -> None:
    _, members = opened("features")
    weights = {WEIGHTS: changed(members[WEIGHTS], change)}
    with pytest.raises(ModelFileError):
        Inspector(forged(tmp_path / "m.makellos", "features", weights))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 1 << 30) + b"{}",
        struct.pack("<Q", 4) + b"[[[[",
        save({"torch/rows": np.zeros(3, np.float32)})[:-1],
    ],
)
def test_weights_that_are_none_are_refused(raw: bytes, tmp_path: Path) -> None:
    refuse(forged(tmp_path / "m.makellos", "features", {WEIGHTS: raw}), "cannot be read")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "NoSuch"),
        ("method", 7),
        ("method", "os.system"),
        ("n_neighbors", -1),
        ("n_neighbors", 1e300),
        ("max_parts", 2),
        ("max_parts", "2000"),
        ("max_parts", True),
        ("seed", None),
        ("seed", 10**30),
        ("seed", [1]),
        ("other", 1),
    ],
)
def test_parameters_are_those_that_the_detector_takes(
    name: str, value: object, tmp_path: Path
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["detector"]["parameters"][name] = value

    path = forged(tmp_path / "m.makellos", "features", None, change)
    with pytest.raises(ModelFileError):
        Inspector(path)


@pytest.mark.parametrize("runtime", ["torch", "pyod"])
def test_a_graph_is_not_scored_by_another_runtime(runtime: str, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["detector"]["runtime"] = runtime

    with pytest.raises(ModelFileError):
        Inspector(forged(tmp_path / "m.makellos", "pictures", None, change))


def spectra(change: Callable[[str, Arrays], None]) -> bytes:
    _, members = opened("vibration")
    arrays = dict(load(members[SPECTRA]))
    change(next(iter(arrays)).rpartition("/")[0], arrays)
    return save({name: np.ascontiguousarray(values) for name, values in arrays.items()})


def reshaped(part: str, action: Callable[[NDArray[Any]], NDArray[Any]]) -> bytes:
    return spectra(lambda name, a: a.update({f"{name}/{part}": action(a[f"{name}/{part}"])}))


@pytest.mark.parametrize(
    "raw",
    [
        reshaped("bands", lambda a: a[:-1]),
        reshaped("bands", lambda a: a[:, ::-1]),
        reshaped("bands", lambda a: a[:, :1]),
        reshaped("bands", lambda a: a[np.newaxis]),
        reshaped("powers", lambda a: a * np.float32(np.nan)),
        reshaped("powers", lambda a: a.astype("?")),
        reshaped("powers", lambda a: a[:, 1:]),
        reshaped("frequencies", lambda a: a[::-1]),
        reshaped("frequencies", lambda a: a.astype(np.float32)),
        spectra(lambda name, a: a.__delitem__(f"{name}/bands")),
        b"{}",
    ],
)
def test_spectra_are_such(raw: bytes, tmp_path: Path) -> None:
    refuse(forged(tmp_path / "m.makellos", "vibration", {SPECTRA: raw}), "spectra")


# The manifest


def deep(n: int) -> bytes:
    return b'{"a":' + b"[" * n + b"]" * n + b"}"


LISTS = {
    "notes": lambda m: m["training"].update(notes=[1] * 1_000_000),
    "skipped": lambda m: m["training"].update(skipped=[{}] * 1_000_000),
    "scores": lambda m: m["calibration"].update(scores=["x"] * 1_000_000),
    "golden": lambda m: m.update(golden=[0] * 1_000_000),
    "examples": lambda m: m.update(examples=["golden/00.png"] * 1000),
    "classes": lambda m: m.update(classes=["a"] * 100_000),
    "rules": lambda m: m.update(acceptance={"rules": [{"more_than": 1}] * 100_000}),
    "zones": lambda m: m["zones"].update(zones=[1] * 100_000),
    "calibration": lambda m: m["calibration"].update(zones=[1] * 100_000),
    "parameters": lambda m: m["detector"].update(parameters={str(i): i for i in range(100_000)}),
    "members": lambda m: m.update(versions={str(i): i for i in range(100_000)}),
    "a long name": lambda m: m["detector"].update(name="x" * 1_000_000),
    "a nested parameter": lambda m: m["detector"]["parameters"].update(x=[[1]]),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_ends_at_its_first_mistake(name: str, tmp_path: Path) -> None:
    path = forged(tmp_path / "m.makellos", "zones", None, LISTS[name])
    before, started = peak(), time.perf_counter()
    with pytest.raises(ModelFileError, match="is not valid at") as caught:
        read_model(path)
    assert time.perf_counter() - started < 5
    assert peak() - before < 300
    assert len(str(caught.value)) < 500


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize(
    "raw",
    [
        deep(100_000),
        b"[" * 1_000_000,
        b'{"format_version": 1' + b"0" * 10_000 + b"}",
        b'{"created": "a", "created": "b"}',
        b'{"a": Infinity}',
        b"\xff\xfe{\x00}\x00",
        b"\xed\xa0\x80",
        b"\0",
    ],
)
def test_manifest_is_json(raw: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"is damaged|is not valid|has format 1"):
        read_model(forge(tmp_path / "m.makellos", small_members(), raw))


def test_a_network_takes_so_many_pixels_at_most(tmp_path: Path) -> None:
    size = {"height": 16_384, "width": 16_384, "channels": 3, "white_level": None}
    path = forged(tmp_path / "m.makellos", "pictures", None, lambda m: m.update(preprocessing=size))
    with pytest.raises(ModelFileError, match="more than a network takes"):
        read_model(path)
