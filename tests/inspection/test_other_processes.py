"""One inspector in several processes: pickled to those begun afresh, and used by forked ones."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_models import SHAPE, spotted_picture, write_small_model

from makellos.errors import ModelFileError
from makellos.inspection import Inspector, available_engines
from makellos.inspection.acceptance import Acceptance, Rule
from makellos.inspection.engines import EngineChoice

FORKING = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
PICTURES = [spotted_picture(3, 17), np.full((30, 40), 120, np.uint8)]

FORKED = """
import os, signal, sys
import numpy as np
from makellos.inspection import Inspector
from makellos.inspection.engines import EngineChoice

model, runtime, workers, pictures = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
pictures = list(np.load(pictures).values())
inspector = Inspector(model, workers=workers, engine=EngineChoice(runtime, "f32"))


def told():
    inspections = inspector.inspect_many(pictures * 3)
    return " ".join(f"{each.verdict} {each.score:.4f}" for each in inspections)


print(told(), flush=True)
for _ in range(2):  # one process, and one that was forked off by it
    if os.fork():
        _, status = os.wait()
        os._exit(os.waitstatus_to_exitcode(status))
    signal.alarm(40)
    print(told(), flush=True)
    print(inspector.engine, flush=True)
    again = Inspector(model, workers=3 - workers)
    assert [each.verdict for each in again.inspect_many(pictures)] == told().split()[:4:2]
sys.stdout.flush()
os._exit(0)  # as multiprocessing ends what it forked
"""


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model") / "cells.makellos")


@FORKING
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_forked_process_goes_on_inspecting(
    model_path: Path, tmp_path: Path, runtime: str, workers: int
) -> None:
    if EngineChoice(runtime, "f32") not in available_engines():
        pytest.skip(f"{runtime} is not installed")
    np.savez(tmp_path / "pictures.npz", *PICTURES)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            FORKED,
            model_path,
            runtime,
            str(workers),
            tmp_path / "pictures.npz",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parent, *forked = done.stdout.splitlines()
    assert parent.startswith("reject 0.5")
    assert forked == [parent, "onnxruntime f32"] * 2


def test_pickled_inspector_gives_the_same(model_path: Path) -> None:
    inspector = Inspector(
        model_path,
        workers=2,
        engine=EngineChoice("onnxruntime", "f32"),
        acceptance=Acceptance(rules=[Rule(more_than=0)]),
    )
    raw = pickle.dumps(inspector)
    assert len(raw) < 2_000  # no graph and no weights travel along
    again = pickle.loads(raw)  # noqa: S301
    assert (again.workers, again.engine) == (2, inspector.engine)
    for before, after in zip(
        inspector.inspect_many(PICTURES), again.inspect_many(PICTURES), strict=True
    ):
        assert {**before.row(), "milliseconds": 0} == {**after.row(), "milliseconds": 0}


def test_pickle_finds_its_model_from_another_folder(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(model_path.parent)
    raw = pickle.dumps(Inspector(model_path.name))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(raw).inspect(PICTURES[0]).verdict == "reject"  # noqa: S301


def test_pickle_refuses_another_model_in_its_place(model_path: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(model_path, tmp_path / "cells.makellos"))
    raw = pickle.dumps(Inspector(path))
    write_small_model(path, preprocessing={"height": SHAPE[1], "width": SHAPE[2], "white_level": 9})
    with pytest.raises(ModelFileError, match="not the model that the pickled inspector had"):
        pickle.loads(raw)  # noqa: S301
    path.unlink()
    with pytest.raises(ModelFileError, match="does not exist"):
        pickle.loads(raw)  # noqa: S301
