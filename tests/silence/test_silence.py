"""Nothing leaves the machine: no verb opens a connection or writes beside its outputs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from makellos.cli.app import application

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
OF_A_CI = ("CI", "TF_BUILD", "JENKINS_URL")  # where these are set some reports are left out


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


verbs = _module(HERE / "verbs.py")


@dataclass(frozen=True)
class Watched:
    """Hold the folders of a process that is watched, all below one."""

    root: Path
    without: str = ""

    def __post_init__(self) -> None:
        for name in ("home", "tmp", "work"):
            (self.root / name).mkdir(parents=True)

    @property
    def work(self) -> Path:
        return self.root / "work"

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Python in the working folder, with a home and a folder for temporary files."""
        homes = ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA")
        environment = {
            **{name: value for name, value in os.environ.items() if not self._is_foreign(name)},
            **dict.fromkeys(homes, str(self.root / "home")),
            **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(self.root / "tmp")),
            "PYTHONPATH": os.pathsep.join([str(HERE / "watch"), str(PROJECT / "src")]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MAKELLOS_CACHE": str(self.root / "cache"),
            "WATCH_LOG": str(self.root / "log"),
            "WATCH_ROOT": str(self.root),
            "WATCH_WITHOUT": self.without,
        }
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )

    def _is_foreign(self, name: str) -> bool:
        return name in OF_A_CI or name.startswith(("XDG_", "WATCH_", "PYTHON", "ORT_", "TORCH"))

    def seen(self) -> str:
        log = self.root / "log"
        return log.read_text() if log.exists() else ""

    def was_silent(self) -> None:
        assert self.seen() == ""
        for name in ("home", "tmp"):
            assert list((self.root / name).rglob("*")) == []
        kept = [path for path in (self.root / "cache").rglob("*") if path.is_file()]
        assert all(path.match("compiled/*.compiled") for path in kept)


def every_verb(command: Any, words: str = "") -> Iterator[str]:
    below = getattr(command, "commands", {})
    if not below:
        yield words
    for name, verb in below.items():
        yield from every_verb(verb, f"{words} {name}".strip())


def test_every_verb_has_its_case() -> None:
    assert sorted(verbs.CASES) == sorted(every_verb(typer.main.get_command(application())))


@pytest.mark.parametrize("without", ["", "openvino"], ids=["openvino", "onnxruntime alone"])
def test_no_verb_speaks_to_others_or_leaves_a_file(tmp_path: Path, without: str) -> None:
    watched = Watched(tmp_path / "watched", without)
    generating = _module(PROJECT / "tests" / "workflows" / "test_generate.py")
    generating.write_generative(watched.work / "generative.makellos")
    (watched.work / "password.txt").write_text("correct horse\n")
    (watched.work / "runs.yaml").write_text(
        "output: runs\nruns:\n"
        "  - {data: parts, detector: padim, false_alarms: 0.3, set: {image_size: 32}}\n"
    )
    done = watched.run(HERE / "verbs.py", watched.root / "codes.json")
    assert done.returncode == 0, done.stderr + watched.seen()
    codes = json.loads((watched.root / "codes.json").read_text())
    wrong = {verb: code for verb, code in codes.items() if code not in verbs.CASES[verb][0]}
    assert wrong == {}, done.stderr
    watched.was_silent()
    assert {path.name for path in watched.work.iterdir()} <= verbs.GIVEN | verbs.MADE


def test_a_station_is_silent(tmp_path: Path, toy_model: Path) -> None:
    watched = Watched(tmp_path / "watched")
    done = watched.run(HERE / "station.py", toy_model)
    assert done.returncode == 0, done.stderr + watched.seen()
    watched.was_silent()
    assert {path.name for path in watched.work.iterdir()} == {"station"}


@pytest.mark.needs_torch
def test_training_and_explaining_are_silent(tmp_path: Path, screws: Path) -> None:
    watched = Watched(tmp_path / "watched")
    model = ("-o", "m.makellos", "--detector", "classifier")
    small = ["backbone=resnet18", "weights=none", "image_size=32", "epochs=1", "head_epochs=1"]
    split = ["data", "split", screws, "-o", "parts.csv"]
    fit = ["fit", "parts.csv", *model, *(word for pair in small for word in ("--set", pair))]
    explain = ["explain", "m.makellos", next((screws / "test" / "good").iterdir()), "-o", "looked"]
    for words in (split, fit, explain):
        done = watched.run("-m", "makellos", *words)
        assert done.returncode == 0, done.stderr + watched.seen()
    watched.was_silent()


