"""Generate: pictures that a generative detector makes, beside real ones or along its latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from makellos.data.progress import Progress, no_progress
from makellos.data.splits import check_seed
from makellos.detectors import detectors_giving
from makellos.drawing import draw_grid, draw_traversal, from_planes
from makellos.errors import ConfigurationError, ModelFileError, StorageError
from makellos.inspection.generator import Generator
from makellos.inspection.model_file import GENERATOR, ModelFile, read_model
from makellos.storage import claim_file, replacing

__all__ = ["GenerateSummary", "generate"]

MAX_PICTURES = 1024
N_PICTURES, N_DIMENSIONS = 64, 10
STEPS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
_BATCH = 64
# Written into the picture, so that another run knows what it may replace.
_MARK = "makellos generate"
_SOFTWARE = 0x0131  # the EXIF tag
_LOOK = 1 << 16  # bytes at either end of a file that are searched for the mark

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GenerateSummary:
    """Hold what was made, and how it compares with real parts.

    `diversity` is the mean standard deviation of a pixel over the made pictures divided by that
    over the real ones: 1 is as diverse, 0 the same picture always. `nearest_distance` is the root
    mean square difference of a made picture, in [0, 1], to the nearest real one, on average, and
    `real_nearest_distance` that of a real one to the nearest other: copies of real parts are far
    below it. `dimensions` are those of a traversal, the one that changes the picture most first.
    What cannot be said is None.
    """

    output: str
    detector: str
    n: int
    seed: int
    latent_dim: int
    diversity: float | None = None
    nearest_distance: float | None = None
    real_nearest_distance: float | None = None
    dimensions: list[int] | None = None


def generate(
    model: Path | str,
    output: Path | str,
    *,
    n: int | None = None,
    seed: int = 0,
    traverse: bool = False,
    progress: Progress | None = None,
) -> GenerateSummary:
    """Draw pictures that a model makes beside real parts, or with `traverse` along its latents.

    `output` is a .png, .jpg or .webp file; one that this made before is replaced. `n` is how many
    pictures are made (64), or how many latent dimensions are shown (10): those that change a made
    part most between -3 and 3. Raises `ConfigurationError` for a model that makes no pictures, for
    an `n` outside 1 to 1024 and for other suffixes, `ModelFileError` for a model that cannot be
    trusted, `StorageError` when the picture cannot be written or would replace another file.
    """
    target, report = Path(output), progress or no_progress
    count = (N_DIMENSIONS if traverse else N_PICTURES) if n is None else n
    check_seed(seed)
    if not 1 <= count <= MAX_PICTURES:
        raise ConfigurationError(
            f"The number of pictures is {count}; expected a whole number from 1 to {MAX_PICTURES}."
        )
    _check_target(target)
    read = read_model(Path(model))
    _check_generative(read)
    with read.unpacked() as folder:
        generator = Generator(folder / GENERATOR)
    made = (_traverse if traverse else _show)(read, generator, count, seed, report)
    _write(target, made.drawn)
    return replace(made.summary, output=str(target))


class _Made(NamedTuple):
    """What was drawn, and what there is to say of it; where it goes is still to be told."""

    drawn: NDArray[np.uint8]
    summary: GenerateSummary


def _show(model: ModelFile, generator: Generator, n: int, seed: int, report: Progress) -> _Made:
    real, rng = _examples(model), np.random.default_rng(seed)
    latents = rng.standard_normal((n, generator.latent_dim)).astype(np.float32)
    made = _make(model, generator, latents, report)
    shown = [real[i] for i in np.linspace(0, len(real) - 1, min(n, len(real))).round().astype(int)]
    name = model.manifest.detector.name
    drawn = draw_grid(
        [from_planes(picture) for picture in shown],
        [from_planes(picture) for picture in made],
        (f"{len(shown)} real {'part' if len(shown) == 1 else 'parts'}", f"{n} made by {name}"),
    )
    summary = GenerateSummary(
        output="",
        detector=name,
        n=n,
        seed=seed,
        latent_dim=generator.latent_dim,
        diversity=_diversity(made, real),
        nearest_distance=_mean_nearest(made, real, apart=False),
        real_nearest_distance=_mean_nearest(real, real, apart=True),
    )
    return _Made(drawn, summary)


def _traverse(model: ModelFile, generator: Generator, n: int, seed: int, report: Progress) -> _Made:
    base = np.random.default_rng(seed).standard_normal(generator.latent_dim).astype(np.float32)
    ends = _along(base, range(generator.latent_dim), (STEPS[0], 0.0, STEPS[-1]))
    changes = np.empty(generator.latent_dim)
    for i in range(generator.latent_dim):
        changes[i] = np.ptp(_run(model, generator, ends[i]), axis=0).mean()
        report("comparing latent dimensions", i + 1, generator.latent_dim)
    chosen = [int(i) for i in np.argsort(-changes, kind="stable")[:n]]
    rows = [_run(model, generator, row) for row in _along(base, chosen, STEPS)]
    name = model.manifest.detector.name
    what = "dimension that changes" if len(chosen) == 1 else f"{len(chosen)} dimensions that change"
    drawn = draw_traversal(
        [[from_planes(picture) for picture in row] for row in rows],
        [f"z{i}" for i in chosen],
        [f"{step:+.0f}".replace("+0", "0") for step in STEPS],
        f"The {what} a part made by {name} most, of {generator.latent_dim}",
    )
    summary = GenerateSummary(
        output="",
        detector=name,
        n=len(chosen),
        seed=seed,
        latent_dim=generator.latent_dim,
        dimensions=chosen,
    )
    return _Made(drawn, summary)


def _along(base: Floats, dimensions: Sequence[int], steps: Sequence[float]) -> Floats:
    """Return latents dimensions×steps×d: `base` with one entry replaced."""
    latents = np.tile(base, (len(dimensions), len(steps), 1))
    for row, dimension in enumerate(dimensions):
        latents[row, :, dimension] = steps
    return latents


def _make(model: ModelFile, generator: Generator, latents: Floats, report: Progress) -> Floats:
    made = np.empty((len(latents), *model.manifest.preprocessing.shape), np.float32)
    for start in range(0, len(latents), _BATCH):
        batch = latents[start : start + _BATCH]
        made[start : start + _BATCH] = _run(model, generator, batch)
        report("making pictures", start + len(batch), len(latents))
    return made


def _run(model: ModelFile, generator: Generator, latents: Floats) -> Floats:
    made = generator(latents)
    wanted = (len(latents), *model.manifest.preprocessing.shape)
    if made.shape != wanted or not np.isfinite(made).all():
        raise ModelFileError(
            f"The generator of {model.path} gives pictures {made.shape}, or such as are not "
            f"finite; expected {wanted}. Fit the model again."
        )
    return made


def _examples(model: ModelFile) -> Floats:
    """Return the real parts that the model carries, N×C×H×W in [0, 1]; N may be 0."""
    prepare = model.manifest.preprocessing
    found = [prepare(model.golden_picture(name)) for name in model.manifest.examples]
    return np.concatenate([*found, np.empty((0, *prepare.shape), np.float32)])


def _diversity(made: Floats, real: Floats) -> float | None:
    if min(len(made), len(real)) < 2:
        return None
    spread_made, spread_real = (float(many.std(axis=0, ddof=1).mean()) for many in (made, real))
    return spread_made / spread_real if spread_real > 0 else None


def _mean_nearest(pictures: Floats, others: Floats, *, apart: bool) -> float | None:
    """Return the mean RMS difference to the nearest other; `apart` where they are the same set."""
    if len(others) < 1 + apart:
        return None
    nearest = []
    for i, picture in enumerate(pictures):
        squares = [
            float(np.square(picture - other).mean(dtype=np.float64))
            for j, other in enumerate(others)
            if not (apart and i == j)
        ]
        nearest.append(np.sqrt(min(squares)))
    return float(np.mean(nearest))


def _check_generative(model: ModelFile) -> None:
    if GENERATOR in model.manifest.members:
        return
    name, known = model.manifest.detector.name, detectors_giving("generator")
    if name in known:
        raise ConfigurationError(f"{model.path} holds no generator. Fit it again.")
    raise ConfigurationError(
        f"{model.path} was fitted with {name}, which makes no pictures. Detectors that do are "
        f"{', '.join(known)}: makellos fit DATA -o MODEL --detector {known[-1]}."
    )


def _check_target(path: Path) -> None:
    """Raise before any work when the picture cannot be written or would replace another file."""
    if path.suffix.lower() not in _FORMATS:
        raise ConfigurationError(
            f"The picture's name is {str(path)!r}; it must end in {', '.join(_FORMATS)}."
        )
    claim_file(path, _is_ours, "was not made by 'makellos generate'")


def _is_ours(path: Path) -> bool:
    with path.open("rb") as stream:
        begin = stream.read(_LOOK)
        stream.seek(max(0, path.stat().st_size - _LOOK))
        return not begin or _MARK.encode() in begin + stream.read()


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[_SOFTWARE] = _MARK
    kind = _FORMATS[path.suffix.lower()]
    try:
        with replacing(path) as stream:
            Image.fromarray(picture).save(stream, kind, quality=92, exif=exif)
    except ValueError as error:  # more pixels than the format can hold
        raise StorageError(f"{path} cannot be written: {error}. Choose another format.") from error
