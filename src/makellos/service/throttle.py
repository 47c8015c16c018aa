"""Limits on how often: requests of a client, and logins that fail.

Clocks here give microseconds, and never go back: the wall clock, which people set, may.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["LoginThrottle", "Rate", "elapsed"]

_MOST = 30_000  # clients and names remembered
_SECOND = 1_000_000
_FREE = 5  # failed logins before the first wait
_FREE_OF_ADDRESS = 20  # several people may share one
_FREE_OF_NAME, _LONGEST_OF_NAME = 20, 30 * _SECOND  # whoever tries it
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
    """Make who fails to log in wait: twice as long each time.

    Failures count for a name at an address, for an address, and for a name wherever it is tried
    from. The first two waits grow to a quarter of an hour. That of a name alone begins later and
    ends at half a minute, and is none for an address from which the name has logged in before:
    nobody can keep a person out by failing in their name.
    """

    def __init__(self, clock: Callable[[], int] = elapsed) -> None:
        self._clock = clock
        self.one_at_a_time = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._let_in: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, name: str, address: str) -> float:
        """Return the seconds until a login may be tried; 0 if it may be now."""
        with self._lock:
            waits = [
                self._wait(f"both {address} {name}", _FREE, _LONGEST),
                self._wait(f"address {address}", _FREE_OF_ADDRESS, _LONGEST),
            ]
            if (name, address) not in self._let_in:
                waits.append(self._wait(f"name {name}", _FREE_OF_NAME, _LONGEST_OF_NAME))
            return max(waits)

    def failed(self, name: str, address: str) -> None:
        """Count a login that failed."""
        with self._lock:
            for key in (f"both {address} {name}", f"address {address}", f"name {name}"):
                n, then = self._failures.pop(key, (0, 0))
                known = self._clock() - then <= _LONGEST
                self._failures[key] = (n + 1 if known else 1, self._clock())
                if len(self._failures) > _MOST:
                    self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Forget what a name failed at from here; the address stays under suspicion."""
        with self._lock:
            self._failures.pop(f"both {address} {name}", None)
            self._let_in.pop((name, address), None)
            self._let_in[name, address] = None
            if len(self._let_in) > _MOST:
                self._let_in.popitem(last=False)

    def _wait(self, key: str, free: int, longest: int) -> float:
        n, then = self._failures.get(key, (0, 0))
        if n < free:
            return 0.0
        wait = min(longest, _SECOND << min(n - free, 20))
        return max(0.0, (then + wait - self._clock()) / _SECOND)
