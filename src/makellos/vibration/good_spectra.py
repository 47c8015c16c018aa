"""Envelope spectra of the good state, kept in a model of signals to compare faults with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors.numpy import load, save

from makellos.errors import ModelFileError
from makellos.vibration.envelopes import Band, BandSpectra

__all__ = ["GOOD_SPECTRA", "pack_spectra", "unpack_spectra"]

GOOD_SPECTRA = "good_spectra.safetensors"  # member of a model file


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
        return {
            name.partition("/")[2]: BandSpectra(
                tuple(Band(*edges) for edges in tensors[f"{name}/bands"].tolist()),
                tensors[f"{name}/frequencies"],
                tensors[f"{name}/powers"].astype(np.float64),
            )
            for name in names
        }
    except Exception as error:
        # safetensors has an error of its own, without a base class of ours.
        raise ModelFileError(
            f"The spectra of the good state cannot be read ({error}). Fit the model again."
        ) from error
