"""The layout of a synthetic circuit board: parts on a lattice, their pads, tracks between them.

Everything is in units of the lattice, whose nodes are a pitch apart; tracks run along it, level,
upright or at 45 degrees, as a router lays them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["NODES", "Layout", "Outline", "Pad", "Text", "Track", "draw_layout"]

NODES = 44  # of the lattice in each direction; the picture shows those from 4 to 40
_TRACK = 0.40  # width of a track
_WIDE = 0.62  # and of one that carries power
_LONGEST = 46  # steps of a route
_STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))

Node = tuple[int, int]


@dataclass(frozen=True)
class Pad:
    """Place a pad at x, y: its width and height, and of a round hole in it the diameter."""

    x: float
    y: float
    width: float
    height: float
    is_round: bool = False
    hole: float = 0.0
    is_covered: bool = False  # by solder mask, as a via

    @property
    def node(self) -> Node:
        """Return the node of the lattice at its middle."""
        return round(self.x), round(self.y)


@dataclass(frozen=True)
class Track:
    """Hold the corners of a track, and its width."""

    points: tuple[Node, ...]
    width: float


@dataclass(frozen=True)
class Outline:
    """Place a line, or a circle of `radius` around its first end, of the silk screen."""

    start: tuple[float, float]
    end: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.0


@dataclass(frozen=True)
class Text:
    """Place a name of the silk screen: the left end of its base line."""

    words: str
    x: float
    y: float


@dataclass
class Layout:
    """Hold all that boards of one kind share."""

    pads: list[Pad] = field(default_factory=list)
    tracks: list[Track] = field(default_factory=list)
    outlines: list[Outline] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)


def draw_layout(seed: int) -> Layout:
    """Return a layout; the same seed gives the same one."""
    rng = np.random.default_rng([seed, 11])
    layout, taken = Layout(), np.zeros((NODES, NODES), np.bool_)
    for kind, count in (("hole", 2), ("chip", 4), ("header", 3), ("small", 16)):
        for number in range(1, count + 1):
            _place(rng, layout, taken, kind, number)
    _route(rng, layout)
    return layout


def _place(
    rng: np.random.Generator, layout: Layout, taken: NDArray[np.bool_], kind: str, number: int
) -> None:
    """Add a part where there is room for it; none where there is not."""
    for _ in range(40):
        made = Layout()
        width, height = _PARTS[kind](rng, made, number)
        upright = kind != "hole" and bool(rng.random() < 0.5)
        if upright:
            width, height = height, width
        x = int(rng.integers(1, NODES - width))
        y = int(rng.integers(2, NODES - height))
        room = (slice(y - 1, y + height + 1), slice(x, x + width + 1))
        if taken[room].any():
            continue
        taken[room] = True
        layout.pads += [_moved_pad(pad, x, y, upright=upright) for pad in made.pads]
        layout.outlines += [_moved_outline(each, x, y, upright=upright) for each in made.outlines]
        layout.texts += [Text(each.words, x + 0.2, y - 0.35) for each in made.texts]
        return


def _chip(rng: np.random.Generator, made: Layout, number: int) -> tuple[int, int]:
    """Draw a part with two rows of pins."""
    n_pins, span = int(rng.integers(4, 8)), 6
    for pin in range(n_pins):
        for y in (1, 1 + span):
            made.pads.append(Pad(1 + pin * 1.0, y, 0.56, 1.5))
    box = ((0.4, 2.4), (1.6 + n_pins - 1, 2.4), (1.6 + n_pins - 1, span - 0.4), (0.4, span - 0.4))
    made.outlines += _closed(box)
    made.outlines.append(Outline((1.0, span - 1.0), radius=0.28))
    made.texts.append(Text(f"U{number}", 0, 0))
    return n_pins + 1, span + 2


def _header(rng: np.random.Generator, made: Layout, number: int) -> tuple[int, int]:
    """Draw a row of holes with pads around them, the first of them square."""
    n_pins = int(rng.integers(3, 7))
    for pin in range(n_pins):
        made.pads.append(Pad(1 + 2 * pin, 1, 1.35, 1.35, is_round=pin > 0, hole=0.72))
    right = 2 * n_pins - 0.15
    made.outlines += _closed(((0.0, 0.1), (right, 0.1), (right, 1.9), (0.0, 1.9)))
    made.texts.append(Text(f"J{number}", 0, 0))
    return 2 * n_pins, 2


def _small(rng: np.random.Generator, made: Layout, number: int) -> tuple[int, int]:
    """Draw a resistor or a capacitor: two pads, and two lines between them."""
    made.pads += [Pad(1, 1, 1.1, 1.35), Pad(4, 1, 1.1, 1.35)]
    made.outlines += [Outline((1.9, 0.3), (3.1, 0.3)), Outline((1.9, 1.7), (3.1, 1.7))]
    made.texts.append(Text(f"{'R' if rng.random() < 0.6 else 'C'}{number}", 0, 0))
    return 5, 2


def _hole(rng: np.random.Generator, made: Layout, number: int) -> tuple[int, int]:
    """Draw a mounting hole."""
    del rng, number
    made.pads.append(Pad(2, 2, 3.4, 3.4, is_round=True, hole=2.2))
    return 4, 4


_PARTS = {"hole": _hole, "chip": _chip, "header": _header, "small": _small}


def _closed(corners: tuple[tuple[float, float], ...]) -> list[Outline]:
    return [
        Outline(corner, following)
        for corner, following in zip(corners, (*corners[1:], corners[0]), strict=True)
    ]


def _moved_pad(pad: Pad, x: int, y: int, *, upright: bool) -> Pad:
    at = (pad.y, pad.x) if upright else (pad.x, pad.y)
    sides = (pad.height, pad.width) if upright else (pad.width, pad.height)
    return Pad(at[0] + x, at[1] + y, *sides, pad.is_round, pad.hole)


def _moved_outline(outline: Outline, x: int, y: int, *, upright: bool) -> Outline:
    def moved(point: tuple[float, float]) -> tuple[float, float]:
        along, across = point[::-1] if upright else point
        return along + x, across + y

    return Outline(moved(outline.start), moved(outline.end), outline.radius)


def _route(rng: np.random.Generator, layout: Layout) -> None:
    """Connect pads by tracks that touch no other, and lead some to a via."""
    owner = np.full((NODES, NODES), -1)
    for number, pad in enumerate(layout.pads):
        half = (pad.width / 2 + 0.2, pad.height / 2 + 0.2)
        rows = slice(max(0, round(pad.y - half[1])), round(pad.y + half[1]) + 1)
        columns = slice(max(0, round(pad.x - half[0])), round(pad.x + half[0]) + 1)
        owner[rows, columns] = number
    places = np.array([(pad.x, pad.y) for pad in layout.pads])
    n_pads = len(layout.pads)
    for number in rng.permutation(n_pads).tolist():
        distances = np.hypot(*(places - places[number]).T)
        near = np.argsort(distances, kind="stable")[3:12]
        for target in (int(each) for each in rng.permutation(near)[:3]):
            path = _path(owner, layout.pads, number, target)
            if path:
                width = _WIDE if rng.random() < 0.15 else _TRACK
                _lay(layout, owner, path, number, width)
                break
        else:
            path = _path(owner, layout.pads, number, None, length=int(rng.integers(3, 8)))
            if path:
                _lay(layout, owner, path, number, _TRACK)
                via = Pad(*path[-1], 0.86, 0.86, is_round=True, hole=0.38, is_covered=True)
                layout.pads.append(via)


def _lay(
    layout: Layout, owner: NDArray[np.intp], path: list[Node], number: int, width: float
) -> None:
    for x, y in path:
        owner[y, x] = number
    corners = [path[0]]
    for before, here, after in zip(path, path[1:], path[2:], strict=False):
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1]):
            corners.append(here)
    layout.tracks.append(Track((*corners, path[-1]), width))


def _path(
    owner: NDArray[np.intp],
    pads: list[Pad],
    start: int,
    end: int | None,
    *,
    length: int = _LONGEST,
) -> list[Node]:
    """Return the shortest free way between two pads by their numbers, or one of a `length`."""
    begin, goal = pads[start].node, None if end is None else pads[end].node
    before: dict[Node, Node | None] = {begin: None}
    queue = deque([(begin, 0)])
    while queue:
        node, steps = queue.popleft()
        if node == goal or (end is None and steps == length and owner[node[1], node[0]] == -1):
            return list(_back(before, node))[::-1]
        for step in _STEPS if steps < length else ():
            following = (node[0] + step[0], node[1] + step[1])
            if following not in before and _free(owner, node, following, {-1, start, end}):
                before[following] = node
                queue.append((following, steps + 1))
    return []


def _back(before: dict[Node, Node | None], node: Node | None) -> Iterator[Node]:
    while node is not None:
        yield node
        node = before[node]


def _free(owner: NDArray[np.intp], here: Node, there: Node, own: set[int | None]) -> bool:
    x, y = there
    if not (0 <= x < NODES and 0 <= y < NODES) or int(owner[y, x]) not in own:
        return False
    # At 45 degrees a track passes between two nodes, of which another may hold neither.
    return int(owner[here[1], x]) in own and int(owner[y, here[0]]) in own
