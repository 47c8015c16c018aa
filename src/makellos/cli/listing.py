"""The verbs that list: detectors, devices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from makellos.cli.console import Json, say, table, write_json


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

    chosen = {name: detector_class(name)} if name else registered()
    extras = {key: extras_with(cls().packages()) for key, cls in chosen.items()}
    quiet = str(json) == "-"
    if name is None:
        rows = [[key, cls.summary, extras[key]] for key, cls in chosen.items()]
        say(table(["detector", "what it is", "extra"], rows), quietly=quiet)
        say(
            "\nAn extra is needed to fit, and added by, say, pip install 'makellos[train]'.",
            quietly=quiet,
        )
        say("'makellos fit --detector auto' tries some of them and keeps the best.", quietly=quiet)
        say("Parameters of one: makellos detectors NAME", quietly=quiet)
    else:
        for cls in chosen.values():
            say(f"{cls.name}: {cls.summary}\n", quietly=quiet)
            if extras[cls.name]:
                say(f"To fit it: pip install 'makellos[{extras[cls.name]}]'\n", quietly=quiet)
            parameters = [
                [key, repr(p.default), p.accepted, p.meaning] for key, p in cls.parameters.items()
            ]
            say(table(["parameter", "default", "accepted", "meaning"], parameters), quietly=quiet)
            for preset, values in cls.presets.items():
                chosen_values = ", ".join(f"{key}={value}" for key, value in values.items())
                say(f"\n--preset {preset}: {chosen_values}", quietly=quiet)
    if json is not None:
        described = {
            key: {
                "summary": cls.summary,
                "extra": extras[key] or None,
                "learns": cls.learns,
                "needs_labels": cls.learns == "labels",
                "uses_labels": cls.learns != "good",
                "parameters": {k: asdict(p) for k, p in cls.parameters.items()},
                "presets": {k: dict(v) for k, v in cls.presets.items()},
            }
            for key, cls in chosen.items()
        }
        write_json(json, described)


def devices(json: Json = None) -> None:
    """Show what this machine can compute on.

    Example: makellos devices
    """
    import os
    import platform

    from makellos.inspection.engines import available_engines

    engines = [str(choice) for choice in available_engines()]
    found = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "engines": engines,
        "training": _training_devices(),
    }
    rows = [
        ["processor", f"{found['processor']}, {found['cores']} cores"],
        ["engines for inspecting", ", ".join(engines) + " (the first is taken)"],
        [
            "devices for training",
            ", ".join(_training_devices()) or "none: pip install 'makellos[train]'",
        ],
    ]
    say(table(["what", "found"], rows), quietly=str(json) == "-")
    if json is not None:
        write_json(json, found)


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
