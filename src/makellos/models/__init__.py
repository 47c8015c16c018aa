"""Writing model files: packed graph, golden parts, parity between runtimes."""

from __future__ import annotations

from makellos.models.release import Parity, choose_golden, compare_engines
from makellos.models.writing import (
    assemble,
    check_target,
    pack_graph,
    rewrite_manifest,
    write_model,
)

__all__ = [
    "Parity",
    "assemble",
    "check_target",
    "choose_golden",
    "compare_engines",
    "pack_graph",
    "rewrite_manifest",
    "write_model",
]
