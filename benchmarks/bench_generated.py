"""How many generated parts pass for real: judged by a classifier that has seen early ones.

    python benchmarks/bench_generated.py EARLY.makellos FINAL.makellos DATA [--json FILE]

EARLY and FINAL are models of one generative detector, fitted on the good parts of DATA for a short
and for its full time. A `classifier` learns to tell half of the real parts, at the size and pose
that the generator works in, from what EARLY makes. Then it is asked about the other half, about
other pictures that EARLY makes, and about those of FINAL: the share that it takes for real. Prints
a table and writes JSON, with diversity and the distance to the nearest real part.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

import makellos
from makellos.data.layouts import list_parts
from makellos.inspection.generator import Generator
from makellos.inspection.model_file import GENERATOR, ModelFile, read_model

N_MADE = 160
Pictures = list[NDArray[np.uint8]]


def real_pictures(model: ModelFile, data: Path) -> Pictures:
    """Return the good parts of a set as the generator's network sees them."""
    prepare = model.manifest.preprocessing
    found: Pictures = []
    for part in list_parts(data).good():
        picture = part.read()
        posed = prepare.pose(picture)
        planes = prepare(picture if posed is None else posed.picture)[0]
        found.append(_pixels(planes))
    return found


def made_pictures(model: ModelFile, seed: int) -> Pictures:
    """Return what a model's generator makes of random latents."""
    with model.unpacked() as folder:
        generator = Generator(folder / GENERATOR)
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((N_MADE, generator.latent_dim)).astype(np.float32)
    made = np.concatenate([generator(latents[i : i + 32]) for i in range(0, N_MADE, 32)])
    return [_pixels(planes) for planes in made]


def _pixels(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return C×H×W in [0, 1] as a picture H×W or H×W×3, in the channel order of OpenCV."""
    pixels = np.rint(np.clip(planes, 0, 1) * 255).astype(np.uint8)
    return (
        pixels[0]
        if len(pixels) == 1
        else np.ascontiguousarray(pixels.transpose(1, 2, 0)[..., ::-1])
    )


def _write(folder: Path, pictures: Pictures) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{i:03}.png" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), picture)
    return paths


def _share(inspector: makellos.Inspector, paths: list[Path]) -> float:
    """Return the share of pictures that are rather real than made."""
    found = inspector.inspect_many(paths)
    return float(np.mean([each.probabilities["good"] > 0.5 for each in found]))


def measure(early: Path, final: Path, data: Path, seed: int = 0) -> dict[str, float]:
    """Return the shares that are taken for real, and what `generate` says of both models."""
    first, last = read_model(early), read_model(final)
    real = real_pictures(last, data)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(real))
    half = len(real) // 2
    figures: dict[str, float] = {}
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        _write(root / "set" / "good", [real[i] for i in order[:half]])
        _write(root / "set" / "defective", made_pictures(first, seed))
        asked = {
            "real, not learned from": [real[i] for i in order[half:]],
            "made early": made_pictures(first, seed + 1),
            "made": made_pictures(last, seed + 2),
        }
        command = ["fit", str(root / "set"), "-o", str(root / "m.makellos")]
        command += ["--detector", "classifier", "--false-alarms", "0.2", "--set", "image_size=128"]
        subprocess.run([sys.executable, "-m", "makellos", *command], check=True)
        inspector = makellos.Inspector(root / "m.makellos")
        for name, pictures in asked.items():
            paths = _write(root / name.replace(", ", "-").replace(" ", "-"), pictures)
            figures[f"taken for real: {name}"] = _share(inspector, paths)
        for name, model in (("early", early), ("final", final)):
            said = makellos.generate(model, root / f"{name}.png", n=N_MADE, seed=seed)
            for key in ("diversity", "nearest_distance", "real_nearest_distance"):
                figures[f"{key}: {name}"] = getattr(said, key)
    return figures


def main() -> None:
    """Print the figures, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("early", type=Path)
    parser.add_argument("final", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = measure(given.early, given.final, given.data)
    for name, value in figures.items():
        print(f"{name:40} {value:.3f}")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
