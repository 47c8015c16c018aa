"""What detectors of features need beside their own files."""
