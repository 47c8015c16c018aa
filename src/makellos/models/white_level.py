"""The white level: 16 bit pictures that use fewer bits, learned from as they are inspected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from makellos.data.parts import Part
from makellos.models.writing import encode_golden

__all__ = ["filling_their_depth"]


@contextmanager
def filling_their_depth(parts: list[Part], white_level: int | None) -> Iterator[list[Part]]:
    """Give parts to learn from whose 16 bit pictures reach 65535 where they reach `white_level`.

    Detectors read pictures by their bit depth, while an inspection knows the white level.
    """
    if white_level is None:
        yield parts
        return
    with TemporaryDirectory(prefix="makellos-", ignore_cleanup_errors=True) as folder:
        yield _filled(parts, white_level, Path(folder))


def _filled(parts: Sequence[Part], white_level: int, folder: Path) -> list[Part]:
    learn = []
    for i, part in enumerate(parts):
        picture = part.read()
        if picture.dtype == np.uint16:
            scaled = np.rint(np.minimum(picture * (65535 / white_level), 65535))
            path = folder / f"{i:06d}.png"
            path.write_bytes(encode_golden(scaled.astype(np.uint16)))
            learn.append(replace(part, path=path))
        else:
            learn.append(part)
    return learn
