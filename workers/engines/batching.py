"""Joins the calls of many threads into batches for a model that is fastest on several inputs at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.errors import EngineFailed, JobCancelled
from shared.protocols import Stop

_POLL_S = 0.05
"""Seconds between two looks at a caller's `stop`."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Job(Generic[T, R]):
    item: T
    future: Future[R]


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
        self._waiting: deque[_Job[T, R]] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that no batch has taken up yet."""
        return len(self._waiting)

    def submit(self, item: T, *, stop: Stop | None = None) -> R:
        """The result for `item`; blocks. Raises what `run` raised for it, `EngineFailed` once closed.

        With `stop`, `JobCancelled` as soon as it is set: what waits is not run, what runs is not waited for.
        """
        return self.submit_all([item], stop=stop)[0]

    def submit_all(self, items: Sequence[T], *, stop: Stop | None = None) -> list[R]:
        """The results for `items`, in order; as `submit`, but they share batches where they fit."""
        jobs: list[_Job[T, R]] = [_Job(item, Future()) for item in items]
        with self._news:
            if self._closed:
                raise EngineFailed(f"{self._name} is closed.")
            self._waiting.extend(jobs)
            self._news.notify()
        try:
            return [_result(job.future, stop) for job in jobs]
        finally:
            for job in jobs:
                job.future.cancel()

    def close(self) -> None:
        """Finish what was submitted, then end the thread; calling it again does nothing."""
        with self._news:
            self._closed = True
            self._news.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while batch := self._gather():
            wanted = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if wanted:
                self._serve(wanted)

    def _gather(self) -> list[_Job[T, R]]:
        """The next batch; empty when closed and no more will come."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]

    def _serve(self, batch: list[_Job[T, R]]) -> None:
        """Run the batch and hand each result, or error, to its caller."""
        try:
            results = self._run([job.item for job in batch])
            if len(results) != len(batch):
                raise EngineFailed(f"{self._name} gave {len(results)} results for {len(batch)} items.")
        except Exception as error:  # noqa: BLE001 - whatever the model raises belongs to the caller, not to this thread
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for job in batch:  # one bad item must not fail its neighbours
                self._serve([job])
            return
        for job, result in zip(batch, results, strict=True):
            job.future.set_result(result)


def _result(future: Future[R], stop: Stop | None) -> R:
    while stop is not None and not future.done():
        if stop.is_set():
            raise JobCancelled
        wait([future], timeout=_POLL_S)
    return future.result()
