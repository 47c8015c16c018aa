"""Reading a model file: a zip of data only, believed after every byte of it was checked."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from pydantic import ValidationError

from makellos.data.pictures import Picture
from makellos.errors import ModelFileError
from makellos.inspection.manifest import FORMAT_VERSION, Manifest

__all__ = ["GRAPH", "MANIFEST", "WEIGHTS", "ModelFile", "read_model"]

MANIFEST, GRAPH, WEIGHTS = "manifest.json", "graph.onnx", "weights.safetensors"
_KNOWN = re.compile(r"manifest\.json|graph\.onnx|weights\.safetensors|golden/[0-9]{2}\.png")
_MAX_BYTES = {MANIFEST: 64 << 20, GRAPH: 256 << 20, WEIGHTS: 8 << 30}
_MAX_GOLDEN = 64 << 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelFile:
    """Hold the checked manifest of a model file and the way to its other members."""

    path: Path
    manifest: Manifest

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """Give a folder with graph and weights, hash-checked; it is gone afterwards.

        Raises `ModelFileError` when a member does not have the hash that the manifest says.
        """
        with TemporaryDirectory(prefix="makellos-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            with zipfile.ZipFile(self.path) as archive:
                for member in self.manifest.members:
                    if member in (GRAPH, WEIGHTS):
                        with (folder / member).open("wb") as target:
                            for chunk in _checked_chunks(archive, member, self):
                                target.write(chunk)
            yield folder

    def golden_picture(self, file: str) -> Picture:
        """Return a golden part's picture at the graph's size."""
        with zipfile.ZipFile(self.path) as archive:
            encoded = b"".join(_checked_chunks(archive, file, self))
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
        if picture is None:
            raise ModelFileError(f"{self.path}: {file} is no picture. Fit the model again.")
        return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def read_model(path: Path) -> ModelFile:
    """Open a model file and check its list of members and its manifest.

    Hashes are checked member by member as they are read. Raises `ModelFileError` for a file that
    is missing, no model, damaged, written by a newer makellos, or holds anything unexpected.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ModelFileError(f"{path} {what}. Give a model file that 'makellos fit' wrote.")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            manifest = _manifest(archive.read(MANIFEST), path)
            listed, present = {MANIFEST, *manifest.members}, set(archive.namelist())
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelFileError(
            f"{path} is no model file, or a damaged one ({error}). Copy it again, or fit again."
        ) from error
    if listed != present:
        odd = ", ".join(sorted(listed ^ present))
        raise ModelFileError(f"{path}: members and manifest disagree about {odd}. Fit again.")
    return ModelFile(path, manifest)


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise ModelFileError(f"{path} holds a member twice. Do not use it; fit again.")
    for member in archive.infolist():
        if not _KNOWN.fullmatch(member.filename):
            raise ModelFileError(
                f"{path} holds {member.filename!r}, which no model has. Do not use it; fit again."
            )
        if member.file_size > _MAX_BYTES.get(member.filename, _MAX_GOLDEN):
            raise ModelFileError(
                f"{path}: {member.filename} claims {member.file_size:,} bytes, more than any model "
                "has. Do not use it; fit again."
            )
    if MANIFEST not in names:
        raise ModelFileError(f"{path} is a zip without {MANIFEST}, so no model. Fit again.")


def _manifest(raw: bytes, path: Path) -> Manifest:
    try:
        data = json.loads(raw)
        version = data.get("format_version") if isinstance(data, dict) else None
    except ValueError as error:
        raise ModelFileError(f"{path}: {MANIFEST} is damaged ({error}). Fit again.") from error
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format {version}; this makellos reads up to {FORMAT_VERSION}. "
            "Update makellos: pip install -U makellos."
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(piece) for piece in first["loc"])
        raise ModelFileError(
            f"{path}: {MANIFEST} is not valid at {where or 'its top'}: {first['msg']}. Fit again."
        ) from error


def _checked_chunks(archive: zipfile.ZipFile, member: str, model: ModelFile) -> Iterator[bytes]:
    record = model.manifest.members.get(member)
    if record is None:
        raise ModelFileError(f"{model.path} has no {member}. Fit again.")
    digest, size = hashlib.sha256(), 0
    try:
        with archive.open(member) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if size > record.size:
                    break
                yield chunk
    except (zipfile.BadZipFile, EOFError, OSError, KeyError) as error:
        raise ModelFileError(f"{model.path}: {member} is damaged ({error}). Copy it again.") from error
    if size != record.size or digest.hexdigest() != record.sha256:
        raise ModelFileError(
            f"{model.path}: {member} does not have the SHA-256 of the manifest. The file is damaged "
            "or was changed; copy it again or fit again."
        )
