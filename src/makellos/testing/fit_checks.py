"""Checks of constructors, parameters, fitting and cross-fitting."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import SkipTest

import numpy as np

from makellos.data.parts import Part
from makellos.detectors import Detector, Graph, Parameter
from makellos.errors import ConfigurationError, InputError, NotFittedError
from makellos.testing.workbench import Workbench

__all__: list[str] = []


def constructor_only_stores(bench: Workbench) -> None:
    """Check that the constructor takes keyword-only values, stores them and does nothing else."""
    for name, parameter in inspect.signature(bench.detector).parameters.items():
        expect(
            parameter.kind is inspect.Parameter.KEYWORD_ONLY,
            f"the constructor's {name} is not keyword-only",
        )
    # Objects that no parameter accepts: the constructor must neither look at them nor change them.
    marks: dict[str, object] = {name: object() for name in bench.detector.parameters}
    detector = bench.detector(**marks)
    for name, mark in marks.items():
        expect(
            getattr(detector, name, None) is mark,
            f"the constructor does not store {name} as it was given",
        )
    more = sorted(set(vars(detector)) - set(marks))
    expect(not more, f"the constructor sets {more}, which are no parameters; set them in _learn")
    expect(detector.get_parameters() == marks, "get_parameters does not return what was given")


def parameters_are_declared(bench: Workbench) -> None:
    """Check that parameters are declared with the constructor's defaults, and presets use them."""
    cls = bench.detector
    declared = {name: parameter.default for name, parameter in cls.parameters.items()}
    signature = inspect.signature(cls).parameters
    defaults = {name: parameter.default for name, parameter in signature.items()}
    expect(declared == defaults, f"declared are {declared}, the constructor has {defaults}")
    for name, parameter in cls.parameters.items():
        expect(bool(parameter.meaning.strip()), f"{name} is declared without a meaning")
        expect(
            parameter.accepts(parameter.default),
            f"{name}: its default {parameter.default!r} is not {parameter.accepted}",
        )
    for preset, values in cls.presets.items():
        for name, value in values.items():
            expect(
                name in cls.parameters and cls.parameters[name].accepts(value),
                f"preset {preset!r}: {name}={value!r} is not an accepted parameter",
            )
    expect(bool(getattr(cls, "summary", "").strip()), "the detector has no summary")
    expect(bool(getattr(cls, "name", "").strip()), "the detector has no name; register it")


def ranges_are_enforced(bench: Workbench) -> None:
    """Check that fit refuses values out of range or of another kind, and names the parameter."""
    for name, parameter in bench.detector.parameters.items():
        for value in _unaccepted(parameter):
            detector = bench.detector(**{**bench.parameters, name: value})
            what = f"fit with {name}={value!r}, which its declaration forbids,"
            error = _refusal(what, ConfigurationError, _fitting(detector, bench.parts))
            expect(
                name in str(error) and repr(value) in str(error),
                f"the error about {name}={value!r} does not name both: {error}",
            )


def unfitted_graph_is_refused(bench: Workbench) -> None:
    """Check that a detector that has learned nothing gives no graph."""
    _refusal("graph() before fit", NotFittedError, bench.make().graph)


def too_few_parts_are_refused(bench: Workbench) -> None:
    """Check that learning from fewer parts than the detector says it needs is an input error."""
    for n_parts in range(bench.detector.least_parts):
        fitting = _fitting(bench.make(), bench.parts[:n_parts])
        _refusal(f"fit on {n_parts} parts", InputError, fitting)


def fit_returns_self(bench: Workbench) -> None:
    """Check that fit returns self, keeps the parameters, and learns into names that end in `_`."""
    detector = bench.fitted
    expect(bench.returned is detector, "fit does not return self")
    expected = bench.make().get_parameters()
    expect(detector.get_parameters() == expected, "fit changes parameters; learn into name_")
    odd = [n for n in vars(detector) if n not in expected and not n.endswith("_")]
    expect(not odd, f"fit sets {odd}; names of what is learned end in '_'")


