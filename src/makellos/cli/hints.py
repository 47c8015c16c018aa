"""What people type who know other tools, and how makellos calls it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["hint"]

# The verbs by which other tools know the same work; those of `data` have two words.
_VERBS = {
    "fit": "train learn training build",
    "inspect": "predict prediction infer inference detect score run apply classify",
    "evaluate": "test eval evaluation validate val measure",
    "generate": "sample samples synthesise synthesize",
    "explain": "gradcam grad-cam heatmap heatmaps",
    "compare": "bench benchmark",
    "tune": "optimise optimize hpo sweep search",
    "calibrate": "recalibrate threshold",
    "verify": "parity doctor",
    "export": "convert onnx openvino quantise quantize deploy",
    "queue": "batch jobs",
    "info": "show describe summary",
    "detectors": "models methods algorithms list",
    "devices": "gpus gpu hardware engines",
    "data check": "check",
    "data split": "split",
    "data get": "download get fetch",
    "data synth": "synth synthetic render",
    "--version": "version",
    "--help": "help",
}
# What stands in the way of an option that has another name here.
_OPTIONS = {
    "--detector": "--model --method --algorithm --algo --architecture",
    "--device": "--gpu --gpus --cuda --accelerator",
    "--false-alarms": "--threshold --contamination --budget --alpha --fpr --false-alarm",
    "--output": "--out --save --out-dir --output-dir --save-dir --results",
}
_EXAMPLES = {"--device": " cuda", "--false-alarms": " 0.01"}
_PER_CENT = re.compile(r"(?:--?[\w-]+=)?([0-9]+(?:[.,][0-9]+)?) ?%?")


def hint(error: Any, arguments: Sequence[str]) -> str | None:
    """Return what was probably meant by arguments that the parser did not take; None if unknown."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    option = getattr(error, "option_name", None)
    if option is not None:
        return _option_hint(str(option), arguments, command)
    if "No such command" in str(getattr(error, "message", "")):
        return _verb_hint(error)
    return _number_hint(arguments)


def _verb_hint(error: Any) -> str | None:
    typed = re.search(r"'(.*?)'", str(error.message))
    word = typed[1].casefold() if typed else ""
    group = getattr(error.ctx, "info_name", None) if getattr(error.ctx, "parent", None) else None
    for verb, others in _VERBS.items():
        if word in others.split() and (group is None or verb.startswith(f"{group} ")):
            return f"Did you mean: makellos {verb}"
    return None


def _option_hint(option: str, arguments: Sequence[str], command: Any) -> str | None:
    known = {name: each for each in getattr(command, "params", ()) for name in each.opts}
    for own, others in _OPTIONS.items():
        if own in known and option in others.split():
            return f"Did you mean: {own}{_EXAMPLES.get(own, '')}"
    parameter = _parameter(option.lstrip("-").replace("-", "_"))
    if "--set" not in known or parameter is None:
        return None
    of, dot, _ = str(known["--set"].metavar).rpartition(".")  # DETECTOR.KEY=VALUE of compare
    setting = f"{of}{dot}{parameter}={_value(option, arguments)}"
    return f"Detector parameters are set with: --set {setting}"


def _parameter(name: str) -> str | None:
    """Return the parameter of a detector that a name stands for; None where there is none."""
    from makellos.detectors import detectors
    from makellos.detectors.parameters import called_here

    known = {each for cls in detectors().values() for each in cls.parameters}
    return next(iter(called_here(name, known)), None)


def _value(option: str, arguments: Sequence[str]) -> str:
    for place, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option and place + 1 < len(arguments):
            following = arguments[place + 1]
            return "VALUE" if following.startswith("-") else following
    return "VALUE"


def _number_hint(arguments: Sequence[str]) -> str | None:
    for argument in arguments:
        found = _PER_CENT.fullmatch(argument)
        if found and argument.endswith("%"):
            share = float(found[1].replace(",", ".")) / 100
            return f"Write {found[1]} % as {share:.10g}"
        if found and "," in argument:
            return f"Write {found[1]} with a decimal point: {found[1].replace(',', '.')}"
    return None
