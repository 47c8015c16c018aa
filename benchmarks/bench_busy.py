"""Rate of training AnoGAN's networks at 32×32 pixels while other processes keep all cores busy.

Each row is a process of its own, for OpenMP reads how its threads wait when torch is imported.

Usage: python benchmarks/bench_busy.py [SECONDS]
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

SIDE, LATENT_DIM, WIDTH, BATCH = 32, 100, 32, 64  # AnoGAN's own defaults
WAYS = {
    "all threads, waiting by spinning": {"OMP_WAIT_POLICY": "active"},
    "all threads, as torch waits by itself": {"OMP_WAIT_POLICY": ""},
    "all threads, waiting passively (makellos)": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def train(seconds: float) -> None:
    """Print pictures per second."""
    import torch

    from makellos.detectors.networks.gan import Discriminator, Generator, initialise
    from makellos.detectors.networks.gan_training import DCGANTask

    shape = (1, SIDE, SIDE)
    networks = Generator(LATENT_DIM, shape, WIDTH), Discriminator(shape, WIDTH)
    for network in networks:
        initialise(network)
        network.to(memory_format=torch.channels_last)
    task = DCGANTask(*networks)

    def update(loss: torch.Tensor, optimizer: str, *, retain_graph: bool = False) -> None:
        adam = task.optimizers[optimizer]
        adam.zero_grad()
        weights = [each for group in adam.param_groups for each in group["params"]]
        loss.backward(inputs=weights, retain_graph=retain_graph)
        adam.step()

    batch = torch.rand(BATCH, *shape)
    for number in range(3):
        task.step(batch, update, number)
    started, n_steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        task.step(batch, update, n_steps)
        n_steps += 1
    print(f"{n_steps * BATCH / (time.perf_counter() - started):.0f}")


def spin() -> None:
    while True:
        pass


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Keep n cores busy."""
    others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(n)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()


def rate(seconds: float, changes: dict[str, str]) -> int:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
    environment = {k: v for k, v in (kept | changes).items() if v or k != "OMP_WAIT_POLICY"}
    command = [sys.executable, __file__, "--train", str(seconds)]
    if not changes.get("OMP_WAIT_POLICY", "passive"):
        # What makellos sets is taken back before torch is imported.
        environment["MAKELLOS_BENCH_PLAIN"] = "1"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


def main() -> None:
    if sys.argv[1:2] == ["--train"]:
        if "MAKELLOS_BENCH_PLAIN" in os.environ:
            import makellos.training  # noqa: F401

            del os.environ["OMP_WAIT_POLICY"]
        train(float(sys.argv[2]))
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    cores = os.cpu_count() or 1
    print("pictures/s".ljust(44), "quiet", f"beside {cores} busy processes", sep="  ")
    for name, changes in WAYS.items():
        quiet = rate(seconds, changes)
        with busy(cores):
            print(name.ljust(44), f"{quiet:5d}", rate(seconds, changes), sep="  ", flush=True)


if __name__ == "__main__":
    main()
