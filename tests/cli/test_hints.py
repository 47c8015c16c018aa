"""Hints to those who know other tools: their verbs, options, devices and numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from makellos.cli.hints import _OPTIONS, _VERBS
from makellos.errors import suggest

Cli = Callable[..., Any]
FIT = ("fit", "parts", "-o", "m.makellos")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("train", "parts"), "makellos fit"),
        (("Train", "parts"), "makellos fit"),
        (("predict",), "makellos inspect"),
        (("test", "m.makellos"), "makellos evaluate"),
        (("check", "parts"), "makellos data check"),
        (("data", "download"), "makellos data get"),
        (("version",), "makellos --version"),
        ((*FIT, "--epochs", "3"), "--set epochs=3"),
        ((*FIT, "--epochs=3"), "--set epochs=3"),
        ((*FIT, "--num-epochs", "3"), "--set epochs=3"),
        ((*FIT, "--lr", "1e-3"), "--set learning_rate=1e-3"),
        ((*FIT, "--nz", "100"), "--set latent_dim=100"),
        ((*FIT, "--batchSize", "8"), "--set batch_size=8"),
        ((*FIT, "--image-size", "256"), "--set image_size=256"),
        ((*FIT, "--memory-bank-size"), "--set memory_bank_size=VALUE"),
        ((*FIT, "--model", "padim"), "--detector"),
        ((*FIT, "--gpu"), "--device cuda"),
        ((*FIT, "--contamination", "0.1"), "--false-alarms 0.01"),
        ((*FIT, "--false-alarms", "5%"), "Write 5 % as 0.05"),
        ((*FIT, "--false-alarms=0.5%"), "Write 0.5 % as 0.005"),
        ((*FIT, "--false-alarms", "0,05"), "Write 0,05 with a decimal point: 0.05"),
        (("calibrate", "m.makellos", "--false-alarms", "2 %"), "Write 2 % as 0.02"),
        (("compare", "parts", "--epochs", "3"), "--set DETECTOR.epochs=3"),
        (("tune", "parts", "-o", "t", "--epochs", "3"), "--set epochs=3"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_others_call_it_is_answered(typed: tuple[str, ...], meant: str, cli: Cli) -> None:
    told = cli(*typed)
    assert told.code == 2
    assert meant in told.err.splitlines()[-1]


@pytest.mark.parametrize(
    "typed", [("fly",), (*FIT, "--wings"), ("inspect", "m", "--epochs", "3"), ("data", "train")]
)
def test_what_nobody_knows_gets_no_hint(typed: tuple[str, ...], cli: Cli) -> None:
    told = cli(*typed)
    assert told.code == 2
    assert told.err.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("gpu", "cuda"), ("GPU", "cuda"), ("CUDA", "cuda"), ("cuda:0", "cuda"), ("metal", "mps")],
)
def test_devices_by_other_names(typed: str, meant: str, cli: Cli, toy_parts: Path) -> None:
    told = cli("fit", toy_parts, "-o", "m.makellos", "--detector", "vae", "--device", typed)
    assert told.code == 2
    assert f"Did you mean '{meant}'?" in told.err


def test_budget_in_per_cent_is_told_as_a_share(cli: Cli, toy_parts: Path) -> None:
    told = cli("fit", toy_parts, "-o", "m.makellos", "--false-alarms", 5)
    assert "Write 5 % as 0.05" in told.err


def test_other_names_lead_to_what_there_is(cli: Cli) -> None:
    for verb in _VERBS:
        assert cli(*verb.split(), "--help").code == 0
    helped = cli("fit", "--help").out
    assert all(option in helped for option in _OPTIONS)
    words = " ".join([*_VERBS.values()]).split()
    assert len(words) == len(set(words))


def test_case_makes_no_difference() -> None:
    assert suggest("PatchCore", ["padim", "patchcore"]).startswith("Did you mean 'patchcore'?")
    assert suggest("gpu", ["cpu"], {"gpu": "cuda"}) == "Did you mean 'cpu'? Known: cpu."
