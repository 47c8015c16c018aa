"""Work in threads: the order of results, how far ahead it runs, and what an interrupt waits for."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from makellos.data import threads
from makellos.data.threads import in_order


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n_items", [0, 1, 3, 40])
def test_results_come_in_the_order_of_items(n_threads: int, n_items: int) -> None:
    gates = [threading.Event() for _ in range(n_items)]

    def work(i: int) -> int:
        if i % 2 == 0 and i + 1 < n_items and n_threads > 1:
            gates[i].wait(5)  # the next one is done first
        elif i:
            gates[i - 1].set()
        return i * i

    assert list(in_order(work, range(n_items), threads=n_threads)) == [
        i * i for i in range(n_items)
    ]


def test_little_is_taken_ahead_of_what_was_asked_for() -> None:
    taken = itertools.count()
    items = (next(taken) for _ in range(1000))
    with closing(in_order(lambda item: item, items, threads=2)) as results:
        assert next(results) == 0
        assert next(taken) <= 5


def test_an_interrupt_cancels_what_was_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    gate = threading.Event()

    class Watched(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            gate.set()  # only now may what was begun end
            super().shutdown(wait=wait)

    def work(i: int) -> int:
        begun.append(i)
        if i:
            gate.wait(60)
        return i

    monkeypatch.setattr(threads, "ThreadPoolExecutor", Watched)
    results = threads.in_order(work, range(100), threads=2)
    assert next(results) == 0
    results.close()
    assert len(begun) <= 3


def test_an_error_is_that_of_its_item() -> None:
    def work(i: int) -> int:
        if i == 2:
            raise ValueError("two")
        return i

    results = in_order(work, range(9), threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