def progress_is_reported(bench: Workbench) -> None:
    """Check that fit tells what it is doing, how much is done and of how much."""
    expect(bool(bench.progress), "fit never calls progress")
    for what, done, total in bench.progress:
        expect(
            isinstance(what, str) and bool(what) and 0 <= done <= total and total > 0,
            f"fit reports {done} of {total} as progress of {what!r}",
        )


def failed_fit_leaves_nothing(bench: Workbench) -> None:
    """Check that a fit that breaks off leaves an unfitted detector, not half of a fitted one."""
    missing = Part(source=Path(bench.folder, "missing.png"), name="missing.png")
    detector = bench.make()
    fitting = _fitting(detector, [*bench.parts[:3], missing])
    _refusal("fit on a picture that does not exist", InputError, fitting)
    _refusal("graph() after a fit that failed", NotFittedError, detector.graph)


def fit_is_deterministic(bench: Workbench) -> None:
    """Check that two fits with one seed on the same parts give the same outputs, bit for bit."""
    again = bench.make().fit(bench.parts).graph()
    _expect_same(bench, again, "a second fit on the same parts")
    _expect_same(bench, bench.fitted.graph(), "a second call of graph()")


def refit_forgets(bench: Workbench) -> None:
    """Check that a fit after one on other parts gives what a fresh fit gives, bit for bit."""
    used = bench.make().fit(bench.other_parts)
    _expect_same(bench, used.fit(bench.parts).graph(), "a fit after a fit on other parts")


def cross_fit_leaves_folds_out(bench: Workbench) -> None:
    """Check that a fold's graph has not seen the fold: its odd part looks odd to it alone."""
    if bench.detector.learns == "labels":
        raise SkipTest(
            f"{bench.detector.__name__} learns from labels, of which the odd part has none"
        )
    parts = [bench.odd_part, *bench.parts[:9]]
    detector = bench.make()
    graphs = detector.cross_fit(parts, [i % 2 for i in range(len(parts))])
    expect(len(graphs) == 2, f"cross_fit over 2 folds gives {len(graphs)} graphs")
    odd = [bench.picture(bench.odd_part)]
    unseen, seen, full = (
        bench.scores(graph, odd)[0] for graph in (graphs[0], graphs[1], detector.graph())
    )
    expect(
        unseen > max(seen, full),
        f"the graph without the fold of an odd part gives it {unseen:.6g}; graphs that learned "
        f"from it give {seen:.6g} and {full:.6g}, and must be lower",
    )


def expect(kept: bool, message: str) -> None:
    """Raise `AssertionError` with a message unless `kept`."""
    if not kept:
        raise AssertionError(message)


def _unaccepted(parameter: Parameter) -> Iterator[object]:
    default = parameter.default
    if parameter.choices:
        yield "no such choice"
    if isinstance(default, bool | str):
        yield 17
        return
    yield from ("3", math.nan)
    if isinstance(default, int):
        yield 2.5
    step = 1 if isinstance(default, int) else 1.0
    kind = type(default)
    if parameter.low is not None and kind(parameter.low) - step != parameter.also:
        yield kind(math.floor(parameter.low)) - step
    if parameter.high is not None:
        yield kind(math.ceil(parameter.high)) + step


def _fitting(detector: Detector, parts: Sequence[Part]) -> Callable[[], object]:
    return lambda: detector.fit(parts)


def _refusal(what: str, kind: type[Exception], action: Callable[[], object]) -> Exception:
    """Return the error of `kind` that `action` raises; without it the check fails."""
    try:
        action()
    except kind as error:
        return error
    except Exception as error:
        raise AssertionError(
            f"{what} raises {type(error).__name__} ({error}), not {kind.__name__}"
        ) from error
    raise AssertionError(f"{what} does not raise {kind.__name__}")


def _expect_same(bench: Workbench, graph: Graph, what: str) -> None:
    ours, other = bench.outputs(bench.graph), bench.outputs(graph)
    expect(set(ours) == set(other), f"{what} gives outputs {set(other)}, not {set(ours)}")
    for name, values in ours.items():
        difference = float(np.abs(values.astype(np.float64) - other[name]).max())
        expect(
            np.array_equal(values, other[name]),
            f"{what} gives another {name}; the largest difference is {difference:.3g}",
        )
