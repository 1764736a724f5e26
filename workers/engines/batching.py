"""Joins the calls of many threads into batches for a model that is fastest on several inputs at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from shared.errors import EngineFailed, JobCancelled
from shared.protocols import Stop

_POLL_S = 0.05
"""Seconds between two looks at a caller's `stop`."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class _Call(Generic[T, R]):
    """The items of one caller, who sleeps once for all of them."""

    items: Sequence[T]
    taken: int = 0
    """Items that batches have taken up."""
    results: dict[int, R] = field(default_factory=dict)
    future: Future[None] = field(default_factory=Future)
    """Done when all results are there."""

    def settle(self, place: int, result: R) -> None:
        self.results[place] = result
        if len(self.results) == len(self.items) and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


_Place = tuple[_Call[T, R], int]
"""A call and the number of one of its items."""


class MicroBatcher(Generic[T, R]):
    """Runs `run` on one thread of its own, each time with everything that has gathered since it last began.

    There is no waiting for company: while the model is idle a lone call starts at once, and while it is busy the
    calls that arrive queue up and form the next batch. `run` gets 1 to `max_batch` items and returns one result for
    each, in order.
    """

    def __init__(self, run: Callable[[list[T]], list[R]], max_batch: int, name: str) -> None:
        """`name` is the thread's, for stack dumps."""
        if max_batch < 1:
            raise ValueError("max_batch must be at least 1")
        self._run = run
        self._max_batch = max_batch
        self._name = name
        self._calls: deque[_Call[T, R]] = deque()
        """Those of which something waits, in the order of their coming."""
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that no batch has taken up yet."""
        return sum(len(call.items) - call.taken for call in tuple(self._calls))

    def submit(self, item: T, *, stop: Stop | None = None) -> R:
        """The result for `item`; blocks. Raises what `run` raised for it, `EngineFailed` once closed.

        With `stop`, `JobCancelled` as soon as it is set: what waits is not run, what runs is not waited for.
        """
        return self.submit_all([item], stop=stop)[0]

    def submit_all(self, items: Sequence[T], *, stop: Stop | None = None) -> list[R]:
        """The results for `items`, in order; as `submit`, but they share batches where they fit."""
        if not items:
            return []
        call: _Call[T, R] = _Call(items)
        with self._news:
            if self._closed:
                raise EngineFailed(f"{self._name} is closed.")
            self._calls.append(call)
            self._news.notify()
        try:
            _await(call.future, stop)
        except BaseException:
            self._drop(call)
            raise
        return [call.results[place] for place in range(len(items))]

    def _drop(self, call: _Call[T, R]) -> None:
        """What of it waits is not run."""
        with self._news:
            if call in self._calls:
                self._calls.remove(call)

    def close(self) -> None:
        """Finish what was submitted, then end the thread; calling it again does nothing."""
        with self._news:
            self._closed = True
            self._news.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while batch := self._gather():
            self._serve(batch)

    def _gather(self) -> list[_Place[T, R]]:
        """The next batch; empty when closed and no more will come."""
        batch: list[_Place[T, R]] = []
        with self._news:
            self._news.wait_for(lambda: self._calls or self._closed)
            while self._calls and len(batch) < self._max_batch:
                call = self._calls[0]
                until = min(len(call.items), call.taken + self._max_batch - len(batch))
                batch += [(call, place) for place in range(call.taken, until)]
                call.taken = until
                if until == len(call.items):
                    self._calls.popleft()
        return batch

    def _serve(self, batch: list[_Place[T, R]]) -> None:
        """Run the batch and hand each result, or error, to its caller."""
        try:
            results = self._run([call.items[place] for call, place in batch])
            if len(results) != len(batch):
                raise EngineFailed(f"{self._name} gave {len(results)} results for {len(batch)} items.")
        except Exception as error:  # noqa: BLE001 - whatever the model raises belongs to the caller, not to this thread
            if len(batch) == 1:
                batch[0][0].fail(error)
                return
            for one in batch:  # one bad item must not fail its neighbours
                self._serve([one])
            return
        for (call, place), result in zip(batch, results, strict=True):
            call.settle(place, result)


def _await(future: Future[None], stop: Stop | None) -> None:
    while stop is not None and not future.done():
        if stop.is_set():
            raise JobCancelled
        wait([future], timeout=_POLL_S)
    future.result()
