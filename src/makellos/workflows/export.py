"""Export: a model for programs that do not use makellos, tested before it is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

from makellos.data.parts import Part
from makellos.data.progress import Progress, no_progress
from makellos.errors import (
    ConfigurationError,
    InputError,
    ModelFileError,
    StorageError,
    suggest,
)
from makellos.inspection.engines import EngineChoice, available_engines
from makellos.inspection.inspector import choose_engine
from makellos.inspection.model_file import ModelFile, read_model
from makellos.inspection.opening import recipe_of
from makellos.inspection.recipe import Recipe
from makellos.models.exporting import (
    BACKGROUND,
    around_the_graph,
    check_exportable,
    differing,
    facts,
    facts_in,
    folder_members,
    graph_in_one,
    ir_members,
    is_exported,
    kept_golden,
    recipe_with,
    with_facts,
)
from makellos.models.provenance import known
from makellos.models.quantising import OPERATIONS, Batch, Listening, quantised
from makellos.models.scoring import score_parts
from makellos.models.standalone.verdict import Model as Standalone
from makellos.models.verification import Judged, compare
from makellos.storage import claim_file, claim_folder, scratch_folder, write_bytes
from makellos.subjects import find_tested, subject_of, subject_of_model

__all__ = ["ExportSummary", "Format", "export"]

Format = Literal["onnx", "openvino", "folder"]
Precision = Literal["f32", "int8"]
_SUFFIXES = {".onnx": "onnx", ".xml": "openvino"}
_MOST_HEARD = 64  # parts whose values give the ranges of int8
_FEWEST = 10  # good parts for int8: some give ranges, the others test
_N_TIMED = 9


@dataclass(frozen=True)
class ExportSummary:
    """Say what was exported, and how it was tested.

    `runtimes` maps each runtime that ran it to the largest difference from the golden parts'
    scores. `not_in_the_graph` is what makellos does around the graph, which another program has to
    do as well. Of int8 `n_tested` good parts that gave no ranges were tested as well, and `gain`
    holds bytes and milliseconds for a part, before and after.
    """

    model: str
    output: str
    format: str
    precision: str
    files: list[str]
    n_bytes: int
    runtimes: dict[str, float]
    not_in_the_graph: list[str]
    n_tested: int = 0
    gain: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Tested:
    """Hold a graph in int8 that kept all verdicts."""

    graph: bytes
    n_tested: int
    gain: dict[str, dict[str, float]]


def export(
    model: Path | str,
    output: Path | str,
    *,
    format: Format | None = None,  # noqa: A002 -- as the option is called
    precision: Precision = "f32",
    data: Path | str | None = None,
    progress: Progress | None = None,
) -> ExportSummary:
    """Write a model's graph as ONNX or OpenVINO's IR, or a folder that runs by itself.

    By default the name tells the `format`: ``.onnx``, ``.xml``, else a folder, which holds a
    program that needs NumPy and ONNX Runtime alone. Nothing is written unless the golden parts keep
    their verdicts on every runtime that is to run it. `precision` ``int8`` takes good parts, in
    `data`: some give the ranges of values, the others have to keep their verdicts too.

    Raises `ConfigurationError` for a model that the format cannot hold, `ModelFileError` where a
    verdict flips, `InputError` for too few good parts, `MissingRuntimeError` and `StorageError`.
    """
    report = progress or no_progress
    read, target = read_model(Path(model)), Path(output)
    kind = _format(target, format)
    _check(read, kind, precision, data)
    told = {**facts(read), "precision": precision}
    _claim(target, kind, told)
    read.check()
    report("packing the graph", 0, 1)
    graph, tested = graph_in_one(read), None
    engines = _engines(kind)
    if precision == "int8":
        tested = _in_int8(read, graph, engines, _good_parts(read, data), report)
        graph = tested.graph
    with scratch_folder() as scratch:
        members = _members(read, graph, told, kind, scratch)
        differences = _tested(read, members, kind, engines, scratch)
    files = _write(target, members, kind)
    report("packing the graph", 1, 1)
    return ExportSummary(
        model=str(model),
        output=str(target),
        format=kind,
        precision=precision,
        files=files,
        n_bytes=sum(map(len, members.values())),
        runtimes=differences,
        not_in_the_graph=_left_to_do(read, kind),
        n_tested=0 if tested is None else tested.n_tested,
        gain={} if tested is None else tested.gain,
    )


def _format(target: Path, given: str | None) -> Format:
    kind = given or _SUFFIXES.get(target.suffix.lower(), "folder")
    if kind not in get_args(Format):
        raise ConfigurationError(
            f"The format is {kind!r}; expected one of {', '.join(get_args(Format))}. "
            f"{suggest(kind, get_args(Format))}"
        )
    suffix = next((each for each, name in _SUFFIXES.items() if name == kind), "")
    if suffix and target.suffix.lower() != suffix:
        raise ConfigurationError(
            f"{target} must end in {suffix}, such as {target.with_suffix(suffix)}."
        )
    return kind  # type: ignore[return-value]


def _check(read: ModelFile, kind: Format, precision: str, data: Path | str | None) -> None:
    """Raise `ConfigurationError` for what a format cannot hold, before any work."""
    check_exportable(read)
    if precision not in get_args(Precision):
        raise ConfigurationError(f"The precision is {precision!r}; expected f32 or int8.")
    if precision == "int8" and data is None:
        raise ConfigurationError(
            "int8 needs good parts: some set the ranges of values, others test it: --data GOOD."
        )
    if precision == "int8" and read.manifest.is_exact():
        raise ConfigurationError(
            f"{read.path} computes in f32 alone: a lower precision would round away the "
            "differences between its scores. Export it with --precision f32."
        )
    if precision == "f32" and data is not None:
        raise ConfigurationError("--data is for --precision int8; leave it out.")
    around = _left_to_do(read, kind)
    if kind == "folder" and around:
        raise ConfigurationError(
            f"The program of a folder does not do what this model needs: {'; '.join(around)}. "
            "Without that, verdicts would differ. Inspect with makellos, fit a model without it, "
            "or export the graph alone (-o NAME.onnx) and do it in your own program."
        )


def _left_to_do(read: ModelFile, kind: Format) -> list[str]:
    """Return what verdicts need that is not in what is exported."""
    around = around_the_graph(read.manifest)
    return [each for each in around if kind != "folder" or each != BACKGROUND]


def _claim(target: Path, kind: Format, told: dict[str, Any]) -> None:
    """Raise `StorageError` where what is to be written would replace another's, before any work."""
    foreign = "was not exported by makellos"
    if kind != "folder":
        main = target.with_suffix(".onnx" if kind == "onnx" else ".xml")
        claim_file(main, is_exported, foreign)
        if kind == "openvino":  # the weights of an xml that makellos wrote are its own as well
            claim_file(main.with_suffix(".bin"), lambda _: main.is_file(), foreign)
        return
    before = facts_in(target)
    if target.is_dir() and any(target.iterdir()) and before is None:
        raise StorageError(
            f"{target} holds other files, and is left alone. Choose another folder, or empty it."
        )
    for name in sorted(kept_golden(told) - kept_golden(before)):
        if (target / name).exists():
            claim_file(target / name, lambda _: False, foreign)
    claim_folder(target)


