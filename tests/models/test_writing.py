"""Writing model files: packed graphs, atomic replacement, places that are refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load
from small_models import (
    MAP_SHAPE,
    SHAPE,
    cell_graph,
    forge,
    golden_pictures,
    manifest,
    onnx_graph,
    small_members,
    write_small_model,
)

from makellos.data.pictures import decode_picture
from makellos.errors import ConfigurationError, ModelFileError, StorageError
from makellos.inspection import Inspector, available_engines, read_model
from makellos.inspection.engines import open_engine
from makellos.inspection.model_file import GRAPH, MANIFEST, WEIGHTS
from makellos.models import (
    assemble,
    check_target,
    pack_graph,
    rewrite_manifest,
    write_model,
)

# Packing a graph


def tensors() -> dict[str, NDArray[Any]]:
    """Return constants of many types and sizes, so that offsets are odd and orders differ."""
    rng = np.random.default_rng(0)
    return {
        "zeta": rng.normal(size=(37, 41)).astype(np.float32),
        "half": rng.normal(size=(1001, 3)).astype(np.float16),
        "bytes": rng.integers(0, 255, 1777, dtype=np.uint8),
        "alpha": rng.normal(size=(5, 7, 11)).astype(np.float64),
        "many": rng.integers(-(2**60), 2**60, 333, dtype=np.int64),
        "wide": rng.integers(0, 2**60, 200, dtype=np.uint64),
        "flags": rng.random(2000) > 0.5,
        "shape": np.array([0, -1], np.int64),
        "scale": np.array(0.5, np.float32),
        "ümlaut/0.weight": rng.normal(size=(300,)).astype(np.float32),
    }


def graph_with(constants: dict[str, NDArray[Any]]) -> bytes:
    """Return a graph with an output per constant: the constant itself."""
    nodes = [
        helper.make_node("Cast", [name], [f"out {name}"], to=TensorProto.FLOAT)
        for name in constants
    ]
    nodes.append(helper.make_node("Identity", ["picture"], ["out picture"]))
    return onnx_graph(nodes, [node.output[0] for node in nodes], constants)


def unpack(folder: Path, graph: bytes) -> Path:
    packed = pack_graph(graph)
    (folder / GRAPH).write_bytes(packed.graph)
    (folder / WEIGHTS).write_bytes(packed.weights)
    return folder / GRAPH


def test_large_constants_lie_in_a_valid_safetensors_file() -> None:
    constants = tensors()
    packed = pack_graph(graph_with(constants))
    stored = load(packed.weights)
    assert set(stored) == set(constants) - {"shape", "scale"}
    for name, values in stored.items():
        assert values.dtype == constants[name].dtype
        assert np.array_equal(values, constants[name])
    assert len(packed.graph) < 6000


def test_the_graph_refers_to_its_constants_by_offset(tmp_path: Path) -> None:
    # onnx itself resolves the references; the originals must come back, by value and by type.
    constants = tensors()
    model = onnx.load(str(unpack(tmp_path, graph_with(constants))))
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(found) == set(constants)
    for name, values in found.items():
        assert values.dtype == constants[name].dtype
        assert np.array_equal(values, constants[name])


@pytest.mark.parametrize("choice", available_engines(), ids=str)
def test_every_engine_loads_packed_constants(choice: Any, tmp_path: Path) -> None:
    constants = {
        name: values
        for name, values in tensors().items()
        if values.dtype in (np.float32, np.float16)
    }
    engine = open_engine(unpack(tmp_path, graph_with(constants)), choice, shape=SHAPE)
    outputs = engine.run(np.zeros((1, *SHAPE), np.float32))
    tolerance = 0.0 if choice.precision == "f32" else 2e-2
    for name, values in constants.items():
        found = outputs[f"out {name}"].reshape(values.shape)
        assert np.allclose(found, values.astype(np.float32), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("choice", available_engines(), ids=str)
def test_packing_changes_no_result(choice: Any, tmp_path: Path) -> None:
    usual = np.random.default_rng(1).random((1, *MAP_SHAPE), np.float32)
    graph = cell_graph(usual)
    batch = np.random.default_rng(2).random((2, *SHAPE), np.float32)
    packed = open_engine(unpack(tmp_path, graph), choice, shape=SHAPE).run(batch)
    plain = open_engine(graph, choice, shape=SHAPE).run(batch)
    assert np.array_equal(packed["anomaly_map"], plain["anomaly_map"])


def test_constants_in_typed_fields_move_as_well() -> None:
    # Some exporters write numbers into typed fields instead of raw bytes.
    values = np.arange(500)
    graph = graph_with({})
    model = onnx.load_from_string(graph)
    for kind, name in ((TensorProto.FLOAT, "a"), (TensorProto.INT64, "b"), (TensorProto.INT32, "c"),
                       (TensorProto.DOUBLE, "d"), (TensorProto.UINT64, "e")):  # fmt: skip
        model.graph.initializer.append(helper.make_tensor(name, kind, [500], values.tolist()))
    packed = pack_graph(model.SerializeToString())
    for stored in load(packed.weights).values():
        assert np.array_equal(stored, values)
    assert len(load(packed.weights)) == 5
    assert len(packed.graph) < len(graph) + 1000


def test_a_graph_without_large_constants_has_an_empty_weights_file() -> None:
    graph = graph_with({"scale": np.array(0.5, np.float32)})
    packed = pack_graph(graph)
    assert load(packed.weights) == {}
    assert onnx.load_from_string(packed.graph) == onnx.load_from_string(graph)


# Writing a model


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.makellos"
    write_model(path, manifest(), small_members())
    model = read_model(path)
    assert model.manifest.model_copy(update={"members": {}}) == manifest()
    assert {name: model.read(name) for name in small_members()} == small_members()
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_small_model(tmp_path / "a.makellos")
    second = write_small_model(tmp_path / "b.makellos")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_members_are_stored_uncompressed_behind_the_manifest(tmp_path: Path) -> None:
    with zipfile.ZipFile(write_small_model(tmp_path / "a.makellos")) as archive:
        members = archive.infolist()
    assert members[0].filename == MANIFEST
    assert {member.compress_type for member in members} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_golden_pictures_are_stored_without_loss(
    dtype: type[np.uint8] | type[np.uint16], channels: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(3)
    picture = rng.integers(0, np.iinfo(dtype).max, (20, 30, *channels), dtype=dtype)
    packed = pack_graph(cell_graph())
    members = assemble(packed, {"golden/00.png": picture})
    assert (members[GRAPH], members[WEIGHTS]) == (packed.graph, packed.weights)
    found = decode_picture(members["golden/00.png"], "golden/00.png")
    assert found.dtype == dtype
    assert np.array_equal(found, picture)


def test_an_old_model_is_replaced_by_the_whole_new_one(tmp_path: Path) -> None:
    path = write_small_model(tmp_path / "a.makellos", created="before")
    write_small_model(path, created="after")
    assert read_model(path).manifest.created == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_model_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_small_model(tmp_path / "a.makellos", created="before")

    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        write_small_model(path, created="after")
    assert str(path) in str(caught.value)
    assert read_model(path).manifest.created == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_small_model(tmp_path / "a.makellos")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_a_folder_that_is_none_is_a_storage_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        write_small_model(tmp_path / folder / "a.makellos")


WRITER = """
import sys
from pathlib import Path
from makellos.inspection import read_model
from makellos.models import write_model
model = read_model(Path(sys.argv[1]))
members = {name: model.read(name) for name in model.manifest.members}
members["weights.safetensors"] = bytes(24_000_000)
print("ready", flush=True)
while True:
    write_model(Path(sys.argv[2]), model.manifest, members)
