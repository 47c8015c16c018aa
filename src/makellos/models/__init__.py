"""Writing model files: packed graph, golden parts, parity between runtimes."""

from __future__ import annotations

from makellos.models.parity import Parity, choose_golden, compare_engines
from makellos.models.scoring import score_parts
from makellos.models.writing import (
    assemble,
    check_target,
    encode_pictures,
    pack_graph,
    pack_members,
    rewrite_manifest,
    write_model,
)

__all__ = [
    "Parity",
    "assemble",
    "check_target",
    "choose_golden",
    "compare_engines",
    "encode_pictures",
    "pack_graph",
    "pack_members",
    "rewrite_manifest",
    "score_parts",
    "write_model",
]
