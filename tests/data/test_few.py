"""A few good parts: as many as asked for, of many groups, and those of a smaller draw again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from makellos import find_parts
from makellos.data.few import drawn_good
from makellos.data.parts import PartSet
from makellos.errors import ConfigurationError, InputError


@pytest.fixture
def grouped(tmp_path: Path, toy: ModuleType) -> PartSet:
    """Return twelve good parts in three groups, four to calibrate, two defective, two to test."""
    toy.write(tmp_path / "a.png", np.zeros((8, 8), np.uint8))
    rows = [f"a.png,good,train,g{i // 4},{i}" for i in range(12)]
    rows += [f"a.png,good,val,h{i},{i}" for i in range(4)]
    rows += ["a.png,dent,train,d,0"] * 2 + ["a.png,good,test,t,0"] * 2
    for i, row in enumerate(rows):
        rows[i] = row.replace("a.png", f"{i:02d}.png").rpartition(",")[0]
        (tmp_path / f"{i:02d}.png").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "p.csv").write_text("path,label,split,group\n" + "\n".join(rows), encoding="utf-8")
    return find_parts(tmp_path / "p.csv")


def names(parts: PartSet) -> set[str]:
    return {part.name for part in parts.good()}


def test_so_many_are_drawn_and_all_else_stays(grouped: PartSet) -> None:
    few = drawn_good(grouped, 5, 0)
    assert len(few.good()) == 5 and not few.calibration()
    kept = [part.name for part in grouped if not part.is_good or part.split == "test"]
    assert [p.name for p in few if not p.is_good or p.split == "test"] == kept
    assert few.notes[-1] == "5 of 16 good parts were drawn to learn from (seed 0)."
    assert drawn_good(grouped, None, 0) is grouped


def test_larger_draw_holds_the_smaller_one_and_another_seed_another(grouped: PartSet) -> None:
    draws = [names(drawn_good(grouped, n, 3)) for n in (1, 2, 4, 8, 16)]
    assert all(small < large for small, large in pairwise(draws))
    assert names(drawn_good(grouped, 4, 3)) == draws[2]
    assert len({frozenset(names(drawn_good(grouped, 4, seed))) for seed in range(5)}) > 1


def test_few_parts_come_from_many_groups(grouped: PartSet) -> None:
    for seed in range(5):
        few = drawn_good(grouped, 7, seed)
        assert len({part.group for part in few.good()}) == 7


def test_none_and_too_many_are_refused(grouped: PartSet) -> None:
    with pytest.raises(ConfigurationError, match="is 0; expected a whole number, at least 1"):
        drawn_good(grouped, 0, 0)
    with pytest.raises(InputError, match="has 16 good parts to learn from, fewer than the 17"):
        drawn_good(grouped, 17, 0)
