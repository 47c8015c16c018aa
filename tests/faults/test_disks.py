"""Disks that are full and folders that may not be written: told, and nothing is left or lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MAIN = [sys.executable, "-m", "makellos"]
RUNS = "output: {out}\nruns:\n  - {{data: {parts}, detector: padim, false_alarms: 0.3}}\n"
# What each verb writes; OUT is a folder, the rest are small parts and a model of them.
VERBS = {
    "fit": ["fit", "PARTS", "-o", "OUT/m.makellos", "--false-alarms", "0.1"],
    "calibrate": ["calibrate", "MODEL", "--false-alarms", "0.5", "-o", "OUT/m.makellos"],
    "inspect": ["inspect", "MODEL", "PARTS/test", "-o", "OUT"],
    "overlays": ["inspect", "MODEL", "PARTS/test", "-o", "OUT", "--overlays"],
    "csv": ["inspect", "MODEL", "PARTS/test", "--csv", "OUT/rows.csv"],
    "parquet": ["inspect", "MODEL", "PARTS/test", "--parquet", "OUT/rows.parquet"],
    "json": ["inspect", "MODEL", "PARTS/test", "--json", "OUT/rows.json"],
    "evaluate": ["evaluate", "MODEL", "PARTS", "-o", "OUT"],
    "compare": ["compare", "PARTS", "--models", "MODEL,MODEL2", "-o", "OUT"],
    "split": ["data", "split", "PARTS", "-o", "OUT/parts.csv"],
    "synth": ["data", "synth", "-o", "OUT/screws", "--n-train", "3", "--size", "64"],
    "demo": ["demo", "-o", "OUT/demo"],
    "tune": ["tune", "PARTS", "-o", "OUT", "--n-trials", "1"],
    "queue": ["queue", "RUNS"],
}
every_verb = pytest.mark.parametrize("verb", VERBS)
FORBIDDEN: set[Path] = set()


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not FORBIDDEN or event not in ("open", "os.mkdir", "os.rename", "sqlite3.connect"):
        return
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    if isinstance(arguments[0], str | os.PathLike):
        place = Path(os.path.abspath(os.fspath(arguments[0])))  # noqa: PTH100
        if any(place.is_relative_to(folder) for folder in FORBIDDEN):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nothing be written to a folder, whoever asks: tests run as root, too."""
    if _refuse not in _HOOKS:
        _HOOKS.append(_refuse)
        sys.addaudithook(_refuse)
    FORBIDDEN.add(folder)
    try:
        yield
    finally:
        FORBIDDEN.clear()


_HOOKS: list[Any] = []


@pytest.fixture
def words(
    toy: ModuleType,
    toy_model: Path,
    toy_parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, Path], list[str]]:
    """Return a function that gives the arguments of a verb with its output in a folder."""
    toy.install(monkeypatch)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    second = tmp_path / "second.makellos"
    second.write_bytes(toy_model.read_bytes())

    def fill(verb: str, out: Path) -> list[str]:
        runs = tmp_path / "runs.yaml"
        runs.write_text(RUNS.format(out=out, parts=toy_parts))
        names = {"PARTS": toy_parts, "MODEL2": second, "MODEL": toy_model, "OUT": out}
        names |= {"RUNS": runs}
        found = []
        for word in VERBS[verb]:
            for name, place in names.items():
                word = word.replace(name, str(place))  # noqa: PLW2901
            found.append(word)
        return found

    return fill


@every_verb
def test_a_folder_that_may_not_be_written_is_told_before_the_work(
    verb: str,
    words: Callable[[str, Path], list[str]],
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr("makellos.inspection.scorer.Scorer.many", work)
    monkeypatch.setattr("makellos.detectors.contract.Detector.fit", work)
    monkeypatch.setattr("makellos.detectors.contract.Detector.cross_fit", work)
    out = tmp_path / "out"
    out.mkdir()
    with read_only(out):
        told = cli(*words(verb, out))
    assert told.code == 2, told.everything
    assert "Permission denied" in told.err
    assert str(out) in told.err
    assert list(out.iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@every_verb
def test_a_file_in_place_of_the_folder_is_told(
    verb: str, words: Callable[[str, Path], list[str]], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (tmp_path / "file").write_text("a file")
    told = cli(*words(verb, tmp_path / "file" / "out"))
    assert told.code == 2, told.everything
    assert str(tmp_path / "file") in told.err
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such limit")
@pytest.mark.parametrize("verb", ["fit", "calibrate", "inspect", "overlays", "evaluate", "split"])
def test_a_full_disk_is_told_and_leaves_what_was_there(
    verb: str, words: Callable[[str, Path], list[str]], tmp_path: Path, cli: Callable[..., Any]
) -> None:
    import resource

    out = tmp_path / "out"
    given = words(verb, out)
    assert cli(*given).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    largest = max(len(content) for path, content in before.items() if path.parent == out)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A temporary model is refused, too, where there is room for it no more.
    for limit in (0, largest // 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            told = cli(*given)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert told.code == 2, told.everything
        assert "File too large" in told.err
        after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert set(after) == set(before)
        kept = {path for path in before if path.suffix not in (".csv", ".jsonl")}
        assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
        for path in set(before) - kept:  # rows up to here, whole
            text = after[path].decode()
            assert text.endswith("\n")
            assert text == before[path].decode() or len(text) <= largest
        assert list((tmp_path / "tmp").iterdir()) == []


def test_two_runs_with_one_output_do_not_meet(
    toy_model: Path, toy_parts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [*MAIN, "inspect", str(toy_model), str(toy_parts / "test"), "-o", str(out)]
    runs = [
        subprocess.Popen([*command, "--overlays", *more], stderr=subprocess.PIPE)
        for more in ([], ["--engine", "onnxruntime f32"])
    ]
    for each in runs:
        _, told = each.communicate(timeout=100)
        assert each.returncode == 0, told
    for name, n in (("inspections.csv", 21), ("inspections.jsonl", 20)):
        content = (out / name).read_bytes()
        assert content.count(b"\n") == n
        assert b"\0" not in content
    assert len(list((out / "overlays").rglob("*.png"))) == 20
    names = {"inspections.csv", "inspections.jsonl", "overlays"}
    assert {path.name for path in out.iterdir()} == names