def _engines(kind: Format) -> tuple[EngineChoice, ...]:
    """Return the engines of this machine that a format is for."""
    if kind == "folder":
        return (EngineChoice("onnxruntime", "f32"),)
    engines = available_engines()
    return tuple(e for e in engines if kind == "onnx" or e.runtime == "openvino")


def _allowed(recipe: Recipe, engines: Sequence[EngineChoice]) -> tuple[EngineChoice, ...]:
    return tuple(e for e in engines if not recipe.exact or e.precision == "f32")


def _members(
    read: ModelFile, graph: bytes, told: dict[str, Any], kind: Format, scratch: Path
) -> dict[str, bytes]:
    """Return what is to be written, by name or suffix."""
    if kind == "onnx":
        return {".onnx": with_facts(graph, told)}
    if kind == "openvino":
        xml, weights = ir_members(with_facts(graph, told), scratch)
        return {".bin": weights, ".xml": xml}
    return folder_members(read, graph, told)


def _tested(
    read: ModelFile,
    members: dict[str, bytes],
    kind: Format,
    engines: Sequence[EngineChoice],
    scratch: Path,
) -> dict[str, float]:
    """Return how far golden scores differ in what is to be written; raise where a verdict flips."""
    graph: bytes | Path
    if kind == "openvino":
        graph = scratch / "graph.xml"
    else:
        graph = members[".onnx" if kind == "onnx" else "graph.onnx"]
    with recipe_with(read, graph) as recipe:
        differences, wrong = differing(read, recipe, _allowed(recipe, engines))
    if kind == "folder":
        draft = scratch / "draft"
        for name, raw in members.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(raw)
        wrong += Standalone(draft).check()
    if wrong:
        raise ModelFileError(
            f"{read.path} was not exported, because golden parts do not keep their verdicts: "
            f"{'; '.join(wrong)}. 'makellos verify {read.path}' shows which runtimes differ."
        )
    return differences


def _write(target: Path, members: dict[str, bytes], kind: Format) -> list[str]:
    if kind != "folder":
        for suffix, raw in members.items():
            write_bytes(target.with_suffix(suffix), raw)
        return [str(target.with_suffix(suffix)) for suffix in members]
    for name in kept_golden(facts_in(target)) - members.keys():
        (target / name).unlink(missing_ok=True)
    for name, raw in members.items():
        (target / name).parent.mkdir(exist_ok=True)
        write_bytes(target / name, raw)
    return [str(target / name) for name in members]


