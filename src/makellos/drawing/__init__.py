"""Pictures of findings: overlays, panels, heat maps, charts of recordings."""
