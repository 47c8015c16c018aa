"""The verbs that list: detectors, devices."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from makellos.cli.console import Json, answer, table
from makellos.errors import adding

if TYPE_CHECKING:
    from makellos.detectors import Detector


def detectors(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this one's parameters.")
    ] = None,
    json: Json = None,
) -> None:
    """List the detectors, or one detector's parameters with their ranges.

    Example: makellos detectors patchcore
    """
    from makellos.detectors import detector_class
    from makellos.detectors import detectors as registered
    from makellos.detectors.loading import extras_with
    from makellos.detectors.parameters import known_elsewhere

    chosen = {name: detector_class(name)} if name else registered()
    extras = {key: extras_with(cls().packages()) for key, cls in chosen.items()}
    if name is None:
        rows = [[key, cls.summary, extras[key]] for key, cls in chosen.items()]
        lines = [
            table(["detector", "what it is", "extra"], rows),
            f"\nAn extra is needed to fit; add it with, for example, {adding('train')}.",
            "'makellos fit --detector auto' tries several and keeps the best.",
            "To see a detector's parameters: makellos detectors NAME",
        ]
    else:
        lines = _parameter_lines(chosen[name], extras[name])
    described = {
        key: {
            "summary": cls.summary,
            "extra": extras[key] or None,
            "learns": cls.learns,
            "needs_labels": cls.learns == "labels",
            "uses_labels": cls.learns != "good",
            "parameters": {k: asdict(p) for k, p in cls.parameters.items()},
            "known_elsewhere": known_elsewhere(cls.parameters, most=100),
            "presets": {k: dict(v) for k, v in cls.presets.items()},
        }
        for key, cls in chosen.items()
    }
    answer("\n".join(lines), json, described)


def _parameter_lines(cls: type[Detector], extra: str) -> list[str]:
    from makellos.detectors.parameters import known_elsewhere

    lines = [f"{cls.name}: {cls.summary}\n"]
    if extra:
        lines.append(f"To fit it: {adding(extra)}\n")
    rows = [[key, repr(p.default), p.accepted, p.meaning] for key, p in cls.parameters.items()]
    lines.append(table(["parameter", "default", "accepted", "meaning"], rows))
    elsewhere = known_elsewhere(cls.parameters, most=3)
    if elsewhere:
        names = [[", ".join(others), key] for key, others in elsewhere.items()]
        lines.append("\n" + table(["known elsewhere as", "here"], names))
    for preset, values in cls.presets.items():
        lines.append(f"\n--preset {preset}: {', '.join(f'{k}={v}' for k, v in values.items())}")
    return lines


def devices(json: Json = None) -> None:
    """Show what this machine can run on.

    Example: makellos devices
    """
    import os
    import platform

    from makellos.inspection.engines import available_engines

    engines, training = [str(choice) for choice in available_engines()], _training_devices()
    found = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "engines": engines,
        "training": training,
    }
    rows = [
        ["processor", f"{found['processor']}, {found['cores']} cores"],
        ["engines for inspecting", ", ".join(engines) + " (the first is used)"],
        ["devices for training", ", ".join(training) or f"none: {adding('train')}"],
    ]
    answer(table(["what", "found"], rows), json, found)


def _training_devices() -> list[str]:
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += [
            f"cuda ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        found.append("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        found.append("xpu")
    return found
