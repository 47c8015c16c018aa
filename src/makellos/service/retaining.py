"""Forgetting: what a person set is carried out every hour while a station runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from makellos.errors import StorageError
from makellos.store import Removed, Retention, Store

__all__ = ["forget", "forgetting"]

_log = logging.getLogger("makellos.service")
_EVERY = 3600.0  # seconds


def forget(store: Store) -> Removed:
    """Forget what may be forgotten now; nothing where nothing is set."""
    wanted = store.retention()
    return Removed() if wanted == Retention() else store.apply_retention(wanted, person="retention")


@contextmanager
def forgetting(store: Store, *, every: float = _EVERY) -> Iterator[None]:
    """Forget in the background while the context lasts, at once and then `every` so many seconds.

    What goes wrong, as during a backup, is logged and tried again the next time.
    """
    stop = threading.Event()

    def work() -> None:
        while True:
            try:
                forget(store)
            except StorageError as error:
                _log.warning("Nothing was removed: %s", error)
            except Exception:  # noqa: BLE001 -- it is tried again
                _log.exception("Nothing was removed")
            if stop.wait(every):
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
