"""A verb that is killed, or told to end, leaves nothing broken, and the next run has no trouble."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FULLY = bool(os.environ.get("MAKELLOS_FAULTS"))  # as `make faults` sets it
QUICK, SLOW = ("fit", "inspect", "evaluate"), ("tune", "queue")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")


def wrong(verb: str, number: str, n: int, folder: Path) -> str:
    """Return what is wrong after a verb was ended at `n` moments."""
    for name in ("work", "tmp"):
        (folder / name).mkdir(parents=True)
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    script = str(HERE / "killing_verbs.py")
    done = subprocess.run(
        [sys.executable, script, verb, number, str(n), str(folder / "work")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=1800 if FULLY else 300,
    )
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("verb", QUICK)
def test_a_verb_may_end_at_any_moment(verb: str, tmp_path: Path) -> None:
    if not FULLY:
        assert wrong(verb, "SIGKILL,SIGTERM", 4, tmp_path) == ""
    else:
        for number in ("SIGKILL", "SIGTERM", "SIGHUP"):
            assert wrong(verb, number, 10, tmp_path / number) == ""


@pytest.mark.parametrize(("verb", "number"), [("tune", "SIGKILL"), ("queue", "SIGTERM")])
def test_long_work_may_end_at_any_moment(verb: str, number: str, tmp_path: Path) -> None:
    if not FULLY:
        assert wrong(verb, number, 1, tmp_path) == ""
    else:
        for each in ("SIGKILL", "SIGTERM"):
            assert wrong(verb, each, 10, tmp_path / each) == ""
