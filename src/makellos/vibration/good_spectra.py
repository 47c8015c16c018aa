"""Envelope spectra of the good state, kept in a model of signals to compare faults with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from makellos.errors import ModelFileError
from makellos.vibration.envelopes import Band, BandSpectra

__all__ = ["pack_spectra", "unpack_spectra"]


def pack_spectra(spectra: Mapping[str, BandSpectra]) -> bytes:
    """Return spectra by channel as a safetensors file: powers B×F, bands B×2 and F frequencies."""
    tensors = {}
    for number, (channel, found) in enumerate(spectra.items()):
        edges = [(band.low, band.high) for band in found.bands]
        tensors[f"{number}/{channel}/powers"] = found.powers.astype(np.float32)
        tensors[f"{number}/{channel}/bands"] = np.array(edges, np.float64)
        tensors[f"{number}/{channel}/frequencies"] = found.frequencies.astype(np.float64)
    return save(tensors)


def unpack_spectra(raw: bytes) -> dict[str, BandSpectra]:
    """Return the spectra by channel that `pack_spectra` packed; raises `ModelFileError`."""
    try:
        tensors = load(raw)
        names = [name.removesuffix("/powers") for name in tensors if name.endswith("/powers")]
        return {name.partition("/")[2]: _unpacked(tensors, name) for name in names}
    except Exception as error:
        # safetensors has an error of its own, without a base class of ours.
        raise ModelFileError(
            f"The spectra of the good state cannot be read ({error}). Fit the model again."
        ) from error


def _unpacked(tensors: Mapping[str, NDArray[Any]], name: str) -> BandSpectra:
    """Return the spectra of a channel; raise `ValueError` for what none would be."""
    powers, bands, frequencies = (
        tensors[f"{name}/{part}"] for part in ("powers", "bands", "frequencies")
    )
    fits = (
        powers.dtype == np.float32
        and bands.dtype == frequencies.dtype == np.float64
        and powers.shape == (len(bands), len(frequencies))
        and bands.shape == (len(bands), 2)
        and all(np.isfinite(values).all() for values in (powers, bands, frequencies))
        and bool((bands[:, 0] < bands[:, 1]).all())
        and bool((np.diff(frequencies) > 0).all())
    )
    if not fits:
        raise ValueError(f"{name[:80]!r} has shapes or values that no spectra have")
    edges: list[tuple[float, float]] = bands.tolist()
    return BandSpectra(tuple(Band(*each) for each in edges), frequencies, powers.astype(np.float64))
