"""Taking a model to other programs: its graph in one file, and what a verdict needs beside it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from makellos.calibration import Calibration, ZonedCalibration
from makellos.errors import ConfigurationError, MissingRuntimeError, ModelFileError
from makellos.inspection.engines import EngineChoice
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import GRAPH, ModelFile
from makellos.inspection.opening import recipe_of
from makellos.inspection.preprocessing import Vectors
from makellos.inspection.recipe import Recipe
from makellos.models.verification import compare, golden_expected, golden_found, score_golden

__all__ = [
    "BACKGROUND",
    "FACTS",
    "around_the_graph",
    "check_exportable",
    "differing",
    "facts",
    "facts_in",
    "folder_members",
    "graph_in_one",
    "ir_members",
    "is_exported",
    "kept_golden",
    "recipe_with",
    "with_facts",
]

FACTS = "model.json"
PROGRAM = ("verdict.py", "beside.py")
PLACE = "makellos.models.standalone."  # of the program's files here; in a folder they lie together
BACKGROUND = "telling part from background (--set background=...)"
_FORMAT = "makellos export"
_GOLDEN = re.compile(r"golden/[0-9]{2,}\.npy")
_LARGEST = 2_000_000_000  # bytes of one ONNX file
_REQUIREMENTS = "numpy\nonnxruntime\npillow  # reads picture files; arrays do without\n"


def check_exportable(model: ModelFile) -> None:
    """Raise `ConfigurationError` for a model whose score is no graph."""
    detector = model.manifest.detector
    if detector.runtime != "graph":
        raise ConfigurationError(
            f"{model.path} cannot be exported: {detector.name} scores with {detector.runtime}, and "
            "no graph holds its score. Inspect with makellos, or fit a detector with a graph, such "
            "as patchcore."
        )


def around_the_graph(manifest: Manifest) -> list[str]:
    """Return what makellos does around a model's graph, beside resizing, scoring and calibration.

    A program that leaves it out gives other verdicts.
    """
    preprocessing, acceptance = manifest.preprocessing, manifest.acceptance
    has = {
        "windows and views of recordings": manifest.signal is not None,
        "features of signals": isinstance(preprocessing, Vectors),
        "tiles": manifest.tiling is not None,
        "zones": manifest.zones is not None,
        "budgets per class": manifest.calibration.by_class,
        "turning parts to one pose (fit with --align none)": getattr(
            preprocessing, "alignment", None
        ),
        "laying parts onto a reference": getattr(preprocessing, "registration", None),
        "a reference for each part": preprocessing.compares is not None,
        "rules for regions": acceptance is not None and bool(acceptance.rules),
        BACKGROUND: manifest.background is not None,
    }
    return [name for name, is_there in has.items() if is_there]


def facts(model: ModelFile) -> dict[str, Any]:
    """Return what a program has to know of a model beside its graph, as plain data."""
    manifest = model.manifest
    calibration = manifest.calibration.calibration()
    beside = manifest.calibration.beside_calibration()
    size = manifest.preprocessing
    given: dict[str, Any] = (
        {"features": size.n_features}
        if isinstance(size, Vectors)
        else {
            "height": size.height,
            "width": size.width,
            "channels": size.channels,
            "white_level": size.white_level,
        }
    )
    return {
        "format": _FORMAT,
        "makellos": version("makellos"),
        "model": model.path.name,
        "created": manifest.created,
        "detector": manifest.detector.name,
        "learned_from": manifest.training.fingerprint,
        "input": given,
        "aggregation": manifest.aggregation.model_dump(),
        "calibration": {
            "threshold": calibration.threshold,
            "false_alarms": calibration.false_alarms,
            "look_again": calibration.look_again_limit,
            "promise": manifest.promise(),
            "steps": [] if isinstance(calibration, ZonedCalibration) else _steps(calibration),
            "beside_steps": [] if beside is None else _steps(beside),
            "beside_false_alarms": 0.0 if beside is None else beside.false_alarms,
        },
        "background": None if manifest.background is None else manifest.background.model_dump(),
        "classes": manifest.classes,
        "map_name": manifest.map_name,
        "not_in_the_graph": around_the_graph(manifest),
        "golden": [
            {"file": f"golden/{i:02d}.npy", "score": part.scores[0], "verdict": part.verdict}
            for i, part in enumerate(golden_expected(model))
        ],
    }


def _steps(calibration: Calibration) -> list[list[float]]:
    return [values.tolist() for values in calibration.steps]


def graph_in_one(model: ModelFile) -> bytes:
    """Return a model's graph with its weights inside; raise `ModelFileError` where it is too large.

    Raises `MissingRuntimeError` without onnx.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(
            "Exporting needs the package onnx, and that is not installed: pip install onnx."
        ) from error
    with model.unpacked() as folder:
        if sum(each.stat().st_size for each in folder.iterdir()) > _LARGEST:
            raise ModelFileError(f"{model.path} has more weights than one ONNX file can hold.")
        graph = onnx.load(folder / GRAPH)
    for tensor in graph.graph.initializer:
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
    raw: bytes = graph.SerializeToString()
    return raw


