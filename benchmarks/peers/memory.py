"""The peak of a process's memory, as Linux counts it from where its program begins."""

from __future__ import annotations

from pathlib import Path


def peak_mb(status: Path = Path("/proc/self/status")) -> float:
    """Return the largest resident size so far in MB; 0 where the process or Linux is missing."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0.0
    return max((int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")), default=0.0)
