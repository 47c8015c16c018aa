"""Progress bars on terminals of any width: no figure is cut, and the last steps stay in sight."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from makellos.cli.bars import Bars, fitting

VAE = "epoch 12/250 · batch 3/20 · ELBO loss -0.531 · reconstruction -0.542 · KL 0.0109 · 231 p/s"


def shown(width: int, *steps: tuple[str, int, int | None, str], height: int = 50) -> list[str]:
    """Return the lines that stand on a terminal in the end."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, height=height)
    bars = Bars(console)
    for step in steps:
        bars.update(*step)
    stream.truncate(0)
    bars.stop()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", stream.getvalue())
    return [line.rstrip() for line in plain.replace("\x00", "").splitlines() if line.strip()]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_figures_fit_and_none_is_cut(width: int) -> None:
    lines = shown(width, ("training", 43, 5000, VAE))
    assert all(len(line) <= width for line in lines)
    assert re.match(r"training\s+\S+\s+43/5000", lines[0])
    pieces = [piece for line in lines[1:] for piece in line.strip().split(" · ")]
    assert pieces == VAE.split(" · ")[: len(pieces)]
    assert len(pieces) == (3 if width == 40 else 6)
    assert {"epoch 12/250", "ELBO loss -0.531"} <= set(pieces)


def test_at_80_columns_every_loss_of_a_vae_is_shown() -> None:
    assert shown(80, ("training", 43, 5000, VAE))[1:] == [
        "  epoch 12/250 · batch 3/20 · ELBO loss -0.531 · reconstruction -0.542",
        "  KL 0.0109 · 231 p/s",
    ]


@pytest.mark.parametrize("width", [20, 40, 80])
def test_long_names_of_steps_leave_room_for_their_count(width: int) -> None:
    lines = shown(width, ("learning what is usual at each place [a]", 3, 10, ""))
    assert len(lines) == 1
    assert len(lines[0]) <= width
    assert "3/10" in lines[0]


def test_more_steps_than_rows_leave_the_last_in_sight() -> None:
    lines = shown(80, *((f"step {i}", 1, 2, "") for i in range(30)), height=10)
    assert len(lines) == 9
    assert lines[-1].startswith("step 29")


def test_a_total_that_nobody_knows() -> None:
    assert shown(80, ("download", 4096, None, ""))[0].split()[-1] == "4096"


def test_lines_of_figures() -> None:
    pieces = ["a" * 10, "b" * 30, "c" * 5, "d" * 18]
    assert fitting(pieces, 20, 2) == ["a" * 10 + " · " + "c" * 5, "d" * 18]
    assert fitting(pieces, 20, 1) == ["a" * 10 + " · " + "c" * 5]
    assert fitting(pieces, 4, 2) == []
