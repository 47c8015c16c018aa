"""Speed of the reconstructing detectors, all in one run: the figures of docs/benchmarks.md.

f-AnoGAN's scoring without torch is measured here, on every engine in turn; AnoGAN's search and the
autoencoder's training by their own scripts, which this one starts.

Usage: python benchmarks/bench_reconstructing.py [OUTPUT.json]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from makellos.detectors.networks.exporting import export_graph
from makellos.detectors.networks.gan import Discriminator, Encoder, EncoderScoring, Generator
from makellos.inspection.engines import available_engines, open_engine

SIDE, LATENT_DIM, BASE_WIDTH = 64, 32, 16  # f-AnoGAN's own defaults
N_PICTURES, N_ROUNDS = 100, 7


def fanogan_ms() -> list[dict[str, object]]:
    """Return milliseconds per 64×64 picture on each engine, the median of alternating rounds."""
    rows: list[dict[str, object]] = []
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        shape = (channels, SIDE, SIDE)
        scoring = EncoderScoring(
            Encoder(LATENT_DIM, shape, BASE_WIDTH, "layer"),
            Generator(LATENT_DIM, shape, BASE_WIDTH, spherical=True),
            Discriminator(shape, BASE_WIDTH, "layer"),
            kappa=1.0,
            typical_contrast=0.2,
        )
        names = ("anomaly_map", "score", "reconstruction")
        graph = export_graph(scoring, shape, input_name="picture", output_names=names)
        engines = {
            choice: open_engine(graph, choice, shape=shape) for choice in available_engines()
        }
        batch = rng.random((N_PICTURES, *shape), dtype=np.float32)
        taken: dict[object, list[float]] = {choice: [] for choice in engines}
        for _ in range(N_ROUNDS):
            for choice, engine in engines.items():
                started = time.perf_counter()
                engine.run(batch)
                taken[choice].append((time.perf_counter() - started) * 1e3 / N_PICTURES)
        rows += [
            {"channels": channels, "engine": str(choice), "ms": round(statistics.median(ms), 3)}
            for choice, ms in taken.items()
        ]
    return rows


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/reconstructing.json")
    rows = fanogan_ms()
    for row in rows:
        print(f"fanogan 64x64, {row['channels']} channels, {row['engine']}: {row['ms']} ms")
    target.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    here = Path(__file__).parent
    for name in ("bench_anogan.py", "bench_autoencoder.py"):
        print(f"\n{name}", flush=True)
        subprocess.run([sys.executable, str(here / name)], check=True)


if __name__ == "__main__":
    main()