def _good_parts(read: ModelFile, data: Path | str | None) -> tuple[list[Part], list[Part]]:
    """Return good parts that give ranges, and others that test; the model knows none of these.

    Where it knows all of them, or none, every second one tests.
    """
    found = find_tested(read.path, data or "")
    kind = subject_of_model(read.manifest).kind
    if read.manifest.signal is not None or subject_of(found).kind != kind:
        raise InputError(
            f"int8 needs pictures of good parts, and a model of pictures; {read.path} was fitted "
            f"on {kind.name}, and {data} holds {found.kind.name}. Export it with --precision f32."
        )
    good = [part for part in found if part.is_good]
    if len(good) < _FEWEST:
        raise InputError(
            f"{data} holds {len(good)} good parts; int8 needs at least {_FEWEST}: some "
            "set the ranges of values, others test it. Add good parts."
        )
    seen = {part.name for part in known(good, read.manifest.training.contents)}
    ranging = [part for part in good if part.name in seen]
    testing = [part for part in good if part.name not in seen]
    if min(len(ranging), len(testing)) < _FEWEST // 2:
        ranging, testing = good[::2], good[1::2]
    step = -(-len(ranging) // _MOST_HEARD)
    return ranging[::step], testing


def _in_int8(
    read: ModelFile,
    graph: bytes,
    engines: Sequence[EngineChoice],
    good: tuple[list[Part], list[Part]],
    progress: Progress,
) -> _Tested:
    """Return the graph in int8, of all that keep every verdict the one with most in int8.

    Raises `ModelFileError` where none does, and says by how much it fails.
    """
    ranging, testing = good
    failures: list[tuple[float, list[str], dict[str, dict[str, float]]]] = []
    with recipe_of(read) as recipe:
        reference = choose_engine(read.manifest.engine.choice(), recipe.engines())
        batches = _heard(recipe, reference, ranging, progress)
        expected = _judged(read, recipe, reference, testing)
        for operations in OPERATIONS:
            progress("quantising", len(failures), len(OPERATIONS))
            made = quantised(graph, batches, operations)
            fast = replace(recipe, graph=made)
            differences, wrong = differing(read, fast, _allowed(recipe, engines))
            for choice in _allowed(recipe, engines):
                here = _judged(read, fast, choice, testing)
                compared = compare(zip(expected, here, strict=True))
                differences[str(choice)] = max(
                    differences[str(choice)], compared.max_score_difference
                )
                wrong += [f"{one.name} on {choice}" for one, _ in compared.flipped]
            gain = _gain(graph, made, recipe, batches[0], engines)
            if not wrong:
                return _Tested(made, len(testing), gain)
            failures.append((max(differences.values()), wrong, gain))
    difference, wrong, gain = min(failures, key=lambda each: len(each[1]))
    raise ModelFileError(
        f"{read.path} was not exported in int8, because verdicts flip: {'; '.join(wrong[:5])}"
        f"{f' and {len(wrong) - 5} more' if len(wrong) > 5 else ''}. Scores differ by up to "
        f"{difference:.4g} (threshold {read.manifest.calibration.calibration().threshold:.4g}). "
        f"It would have taken {_gain_text(gain)}. Export it with --precision f32."
    )


def _heard(
    recipe: Recipe, choice: EngineChoice, parts: Sequence[Part], progress: Progress
) -> list[Batch]:
    """Return what the graph is given for parts, tiles included."""
    scorer = recipe.open(choice)
    listening = Listening(scorer.engine, _MOST_HEARD)
    scorer.engine = listening
    for done, part in enumerate(parts, start=1):
        scorer.many([recipe.preprocessing.read(part)])
        progress("measuring ranges", done, len(parts))
    return listening.heard


def _judged(
    read: ModelFile, recipe: Recipe, choice: EngineChoice, parts: Sequence[Part]
) -> list[Judged]:
    calibration = read.manifest.calibration.calibration()
    found = score_parts(recipe, choice, parts)
    return [
        Judged(part.name, calibration.verdict(scored.score), (scored.score,))
        for part, scored in zip(parts, found, strict=True)
    ]


def _gain(
    graph: bytes, made: bytes, recipe: Recipe, batch: Batch, engines: Sequence[EngineChoice]
) -> dict[str, dict[str, float]]:
    """Return bytes, and milliseconds for a part on each engine, before and after."""
    gain = {"bytes": {"before": float(len(graph)), "after": float(len(made))}}
    for choice in engines:
        gain[f"{choice} ms"] = {
            "before": _milliseconds(recipe, choice, batch),
            "after": _milliseconds(replace(recipe, graph=made), choice, batch),
        }
    return gain


def _milliseconds(recipe: Recipe, choice: EngineChoice, batch: Batch) -> float:
    engine, times = recipe.open(choice).engine, []
    for _ in range(_N_TIMED):
        begun = time.perf_counter()
        engine.run(batch)
        times.append(time.perf_counter() - begun)
    return 1e3 * median(times)


def _gain_text(gain: dict[str, dict[str, float]]) -> str:
    texts = []
    for name, each in gain.items():
        if name == "bytes":
            texts.append(f"{each['after'] / 1e6:.1f} MB in place of {each['before'] / 1e6:.1f}")
        else:
            on = name.removesuffix(" ms")
            texts.append(f"{each['after']:.1f} ms in place of {each['before']:.1f} on {on}")
    return ", ".join(texts)
