"""Threads of torch wait without spinning: set where torch is not imported yet, unless it is set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = "import os, sys, makellos.detectors.anogan as a; print(os.environ['OMP_WAIT_POLICY'])"


def answer(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_waiting_is_passive_before_torch_is_imported() -> None:
    assert answer(f"{ASK}; assert 'torch' not in sys.modules").stdout.strip() == "passive"


def test_what_the_user_set_stays() -> None:
    assert answer(ASK, OMP_WAIT_POLICY="active").stdout.strip() == "active"


@pytest.mark.needs_torch
@pytest.mark.skipif(sys.platform != "linux", reason="other systems' OpenMP says it otherwise")
def test_torch_waits_so() -> None:
    pytest.importorskip("torch")
    said = answer("import makellos.training, torch", OMP_DISPLAY_ENV="true").stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said
