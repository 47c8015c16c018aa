"""Parameters of training that tutorials name: they reach networks and optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from makellos.data.parts import Part, Values
from makellos.detectors import make_detector
from makellos.detectors.autoencoder import loss_weights
from makellos.errors import ConfigurationError

pytestmark = pytest.mark.needs_torch

_SIDE = 16
_SMALL: dict[str, dict[str, Any]] = {
    "anogan": {"base_width": 4},
    "fanogan": {"base_width": 4},
    "vae": {"width": 4},
    "autoencoder": {"widths": "4,8"},
}


class _Caught(Exception):
    def __init__(self, task: Any) -> None:
        self.task = task


def _task(monkeypatch: pytest.MonkeyPatch, name: str, **given: Any) -> Any:
    """Return the task that a detector would train."""

    def catch(task: Any, *_others: Any, **_named: Any) -> None:
        raise _Caught(task)

    from makellos.training import loop

    monkeypatch.setattr(loop, "train", catch)
    noise = np.random.default_rng(0).integers(0, 255, (16, _SIDE, _SIDE), np.uint8)
    parts = [Part(source=Values(picture), name=f"{i}") for i, picture in enumerate(noise)]
    detector = make_detector(name, parameters=_SMALL[name] | given)
    with pytest.raises(_Caught) as caught:
        detector.fit(parts)
    return caught.value.task


_GIVEN = {"beta1": 0.3, "beta2": 0.95, "weight_decay": 0.01}


@pytest.mark.parametrize(
    ("name", "given", "betas", "decay"),
    [
        ("anogan", {}, (0.5, 0.999), 0.0),
        ("anogan", _GIVEN, (0.3, 0.95), 0.01),
        ("fanogan", {}, (0.5, 0.9), 0.0),
        ("fanogan", {"gan": "dcgan"}, (0.5, 0.999), 0.0),
        ("fanogan", _GIVEN | {"gan": "dcgan"}, (0.3, 0.95), 0.01),
        ("fanogan", _GIVEN, (0.3, 0.95), 0.01),
        ("vae", {}, (0.9, 0.999), 0.0),
        ("vae", _GIVEN, (0.3, 0.95), 0.01),
        ("autoencoder", {}, (0.9, 0.999), 0.0),
        ("autoencoder", _GIVEN, (0.3, 0.95), 0.01),
    ],
)
def test_betas_and_weight_decay_reach_adam(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    given: dict[str, Any],
    betas: tuple[float, float],
    decay: float,
) -> None:
    task = _task(monkeypatch, name, **given)
    assert task.optimizers
    for optimizer in task.optimizers.values():
        assert optimizer.defaults["betas"] == betas
        assert optimizer.defaults["weight_decay"] == decay


@pytest.mark.parametrize(
    ("given", "n_critic"),
    [({}, 5), ({"gan": "dcgan"}, 1), ({"gan": "dcgan", "n_critic": 3}, 3), ({"n_critic": 2}, 2)],
)
def test_n_critic_counts_for_both_gans(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], n_critic: int
) -> None:
    assert _task(monkeypatch, "fanogan", **given).n_critic == n_critic


@pytest.mark.parametrize("name", ["anogan", "fanogan"])
@pytest.mark.parametrize(("given", "width"), [({}, 4), ({"discriminator_width": 3}, 3)])
def test_a_discriminator_may_have_another_width(
    monkeypatch: pytest.MonkeyPatch, name: str, given: dict[str, Any], width: int
) -> None:
    task = _task(monkeypatch, name, **given)
    assert next(iter(task.discriminator.parameters())).shape[0] == width
    assert task.generator.end.in_channels == 4


def test_hidden_widths_of_a_convolutional_network_are_refused() -> None:
    parts = [Part(source=Values(np.zeros((_SIDE, _SIDE), np.uint8)), name="blank")] * 2
    detector = make_detector("vae", parameters={"network": "convolutional", "hidden_widths": "9"})
    with pytest.raises(ConfigurationError, match=r"hidden_widths is '9', but pictures of 16 x 16"):
        detector.fit(parts)


@pytest.mark.parametrize(("typed", "meant"), [("mse", "l2"), ("MAE", "l1"), ("dssim", "ssim")])
def test_losses_by_other_names_are_told(typed: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Did you mean '{meant}'\?"):
        loss_weights(typed)


def test_hidden_widths_are_those_of_the_dense_network(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = _task(monkeypatch, "vae", hidden_widths="40,20,10", latent_dim=3).vae
    linear = [layer for layer in vae.modules() if type(layer).__name__ == "Linear"]
    assert [layer.out_features for layer in linear] == [40, 20, 10, 6, 10, 20, 40, _SIDE * _SIDE]
