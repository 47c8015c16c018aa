"""Small networks to train, and a script that trains one in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from makellos.data.progress import Progress, no_progress
from makellos.errors import HelperProcessError
from makellos.training import Training, is_first_process
from makellos.training.loop import Augment, Outcome, seeded, train
from makellos.training.pictures import Pictures
from makellos.training.task import Task, Update


class SmallAutoencoder(Task):
    """Learn to reproduce pictures, with everything that draws or remembers."""

    mixed_precision = False

    def __init__(self, width: int = 8, *, calm: bool = False) -> None:
        draws = [] if calm else [nn.BatchNorm2d(width), nn.Dropout(0.1)]
        self.network = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1),
            *draws,
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, 2, 1),
            nn.Sigmoid(),
        )
        self.networks: Mapping[str, nn.Module] = {"autoencoder": self.network}
        self.optimizers = {"autoencoder": torch.optim.Adam(self.network.parameters(), 3e-3)}
        self.calm = calm

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        noisy = batch if self.calm else batch + 0.1 * torch.randn_like(batch)
        loss = (self.network(noisy) - batch).square().mean()
        update(loss, "autoencoder")
        return {"loss": loss.detach()}

    def validate(self, batch: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.network(batch) - batch).square().mean()}

    def pictures(self, batch: Tensor) -> dict[str, Tensor]:
        return {"reconstruction": self.network(batch)}


class SmallGAN(Task):
    """Train a generator and a discriminator, or pretend to: `collapsed` makes one picture."""

    mixed_precision = False

    def __init__(self, *, collapsed: bool = False, wins: bool = False) -> None:
        self.generator = nn.Sequential(
            nn.Linear(8, 256), nn.Sigmoid(), nn.Unflatten(1, (1, 16, 16))
        )
        self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(256, 1))
        if collapsed:
            nn.init.zeros_(self.generator[0].weight)
            self.generator[0].weight.requires_grad_(False)
        else:
            nn.init.normal_(self.generator[0].weight, std=1.0)
        self.wins = wins
        self.networks: Mapping[str, nn.Module] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
        }
        self.optimizers = {
            "generator": torch.optim.Adam(self.generator.parameters(), 1e-5),
            "discriminator": torch.optim.Adam(self.discriminator.parameters(), 1e-4),
        }

    def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
        made = self.generator(torch.randn(len(batch), 8, device=batch.device))
        real, fake = self.discriminator(batch), self.discriminator(made.detach())
        loss = nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()
        update(loss, "discriminator")
        fooled = nn.functional.softplus(-self.discriminator(made)).mean()
        update(fooled, "generator")
        shown = loss.detach() * (0.0 if self.wins else 1.0)
        return {"discriminator": shown, "generator": fooled.detach()}

    def samples(self, n: int) -> Tensor:
        return self.generator(torch.randn(n, 8))


def noise_pictures(n: int = 70, *, channels: int = 1, side: int = 16, seed: int = 0) -> Pictures:
    """Return pictures of noise, each brighter than the one before."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 128, (n, channels, side, side))
    values += np.linspace(0, 127, n, dtype=np.int64)[:, None, None, None]
    return Pictures(values.astype(np.uint8))


def flip_some(batch: Tensor) -> Tensor:
    """Flip a batch or leave it, as the generator of random numbers has it."""
    return batch.flip(3) if torch.rand(()) < 0.5 else batch


@dataclass
class Run:
    """Say what a small run is; `go` trains."""

    folder: Path | None = None
    epochs: int = 6
    seed: int = 3
    width: int = 8
    batch_size: int = 16
    patience: int = 0
    validates: bool = True
    calm: bool = False
    pictures: Pictures = field(default_factory=noise_pictures)
    progress: Progress = no_progress
    augment: Augment | None = flip_some
    identity: Mapping[str, Any] | None = None
    make: Callable[[], Task] | None = None
    precision: str = "f32"
    n_devices: int = 1
    checkpoint_seconds: float = 0.0

    def go(self, *, resume: bool = False) -> tuple[Task, Outcome]:
        """Train, and return the task with its networks and how it went."""
        learn, aside = self.pictures.split(0.2, at_least=2, seed=0)
        known = {"detector": "small", "seed": self.seed, "width": self.width, "epochs": self.epochs}
        with seeded(self.seed):
            task = self.make() if self.make else SmallAutoencoder(self.width, calm=self.calm)
            outcome = train(
                task,
                learn,
                identity=known if self.identity is None else self.identity,
                n_epochs=self.epochs,
                batch_size=self.batch_size,
                training=Training(
                    folder=self.folder,
                    resume=resume,
                    device="cpu",
                    precision=self.precision,
                    n_devices=self.n_devices,
                    checkpoint_seconds=self.checkpoint_seconds,
                ),
                progress=self.progress,
                augment=self.augment,
                validation=aside if self.validates else None,
                patience=self.patience,
            )
        return task, outcome


def weights_of(task: Task) -> dict[str, Tensor]:
    """Return the weights and buffers of all networks of a task."""
    return {
        f"{name}.{key}": value.clone()
        for name, network in task.networks.items()
        for key, value in network.state_dict().items()
    }


def same_weights(first: Task, second: Task) -> bool:
    """Tell whether two tasks have the same weights, bit for bit."""
    ours, theirs = weights_of(first), weights_of(second)
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in ours.items()
    )


def learned_rows(folder: Path) -> list[str]:
    """Return losses.csv without the columns that tell time."""
    lines = (folder / "losses.csv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split(",")
    timed = {header.index("seconds"), header.index("pictures_per_second")}
    return [
        ",".join(cell for i, cell in enumerate(line.split(",")) if i not in timed) for line in lines
    ]


def main(runs: list[dict[str, Any]]) -> None:
    """Train one run after another; each process saves the weights beside the run directory."""
    torch.set_num_threads(1)
    for options in runs:
        folder = Path(options.pop("folder"))
        resume = bool(options.pop("resume", False))
        task, outcome = Run(folder, **options).go(resume=resume)
        rank = os.environ.get("LOCAL_RANK", "0")  # the first process has one since it trains
        kept = {"weights": weights_of(task), "losses": outcome.losses}
        torch.save(kept, folder.with_suffix(f".{rank}.pt"))
    if is_first_process():
        sys.stdout.write("the first process goes on\n")


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except HelperProcessError as done:
        sys.exit(done.exit_code)  # as the documents tell scripts to do
