"""Checks of what the metrics are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.errors import ConfigurationError, InputError, suggest

VERDICTS = ("ok", "look_again", "reject")


def check_scores(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the scores as a float64 vector, or say why they cannot be ranked."""
    given = np.asarray(scores)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "fiu"):
        raise InputError(
            f"Scores are a list with one number per part; received {given.dtype} of shape "
            f"{given.shape}. Pass one anomaly score per part."
        )
    values = given.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(
            f"{bad.size} of {values.size} scores are not finite; the first is {values[bad[0]]} at "
            f"index {bad[0]}. Expected finite numbers. Leave out the parts that could not be "
            "scored."
        )
    return values


def check_defective(
    defective: ArrayLike, n_parts: int, name: str = "defective"
) -> NDArray[np.bool_]:
    """Return a yes or no for every part as a bool vector, or say why it is none."""
    given = np.asarray(defective)
    if given.size == 0:
        given = given.astype(np.bool_)
    if given.dtype.kind not in "biu" or not np.isin(given, (0, 1)).all():
        raise InputError(
            f"`{name}` holds True or False (or 1 and 0) per part; received {given.dtype}. "
            "Names of defects are turned into it by `defective_from_labels`."
        )
    check_length(name, given.shape, n_parts)
    return given.astype(np.bool_)


def check_length(name: str, shape: tuple[int, ...], n_parts: int) -> None:
    """Say so when an argument has not one entry per part."""
    if shape != (n_parts,):
        raise InputError(
            f"`{name}` needs one entry per part: received shape {shape} for {n_parts} parts. "
            "Pass lists of equal length, in the same order."
        )


def check_verdicts(verdicts: Sequence[str]) -> NDArray[np.str_]:
    """Return the verdicts as an array, or name the first that is none."""
    for index, verdict in enumerate(verdicts):
        if verdict not in VERDICTS:
            raise InputError(
                f"Verdict {verdict!r} at index {index} cannot be counted. "
                f"{suggest(str(verdict), VERDICTS)} Leave out parts that could not be read."
            )
    return np.array(list(verdicts), dtype=np.str_)


def check_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels as a list, or name the first that is no name."""
    if isinstance(labels, str):
        raise InputError(f"Labels are a list with one name per part; received {labels!r}.")
    names = list(labels)
    for index, label in enumerate(names):
        if not isinstance(label, str) or not label:
            raise InputError(
                f"Label {label!r} at index {index} is not a name. Expected 'good', 'defective' or "
                "the name of a defect. Give every test part a label."
            )
    return names


def check_share(name: str, value: float) -> float:
    """Return a share above 0 and up to 1, or say what was received."""
    if not 0.0 < value <= 1.0:
        raise ConfigurationError(
            f"`{name}` is {value}; expected a share above 0 and up to 1, such as 0.3."
        )
    return float(value)