def with_facts(graph: bytes, told: Mapping[str, Any]) -> bytes:
    """Return an ONNX graph that carries `facts` as its metadata ``makellos``."""
    import onnx

    model = onnx.load_from_string(graph)
    onnx.helper.set_model_props(model, {"makellos": json.dumps(told)})
    model.producer_name, model.producer_version = "makellos", version("makellos")
    raw: bytes = model.SerializeToString()
    return raw


def ir_members(graph: bytes, folder: Path) -> tuple[bytes, bytes]:
    """Return a graph as OpenVINO's xml and bin, written to `folder` on the way, weights in f32.

    Raises `MissingRuntimeError` without OpenVINO.
    """
    from makellos.inspection.runtimes import import_openvino

    try:
        openvino = import_openvino()
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(
            "OpenVINO's format needs the package openvino, and that is not installed: pip install "
            "openvino."
        ) from error
    model = openvino.Core().read_model(graph)
    openvino.save_model(model, str(folder / "graph.xml"), compress_to_fp16=False)
    return (folder / "graph.xml").read_bytes(), (folder / "graph.bin").read_bytes()


def folder_members(model: ModelFile, graph: bytes, told: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a folder that runs by itself: graph, facts, program, golden parts."""
    import io

    members = {"graph.onnx": graph, FACTS: json.dumps(told, indent=1).encode()}
    for name in PROGRAM:
        text = Path(__file__).with_name("standalone").joinpath(name).read_text("utf-8")
        members[name] = text.replace(PLACE, "").encode()
    members["requirements.txt"] = _REQUIREMENTS.encode()
    for part, golden in zip(model.manifest.golden, told["golden"], strict=True):
        stream = io.BytesIO()
        np.save(stream, model.golden_picture(part.file), allow_pickle=False)
        members[golden["file"]] = stream.getvalue()
    return members


def is_exported(path: Path) -> bool:
    """Tell whether an ONNX file or OpenVINO's xml carries the facts that `with_facts` adds."""
    mark = json.dumps({"format": _FORMAT})[1:-1]
    raw = path.read_bytes()
    return mark.encode() in raw or html.escape(mark).encode() in raw


def facts_in(folder: Path) -> dict[str, Any] | None:
    """Return the facts of a folder that was exported; None for any other folder."""
    try:
        told = json.loads((folder / FACTS).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and told.get("format") == _FORMAT else None


def kept_golden(told: Mapping[str, Any] | None) -> set[str]:
    """Return the files of golden parts that facts name, relative to their folder."""
    listed = (told or {}).get("golden")
    named = [each.get("file") for each in listed or () if isinstance(each, dict)]
    return {name for name in named if isinstance(name, str) and _GOLDEN.fullmatch(name)}


@contextmanager
def recipe_with(model: ModelFile, graph: bytes | Path) -> Iterator[Recipe]:
    """Give a model's recipe with another graph in place of its own."""
    with recipe_of(model) as recipe:
        yield replace(recipe, graph=graph)


def differing(
    model: ModelFile, recipe: Recipe, engines: tuple[EngineChoice, ...] | None = None
) -> tuple[dict[str, float], list[str]]:
    """Return by engine how far golden scores differ at most, and what flips, in words."""
    expected, differences, wrong = golden_expected(model), {}, []
    for choice in engines or recipe.engines():
        found = golden_found(model, score_golden(model, recipe, choice))
        compared = compare(zip(expected, found, strict=True))
        differences[str(choice)] = compared.max_score_difference
        wrong += [
            f"{one.name} is {one.verdict} ({max(one.scores, default=np.nan):.5g}), but "
            f"{other.verdict} ({max(other.scores, default=np.nan):.5g}) on {choice}"
            for one, other in compared.flipped
        ]
    return differences, wrong
