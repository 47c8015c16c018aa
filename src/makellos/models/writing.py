"""Writing a model file: atomically, as data only, with the hash of every member."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.detectors import Graph
from makellos.errors import ConfigurationError, StorageError
from makellos.inspection.manifest import Manifest, MemberRecord
from makellos.inspection.model_file import (
    GENERATOR,
    GRAPH,
    MANIFEST,
    TORCH_PREFIX,
    WEIGHTS,
    ModelFile,
)
from makellos.inspection.references import JOINED, stacked
from makellos.inspection.zones import ZONES, Zones, encode_zones
from makellos.storage import claim_file, replacing, storage_errors

__all__ = [
    "assemble",
    "check_target",
    "encode_pictures",
    "pack_graph",
    "pack_members",
    "rewrite_manifest",
    "write_model",
]

SUFFIX = ".makellos"
_INLINE_BYTES = 1024  # smaller constants, shapes above all, stay in the graph
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first date: the same model gives the same bytes


@dataclass(frozen=True)
class PackedGraph:
    """Hold an ONNX graph whose large tensors lie in a safetensors file beside it."""

    graph: bytes
    weights: bytes


def check_target(path: Path) -> None:
    """Raise before a long fit when `path` is no place for a model file."""
    with storage_errors(f"{path} cannot be written"):
        is_folder = path.is_dir()
    if is_folder:
        raise StorageError(
            f"{path} is a folder. Give the name of a file, such as {path / ('model' + SUFFIX)}."
        )
    if path.suffix != SUFFIX:
        right = path.with_suffix(SUFFIX)
        raise ConfigurationError(f"{path} must end in {SUFFIX}, such as {right}.")
    claim_file(path, zipfile.is_zipfile, "is not a model file")


def pack_graph(onnx_graph: bytes) -> PackedGraph:
    """Move a graph's large constants into safetensors and refer to them by offset.

    ONNX names a file, an offset and a length for external tensors; safetensors stores tensors
    plainly, so one file serves both.
    """
    graphs, weights = _pack({GRAPH: onnx_graph}, {})
    return PackedGraph(graphs[GRAPH], weights)


def pack_members(graph: Graph, zones: Zones | None = None) -> dict[str, bytes]:
    """Return the members that hold a detector: its graph, its generator, their weights, its zones.

    Constants that both graphs have are stored once; weights that torch scores with lie beside.
    """
    sources = {GRAPH: graph.onnx} if graph.onnx else {}
    if graph.generator is not None:
        sources[GENERATOR] = graph.generator
    arrays = graph.weights or ({} if graph.external is None else graph.external.weights)
    graphs, weights = _pack(sources, {TORCH_PREFIX + name: a for name, a in arrays.items()})
    drawn = {} if zones is None else {ZONES: encode_zones(zones.raster)}
    return {**graphs, WEIGHTS: weights, **drawn}


def _pack(
    sources: Mapping[str, bytes], arrays: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, bytes], bytes]:
    from safetensors.numpy import save

    stored = {name: np.asarray(values, order="C") for name, values in arrays.items()}
    if not sources:
        return {}, save(stored)  # without onnx, which need not be installed then
    import onnx

    models = {file: onnx.load_from_string(source) for file, source in sources.items()}
    names = {_content(values): name for name, values in stored.items()}
    moved: list[tuple[Any, str]] = []
    for file, model in models.items():
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.nbytes > _INLINE_BYTES:
                name = tensor.name if file == GRAPH else f"{file}/{tensor.name}"
                name = names.setdefault(_content(values), name)
                stored.setdefault(name, np.asarray(values, order="C"))
                moved.append((tensor, name))
    weights = save(stored)
    header_size = struct.unpack("<Q", weights[:8])[0]
    header: dict[str, Any] = json.loads(weights[8 : 8 + header_size])
    for tensor, name in moved:
        begin, end = header[name]["data_offsets"]
        tensor.ClearField("raw_data")
        for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(field)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": WEIGHTS, "offset": begin + 8 + header_size, "length": end - begin}
        for key, value in place.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
    return {file: model.SerializeToString() for file, model in models.items()}, weights


def _content(values: NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()
    return values.dtype.str, values.shape, digest


def golden_names(parts: Sequence[Picture]) -> list[str]:
    """Return the names of golden parts' members: PNG for pictures, NPY for features."""
    return [f"golden/{i:02d}.{'npy' if part.ndim == 1 else 'png'}" for i, part in enumerate(parts)]


def encode_golden(picture: Picture) -> bytes:
    """Return a golden part without loss: a picture as PNG, features (F,) float32 as NPY.

    A picture joined with its reference has that below it.
    """
    if picture.ndim == 1:
        stream = io.BytesIO()
        np.save(stream, np.ascontiguousarray(picture, dtype="<f4"), allow_pickle=False)
        return stream.getvalue()
    if picture.ndim == 3 and picture.shape[2] == JOINED:
        picture = stacked(picture)
    pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise StorageError("A golden part could not be encoded as PNG.")
    raw: bytes = encoded.tobytes()
    return raw


def member_records(members: Mapping[str, bytes]) -> dict[str, MemberRecord]:
    """Return hash and size of every member."""
    return {
        name: MemberRecord(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))
        for name, raw in members.items()
    }


def write_model(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> None:
    """Write a model file in one step: at `path` there is the old file or the whole new one.

    Raises `StorageError` when the disk says no; nothing is left behind then. A process that is
    killed while it writes leaves a hidden ``.partial`` beside `path`.
    """
    complete = manifest.model_copy(update={"members": member_records(members)})
    text = complete.model_dump_json(indent=1).encode()
    with replacing(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, raw in {MANIFEST: text, **members}.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), raw)


def rewrite_manifest(
    model: ModelFile,
    manifest: Manifest,
    path: Path,
    golden: Mapping[str, Picture] | None = None,
) -> None:
    """Write a model with the members of `model` and another manifest to `path`.

    Members are carried over byte for byte and checked again on the way; golden parts can be given
    anew, by the names of their members. Raises `ModelFileError`
    when one is damaged, and what `check_target` and `write_model` raise.
    """
    check_target(path)
    replaced = set() if golden is None else {part.file for part in model.manifest.golden}
    kept = {name: model.read(name) for name in model.manifest.members if name not in replaced}
    write_model(path, manifest, {**kept, **encode_pictures(golden or {})})


def assemble(graph: PackedGraph, golden: Mapping[str, Picture]) -> dict[str, bytes]:
    """Return the members of a model file by name."""
    return {GRAPH: graph.graph, WEIGHTS: graph.weights, **encode_pictures(golden)}


def encode_pictures(pictures: Mapping[str, Picture]) -> dict[str, bytes]:
    """Return golden parts or examples as `encode_golden` does, by the names of their members."""
    return {name: encode_golden(picture) for name, picture in pictures.items()}
