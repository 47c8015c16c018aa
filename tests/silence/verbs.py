"""Carries out every verb once, in the working folder: ``verbs.py RESULT`` writes the exit codes.

It is a program of its own so that a test can start it in a home, a folder for temporary files and
an environment that are fresh.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

SMALL = ("--set", "image_size=32", "--false-alarms", "0.3")
# Exit codes that are right, and what makes each verb do something. The order is that of a user.
CASES: dict[str, tuple[set[int], list[str]]] = {
    "demo": ({0}, ["-o", "demo"]),
    "data synth": (
        {0},
        [
            "-o",
            "parts",
            *["--n-train", "8", "--n-test-good", "2", "--n-per-defect", "1", "--size", "64"],
        ],
    ),
    "data check": ({0, 1}, ["parts", "--json", "check.json"]),
    "data split": ({0}, ["parts", "-o", "parts.csv"]),
    "data align": ({0}, ["parts", "-o", "turned", "--way", "register"]),
    "data get": ({0}, ["list"]),
    "detectors": ({0}, []),
    "devices": ({0}, []),
    "audit": ({0}, ["parts", "-o", "audit", "--false-alarms", "0.3"]),
    "fit": ({0}, ["parts", "-o", "m.makellos", *SMALL]),
    "calibrate": ({0}, ["m.makellos", "--false-alarms", "0.5", "-o", "n.makellos"]),
    "verify": ({0}, ["m.makellos"]),
    "export": ({0}, ["m.makellos", "-o", "m.onnx"]),
    "info": ({0}, ["m.makellos"]),
    "inspect": ({0}, ["m.makellos", "parts/test", "-o", "rows", "--overlays"]),
    "drift": ({0}, ["m.makellos", "parts/train/good", "-o", "drift"]),
    "evaluate": ({0}, ["m.makellos", "parts", "-o", "report"]),
    "accept": ({0}, ["m.makellos", "parts", "-o", "acceptance", "--ledger", "tests.jsonl"]),
    "compare": ({0}, ["parts", "--models", "m.makellos,n.makellos", "-o", "comparison"]),
    "generate": ({0}, ["generative.makellos", "-n", "4", "-o", "grid.png"]),
    "queue": ({0}, ["runs.yaml"]),
    "tune": (
        {0},
        [
            "parts",
            "-o",
            "search",
            *["--detector", "padim", "--set", "image_size=32", "--n-trials", "1"],
        ],
    ),
    "watch": ({0}, ["m.makellos", "parts/test", "--store", "station", "--once"]),
    # Nobody has a password: it opens no door. test_silence.py has a station at work.
    "serve": ({2}, ["m.makellos", "--host", "192.0.2.1", "--store", "station"]),
    "users add": (
        {0},
        ["anna", "--role", "operator", "--password-file", "password.txt", "--store", "station"],
    ),
    "users list": ({0}, ["--store", "station"]),
    "users role": ({0}, ["anna", "engineer", "--store", "station"]),
    "users password": (
        {0},
        ["anna", "--password-file", "password.txt", "--store", "station"],
    ),
    "users disable": ({0}, ["anna", "--store", "station"]),
    "history verify": ({0}, ["--store", "station"]),
    "history judgements": ({2}, ["agreement", "--store", "station"]),  # nobody has said anything
    "history retention": ({0}, ["--picture-days", "90", "--store", "station"]),
    "history backup": ({0}, ["station.zip", "--store", "station"]),
    "history restore": ({0}, ["station.zip", "--store", "restored"]),
    # Only PyTorch explains; without it the verb says so.
    "explain": ({0, 2}, ["classifier.makellos", "parts/test/good/000.png", "-o", "looked"]),
}
GIVEN = {"password.txt", "runs.yaml", "generative.makellos", "classifier.makellos"}
MADE = {
    *("demo", "parts", "check.json", "parts.csv", "m.makellos", "n.makellos", "rows", "report"),
    *("comparison", "grid.png", "runs", "search", "looked", "audit", "turned", "m.onnx", "drift"),
    *(
        "acceptance",
        "tests.jsonl",
        "tests.jsonl.lock",
        "station",
        "agreement",
        "station.zip",
        "restored",
    ),
}


def _beside(name: str, folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _carry_out(verb: str) -> int:
    from makellos.cli import main

    words = [*verb.split(), *CASES[verb][1]]
    if verb != "demo":
        return main(words)
    # The demo has a size of its own: a detector that learns at once, on few small screws.
    from makellos.workflows import demo

    with pytest.MonkeyPatch.context() as patch:
        _beside("toy_detector", Path(__file__).parents[1]).install(patch)
        few = {"n_train": 8, "n_test_good": 2, "n_per_defect": 1, "size": 64, "false_alarms": 0.3}
        patch.setattr(demo, "demo", partial(demo.demo, **few))
        return main(words)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps({verb: _carry_out(verb) for verb in CASES}))
