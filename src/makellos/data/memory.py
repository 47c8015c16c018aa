"""How much memory a process may take, and how much it has taken."""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from makellos.errors import ConfigurationError

__all__ = ["Means", "parse_memory", "size_text", "used_memory"]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_THOUSANDS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([kmgt]?)(b|ib)?$")


@dataclass(frozen=True)
class Means:
    """Hold how much of the machine a fit may use; None: as much as suits it.

    `workers` parts are worked on at once, and `candidate_bytes` of embeddings per layer are held
    for a memory bank to be chosen from.
    """

    workers: int | None = None
    candidate_bytes: int | None = None


def parse_memory(text: str) -> int:
    """Return the bytes of a size such as ``500M``, ``2G`` or ``4GiB``.

    K, M, G and T count in 1,024s, alone or before ``iB``, and in thousands before ``B``. Raises
    `ConfigurationError` for anything else.

    >>> parse_memory("2G"), parse_memory("1.5GiB"), parse_memory("500MB")
    (2147483648, 1610612736, 500000000)
    """
    found = _SIZE.match(text.strip().lower())
    number = float(found[1]) if found else 0.0
    if found is None or not number or (found[3] == "ib" and not found[2]):
        raise ConfigurationError(
            f"--memory is {text!r}; expected a size above 0, such as 500M, 2G or 4GiB."
        )
    return int(number * (_THOUSANDS if found[3] == "b" and found[2] else _UNITS)[found[2]])


def size_text(n_bytes: float) -> str:
    """Return a size in words, in units of 1,024s.

    >>> size_text(1_610_612_736), size_text(734_003_200), size_text(128 << 30)
    ('1.5 GB', '700 MB', '128 GB')
    """
    if n_bytes >= 1000 << 20:
        n_giga = n_bytes / (1 << 30)
        return f"{round(n_giga, 1 if n_giga < 10 else None):g} GB"
    return f"{n_bytes / (1 << 20):.0f} MB"


def used_memory() -> int:
    """Return the bytes that this process holds; where only its largest size is known, that."""
    if sys.platform == "win32":
        return _used_on_windows()
    try:
        text = Path("/proc/self/statm").read_text(encoding="ascii")
        import resource

        return int(text.split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


class _Counters(ctypes.Structure):
    _fields_ = (
        ("cb", ctypes.c_uint32),
        ("PageFaultCount", ctypes.c_uint32),
        *(
            (name, ctypes.c_size_t)
            for name in (
                *("PeakWorkingSetSize", "WorkingSetSize", "QuotaPeakPagedPoolUsage"),
                *("QuotaPagedPoolUsage", "QuotaPeakNonPagedPoolUsage", "QuotaNonPagedPoolUsage"),
                *("PagefileUsage", "PeakPagefileUsage"),
            )
        ),
    )


def _used_on_windows() -> int:
    counters = _Counters()
    counters.cb = ctypes.sizeof(counters)
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb)
    return int(counters.WorkingSetSize)
