"""Pictures of findings: overlays, panels, heat maps, recordings, sheets of made pictures."""

from __future__ import annotations

from makellos.drawing.grids import draw_grid, draw_traversal
from makellos.drawing.heat_maps import draw_explanation
from makellos.drawing.overlays import draw_overlay, write_picture
from makellos.drawing.panels import DAMAGE, NEAREST, PART, draw_panel, draw_tiles, from_planes
from makellos.drawing.recording_panels import draw_recording

__all__ = [
    "DAMAGE",
    "NEAREST",
    "PART",
    "draw_explanation",
    "draw_grid",
    "draw_overlay",
    "draw_panel",
    "draw_recording",
    "draw_tiles",
    "draw_traversal",
    "from_planes",
    "write_picture",
]
