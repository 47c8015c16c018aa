"""placeholder until hardened"""
from __future__ import annotations
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from makellos.data.parts import Part
from makellos.data.pictures import read_picture
from makellos.errors import InputError

def readable(parts: Sequence[Part], *, progress: Callable[[int, int], None] | None = None) -> tuple[list[Part], list[tuple[Part, str]]]:
    def one(p: Part) -> str | None:
        try:
            read_picture(p.path)
        except InputError as e:
            return str(e)
        return None
    with ThreadPoolExecutor(3) as pool:
        r = list(pool.map(one, parts))
    return [p for p, e in zip(parts, r) if e is None], [(p, e) for p, e in zip(parts, r) if e]
