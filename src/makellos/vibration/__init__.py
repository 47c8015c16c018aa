"""Recordings of vibration: read, cut into windows, seen as pictures or features, faults named."""