OWN_PROCESS = """
import os, sys, time
import openvino_telemetry
import makellos
assert "openvino" not in sys.modules
inspector = makellos.Inspector(sys.argv[1])
assert inspector.inspect(sys.argv[2]).verdict == "ok"
assert sys.modules["openvino_telemetry"] is openvino_telemetry
import openvino
assert 'ORT_DISABLE_TELEMETRY' not in os.environ
time.sleep(1)
"""


def test_a_process_of_ones_own_is_silent_and_finds_all_as_it_was(
    tmp_path: Path, toy_model: Path, toy_parts: Path
) -> None:
    watched = Watched(tmp_path / "watched")
    done = watched.run("-c", OWN_PROCESS, toy_model, toy_parts / "train" / "good" / "001.png")
    assert done.returncode == 0, done.stderr + watched.seen()
    watched.was_silent()


def test_what_reports_can_still_be_imported_afterwards(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "watched")
    script = (
        "from makellos.inspection.runtimes import import_onnxruntime, import_openvino\n"
        "import_openvino(), import_onnxruntime(), import_openvino()\n"
        "import openvino_telemetry\n"
        "assert openvino_telemetry.Telemetry\n"
        "import sys, openvino\n"
        "assert 'openvino.tools.ovc' not in sys.modules\n"
        "from onnx import helper, save\n"
        "ends = [helper.make_tensor_value_info(name, 1, [2]) for name in 'xy']\n"
        "node = helper.make_node('Relu', 'x', 'y')\n"
        "graph = helper.make_graph([node], 'g', ends[:1], ends[1:])\n"
        "save(helper.make_model(graph), 'g.onnx')\n"
        "assert len(openvino.convert_model('g.onnx').inputs) == 1\n"
    )
    done = watched.run("-c", script)
    assert done.returncode == 0, done.stderr
    watched.was_silent()


PLOTS = """
import sys; from makellos.detectors.networks.activation_maps import METHODS
assert "matplotlib" not in sys.modules
import sys; from pytorch_grad_cam.utils import image
from matplotlib import lines
assert isinstance(image.Line2D([0], [0]), lines.Line2D)
assert image.plt.figure is sys.modules["matplotlib.pyplot"].figure
"""


@pytest.mark.needs_torch
def test_what_draws_plots_is_there_for_who_uses_it(tmp_path: Path) -> None:
    done = Watched(tmp_path / "watched").run("-c", PLOTS)
    assert done.returncode == 0, done.stderr


def test_the_runtimes_are_imported_in_one_place() -> None:
    imported = re.compile(r"^\s*(import|from) (openvino|onnxruntime)\b", re.MULTILINE)
    source = PROJECT / "src"
    importing = [p for p in source.rglob("*.py") if imported.search(p.read_text("utf-8"))]
    # An exported folder runs without makellos; its program is copied there, and none of ours.
    assert [p.name for p in importing if p.parent.name != "standalone"] == []


def test_an_exported_program_switches_reports_off_before_it_computes() -> None:
    program = (PROJECT / "src/makellos/models/standalone/verdict.py").read_text("utf-8")
    switch, runtime = program.index('"ORT_DISABLE_TELEMETRY"'), program.index("import onnxruntime")
    assert switch < runtime < program.index("InferenceSession")


def test_the_watch_sees_what_it_is_there_for(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "watched")
    connect = "import socket; socket.create_connection(('203.0.113.1', 80))"
    assert watched.run("-c", connect).returncode != 0
    assert "socket.getaddrinfo" in watched.seen()
    watched.run("-c", f"open({str(tmp_path / 'beside')!r}, 'w')")
    assert f"wrote {tmp_path / 'beside'}" in watched.seen()
    if sys.platform == "linux":
        assert watched.run("-c", "import socket; socket.socket()").returncode < 0
