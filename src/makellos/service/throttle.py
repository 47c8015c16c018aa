"""Limits on how often: requests of a client, and logins that fail.

Clocks here give microseconds, and never go back: the wall clock, which people set, may.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["LoginThrottle", "Rate", "elapsed"]

_MOST = 10_000  # clients and names remembered
_SECOND = 1_000_000
_FREE = 5  # failed logins before the first wait
_FREE_OF_ADDRESS = 20  # several people may share one
_LONGEST = 900 * _SECOND  # wait, and how long failures are remembered


def elapsed() -> int:
    """Return microseconds since some moment, by a clock that nobody sets."""
    return time.monotonic_ns() // 1000


class Rate:
    """Let each client send `per_second` requests on average, and `burst` at once."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], int] = elapsed) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Count a request of a client; return 0, or the seconds until it may be sent."""
        now = self._clock()
        with self._lock:
            left, then = self._left.pop(client, (float(self._burst), now))
            left = min(self._burst, left + self._per_second * max(0, now - then) / _SECOND)
            allowed = left >= 1
            self._left[client] = (left - 1 if allowed else left, now)
            if len(self._left) > _MOST:
                self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._per_second


class LoginThrottle:
    """Make who fails to log in wait: twice as long each time, up to a quarter of an hour.

    Failures count for the name and for the address, each by itself: neither many names from one
    address nor one name from many addresses can be tried fast.
    """

    def __init__(self, clock: Callable[[], int] = elapsed) -> None:
        self._clock = clock
        self.one_at_a_time = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, name: str, address: str) -> float:
        """Return the seconds until a login may be tried; 0 if it may be now."""
        with self._lock:
            return max(self._wait(f"name {name}", _FREE), self._wait(address, _FREE_OF_ADDRESS))

    def failed(self, name: str, address: str) -> None:
        """Count a login that failed."""
        with self._lock:
            for key in (f"name {name}", address):
                n, then = self._failures.pop(key, (0, 0))
                known = self._clock() - then <= _LONGEST
                self._failures[key] = (n + 1 if known else 1, self._clock())
                if len(self._failures) > _MOST:
                    self._failures.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forget what a name failed at; the address stays under suspicion."""
        with self._lock:
            self._failures.pop(f"name {name}", None)

    def _wait(self, key: str, free: int) -> float:
        n, then = self._failures.get(key, (0, 0))
        if n < free:
            return 0.0
        wait = min(_LONGEST, _SECOND << min(n - free, 20))
        return max(0.0, (then + wait - self._clock()) / _SECOND)
