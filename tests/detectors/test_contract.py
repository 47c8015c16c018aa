"""Every registered detector keeps the contract."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from random_transformer import TRANSFORMER, random_transformer

from makellos.detectors import detectors
from makellos.detectors.patches import backbones, embeddings
from makellos.testing import CONTRACT_CHECKS, Workbench

# What makes a detector small and fast enough for its checks, where its defaults are not.
SMALL: dict[str, dict[str, Any]] = {
    "anogan": {
        "image_size": 32,
        "base_width": 8,
        "latent_dim": 16,
        "batch_size": 8,
        "epochs": 60,
        "n_candidates": 64,
        "n_steps": 60,
        "search_learning_rate": 0.02,
    },
    "anomalydino": {"backbone": TRANSFORMER, "n_turns": 2, "memory_bank_size": 4000},
    "autoencoder": {"epochs": 12, "batch_size": 8, "widths": "16,32,64", "latent_dim": 32},
    "classifier": {
        "backbone": "mobilenetv3_small_100",
        "weights": "none",
        "image_size": 64,
        "epochs": 12,
        "batch_size": 8,
        "unfreeze": -1,
        "backbone_learning_rate": 0.002,
        "head_epochs": 20,
    },
    "dinomaly": {
        "backbone": TRANSFORMER,
        "epochs": 25,
        "batch_size": 4,
        "learning_rate": 0.002,
    },
    "discriminative": {"steps": 60, "batch_size": 256, "hidden_units": 32},
    "fanogan": {
        "image_size": 32,
        "base_width": 4,
        "latent_dim": 8,
        "batch_size": 16,
        "n_critic": 1,
        "epochs": 200,
        "encoder_epochs": 300,
        "learning_rate": 0.004,
        "encoder_learning_rate": 0.004,
    },
    "student_teacher": {"epochs": 80, "batch_size": 4, "width": 16},
    "vae": {"image_size": 48, "epochs": 30, "latent_dim": 4, "width": 8, "n_samples": 2},
}


@pytest.fixture(scope="module", autouse=True)
def _exports_once() -> Iterator[None]:
    """Export each backbone once: that exports are alike is a test of backbones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "export_backbone", functools.cache(embeddings.export_backbone))
        # A transformer comes with no package: a small one has weights drawn at random.
        found = backbones.backbone_state
        patch.setattr(
            backbones,
            "backbone_state",
            lambda card, weights="": (
                random_transformer() if card.network == TRANSFORMER else found(card, weights)
            ),
        )
        yield


def needs_torch(name: str) -> bool:
    return detectors()[name].trains or SMALL.get(name, {}).get("backbone") == TRANSFORMER


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.needs_torch] if needs_torch(name) else [])
        for name in sorted(detectors())
    ],
)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    folder = tmp_path_factory.mktemp(request.param)
    return Workbench(detectors()[request.param], folder, parameters=SMALL.get(request.param))


@pytest.mark.parametrize("check", CONTRACT_CHECKS, ids=lambda check: check.__name__)
def test_contract(bench: Workbench, check: Callable[[Workbench], None]) -> None:
    check(bench)
