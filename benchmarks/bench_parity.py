"""The same verdicts on every runtime, and what int8 would cost, for all detectors with a graph.

Usage: python benchmarks/bench_parity.py [MODEL DATA | DETECTOR...]

Without a model, each detector is fitted on rendered screws, those that train for a few epochs. In
int8 it is measured what would be lost: verdicts flip where the mean score moves by much.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import makellos
from makellos import find_parts
from makellos.data.parts import Part
from makellos.evaluation import auroc
from makellos.inspection.engines import EngineChoice
from makellos.inspection.model_file import read_model
from makellos.inspection.opening import recipe_of
from makellos.inspection.recipe import Recipe
from makellos.models.exporting import graph_in_one
from makellos.models.quantising import OPERATIONS, Batch, Listening, quantised
from makellos.models.scoring import score_parts
from makellos.sets.synthetic_screws import write_screws

N_RANGES, N_TIMED = 32, 15
FEW: dict[str, dict[str, Any]] = {
    "autoencoder": {"epochs": 20, "widths": "16,32,64", "latent_dim": 32},
    "vae": {"epochs": 30, "image_size": 48, "latent_dim": 4, "width": 8},
    "fanogan": {"image_size": 32, "base_width": 8, "epochs": 20, "encoder_epochs": 20},
    "student_teacher": {"epochs": 20, "width": 16},
    "classifier": {"backbone": "mobilenetv3_small_100", "weights": "none", "epochs": 3},
    "discriminative": {"steps": 100, "hidden_units": 32},
}


def milliseconds(recipe: Recipe, choice: EngineChoice, batch: Batch) -> float:
    engine, times = recipe.open(choice).engine, []
    for _ in range(N_TIMED):
        begun = time.perf_counter()
        engine.run(batch)
        times.append(time.perf_counter() - begun)
    return 1e3 * median(times)


def measured(
    recipe: Recipe, choice: EngineChoice, batch: Batch, parts: Sequence[Part]
) -> dict[str, float]:
    """Return milliseconds of the graph and image AUROC."""
    scores = np.array([each.score for each in score_parts(recipe, choice, parts)])
    labels = np.array([not part.is_good for part in parts])
    return {
        "ms": milliseconds(recipe, choice, batch),
        "auroc": auroc(scores, labels) or 0.0,
        "mean_score": float(scores.mean()),
    }


def of_model(model: Path, data: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each runtime, and for it in int8."""
    checked = makellos.verify(model, data, keep=False)
    read, found = read_model(model), find_parts(data)
    tested = list(found.test())
    name = read.manifest.detector.name
    with recipe_of(read) as recipe:
        scorer = recipe.open(recipe.engines()[0])
        listening = Listening(scorer.engine, N_RANGES)
        scorer.engine = listening
        for part in found.good()[:N_RANGES]:
            scorer.many([recipe.preprocessing.read(part)])
        graph, batch = graph_in_one(read), listening.heard[0]
        fast = None
        if not recipe.exact:
            fast = replace(recipe, graph=quantised(graph, listening.heard, OPERATIONS[-1]))
        limit = checked.threshold
        for choice in recipe.engines():
            figures = checked.runtimes[str(choice)]
            row = {"detector": name, "runtime": str(choice), "threshold": limit, **figures}
            yield row | measured(recipe, choice, batch, tested)
            if fast is None:
                continue
            yield {
                "detector": name,
                "runtime": f"{choice} int8",
                "threshold": limit,
                **measured(fast, choice, batch, tested),
            }


def line(row: dict[str, Any]) -> str:
    difference = row.get("max_score_difference")
    cells = [
        row["detector"],
        row["runtime"],
        f"{row['threshold']:.4g}",
        "" if difference is None else f"{difference:.4f}",
        "" if difference is None else f"{row['flips']:.0f} of {row['n_parts']:.0f}",
        f"{row['ms']:.1f}",
        f"{row['auroc']:.3f}",
        f"{row['mean_score']:.3g}",
    ]
    return f"| {' | '.join(cells)} |"


def fitted(folder: Path, names: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Yield a model of each detector that has a graph and takes pictures, and its data."""
    screws = folder / "screws"
    write_screws(screws, n_train=60, n_test_good=30, n_per_defect=6, size=128, seed=0)
    for name, cls in makellos.list_detectors().items():
        if cls.runtime != "graph" or cls.takes != "pictures" or (names and name not in names):
            continue
        model = folder / f"{name}.makellos"
        try:
            makellos.fit(
                screws, model, detector=name, parameters=FEW.get(name, {}), false_alarms=0.05
            )
        except makellos.MakellosError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        yield model, screws


def main() -> None:
    print("| detector | runtime | threshold | largest difference | flips | ms | AUROC | mean |")
    rows = []
    with TemporaryDirectory() as folder:
        has_model = sys.argv[1:2] and sys.argv[1].endswith(".makellos")
        given = [(Path(sys.argv[1]), Path(sys.argv[2]))] if has_model else None
        for model, data in given or fitted(Path(folder), sys.argv[1:]):
            try:
                for row in of_model(model, data):
                    rows.append(row)
                    print(line(row), flush=True)
            except makellos.MakellosError as error:
                print(f"{model.stem}: {error}", file=sys.stderr)
    Path("benchmarks/parity.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
