"""Measure how soon a drift is noticed, what it is called, and how often none is noticed as one.

Half of the good parts are learned from; streams are drawn with replacement from the other half, in
random order, and disturbed from a part on.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_drift.py screws|tiles|rendered [--work DIR]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import makellos
from makellos.data.threads import in_order
from makellos.sets.synthetic_screws import write_screws

N_STREAM, BEGIN, N_CALM, N_DRIFTING, SOON = 600, 300, 20, 10, 60
Picture = Any  # H×W or H×W×3, uint8


def unchanged(picture: Picture) -> Picture:
    return picture


def lighter(picture: Picture) -> Picture:
    return np.clip(picture * 1.08 + 0.5, 0, 255).astype(np.uint8)


def blurred(picture: Picture) -> Picture:
    return cv2.GaussianBlur(picture, (0, 0), max(0.8, max(picture.shape) / 768))


def moved(
    picture: Picture, degrees: float = 0.0, scale: float = 1.0, across: float = 0.0
) -> Picture:
    height, width = picture.shape[:2]
    motion = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    motion[0, 2] += across * width
    size, border = (width, height), cv2.BORDER_REFLECT_101
    return cv2.warpAffine(picture, motion, size, flags=cv2.INTER_CUBIC, borderMode=border)


def spotted(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    radius = 0.02 * max(height, width)
    rows, columns = np.mgrid[:height, :width]
    away = np.hypot(rows - 0.3 * height, columns - 0.7 * width)
    dark = 0.2 / (1 + np.exp((away - radius) / (radius / 4)))
    dark = dark if picture.ndim == 2 else dark[..., np.newaxis]
    return np.clip(picture * (1 - dark) + 0.5, 0, 255).astype(np.uint8)


def noisy(picture: Picture) -> Picture:
    drawn = np.random.default_rng(int(picture.sum()) % 2**32).normal(0, 3, picture.shape)
    return np.clip(picture + drawn + 0.5, 0, 255).astype(np.uint8)


def tinted(picture: Picture) -> Picture:
    return np.clip(picture * np.array([1.06, 1.0, 0.96]) + 0.5, 0, 255).astype(np.uint8)


DISTURBANCES: dict[str, tuple[Callable[[Picture], Picture], str]] = {
    "brightness +8 %": (lighter, "brighter or darker"),
    "slight blur": (blurred, "out of focus"),
    "rotated by 10 degrees": (lambda p: moved(p, 10), "shifted, rotated or scaled"),
    "scaled by 3 %": (lambda p: moved(p, 0, 1.03), "shifted, rotated or scaled"),
    "shifted by 3 %": (lambda p: moved(p, across=0.03), "shifted, rotated or scaled"),
    "spot on the lens": (spotted, "dirt that stays in one place"),
    "noise": (noisy, "noisier"),
    "colour cast": (tinted, "colour cast"),
}
DEFECTS, DEFECTS_CAUSE = "a fifth defective", "the parts themselves"


def held_out(name: str, data: Path, work: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Return good parts to fit on, those that streams are drawn from, and defective ones."""
    rng = np.random.default_rng(1)
    if name == "rendered":
        folder = work / "screws"
        if not folder.exists():
            write_screws(folder, n_train=240, n_test_good=0, n_per_defect=8, seed=5)
        root = folder
    else:
        root = data / {"screws": "mvtec_screw", "tiles": "magnetic_tile"}[name]
    good = sorted((root / "train" / "good").iterdir())
    bad = [p for p in sorted((root / "test").rglob("*.*")) if p.parent.name != "good"]
    groups = {path: path.name for path in good}
    if name == "tiles":
        with (root / "tiles.csv").open(newline="") as stream:
            of = {Path(row["path"]).name: row["group"] for row in csv.DictReader(stream)}
        groups = {path: of[path.name] for path in good}
    names = rng.permutation(sorted(set(groups.values())))
    learned = set(names[: len(names) // 2].tolist())
    fit = [path for path in good if groups[path] in learned]
    with (work / "fit.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("path", "label", "group"))
        rows.writerows((path.resolve(), "good", groups[path]) for path in fit)
    return fit, [path for path in good if groups[path] not in learned], bad


def inspected(model: Path, files: list[Path], change: Callable[[Picture], Picture]) -> list[Any]:
    inspector = makellos.Inspector(model, workers=1, statistics=True)

    def look(path: Path) -> dict[str, Any]:
        picture = change(makellos.read_picture(path))
        found = inspector.inspect(picture, name=path.name)
        row = found.row()
        return {key: row.get(key) for key in ("input", "verdict", "p_value", "statistics")}

    return list(in_order(look, files, threads=1))


def cached(path: Path, make: Callable[[], Any]) -> Any:
    if not path.exists():
        path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


def run_stream(model: Any, rows: list[Any]) -> list[makellos.Alarm]:
    monitor = makellos.DriftMonitor(model)
    found = [alarm for row in rows if (alarm := monitor.update(row)) is not None]
    last = monitor.finish()
    return found if last is None else [*found, last]


def measure(name: str, data: Path, work: Path) -> dict[str, Any]:
    work.mkdir(parents=True, exist_ok=True)
    _, pool, bad = held_out(name, data, work)
    path = work / "model.makellos"
    if not path.exists():
        # The parts of a tile are too alike to count as several.
        makellos.fit(work / "fit.csv", path, groups="group" if name == "tiles" else None)
    colour = makellos.read_picture(pool[0]).ndim == 3
    calm = cached(work / "calm.json", partial(inspected, path, pool, unchanged))
    model, result = makellos.read_model(path), {}
    lines = []
    rng = np.random.default_rng(7)
    false = 0
    calm_causes: Counter[str] = Counter()
    for _ in range(N_CALM):
        alarms = run_stream(model, [calm[i] for i in rng.integers(len(calm), size=N_STREAM)])
        false += len(alarms)
        calm_causes.update(alarm.cause for alarm in alarms)
    lines.append(("none", f"{false} alarms in {N_CALM} streams", "", dict(calm_causes)))
    changes: dict[str, Any] = dict(DISTURBANCES)
    if not colour:
        del changes["colour cast"]
    for title, (change, cause) in (*changes.items(), (DEFECTS, (None, DEFECTS_CAUSE))):
        file = work / f"{title.split()[0]} {title.split()[-1].strip('%')}.json"
        files, alter = (pool, change) if change is not None else (bad, unchanged)
        odd = cached(file, partial(inspected, path, files, alter))
        delays: list[int | None] = []
        causes: Counter[str] = Counter()
        early = 0
        for _ in range(N_DRIFTING):
            rows = [calm[i] for i in rng.integers(len(calm), size=N_STREAM)]
            for i in range(BEGIN, N_STREAM):
                if change is not None or rng.random() < 0.2:
                    rows[i] = odd[rng.integers(len(odd))]
            alarms = run_stream(model, rows)
            early += sum(alarm.at <= BEGIN for alarm in alarms)
            after = [alarm for alarm in alarms if alarm.at > BEGIN]
            delays.append(after[0].named_at - BEGIN if after else None)
            causes[after[0].cause if after else "no alarm"] += 1
        soon = sum(delay is not None and delay <= SOON for delay in delays)
        known = sorted(delay for delay in delays if delay is not None)
        result[title] = {"delays": delays, "causes": dict(causes), "right": causes[cause]}
        middle = f"{known[len(known) // 2]}" if known else "-"
        lines.append((title, f"{soon} of {N_DRIFTING} within {SOON}, median {middle}",
                      f"{causes[cause]} right", dict(causes)))  # fmt: skip
        if early:
            lines.append(("", f"{early} alarms before it", "", {}))
    for line in lines:
        print(" | ".join(map(str, line)))
    return {"false_alarms": false, "n_calm": N_CALM, "drifts": result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["screws", "tiles", "rendered"])
    parser.add_argument("--work", type=Path, help="keeps the model and what was inspected")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    data = Path(os.environ.get("MAKELLOS_DATA", "."))
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(asked.name, data, asked.work or Path(temporary))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
