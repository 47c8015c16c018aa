"""Compiled graphs that are kept: the same figures, and nothing believed that is not whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from small_models import SHAPE, cell_graph, score_graph

from makellos.errors import ModelFileError
from makellos.inspection import compiled, engines
from makellos.inspection.compiled import cache_folder, keep_compiled, kept_compiled
from makellos.inspection.engines import EngineChoice, available_engines, open_engine

OPENVINO = [choice for choice in available_engines() if choice.runtime == "openvino"]
pytestmark = pytest.mark.skipif(not OPENVINO, reason="OpenVINO alone is kept compiled")
BATCH = np.random.default_rng(0).random((2, *SHAPE), np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAKELLOS_CACHE", str(tmp_path))
    return tmp_path / "compiled"


def opened(graph: bytes, identity: str, choice: EngineChoice = OPENVINO[-1]) -> np.ndarray:
    engine = open_engine(graph, choice, shape=SHAPE, identity=identity)
    return engine.run(BATCH)["anomaly_map"]


def test_a_graph_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for choice in OPENVINO:
        first = opened(cell_graph(), "a", choice)
        with monkeypatch.context() as patch:
            patch.setattr(engines, "_compiled_here", None)  # nothing is compiled again
            patch.setattr(engines, "check_graph", None)
            assert np.array_equal(opened(cell_graph(), "a", choice), first)
    assert len(list(folder.iterdir())) == len(OPENVINO)


def test_graphs_and_uses_are_told_apart(folder: Path) -> None:
    opened(cell_graph(), "a")
    opened(cell_graph(), "b")
    open_engine(cell_graph(), OPENVINO[-1], shape=SHAPE, workers=2, identity="a")
    assert len(list(folder.iterdir())) == 3


def test_nothing_is_kept_without_an_identity_or_where_it_is_switched_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(cell_graph(), "")
    monkeypatch.setenv("MAKELLOS_CACHE", "off")
    opened(cell_graph(), "a")
    assert cache_folder() is None
    assert not folder.exists()


@pytest.mark.parametrize(
    "break_it",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:],
        lambda raw: b"",
        lambda raw: b"[]\n" + raw,
        lambda raw: raw[: raw.index(b"\n") + 1],
    ],
    ids=["cut", "altered", "empty", "other header", "header alone"],
)
def test_what_is_damaged_is_compiled_again(folder: Path, break_it) -> None:  # type: ignore[no-untyped-def]
    first = opened(cell_graph(), "a")
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(break_it(whole))
    assert kept_compiled(path.stem) is None
    assert np.array_equal(opened(cell_graph(), "a"), first)
    assert kept_compiled(path.stem) is not None, "it is whole again"


def test_what_openvino_does_not_take_for_its_own_is_compiled_again(folder: Path) -> None:
    first = opened(cell_graph(), "a")
    (path,) = folder.iterdir()
    keep_compiled(path.stem, b"no graph", ["anomaly_map"])
    assert np.array_equal(opened(cell_graph(), "a"), first)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_what_others_may_have_written_is_not_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_compiled("a", b"blob", [])
    assert kept_compiled("a") is not None
    (folder / "a.compiled").chmod(0o666)
    assert kept_compiled("a") is None
    keep_compiled("b", b"blob", [])
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert kept_compiled("b") is None


def test_a_refused_graph_is_never_kept(folder: Path) -> None:
    with pytest.raises(ModelFileError):
        opened(b"no graph", "a")
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAKELLOS_CACHE", str(tmp_path / "file"))
    assert opened(cell_graph(), "a").shape[0] == len(BATCH)


def test_what_was_used_longest_ago_makes_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_MOST_BYTES", 3500)
    for i, key in enumerate("abc"):
        keep_compiled(key, bytes(900), [])
        if key != "c":
            os.utime(folder / f"{key}.compiled", (i, i))
        if key == "b":
            kept_compiled("a")  # is used again, and so outlives b
    assert kept_compiled("b") is not None
    os.utime(folder / "b.compiled", (1, 1))
    keep_compiled("d", bytes(1200), [])
    assert [kept_compiled(key) is not None for key in "abcd"] == [True, False, True, True]
    keep_compiled("e", bytes(2000), [])  # more than half of what may be kept
    assert kept_compiled("e") is None


def test_the_folder_is_the_users_own_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAKELLOS_CACHE")
    found = cache_folder()
    assert found is not None and "makellos" in str(found)


def test_another_graph_may_have_the_same_identity_only_by_mistake(folder: Path) -> None:
    """What is kept belongs to its identity: whoever gives one vouches for it."""
    opened(cell_graph(), "a")
    engine = open_engine(score_graph(), OPENVINO[-1], shape=SHAPE, identity="a")
    assert set(engine.run(BATCH)) == {"anomaly_map"}
    assert len(list(folder.iterdir())) == 1


class Failing:
    """Be a compiled graph that can neither be exported nor run."""

    def __init__(self) -> None:
        self.exported = 0

    def export_model(self) -> None:
        self.exported += 1
        raise RuntimeError("it cannot be exported")

    def create_infer_request(self) -> None:
        raise RuntimeError("at some line:\nno memory")


def test_what_cannot_be_exported_works_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Failing()
    engines._keep(failing, "key", ["anomaly_map"])
    assert kept_compiled("key") is None
    monkeypatch.setenv("MAKELLOS_CACHE", "off")
    engines._keep(failing, "key", ["anomaly_map"])
    assert failing.exported == 1, "nothing is exported that nobody keeps"


def test_a_graph_that_fails_when_it_is_first_run_is_the_models_fault() -> None:
    engine = engines._OpenVinoEngine(Failing(), ["anomaly_map"], OPENVINO[-1], 1)
    with pytest.raises(ModelFileError, match="cannot run the graph: no memory"):
        engine.run(BATCH)
