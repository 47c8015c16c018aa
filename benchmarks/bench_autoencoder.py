"""Time and loss of a training step of the autoencoder against a plain loop with pytorch-msssim.

Both train the default network on 256x256 gray pictures in batches of 10, from the same weights on
the same batches, in turns. The plain loop is what one writes first: float32, contiguous tensors,
Adam as it comes, and pytorch_msssim.ssim as loss. It needs pip install pytorch-msssim.

    python benchmarks/bench_autoencoder.py [RESULTS.json] [STEPS]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_msssim
import torch
from torch import Tensor

from makellos.detectors.networks.autoencoder import ConvolutionalAutoencoder, ReconstructionTask
from makellos.detectors.networks.ssim import ms_ssim, ssim
from makellos.sets.synthetic_screws import render_screw
from makellos.training.devices import open_fabric
from makellos.training.settings import Training

SIZE, BATCH, TURN = 256, 10, 5
WIDTHS, LATENT, RATE = (32, 64, 128, 64, 128), 500, 1e-3
Step = Callable[[Tensor], float]


def network() -> ConvolutionalAutoencoder:
    torch.manual_seed(0)
    return ConvolutionalAutoencoder((1, SIZE, SIZE), WIDTHS, LATENT)


def plain_step() -> tuple[ConvolutionalAutoencoder, Step]:
    model = network()
    adam = torch.optim.Adam(model.parameters(), RATE)

    def step(batch: Tensor) -> float:
        loss = 1 - pytorch_msssim.ssim(batch, model(batch), data_range=1.0)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return float(loss.item())

    return model, step


def our_step(precision: str) -> tuple[ConvolutionalAutoencoder, Step]:
    model = network().to(memory_format=torch.channels_last)
    task = ReconstructionTask(model, {"ssim": 1.0}, RATE)
    fabric = open_fabric(Training(device="cpu", precision=precision), mixed=task.mixed_precision)

    def update(loss: Tensor, optimizer: str, *, retain_graph: bool = False) -> None:
        del retain_graph
        task.optimizers[optimizer].zero_grad()
        loss.backward()
        task.optimizers[optimizer].step()

    def step(batch: Tensor) -> float:
        with fabric.autocast():
            losses = task.step(batch.contiguous(memory_format=torch.channels_last), update, 0)
        return float(losses["loss"].item())

    return model, step


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def train_in_turns(pictures: Tensor, n_steps: int) -> dict[str, dict[str, object]]:
    """Train plain, ours in the precision it chooses, and ours in float32, TURN steps at a time."""
    makers: dict[str, Callable[[], tuple[ConvolutionalAutoencoder, Step]]] = {
        "plain": plain_step,
        "ours": lambda: our_step("auto"),
        "f32": lambda: our_step("f32"),
    }
    made = {name: make() for name, make in makers.items()}
    held_out, learned = pictures[:BATCH], pictures[BATCH:]
    drawn = torch.Generator().manual_seed(1)
    numbers = torch.randint(len(learned), (n_steps, BATCH), generator=drawn)
    times: dict[str, list[float]] = {name: [] for name in made}
    losses: dict[str, list[float]] = {name: [] for name in made}
    for start in range(0, n_steps, TURN):
        for name, (_, step) in made.items():
            for chosen in numbers[start : start + TURN]:
                batch = learned[chosen]
                began = time.perf_counter()
                losses[name].append(step(batch))
                times[name].append(time.perf_counter() - began)
    result: dict[str, dict[str, object]] = {}
    for name, (model, _) in made.items():
        with torch.no_grad():
            unseen = 1 - ssim(held_out, model.eval()(held_out)).mean().item()
        result[name] = {
            "step_s": round(statistics.median(times[name][TURN:]), 4),
            "fastest_step_s": round(min(times[name]), 4),
            "loss_unseen": round(unseen, 4),
            "losses": [round(value, 4) for value in losses[name]],
        }
    return result


def time_losses(x: Tensor, y: Tensor) -> list[dict[str, object]]:
    rows = []
    for name, ours in (("ssim", ssim), ("ms_ssim", ms_ssim)):
        theirs = getattr(pytorch_msssim, name)
        y = y.detach().requires_grad_()

        def run(measure: Callable[..., Tensor], y: Tensor = y, **options: float) -> None:
            measure(x, y, **options).mean().backward()

        pairs = [
            (seconds(lambda: run(theirs, data_range=1.0)), seconds(lambda: run(ours)))  # noqa: B023
            for _ in range(8)
        ]
        reference, mine = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
        rows.append(
            {
                "loss": name,
                "pytorch_msssim_ms": round(1000 * reference, 1),
                "ours_ms": round(1000 * mine, 1),
                "times_as_fast": round(reference / mine, 1),
            }
        )
    return rows


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/autoencoder.json")
    n_steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    screws = [render_screw(seed=i, size=SIZE).picture for i in range(60)]
    pictures = torch.from_numpy(np.stack(screws)).float().div_(255).unsqueeze(1)
    rows = time_losses(pictures[:BATCH], pictures[BATCH : 2 * BATCH])
    for row in rows:
        print(row, flush=True)
    steps = train_in_turns(pictures, n_steps)
    print("step   " + "".join(f"{name:>9}" for name in steps))
    for number in range(n_steps // 10 - 1, n_steps, n_steps // 10):
        shown = "".join(f"{figures['losses'][number]:9.4f}" for figures in steps.values())  # type: ignore[index]
        print(f"{number + 1:<7}{shown}")
    for name, figures in steps.items():
        for key in ("step_s", "fastest_step_s"):
            ratio = float(str(steps["plain"][key])) / float(str(figures[key]))
            figures[f"{key}_times_as_fast"] = round(ratio, 2)
        print(name, {key: value for key, value in figures.items() if key != "losses"}, flush=True)
    machine = {"threads": torch.get_num_threads(), "n_steps": n_steps, "torch": torch.__version__}
    result = {"machine": machine, "loss_forward_and_backward": rows, "training": steps}
    target.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
