"""What a run leaves to look at: losses as CSV, and TensorBoard with pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

import torch
from torch import Tensor

from makellos.errors import StorageError
from makellos.storage import storage_errors, write_text
from makellos.training.checkpoints import BOARD, GO_ON, LOSSES

if TYPE_CHECKING:
    from makellos.training.board import Board

__all__ = ["Logs", "picture_grid"]

_FIXED = ["epoch", "step", "seconds", "pictures_per_second"]
_GRID = 16  # pictures in a grid


class Logs:
    """Write a row of losses per epoch to CSV and TensorBoard; without folder nothing is written."""

    def __init__(self, folder: Path | None, *, after: int) -> None:
        """Go on after epoch `after`; rows of later ones, which a killed run left, are removed."""
        self.folder = folder
        self._file: TextIO | None = None
        self._board: Board | None = None
        self._columns: list[str] = []
        if folder is None:
            return
        try:
            with _told(folder / LOSSES):
                self._begin_table(folder / LOSSES, _rows_until(folder / LOSSES, after))
            with _told(folder / BOARD):
                self._board = _open_board(folder / BOARD, after)
        except StorageError:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._file, self._board):
            # A disk that is full has been told already, and would be told again.
            with suppress(OSError):
                if opened is not None:
                    opened.close()

    def row(self, figures: Mapping[str, float], losses: Mapping[str, float]) -> None:
        """Write an epoch: `figures` has the fixed columns, `losses` the method's own."""
        if self.folder is None:
            return
        path = self.folder / LOSSES
        row = {**figures, **losses}
        with _told(path):
            if not set(row) <= set(self._columns):
                self._begin_table(path, [*_rows_until(path, int(figures["epoch"]) - 1), row])
            elif self._file is not None:
                csv.DictWriter(self._file, self._columns).writerow(row)
                self._file.flush()
            if self._board is not None:
                shown = {f"losses/{name}": value for name, value in losses.items()}
                shown["pictures_per_second"] = figures["pictures_per_second"]
                self._board.scalars(shown, int(figures["epoch"]))

    def pictures(self, grids: Mapping[str, Tensor], epoch: int) -> None:
        """Show grids of pictures N×C×H×W in TensorBoard."""
        if self._board is None or self.folder is None:
            return
        with _told(self.folder / BOARD):
            for name, batch in grids.items():
                self._board.picture(name, picture_grid(batch[:_GRID]), epoch)

    @property
    def shows_pictures(self) -> bool:
        """Tell whether anybody will see pictures."""
        return self._board is not None

    def _begin_table(self, path: Path, rows: list[dict[str, Any]]) -> None:
        """Write the table anew in one step, with a column for each name in it, and stay open."""
        if self._file is not None:
            self._file.close()
        self._columns = list(dict.fromkeys([*_FIXED, *(name for row in rows for name in row)]))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="")
        if rows:
            writer.writeheader()
            writer.writerows(rows)
        write_text(path, text.getvalue(), GO_ON)
        self._file = path.open("a", encoding="utf-8", newline="")
        if not rows:
            self._columns = []


def _told(path: Path) -> AbstractContextManager[None]:
    return storage_errors(f"{path} cannot be written", GO_ON)


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


def _open_board(folder: Path, after: int) -> Board | None:
    try:
        from makellos.training.board import Board
    except ImportError:
        return None
    return Board(folder, after=after)
