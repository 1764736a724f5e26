"""Joins the calls of many threads into batches for a model that is fastest on several inputs at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
    """By the item's place: batches may end in any order."""
    future: Future[None] = field(default_factory=Future)
    """Done when all results are there."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def settle(self, places: range, results: Iterator[R]) -> None:
        with self.lock:
            self.results.update(zip(places, results, strict=False))
            if len(self.results) == len(self.items) and not self.future.done():
                self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        with self.lock:
            if not self.future.done():
                self.future.set_exception(error)


_Part = tuple[_Call[T, R], range]
"""A call and the places of those of its items that are in a batch."""


class MicroBatcher(Generic[T, R]):
    """Runs `run` on threads of its own, each time with everything that has gathered since one last began.

    There is no waiting for company: while the model is idle a lone call starts at once, and while it is busy the
    calls that arrive queue up and form the next batch. `run` gets 1 to `max_batch` items and returns one result for
    each, in order.
    """

    def __init__(self, run: Callable[[list[T]], list[R]], max_batch: int, name: str, threads: int = 1) -> None:
        """`name` is the threads', for stack dumps. `threads`: batches at a time; `run` must allow as many."""
        if max_batch < 1:
            raise ValueError("max_batch must be at least 1")
        self._run = run
        self._max_batch = max_batch
        self._name = name
        self._calls: deque[_Call[T, R]] = deque()
        """Those of which something waits, in the order of their coming."""
        self._news = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

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
        """Finish what was submitted, then end the threads; calling it again does nothing."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _work(self) -> None:
        while batch := self._gather():
            self._serve(batch)

    def _gather(self) -> list[_Part[T, R]]:
        """The next batch; empty when closed and no more will come."""
        parts: list[_Part[T, R]] = []
        room = self._max_batch
        with self._news:
            self._news.wait_for(lambda: self._calls or self._closed)
            while self._calls and room:
                call = self._calls[0]
                places = range(call.taken, min(call.taken + room, len(call.items)))
                parts.append((call, places))
                room -= len(places)
                call.taken += len(places)
                if call.taken == len(call.items):
                    self._calls.popleft()
            if self._calls:
                self._news.notify()
        return parts

    def _serve(self, parts: list[_Part[T, R]]) -> None:
        """Run the batch and hand each result, or error, to its caller."""
        items = [item for call, places in parts for item in call.items[places.start : places.stop]]
        try:
            results = self._run(items)
            if len(results) != len(items):
                raise EngineFailed(f"{self._name} gave {len(results)} results for {len(items)} items.")
        except Exception as error:  # noqa: BLE001 - whatever the model raises belongs to the caller, not to this thread
            if len(items) == 1:
                parts[0][0].fail(error)
                return
            for call, places in parts:  # one bad item must not fail its neighbours
                for place in places:
                    self._serve([(call, range(place, place + 1))])
            return
        rest = iter(results)
        for call, places in parts:
            call.settle(places, rest)


def _await(future: Future[None], stop: Stop | None) -> None:
    while stop is not None and not future.done():
        if stop.is_set():
            raise JobCancelled
        wait([future], timeout=_POLL_S)
    future.result()
