"""Parameters of detectors as data: default, accepted values, meaning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from makellos.errors import ConfigurationError

__all__ = ["Parameter", "Value", "read_parameters"]

Value = int | float | str | bool


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Declare a detector's parameter: default, accepted range or choices, and meaning.

    `search` is what `makellos tune` searches: lowest and highest number, `logarithmic` or not, or
    some of the choices; empty for a parameter that is not searched.
    """

    default: Value
    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    search: tuple[Value, ...] = ()
    logarithmic: bool = False

    @property
    def accepted(self) -> str:
        """Return a phrase that says which values are accepted."""
        if self.choices:
            return " or ".join(repr(choice) for choice in self.choices)
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        bounds = [f"at least {self.low:g}"] if self.low is not None else []
        bounds += [f"at most {self.high:g}"] if self.high is not None else []
        return ", ".join([kind[type(self.default)], *bounds])

    def accepts(self, value: object) -> bool:
        """Tell whether `value` has the kind of the default and lies in the range."""
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (self.choices and value not in self.choices):
            return False
        if not isinstance(value, int | float):
            return True
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def parse(self, text: str) -> Value:
        """Return the value that a user typed; raises `ValueError` when it is of another kind."""
        kind = type(self.default)
        if kind is bool:
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            if text.lower() not in words:
                raise ValueError(text)
            return words[text.lower()]
        return kind(text)


def read_parameters(path: Path) -> dict[str, Any]:
    """Return the parameters that a JSON file holds; raise `ConfigurationError` for another file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f'{path} must hold an object such as {{"image_size": 512}}.')
    return found
