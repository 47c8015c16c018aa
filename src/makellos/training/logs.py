"""What a run leaves to look at: losses as CSV, and TensorBoard with pictures."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO

import torch
from torch import Tensor

from makellos.errors import StorageError
from makellos.training.checkpoints import BOARD, LOSSES

__all__ = ["Logs", "picture_grid"]

_FIXED = ["epoch", "step", "seconds", "pictures_per_second"]
_GRID = 16  # pictures in a grid


class Logs:
    """Write a row of losses per epoch to CSV and TensorBoard; without folder nothing is written."""

    def __init__(self, folder: Path | None, *, after: int) -> None:
        """Go on after epoch `after`; rows of later ones, which a killed run left, are removed."""
        self.folder = folder
        self._file: TextIO | None = None
        self._writer: Any = None
        self._columns: list[str] = []
        self._board: Any = None
        if folder is None:
            return
        try:
            kept = _rows_until(folder / LOSSES, after)
            self._file = (folder / LOSSES).open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise StorageError(
                f"{folder / LOSSES} cannot be written: {error.strerror}. Choose another folder."
            ) from error
        for row in kept:
            self._write(row)
        self._board = _open_board(folder / BOARD, after)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def row(self, figures: Mapping[str, float], losses: Mapping[str, float]) -> None:
        """Write an epoch: `figures` has the fixed columns, `losses` the method's own."""
        self._write({**figures, **losses})
        if self._board is not None:
            for name, value in losses.items():
                self._board.add_scalar(f"losses/{name}", value, int(figures["epoch"]))
            speed = figures["pictures_per_second"]
            self._board.add_scalar("pictures_per_second", speed, int(figures["epoch"]))

    def pictures(self, grids: Mapping[str, Tensor], epoch: int) -> None:
        """Show grids of pictures N×C×H×W in TensorBoard."""
        if self._board is not None:
            for name, batch in grids.items():
                self._board.add_image(name, picture_grid(batch[:_GRID]), epoch)
            self._board.flush()

    @property
    def shows_pictures(self) -> bool:
        """Tell whether anybody will see pictures."""
        return self._board is not None

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        if self._writer is None:
            self._columns = [*_FIXED, *(name for name in row if name not in _FIXED)]
            self._writer = csv.DictWriter(self._file, self._columns, extrasaction="ignore")
            self._writer.writeheader()
        try:
            self._writer.writerow(row)
            self._file.flush()
        except OSError as error:
            raise StorageError(
                f"{self._file.name} could not be written: {error.strerror}. The last checkpoint is "
                "whole; make room and go on with --resume."
            ) from error


def picture_grid(batch: Tensor) -> Tensor:
    """Return pictures N×C×H×W as one, C×rows·H×columns·W, as square as it gets."""
    n, channels, height, width = batch.shape
    columns = int(n**0.5 + 0.999)
    rows = -(-n // columns)
    grid = torch.ones(rows * columns, channels, height, width)
    grid[:n] = batch.detach().float().cpu().clamp(0, 1)
    tiles = grid.reshape(rows, columns, channels, height, width)
    return tiles.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def _rows_until(path: Path, epoch: int) -> list[dict[str, Any]]:
    if epoch == 0 or not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if _is_until(row, epoch)]


def _is_until(row: Mapping[str, Any], epoch: int) -> bool:
    try:
        return int(row["epoch"]) <= epoch and None not in row.values()
    except (KeyError, TypeError, ValueError):
        return False  # a row that a killed run had half written


def _open_board(folder: Path, after: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=after + 1 if after else None)
