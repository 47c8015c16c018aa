"""Work on many items in threads, in their order; work that is waited for so long and no longer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order", "in_time"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Generator[Result, None, None]:
    """Yield `work(item)` of each item in order, computed by `threads` a few items ahead.

    What is ahead is bounded, however slowly results are taken. One thread is the caller's own. An
    interrupt waits for what was begun alone.
    """
    if threads == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def in_time(work: Callable[[], Result], seconds: float) -> Result:
    """Return the result of `work`; raise `TimeoutError` where it takes longer.

    It cannot be stopped: its thread goes on, but nothing waits for it, not even the end of the
    process.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
            done.set_exception(error)

    try:
        threading.Thread(target=run, name="makellos in time", daemon=True).start()
    except RuntimeError:  # the system gives no further thread
        return work()
    return done.result(seconds)
