"""What a search searches: ranges and choices of a detector's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from makellos.detectors import Detector, Parameter
from makellos.detectors.registry import no_parameter
from makellos.errors import ConfigurationError

__all__ = ["Choices", "Range", "SearchSpace", "described", "search_space"]

Value = int | float | str | bool
_FORMS = "LOW..HIGH, LOW..HIGH:log or A,B,C"


@dataclass(frozen=True)
class Range:
    """Hold the lowest and the highest number that is tried, both included.

    `logarithmic` draws as many numbers from 1 to 10 as from 10 to 100; `whole` draws whole ones.
    """

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False

    def holds(self, value: object) -> bool:
        """Tell whether a value may be drawn."""
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choices:
    """Hold the values that are tried, in no order."""

    values: tuple[Value, ...]

    def holds(self, value: object) -> bool:
        """Tell whether a value may be drawn."""
        return value in self.values


SearchSpace = Mapping[str, Range | Choices]


def search_space(
    cls: type[Detector], asked: Mapping[str, str], fixed: Mapping[str, Any]
) -> dict[str, Range | Choices]:
    """Return what is searched: what the detector declares, and what was asked for in its place.

    `asked` maps parameters to LOW..HIGH, LOW..HIGH:log or A,B,C; `fixed` names parameters that
    keep their value. Raises `ConfigurationError` for names and values that are not accepted, for a
    parameter that is both, and where nothing is left to search.
    """
    for key in asked:
        if key not in cls.parameters:
            raise no_parameter(cls, key)
        if key == "seed":
            raise ConfigurationError(
                "The seed cannot be searched: a lucky seed is not a better model. Use --seed."
            )
        if key in fixed:
            raise ConfigurationError(
                f"{key} is both searched and set to {fixed[key]!r}. Leave out --search {key}=… or "
                f"--set {key}=…"
            )
    found: dict[str, Range | Choices] = {}
    for key, parameter in cls.parameters.items():
        if key in asked:
            found[key] = _parsed(cls.name, key, asked[key], parameter)
        elif parameter.search and key not in fixed:
            found[key] = _declared(cls.name, key, parameter)
    if not found:
        raise ConfigurationError(
            f"There is nothing to search: {cls.name} declares no range for a parameter that is "
            f"not set. Give one with --search KEY={_FORMS.partition(',')[0]}; its parameters are "
            f"{', '.join(key for key in cls.parameters if key != 'seed')}."
        )
    return found


def described(space: SearchSpace) -> dict[str, str]:
    """Return the space as text, such as ``1e-5..0.1:log`` and ``ssim | l2``."""
    texts = {}
    for key, values in space.items():
        if isinstance(values, Choices):
            texts[key] = " | ".join(str(value) or "''" for value in values.values)
        else:
            texts[key] = f"{values.low}..{values.high}{':log' if values.logarithmic else ''}"
    return texts


def _declared(detector: str, key: str, parameter: Parameter) -> Range | Choices:
    numbers = [v for v in parameter.search if isinstance(v, int | float) and type(v) is not bool]
    if type(parameter.default) in (int, float) and len(numbers) == 2:
        found: Range | Choices = _range(
            key, parameter, (numbers[0], numbers[1]), logarithmic=parameter.logarithmic
        )
    else:
        found = Choices(parameter.search)
    _check(detector, key, parameter, found, str(parameter.search))
    return found


def _parsed(detector: str, key: str, text: str, parameter: Parameter) -> Range | Choices:
    numeric = type(parameter.default) in (int, float)
    try:
        if ".." in text and numeric:
            bounds, logarithmic = text.removesuffix(":log"), text.endswith(":log")
            low, _, high = bounds.partition("..")
            numbers = (_number(parameter, low), _number(parameter, high))
            found: Range | Choices = _range(key, parameter, numbers, logarithmic=logarithmic)
        else:
            found = Choices(
                tuple(dict.fromkeys(parameter.parse(v.strip()) for v in text.split(",")))
            )
    except ValueError:
        raise ConfigurationError(
            f"--search {key}={text}: that is not a range. Expected {_FORMS}, of "
            f"{parameter.accepted}."
        ) from None
    _check(detector, key, parameter, found, text)
    return found


def _number(parameter: Parameter, text: str) -> float:
    return float(text) if type(parameter.default) is float else int(text)


def _range(
    key: str, parameter: Parameter, numbers: tuple[float, float], *, logarithmic: bool
) -> Range:
    low, high = numbers
    if not low < high:
        raise ConfigurationError(
            f"The range of {key} is {low:g}..{high:g}; its first number must be the smaller one. "
            f"To fix the value, use --set {key}={low:g}."
        )
    if logarithmic and low <= 0:
        raise ConfigurationError(
            f"The range of {key} is {low:g}..{high:g}:log; a logarithmic range must start above 0."
        )
    return Range(low, high, logarithmic, whole=type(parameter.default) is int)


def _check(
    detector: str, key: str, parameter: Parameter, found: Range | Choices, text: str
) -> None:
    """Raise `ConfigurationError` where a value that may be drawn is not accepted."""
    values: tuple[Value, ...]
    values = found.values if isinstance(found, Choices) else (found.low, found.high)
    for value in values:
        if not parameter.accepts(value):
            raise ConfigurationError(
                f"{detector}: {key} is searched in {text}, and {value!r} is not accepted; expected "
                f"{parameter.accepted}. {parameter.meaning}"
            )
    if len(values) < 2:
        raise ConfigurationError(
            f"{key} has only one value to search, {values[0]!r}. Give two or more, or set it with "
            f"--set {key}={values[0]}."
        )
