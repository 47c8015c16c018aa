"""The one gradient-training loop: checkpoints, progress, resume.

`Training` says where and how to train and needs no torch; `loop.train` runs a `task.Task`.
"""

from __future__ import annotations

from makellos.training.settings import Training, is_first_process, run_folder

__all__ = ["Training", "is_first_process", "run_folder"]
