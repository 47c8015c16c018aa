"""Pictures of findings: overlays, panels, heat maps, recordings, sheets of made pictures."""

from __future__ import annotations

from makellos.drawing.grids import draw_grid as draw_grid
from makellos.drawing.grids import draw_traversal as draw_traversal
from makellos.drawing.heat_maps import draw_explanation as draw_explanation
from makellos.drawing.overlays import draw_overlay as draw_overlay
from makellos.drawing.overlays import picture_place as picture_place
from makellos.drawing.overlays import write_drawing as write_drawing
from makellos.drawing.overlays import write_picture as write_picture
from makellos.drawing.panels import DAMAGE as DAMAGE
from makellos.drawing.panels import NEAREST as NEAREST
from makellos.drawing.panels import PART as PART
from makellos.drawing.panels import draw_panel as draw_panel
from makellos.drawing.panels import draw_reconstruction as draw_reconstruction
from makellos.drawing.panels import draw_tiles as draw_tiles
from makellos.drawing.panels import from_planes as from_planes
from makellos.drawing.recording_panels import draw_recording as draw_recording
