"""Structure among good parts: pictures of one part, warnings, and what a new lot meets.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_structure.py [pairs] [lots] [random]

`pairs` compares the pictures of one tile that are found with those that ``tiles.csv`` names, which
are guessed from the order of file names. `lots` makes three lots of the good screws by gray level
and scale, fits on two of them, under names that say nothing, and tests on the third. `random` looks
for structure in sets without any: 20 draws of 160 screws, and rendered screws of five seeds.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from makellos import Inspector, fit
from makellos.data.copies import sketch
from makellos.data.parts import Part
from makellos.data.pictures import read_picture
from makellos.data.progress import no_progress
from makellos.data.same_parts import relief, same_parts
from makellos.models.structure import Structure, find_structure
from makellos.sets.synthetic_screws import write_screws

LOTS = {"a": (1.0, 1.0), "b": (0.85, 0.92), "c": (1.15, 1.08)}  # gain of the light, scale
BUDGET = 0.05


def pairs(data: Path) -> dict[str, Any]:
    """Return recall and precision of pairs of pictures of one tile, by ``tiles.csv``."""
    folder, found = data / "magnetic_tile", {}
    with (folder / "tiles.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for name, chosen in {
        "all": rows,
        "train/good": [row for row in rows if row["path"].startswith("train/good")],
    }.items():
        pictures = [read_picture(folder / row["path"]) for row in chosen]
        started = time.perf_counter()
        sets = same_parts([relief(picture) for picture in pictures])
        seconds = time.perf_counter() - started
        owner = np.arange(len(chosen))
        for members in sets:
            owner[members] = members[0]
        tiles = np.array([row["group"] for row in chosen])
        above = np.triu_indices(len(chosen), 1)
        named = (tiles[:, None] == tiles[None])[above]
        ours = (owner[:, None] == owner[None])[above]
        found[name] = {
            "n_pictures": len(chosen),
            "n_sets": len(sets),
            "n_pairs_named": int(named.sum()),
            "n_pairs_found": int(ours.sum()),
            "recall": round(float((named & ours).sum() / named.sum()), 4),
            "precision": round(float((named & ours).sum() / ours.sum()), 4),
            "seconds": round(seconds, 2),
        }
    return found


def write_lots(data: Path, folder: Path) -> None:
    """Write every third good screw to a lot, of its own gray level and scale, by random names."""
    rng = np.random.default_rng(0)
    paths = sorted((data / "mvtec_screw" / "train" / "good").iterdir())
    for name in LOTS:
        (folder / name).mkdir(parents=True)
    for i, at in enumerate(rng.permutation(len(paths))):
        picture = read_picture(paths[at])
        lot = list(LOTS)[i % len(LOTS)]
        gain, scale = LOTS[lot]
        height, width = picture.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, scale)
        moved = cv2.warpAffine(
            picture, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
        )
        cv2.imwrite(str(folder / lot / f"{i:03}.png"), cv2.convertScaleAbs(moved, alpha=gain))


def lots(data: Path) -> dict[str, Any]:
    """Return what `fit` says of two lots, and how many of the third it rejects."""
    found: dict[str, Any] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_lots(data, folder / "lots")
        for new in LOTS:
            known = folder / f"without {new}" / "good"
            known.mkdir(parents=True)
            for lot in set(LOTS) - {new}:
                for path in (folder / "lots" / lot).iterdir():
                    (known / path.name).write_bytes(path.read_bytes())
            for groups in (None, "auto"):
                summary = fit(
                    known.parent,
                    folder / "m.makellos",
                    preset="fast",
                    false_alarms=BUDGET,
                    groups=groups,
                )
                inspector = Inspector(folder / "m.makellos")
                rows = list(inspector.inspect_many(sorted((folder / "lots" / new).iterdir())))
                found[f"new lot {new}, groups {groups}"] = {
                    "promised": round(summary.false_alarms, 4),
                    "rejected": round(float(np.mean([r.verdict == "reject" for r in rows])), 4),
                    "notes": summary.notes,
                    "fit_seconds": summary.fit_seconds,
                }
    return found


def random(data: Path) -> dict[str, Any]:
    """Return how many sets without structure are warned of, and how long the look takes."""
    paths = sorted((data / "mvtec_screw" / "train" / "good").iterdir())
    known = {path: sketch(read_picture(path)) for path in paths}
    spoken, seconds = [], []

    def look(chosen: list[Path], sketches: list[Any], names: list[str], seed: int) -> Structure:
        parts = [Part(source=path, name=name) for path, name in zip(chosen, names, strict=True)]
        started = time.perf_counter()
        found = find_structure(parts, sketches, 0.01, seed=seed, progress=no_progress)
        seconds.append(time.perf_counter() - started)
        spoken.append(found.by if found.speaks else "")
        print(f"{len(spoken)} {seconds[-1]:.1f} s {spoken[-1]}", file=sys.stderr, flush=True)
        return found

    for draw in range(20):
        rng = np.random.default_rng(draw)
        chosen = [paths[i] for i in rng.permutation(len(paths))[:160]]
        names = [f"{rng.integers(1, 9)}_{i:03}.png" for i in range(160)]
        look(chosen, [known[path] for path in chosen], names, draw)
    look(paths, [known[path] for path in paths], [path.name for path in paths], 0)
    for seed in range(5):
        with TemporaryDirectory() as name:
            write_screws(Path(name) / "s", n_train=100, size=256, seed=seed)
            drawn = sorted((Path(name) / "s" / "train" / "good").iterdir())
            look(drawn, [sketch(read_picture(p)) for p in drawn], [p.name for p in drawn], seed)
    return {
        "n_sets": len(spoken),
        "n_warned": sum(map(bool, spoken)),
        "warned_of": [each for each in spoken if each],
        "median_seconds": round(float(np.median(seconds)), 1),
    }


def main() -> None:
    data = Path(os.environ["MAKELLOS_DATA"])
    chosen = sys.argv[1:] or ["pairs", "lots", "random"]
    found = {name: {"pairs": pairs, "lots": lots, "random": random}[name](data) for name in chosen}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
