"""Ends a verb at moments when it is about to write: ``killing_verbs.py VERB SIGNALS N WORK``.

It prints what is wrong afterwards, a line each. Each run is a fork of this process, which has
imported what all need, so that many are quick. The moments are spread evenly over all at which a
file or a folder is made, renamed or removed; every other run begins where nothing was written yet.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest

from makellos.cli import main
from makellos.errors import MakellosError
from makellos.inspection.model_file import read_model

TIMEOUT = 120.0  # seconds for a run
SMALL = ("--set", "image_size=32")
QUEUE = """
output: runs
runs:
  - {data: parts, detector: padim, false_alarms: 0.3, set: {image_size: 32}}
"""
VERBS = {
    "fit": ["fit", "parts", "-o", "out/m.makellos", "--false-alarms", "0.3"],
    "inspect": ["inspect", "toy.makellos", "parts/test", "-o", "out", "--overlays"],
    "evaluate": ["evaluate", "toy.makellos", "parts", "-o", "out", "--json", "out/again.json"],
    "tune": ["tune", "parts", "-o", "out", "--detector", "padim", *SMALL, "--n-trials", "1"],
    "queue": ["queue", "runs.yaml"],
}
GIVEN = {"parts", "toy.makellos", "runs.yaml", "log"}
NAMES = (str, bytes, os.PathLike)
MOMENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def prepare(work: Path) -> None:
    """Write small parts, a model of them and a queue."""
    toy = _toy()
    toy.write_parts(work / "parts", n_train=9)
    (work / "runs.yaml").write_text(QUEUE)
    code, _ = run(["fit", "parts", "-o", "toy.makellos", "--false-alarms", "0.3"])
    assert code == 0, (work / "log").read_text()


def run(words: list[str], at: int = 0, number: int = 0, *, real: bool = False) -> tuple[int, int]:
    """Return the exit code of a verb and how many moments there were; end it at one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_the_verb(words, at, number, writer, real=real)
    os.close(writer)
    deadline = time.monotonic() + TIMEOUT
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    told = os.read(reader, 100)
    os.close(reader)
    if not told:
        return -signal.SIGKILL, at
    code, n = map(int, told.split())
    return code, n


def _be_the_verb(words: list[str], at: int, number: int, writer: int, *, real: bool) -> None:
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    n, here, scratch = 0, Path.cwd(), Path(tempfile.gettempdir())

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal n
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if writes or event in MOMENTS:
            place = (
                Path(here, os.fsdecode(arguments[0])) if isinstance(arguments[0], NAMES) else here
            )
            if place.is_relative_to(here) or place.is_relative_to(scratch):
                n += 1
                if n == at:
                    os.kill(os.getpid(), number)

    sys.addaudithook(count)
    with pytest.MonkeyPatch.context() as patch:
        if not real:
            _toy().install(patch)
        code = main(words)
    os.write(writer, f"{code} {n}".encode())
    os._exit(0)


def _toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "toy_detector", Path(__file__).parents[1] / "toy_detector.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _model(path: Path) -> None:
    read = read_model(path)
    for member in read.manifest.members:
        read.read(member)


def _table(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as stream:
        assert len({len(row) for row in csv.reader(stream)}) <= 1


def _page(path: Path) -> None:
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def _picture(path: Path) -> None:
    assert cv2.imread(str(path)) is not None


def _lines(path: Path) -> None:
    for line in path.read_text().splitlines():
        json.loads(line)


WHOLE: dict[str, Callable[[Path], Any]] = {
    ".makellos": _model,
    ".json": lambda path: json.loads(path.read_text()),
    ".jsonl": _lines,
    ".csv": _table,
    ".html": _page,
    ".png": _picture,
}


def broken(work: Path) -> Iterator[str]:
    """Yield the outputs that are there and not whole."""
    for path in outputs(work):
        if path.suffix in WHOLE and not path.name.startswith("."):
            try:
                WHOLE[path.suffix](path)
            except (AssertionError, MakellosError, ValueError) as error:
                yield f"{path} is not whole: {error}"


def outputs(work: Path) -> list[Path]:
    made = [path for path in work.iterdir() if path.name not in GIVEN]
    inside = [below for path in made for below in path.rglob("*")]
    return sorted(path for path in [*made, *inside] if path.is_file())


def left(work: Path) -> Iterator[str]:
    """Yield what only a run that still lives may have."""
    yield from (f"{path} is left" for path in outputs(work) if path.name.endswith(".partial"))
    yield from (f"{path} is left" for path in Path(tempfile.gettempdir()).iterdir())


def clear(work: Path) -> None:
    for path in work.iterdir():
        if path.name not in GIVEN:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def problems(verb: str, numbers: list[int], n: int, work: Path) -> Iterator[str]:
    words, real = VERBS[verb], verb in ("tune", "queue")
    usual, moments, n_moments = None, [6], 0
    if n > 1:
        code, n_moments = run(words, real=real)
        usual = {path.name for path in outputs(work)}
        if code != 0 or n_moments < 3:
            yield f"{verb} ends with {code} after {n_moments} moments: {(work / 'log').read_text()}"
            return
        moments = sorted({1 + i * (n_moments - 1) // (n - 1) for i in range(n)})
    for i, (moment, number) in enumerate(zip(moments, itertools.cycle(numbers))):
        if i % 2 or verb in ("tune", "queue"):  # which have nothing to do a second time
            clear(work)
        where = f"{verb}, moment {moment} of {n_moments}"
        code, _ = run(words, moment, number, real=real)
        expected = {-signal.SIGKILL} if number == signal.SIGKILL else {130, 0}
        if code not in expected:
            yield f"{where}: exit code {code}: {(work / 'log').read_text()}"
        yield from (f"{where}: {problem}" for problem in broken(work))
        if number != signal.SIGKILL:
            yield from (f"{where}: {problem}" for problem in left(work))
        code, _ = run(words, real=real)
        if code != 0:
            yield f"{where}: the next run ends with {code}: {(work / 'log').read_text()}"
        found = {path.name for path in outputs(work)}
        if usual is not None and found != usual:
            yield f"{where}: the next run leaves {sorted(found ^ usual)}"
        yield from (
            f"{where}: after the next run {problem}" for problem in [*broken(work), *left(work)]
        )


if __name__ == "__main__":
    asked, named, count, place = sys.argv[1:]
    os.chdir(place)
    prepare(Path(place))
    signals = [int(getattr(signal, name)) for name in named.split(",")]
    for problem in problems(asked, signals, int(count), Path(place)):
        print(problem, flush=True)
