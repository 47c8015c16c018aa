"""A fit that is interrupted says how it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from makellos.cli import main


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: str | None) -> int:
    def fit(data: Path, model: Path, **_: Any) -> None:
        run = model.with_name(f"{model.name}.run")
        if checkpoint is not None:
            (run / checkpoint).parent.mkdir(parents=True)
            (run / checkpoint).write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr("makellos.workflows.fit.fit", fit)
    return main(["fit", str(folder), "-o", str(folder / "m.makellos"), "--detector", "vae"])


@pytest.mark.parametrize("checkpoint", ["last.safetensors", "gan/last.safetensors"])
def test_a_checkpoint_can_be_gone_on_from(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    checkpoint: str,
) -> None:
    assert interrupted(tmp_path, monkeypatch, checkpoint) == 130
    told = capsys.readouterr()
    assert "m.makellos.run" in told.out
    assert "--resume" in told.out
    assert told.err == "\nInterrupted.\n"


def test_without_a_checkpoint_nothing_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert interrupted(tmp_path, monkeypatch, None) == 130
    assert "--resume" not in capsys.readouterr().out
