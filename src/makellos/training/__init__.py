"""The one gradient-training loop: checkpoints, progress, resume.

`Training` says where and how to train and needs no torch; `loop.train` runs a `task.Task`.
"""

from __future__ import annotations

import os

from makellos.training.settings import Training, is_first_process, run_folder

__all__ = ["Training", "is_first_process", "run_folder"]

# Read where torch is first imported, so set before. Threads that wait for each other by spinning
# take the processor from those that they wait for wherever other work runs beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
