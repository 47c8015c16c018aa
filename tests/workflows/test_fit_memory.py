"""What a fit will take is told before, and it keeps to a bound of memory that it was given."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makellos import find_parts
from makellos.data.memory import parse_memory
from makellos.detectors import make_detector
from makellos.detectors.patches.trial import BankCost
from makellos.errors import ConfigurationError, InputError
from makellos.models.coverage import Coverage, frame_of
from makellos.models.forecast import Forecast, forecast_of
from makellos.sets.synthetic_screws import write_screws

SMALL = ("--preset", "fast", "--set", "memory_bank_size=500")


@pytest.fixture(scope="module")
def screws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory") / "screws"
    write_screws(folder, n_train=45, n_test_good=1, n_per_defect=0, size=160)
    return folder


def foreseen(folder: Path, bound: int = 0, detector: str = "patchcore", **given: Any) -> Any:
    made = make_detector(detector, preset="balanced", parameters=given, seed=0)
    return forecast_of(find_parts(folder), made, frame_of(Coverage(), 0.05, None), 0, bound)


# Linux counts the memory of the process that starts another as that one's peak, too, and a test
# run is large. So a small process starts the one that is measured.
_LAUNCHER = """
import os, subprocess, sys
process = subprocess.Popen([sys.executable, "-m", "makellos", *sys.argv[1:]], stdout=sys.stderr)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(usage.ru_maxrss)
sys.exit(process.returncode)
"""


def peak_of(arguments: list[str]) -> int:
    """Return the largest resident size, in bytes, of a process with the command line."""
    launched = [sys.executable, "-c", _LAUNCHER, *arguments]
    done = subprocess.run(launched, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.skipif(sys.platform == "win32", reason="asks the kernel as Unix does")
def test_a_fit_keeps_to_its_bound(screws: Path, tmp_path: Path) -> None:
    told = tmp_path / "fit.json"
    bound = parse_memory("700M")
    asked = ["fit", str(screws), "-o", str(tmp_path / "m.makellos"), *SMALL, "--json", str(told)]
    assert peak_of([*asked, "--memory", "700M"]) <= 1.05 * bound
    found = json.loads(told.read_text())["forecast"]
    assert found["n_pictures"] == 45
    assert 0 < found["memory_bytes"] <= bound
    assert found["seconds"] > 0


def test_less_than_the_least_is_refused_and_the_least_is_accepted(screws: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"takes at least .*B\. Give") as refused:
        foreseen(screws, 50 << 20)
    said = re.search(r"--memory (\d+M) or more", str(refused.value))
    assert said is not None
    found = foreseen(screws, int(1.5 * parse_memory(said[1])))
    assert found.means.workers is not None
    assert found.means.candidate_bytes is not None


@pytest.mark.parametrize("workers", [1, 4])
def test_candidates_are_what_fits_into_the_room(workers: int) -> None:
    megabyte = float(1 << 20)
    cost = BankCost(
        per_part=0.1,
        per_score=0.1,
        per_graph=0.1,
        choosing=1.0,
        engine=20 * megabyte,
        stream=30 * megabyte,
        layer=96 * megabyte,
        least_layer=8 * megabyte,
        n_layers=3,
        rest=100 * megabyte,
        graph=2 * megabyte,
        n_graphs=21,
    )
    found = [cost.candidates(workers, n * megabyte) for n in (100, 300, 400, 500, 5000)]
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] == cost.layer
    for n, candidates in zip((300, 400, 500), found[1:4], strict=True):
        if candidates:
            assert cost.memory(workers, candidates) <= n * megabyte * (1 + 1e-9)
    assert 0 < found[3] < cost.layer


def test_nobody_tells_of_other_detectors_and_a_bound_is_refused(screws: Path) -> None:
    assert foreseen(screws, detector="padim") is None
    with pytest.raises(ConfigurationError, match="--memory is accepted only for patchcore"):
        foreseen(screws, 1 << 30, detector="padim")


def test_a_picture_that_cannot_be_read_is_named_where_there_is_a_bound(
    screws: Path, tmp_path: Path
) -> None:
    shutil.copytree(screws, tmp_path / "screws")
    first = min((tmp_path / "screws" / "train").rglob("*.png"))
    first.write_bytes(b"")
    assert foreseen(tmp_path / "screws") is None
    with pytest.raises(InputError, match=first.name):
        foreseen(tmp_path / "screws", 1 << 30)


def test_a_forecast_is_one_line() -> None:
    found = Forecast(171.0, 1.6 * (1 << 30), 3200, (768, 512))
    assert str(found) == (
        "About 3 min and 1.6 GB of memory for 3,200 pictures of 512 x 768 "
        "(estimated from a one-second trial)."
    )


def test_what_is_no_size_is_refused_at_once(tmp_path: Path, cli: Callable[..., Any]) -> None:
    told = cli("fit", tmp_path, "-o", tmp_path / "m.makellos", "--memory", "much")
    assert told.code == 2
    assert "--memory is 'much'" in told.err


def test_statistics_of_many_parts_are_those_of_some(
    screws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from makellos.data.progress import no_progress
    from makellos.models import good_state
    from makellos.models.partition import Partition

    good = list(find_parts(screws).good())
    partition = Partition(good, good, "cross-fitted", used=good)
    monkeypatch.setattr(good_state, "_MOST", 7)
    some = good_state.learn_good_state(partition, None, no_progress)
    assert some is not None
    assert some.n_parts == 7


def test_closely_seen_parts_follow_each_other() -> None:
    from makellos.models.structure import closely_seen

    assert closely_seen(5000, regroups=False) == range(5000)
    assert closely_seen(90_000, regroups=True) == range(90_000)
    seen = np.array(sorted(closely_seen(90_000, regroups=False)))
    assert len(seen) == 5000
    assert (np.diff(seen) == 1).mean() > 0.97
    assert seen[-1] == 89_999