"""


def test_a_killed_writer_leaves_a_whole_model_or_none(tmp_path: Path) -> None:
    # Two writers at a time share the start-up time; each has its own target.
    sample = str(write_small_model(tmp_path / "sample.makellos"))
    waits = random.Random(0)
    for _ in range(5):
        paths = [tmp_path / f"{i}.makellos" for i in range(2)]
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, sample, str(path)], stdout=subprocess.PIPE
            )
            for path in paths
        ]
        for n_whole, (writer, path) in enumerate(zip(writers, paths, strict=True)):
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            # The first is killed at any time, the second once a model is there to be damaged.
            patience = time.monotonic() + 60
            while n_whole and not path.exists() and time.monotonic() < patience:
                time.sleep(0.01)
            time.sleep(waits.uniform(0.0, 0.12))
            writer.kill()
            writer.wait()
            writer.stdout.close()
            assert path.exists() or not n_whole
            if path.exists():
                assert read_model(path).read(WEIGHTS) == bytes(24_000_000)
    # What killed writers left is hidden, and does not stand in the way of the next.
    left = [path for path in tmp_path.iterdir() if path.suffix != ".makellos"]
    assert all(path.name.startswith(".") and path.name.endswith(".partial") for path in left)
    for i in range(2):
        path = tmp_path / f"{i}.makellos"
        check_target(path)
        write_small_model(path)
        assert Inspector(path).inspect(golden_pictures()["golden/01.png"]).verdict == "reject"


def test_rubbish_of_a_writer_that_was_killed_is_removed(tmp_path: Path) -> None:
    rubbish = tmp_path / ".a.makellos.0123456789ab.partial"
    rubbish.write_bytes(b"x" * 1_000_000)
    path = write_small_model(tmp_path / "a.makellos")
    assert list(tmp_path.iterdir()) == [path]
    read_model(path).read(WEIGHTS)


# Another manifest for the same members


def test_another_manifest_keeps_every_member(tmp_path: Path) -> None:
    model = read_model(write_small_model(tmp_path / "a.makellos"))
    changed = model.manifest.model_copy(update={"created": "later"})
    for target in (tmp_path / "new folder" / "b.makellos", model.path):
        rewrite_manifest(model, changed, target)
        found = read_model(target)
        assert found.manifest == changed
        assert {name: found.read(name) for name in small_members()} == small_members()


def test_a_damaged_member_is_not_carried_over(tmp_path: Path) -> None:
    path = write_small_model(tmp_path / "a.makellos")
    model = read_model(path)
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        raw[archive.getinfo(WEIGHTS).header_offset + 600] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ModelFileError, match=f"{WEIGHTS} is damaged"):
        rewrite_manifest(model, model.manifest, tmp_path / "b.makellos")
    # A changed member under a right check sum, as somebody might try who means harm.
    forge(path, {**small_members(), WEIGHTS: b"other"})
    with pytest.raises(ModelFileError, match="SHA-256"):
        rewrite_manifest(model, model.manifest, tmp_path / "b.makellos")
    assert list(tmp_path.iterdir()) == [path]


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    model = read_model(write_small_model(tmp_path / "a.makellos"))
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match=r"must end in \.makellos"):
        rewrite_manifest(model, model.manifest, picture)
    assert picture.read_bytes() == b"mine"


# Targets


@pytest.mark.parametrize("name", ["a.makellos", "new/folder/a.makellos", "ein Teil ü.makellos"])
def test_a_free_place_is_accepted_and_left_empty(tmp_path: Path, name: str) -> None:
    check_target(tmp_path / name)
    assert [item for item in tmp_path.rglob("*") if item.is_file()] == []
    write_small_model(tmp_path / name)
    check_target(tmp_path / name)
    assert read_model(tmp_path / name).read(GRAPH)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("model", "model.makellos"),
        ("model.onnx", "model.makellos"),
        ("model.makellos.zip", "model.makellos.makellos"),
        (".makellos", ".makellos.makellos"),
    ],
)
def test_another_suffix_is_refused_with_the_right_name(
    tmp_path: Path, name: str, right: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"must end in \.makellos") as caught:
        check_target(tmp_path / name)
    assert str(caught.value).endswith(f"such as {tmp_path / right}.")


def test_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.makellos").mkdir()
    for place in (tmp_path, tmp_path / "b.makellos", Path(), Path("..")):
        with pytest.raises(StorageError, match=r"is a folder.*model\.makellos"):
            check_target(place)


@pytest.mark.parametrize("raw", [b"", b"not mine"])
def test_a_file_that_is_no_model_is_left_alone(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.makellos"
    path.write_bytes(raw)
    with pytest.raises(StorageError, match="not a model file; it is left alone"):
        check_target(path)
    assert path.read_bytes() == raw


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        check_target(tmp_path / "file" / "a.makellos")


@pytest.mark.parametrize("length", [256, 400])
def test_a_name_that_is_too_long_is_refused_before_the_fit(tmp_path: Path, length: int) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        check_target(tmp_path / ("a" * length + ".makellos"))
