"""PyTorch modules; the only place in `detectors` where torch is imported at the top."""
