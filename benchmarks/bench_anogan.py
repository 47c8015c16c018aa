"""Measure AnoGAN's search against a plain loop over single pictures, on a tutorial's networks.

    python benchmarks/bench_anogan.py --json benchmarks/anogan.json

The generator and discriminator are those of a widely used Keras tutorial, for 64×64 colour
pictures: dense 100 to 8×8×256, transposed 5×5 convolutions to 256, 128, 64 and 3 channels;
convolutions to 64, 128 and 256. Weights are random, as time does not depend on them; half of the
parts are pictures that the generator can make, half of them have a square planted. The plain loop
is what such tutorials do, in float32: one picture, one latent, Adam. It searches fewer pictures,
for each takes the same time; both searches alternate. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from makellos.detectors.networks.latent_search import LatentSearch, SearchSettings

LATENT = 100
WEIGHT = 0.1
_USUAL = 500  # steps


class Generator(nn.Module):  # type: ignore[misc]
    """Make 64×64 colour pictures in [0, 1] of latents N×100."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(LATENT, 8 * 8 * 256)
        self.norm = nn.BatchNorm1d(8 * 8 * 256)
        layers: list[nn.Module] = []
        for ins, outs, stride in ((256, 256, 1), (256, 128, 2), (128, 64, 2)):
            layers += [nn.ConvTranspose2d(ins, outs, 5, stride, 2, stride - 1)]
            layers += [nn.BatchNorm2d(outs), nn.LeakyReLU(0.3)]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 5, 2, 2, 1))

    def forward(self, latent: Tensor) -> Tensor:
        """Return pictures N×3×64×64."""
        grid = nn.functional.leaky_relu(self.norm(self.dense(latent)), 0.3)
        return torch.tanh(self.body(grid.view(-1, 256, 8, 8)).float()) * 0.5 + 0.5


class Discriminator(nn.Module):  # type: ignore[misc]
    """Give the features N×16384 of pictures N×3×64×64; its last layer is of no use here."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for ins, outs in ((3, 64), (64, 128), (128, 256)):
            layers += [nn.Conv2d(ins, outs, 5, 2, 2), nn.LeakyReLU(0.3), nn.Dropout(0.3)]
        self.body = nn.Sequential(*layers)

    def features(self, picture: Tensor) -> Tensor:
        """Return the last but one layer."""
        return self.body(picture * 2 - 1).flatten(1)


def main() -> None:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="alternations of both searches")
    parser.add_argument("--steps", type=int, default=500, help="steps of a search")
    parser.add_argument("--batch", type=int, default=32, help="pictures searched at once by ours")
    parser.add_argument("--plain", type=int, default=2, help="pictures of a round by the loop")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--precision", choices=("bf16", "f32"), default=None)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/anogan.json"))
    options = parser.parse_args()
    fast = bool(torch.cpu._is_amx_tile_supported())
    precision = options.precision or ("bf16" if fast else "f32")
    generator, discriminator, parts = prepare(options.batch)
    rows = measure(generator, discriminator, parts, options, precision)
    print(f"{options.steps} steps, batches of {options.batch}, {precision}")
    for name, value in rows.items():
        print(f"  {name:<34} {value:10.4g}")
    report = {
        "steps": options.steps,
        "batch": options.batch,
        "precision": precision,
        "learning_rate": options.learning_rate,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}",
        **rows,
    }
    options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def prepare(n_parts: int) -> tuple[Generator, Discriminator, Tensor]:
    """Return networks with random weights and statistics, and parts to search for."""
    torch.manual_seed(0)
    generator, discriminator = Generator().eval(), Discriminator().eval()
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.02, 0.06)
    for network in (generator, discriminator):
        network.requires_grad_(requires_grad=False)
    parts = generator(torch.randn(n_parts, LATENT))
    parts[1::2, :, 20:36, 24:40] = 1.0
    return generator, discriminator, parts


def measure(
    generator: Generator,
    discriminator: Discriminator,
    parts: Tensor,
    options: argparse.Namespace,
    precision: str,
) -> dict[str, float]:
    """Return seconds per picture and reached losses of both searches."""

    def search(n_candidates: int) -> LatentSearch:
        settings = SearchSettings(
            feature_weight=WEIGHT,
            n_steps=options.steps,
            learning_rate=options.learning_rate,
            n_candidates=n_candidates,
            tolerance=0.0,
        )
        return LatentSearch(
            generator, discriminator, latent_dim=LATENT, settings=settings, precision=precision
        )

    # The latent that the search with one candidate begins at is where the loop begins as well.
    start = torch.randn(1, LATENT, generator=torch.Generator().manual_seed(0))
    started = time.perf_counter()
    ours = search(256)
    opened = time.perf_counter() - started
    singles = parts[: options.plain]
    plain_s, ours_s = [], []
    for _ in range(options.rounds):
        started = time.perf_counter()
        losses = [plain(generator, discriminator, part, start, options) for part in singles]
        plain_s.append((time.perf_counter() - started) / len(singles))
        started = time.perf_counter()
        scores = ours(parts).score
        ours_s.append((time.perf_counter() - started) / len(parts))
    same_start = search(1)(singles).score
    return {
        "plain_s_per_picture": min(plain_s),
        "ours_s_per_picture": min(ours_s),
        # A step takes as long as any other, so fewer steps tell what the usual number takes.
        f"plain_s_at_{_USUAL}_steps": min(plain_s) * _USUAL / options.steps,
        f"ours_s_at_{_USUAL}_steps": min(ours_s) * _USUAL / options.steps,
        "times_as_fast": min(plain_s) / min(ours_s),
        "plain_loss": sum(losses) / len(losses),
        "ours_loss_same_start": float(same_start.mean()),
        "ours_loss": float(scores[: len(singles)].mean()),
        "ours_open_s": opened,
    }


def plain(
    generator: Generator,
    discriminator: Discriminator,
    part: Tensor,
    start: Tensor,
    options: argparse.Namespace,
) -> float:
    """Return the lowest A(x) that a loop over one picture reaches, in float32."""
    part = part[None]
    target = discriminator.features(part)
    latent = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([latent], options.learning_rate)
    lowest = float("inf")
    for _ in range(options.steps):
        made = generator(latent)
        residual = (part - made).abs().mean()
        feature = (target - discriminator.features(made)).abs().mean()
        loss = (1 - WEIGHT) * residual + WEIGHT * feature
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lowest = min(lowest, float(loss.detach()))
    return lowest


if __name__ == "__main__":
    main()
