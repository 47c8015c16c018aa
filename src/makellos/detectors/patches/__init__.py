"""What detectors of patches share: backbones, embeddings, memory banks."""
