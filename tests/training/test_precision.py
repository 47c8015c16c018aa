"""Training in bf16: on weights as they are, with losses and weights in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_tasks import Run, SmallAutoencoder, same_weights, weights_of
from torch import Tensor, nn

from makellos.training import Training
from makellos.training.devices import open_fabric, precision_of
from makellos.training.task import Task, Update


def test_bf16_learns_what_f32_learns(tmp_path: Path) -> None:
    exact, known = Run(epochs=20, calm=True).go()
    mixed, outcome = Run(tmp_path, epochs=20, calm=True, precision="bf16").go()
    assert outcome.losses["loss"] == pytest.approx(known.losses["loss"], rel=0.05)
    assert not same_weights(exact, mixed)
    assert {values.dtype for values in weights_of(mixed).values()} == {torch.float32}


def test_bf16_resumes_bit_for_bit(tmp_path: Path) -> None:
    never, _ = Run(epochs=5, precision="bf16").go()
    Run(tmp_path, epochs=2, precision="bf16").go()
    again, _ = Run(tmp_path, epochs=5, precision="bf16").go(resume=True)
    assert same_weights(never, again)


def test_a_step_sees_weights_that_it_has_just_changed() -> None:
    """Autocast keeps bf16 copies of weights, which a GAN's second update would be given."""
    seen: list[bool] = []

    class Twice(Task):
        def __init__(self) -> None:
            self.network = nn.Conv2d(1, 1, 1)
            self.networks = {"network": self.network}
            self.optimizers = {"network": torch.optim.SGD(self.network.parameters(), 1.0)}

        def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
            with torch.no_grad():
                self.network(batch)
            before = self.network(batch)
            assert before.dtype == torch.bfloat16
            update(before.square().mean(), "network")
            seen.append(not torch.equal(self.network(batch), before))
            return {"loss": before.mean().detach()}

    Run(make=Twice, epochs=1, precision="bf16", validates=False).go()
    assert all(seen)


def test_gradients_and_steps_are_computed_in_float32() -> None:
    class Watched(SmallAutoencoder):
        def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
            assert torch.is_autocast_enabled("cpu")
            loss = (self.network(batch) - batch).square().mean()
            loss.register_hook(lambda _: states.append(torch.is_autocast_enabled("cpu")))
            update(loss, "autoencoder")
            return {"loss": loss}

    states: list[bool] = []
    Run(make=Watched, epochs=1, precision="bf16").go()
    assert states
    assert not any(states)


@pytest.mark.parametrize("caching", [True, False])
def test_autocast_is_left_as_it_was(caching: bool) -> None:
    before = torch.is_autocast_cache_enabled()  # exports by others leave it turned off
    torch.set_autocast_cache_enabled(caching)
    for precision in ("f32", "bf16"):
        fabric = open_fabric(Training(device="cpu", precision=precision), mixed=True)
        with precision_of(fabric):
            assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
        assert torch.is_autocast_cache_enabled() == caching
    torch.set_autocast_cache_enabled(before)


@pytest.mark.parametrize(("fast", "mixed"), [(True, True), (True, False), (False, True)])
def test_auto_takes_bf16_where_it_is_fast_and_helps(
    monkeypatch: pytest.MonkeyPatch, fast: bool, mixed: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: fast)
    fabric = open_fabric(Training(device="cpu"), mixed=mixed)
    with precision_of(fabric):
        assert torch.is_autocast_enabled("cpu") == (fast and mixed)
