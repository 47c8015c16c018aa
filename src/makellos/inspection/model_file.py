"""Reading a model file: a zip of data only, believed after every byte of it was checked."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from makellos.data.files import check_file, parse_json
from makellos.data.pictures import Picture, decode_picture
from makellos.errors import InputError, ModelFileError, StorageError
from makellos.inspection.external_runtime import check_parameters
from makellos.inspection.graph_check import WEIGHTS, check_graph
from makellos.inspection.manifest import FORMAT_VERSION, Manifest
from makellos.inspection.references import unstacked
from makellos.inspection.zones import ZONES, Zones, decode_zones
from makellos.storage import scratch_folder

if TYPE_CHECKING:
    from makellos.vibration.envelopes import BandSpectra

__all__ = [
    "GENERATOR",
    "GOOD_SPECTRA",
    "GRAPH",
    "MANIFEST",
    "TORCH_PREFIX",
    "WEIGHTS",
    "ModelFile",
    "read_model",
]

MANIFEST, GRAPH, GENERATOR = "manifest.json", "graph.onnx", "generator.onnx"
GOOD_SPECTRA = "good_spectra.safetensors"
TORCH_PREFIX = "torch/"  # of the weights that another runtime than that of graphs scores with
_KNOWN = re.compile(
    r"manifest\.json|zones\.png|(graph|generator)\.onnx|(weights|good_spectra)\.safetensors|"
    r"(golden|examples)/[0-9]{2}\.png|"
    r"golden/[0-9]{2}\.npy"
)
# A parsed manifest takes 25 times its bytes at worst, a parsed graph a hundred times.
_MAX_BYTES = {MANIFEST: 32 << 20, GRAPH: 8 << 20, GENERATOR: 8 << 20, WEIGHTS: 8 << 30}
_MAX_GOLDEN = 64 << 20
_MAX_HEADER = 8 << 20
_OPTIONAL = {GRAPH, GENERATOR, WEIGHTS, GOOD_SPECTRA}
_SHOWN = 20
_ENCRYPTED = 0x1
_CHUNK = 1 << 20
# What the zip reader raises for files that are damaged, or made to break readers.
_BROKEN = (
    *(zipfile.BadZipFile, struct.error, EOFError, OSError, KeyError, IndexError, ValueError),
    *(NotImplementedError, RuntimeError),
)


@dataclass(frozen=True)
class ModelFile:
    """Hold the checked manifest of a model file and the way to its other members."""

    path: Path
    manifest: Manifest

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """Give a folder with graphs and weights, hash-checked; it is gone afterwards.

        Raises `ModelFileError` when a member does not have the hash that the manifest says,
        `StorageError` when the folder for temporary files cannot hold them.
        """
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(scratch_folder())
                for member in (GRAPH, GENERATOR, WEIGHTS):
                    if member in self.manifest.members:
                        with (folder / member).open("wb") as target:
                            target.writelines(_checked_chunks(self, member))
            except OSError as error:
                raise StorageError(
                    f"{self.path} cannot be unpacked into the temporary folder: "
                    f"{error.strerror}. Make room there, or set TMPDIR (Windows: TEMP) to another "
                    "folder."
                ) from error
            yield folder

    def check(self) -> None:
        """Read all that the model holds; raises `ModelFileError` for what is not as it should be.

        Hashes of every member, pictures, zones, weights and graphs are checked, and nothing is run.
        """
        manifest = self.manifest
        if manifest.detector.runtime != "graph":
            check_parameters(manifest.detector.name, manifest.detector.parameters)
        self.zones()
        self.good_spectra()
        for file in [*(part.file for part in manifest.golden), *manifest.examples]:
            self.golden_picture(file)
        with self.unpacked() as folder:
            self.arrays(folder)
            for name, shape in ((GRAPH, manifest.preprocessing.shape), (GENERATOR, None)):
                if name in manifest.members:
                    check_graph(folder / name, shape)

    def arrays(self, folder: Path, prefix: str = "") -> dict[str, NDArray[np.float32]]:
        """Return the weights whose names begin with `prefix`, without it, from what is unpacked.

        Raises `ModelFileError` for a member that holds none.
        """
        if WEIGHTS not in self.manifest.members:
            return {}
        try:
            found = _arrays(folder / WEIGHTS, prefix)
        except Exception as error:
            # safetensors has an error of its own, without a base class of ours.
            raise ModelFileError(
                f"{self.path}: {WEIGHTS} cannot be read ({error}). Copy it again, or fit again."
            ) from error
        odd = [name for name, values in found.items() if prefix and values.dtype != np.float32]
        if odd:
            raise ModelFileError(
                f"{self.path}: the weights {odd[0][:80]!r} are of {found[odd[0]].dtype}, not "
                "float32. Fit again."
            )
        return found

    def good_spectra(self) -> dict[str, BandSpectra]:
        """Return the spectra of the good state by channel; none in a model of pictures."""
        if GOOD_SPECTRA not in self.manifest.members:
            return {}
        from makellos.vibration.good_spectra import unpack_spectra

        return unpack_spectra(self.read(GOOD_SPECTRA))

    def read(self, member: str) -> bytes:
        """Return one member, hash-checked.

        Raises `ModelFileError` when it is missing or does not have the hash of the manifest.
        """
        return b"".join(_checked_chunks(self, member))

    def zones(self) -> Zones | None:
        """Return the zones of the model, with their thresholds; None where it has none."""
        record = self.manifest.zones
        if record is None:
            return None
        return decode_zones(self.read(ZONES), record).scaled(*self.manifest.calibration.scales())

    def golden_picture(self, file: str) -> Picture:
        """Return a golden part's or an example's picture at the graph's size, or its features.

        Features are (F,) float32, of a detector that takes such. Raises `ModelFileError` when it is
        missing, damaged or neither.
        """
        try:
            raw = self.read(file)
            if file.endswith(".npy"):
                return _features(raw, file)
            picture = decode_picture(raw, file)
            is_joined = self.manifest.preprocessing.compares is not None
            return unstacked(picture) if is_joined else picture
        except (InputError, ValueError) as error:
            raise ModelFileError(f"{self.path}: {error} Or fit the model again.") from error


def read_model(path: Path | str) -> ModelFile:
    """Open a model file and check its list of members and its manifest.

    Hashes are checked member by member as they are read. Raises `ModelFileError` for a file that
    is missing, no model, damaged, written by a newer makellos, or holds anything unexpected.
    """
    path = Path(path)
    size = check_file(path, ModelFileError, "Give a model file that 'makellos fit' wrote.")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path, size)
            manifest = _manifest(archive.read(MANIFEST), path)
            names = archive.namelist()
    except PermissionError as error:
        raise ModelFileError(f"{path} cannot be read. Check its permissions.") from error
    except _BROKEN as error:
        raise ModelFileError(
            f"{path} is not a model file, or is damaged ({_reason(error)}). Copy it again, or fit "
            "again."
        ) from error
    _check_names(names, manifest, path)
    return ModelFile(path, manifest)


def _check_members(archive: zipfile.ZipFile, path: Path, size: int) -> None:
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise ModelFileError(f"{path} holds a member twice. Do not use it; fit again.")
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _ENCRYPTED:
            raise ModelFileError(
                f"{path}: {member.filename[:80]!r} is compressed or encrypted, which no model is. "
                "Copy it again without repacking it, or fit again."
            )
        if member.file_size > _MAX_BYTES.get(member.filename, _MAX_GOLDEN):
            raise ModelFileError(
                f"{path}: {member.filename[:80]!r} claims {member.file_size:,} bytes, more than "
                "any model has. Do not use it; fit again."
            )
    if sum(member.file_size for member in archive.infolist()) > size:
        raise ModelFileError(f"{path} claims more bytes than it has. Copy it again, or fit again.")
    if MANIFEST not in names:
        raise ModelFileError(f"{path} is a zip without {MANIFEST}, so not a model. Fit again.")


def _check_names(names: Sequence[str], manifest: Manifest, path: Path) -> None:
    """Raise unless the members are those of the manifest, known ones, and all that is needed.

    It comes after the manifest, for a newer format may have other members.
    """
    for name in names:
        if not _KNOWN.fullmatch(name):
            raise ModelFileError(
                f"{path} holds {name[:80]!r}, which no model contains. Do not use it; fit again."
            )
    needed = {MANIFEST, *manifest.examples}
    needed |= {part.file for part in manifest.golden} | ({ZONES} if manifest.zones else set())
    if manifest.detector.runtime == "graph":
        needed |= {GRAPH, WEIGHTS}
    listed = {MANIFEST, *manifest.members}
    unused = listed - needed - _OPTIONAL
    odd = ", ".join(sorted((set(names) ^ listed) | (needed - listed) | unused)[:_SHOWN])
    if odd:
        raise ModelFileError(f"{path}: members and manifest disagree about {odd}. Fit again.")


def _manifest(raw: bytes, path: Path) -> Manifest:
    try:
        data = parse_json(raw)
        version = data.get("format_version") if isinstance(data, dict) else None
    except ValueError as error:
        raise ModelFileError(f"{path}: {MANIFEST} is damaged ({error}). Fit again.") from error
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format {version}; this makellos reads up to {FORMAT_VERSION}. "
            "Update makellos: git pull in its clone, and install it again."
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(piece)[:80] for piece in first["loc"])
        raise ModelFileError(
            f"{path}: {MANIFEST} is not valid at {where or 'the top'}: {first['msg']}. Fit again."
        ) from error


def _checked_chunks(model: ModelFile, member: str) -> Iterator[bytes]:
    record = model.manifest.members.get(member)
    if record is None:
        raise ModelFileError(f"{model.path} has no {member}. Fit again.")
    digest, size = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(model.path) as archive, archive.open(member) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if size > record.size:
                    break
                yield chunk
    except _BROKEN as error:
        raise ModelFileError(
            f"{model.path}: {member} is damaged ({_reason(error)}). Copy it again, or fit again."
        ) from error
    if size != record.size or digest.hexdigest() != record.sha256:
        raise ModelFileError(
            f"{model.path}: {member} does not have the SHA-256 of the manifest. The file is "
            "damaged or was altered; copy it again, or fit again."
        )


def _arrays(weights: Path, prefix: str) -> dict[str, NDArray[Any]]:
    from safetensors import safe_open

    with weights.open("rb") as stream:
        if int.from_bytes(stream.read(8), "little") > _MAX_HEADER:
            raise ValueError("its header is too large")
    with safe_open(weights, "numpy") as stored:
        names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name.removeprefix(prefix): stored.get_tensor(name) for name in names}


def _features(raw: bytes, name: str) -> Picture:
    """Return the features (F,) float32 of an NPY member; its header is believed as to nothing."""
    stream = io.BytesIO(raw)
    try:
        if np.lib.format.read_magic(stream) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            rest = len(raw) - stream.tell()
            if dtype == np.dtype("<f4") and len(shape) == 1 and 4 * shape[0] == rest > 0:
                return np.load(io.BytesIO(raw), allow_pickle=False)  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001, S110
        pass  # of a header that is none, in whose words NumPy finds mistakes of all kinds
    raise InputError(f"{name} does not hold features (32-bit numbers). Copy the model again.")


def _reason(error: Exception) -> str:
    # The zip reader quotes what it read, at any length, and is silent about an early end.
    return str(error)[:120] or "it ends too early"
