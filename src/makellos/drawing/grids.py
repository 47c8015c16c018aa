"""Sheets of made pictures: beside real ones, and along latent dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from makellos.drawing.lettering import PAGE, SOFT, Rgb, letter, text_width
from makellos.drawing.panels import fit_picture

__all__ = ["draw_grid", "draw_traversal"]

_WIDTH, _TALLEST, _NARROWEST = 2176, 256, 32  # of a sheet about, of a tile at most and at least
_MARGIN, _GAP, _DIVIDE = 28, 4, 44
_TITLE, _TEXT = 20, 15  # heights in pixels
_TITLE_SPACE, _HEAD_SPACE, _NAME_SPACE = 36, 24, 52
_RULE = (223, 223, 217)


def draw_grid(left: Sequence[Rgb], right: Sequence[Rgb], titles: tuple[str, str]) -> Rgb:
    """Draw pictures in two blocks of equal tiles side by side, each below its title.

    Pictures are h×w×3 uint8 RGB of one size; small ones are enlarged by a whole factor, pixel by
    pixel. The right block is about square; the left one has its number of rows, and may be empty.
    Returns H×W×3 uint8 RGB. `titles` are those of the left and of the right block.
    """
    n_rows = _ceil(len(right), math.ceil(math.sqrt(len(right))))
    columns = [_ceil(len(block), n_rows) for block in (left, right)]
    height, width = _tile_size(right[0], sum(columns))
    blocks = [
        _block([fit_picture(picture, height, width) for picture in block], n_columns)
        for block, n_columns in zip((left, right), columns, strict=True)
        if block
    ]
    names = [title for title, block in zip(titles, (left, right), strict=True) if block]
    # A block of one column is narrower than its title.
    widths = [
        max(block.shape[1], text_width(name, _TITLE))
        for block, name in zip(blocks, names, strict=True)
    ]
    page = _page(blocks[-1].shape[0], sum(widths) + (len(blocks) - 1) * _DIVIDE)
    x, top = _MARGIN, _MARGIN + _TITLE_SPACE
    for block, name, wide in zip(blocks, names, widths, strict=True):
        if x > _MARGIN:
            page[_MARGIN : page.shape[0] - _MARGIN, x - _DIVIDE // 2] = _RULE
        letter(page, name, (x, _MARGIN + 10), _TITLE)
        page[top : top + block.shape[0], x : x + block.shape[1]] = block
        x += wide + _DIVIDE
    return page


def draw_traversal(
    rows: Sequence[Sequence[Rgb]], names: Sequence[str], heads: Sequence[str], title: str
) -> Rgb:
    """Draw one row of pictures per latent dimension, its name before it, `heads` above columns.

    Pictures are h×w×3 uint8 RGB of one size, enlarged as in `draw_grid`. Returns H×W×3 uint8 RGB.
    """
    n_columns = len(heads)
    height, width = _tile_size(rows[0][0], n_columns, widest=160)
    tiles = [fit_picture(picture, height, width) for row in rows for picture in row]
    block = _block(tiles, n_columns)
    page = _page(
        block.shape[0] + _HEAD_SPACE,
        max(block.shape[1] + _NAME_SPACE, text_width(title, _TITLE)),
    )
    letter(page, title, (_MARGIN, _MARGIN + 10), _TITLE)
    left, top = _MARGIN + _NAME_SPACE, _MARGIN + _TITLE_SPACE + _HEAD_SPACE
    page[top : top + block.shape[0], left : left + block.shape[1]] = block
    for column, head in enumerate(heads):
        x = left + column * (width + _GAP) + width // 2
        letter(page, head, (x, top - 10), _TEXT, SOFT, "ms")
    for row, name in enumerate(names):
        y = top + row * (height + _GAP) + height // 2
        letter(page, name, (left - 12, y), _TEXT, SOFT, "rm")
    return page


def _page(height: int, width: int) -> Rgb:
    size = (height + _TITLE_SPACE + 2 * _MARGIN, width + 2 * _MARGIN, 3)
    return np.full(size, PAGE, np.uint8)


def _tile_size(picture: Rgb, n_columns: int, *, widest: int = _TALLEST) -> tuple[int, int]:
    height, width = picture.shape[:2]
    room = min(widest, max(_NARROWEST, _WIDTH // n_columns - _GAP))
    scale = min(room / width, widest / height)
    if scale >= 1:
        return height * int(scale), width * int(scale)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _block(tiles: Sequence[Rgb], n_columns: int) -> Rgb:
    height, width = tiles[0].shape[:2]
    n_rows = _ceil(len(tiles), n_columns)
    size = (n_rows * (height + _GAP) - _GAP, n_columns * (width + _GAP) - _GAP, 3)
    block = np.full(size, PAGE, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // n_columns * (height + _GAP), i % n_columns * (width + _GAP)
        block[top : top + height, left : left + width] = tile
    return block


def _ceil(n: int, divisor: int) -> int:
    return -(-n // divisor)
