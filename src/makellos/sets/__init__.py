"""Public and synthetic sets: what they are, their download, rendered screws and bearings."""
