"""Joins the calls of many threads into batches for a model that is fastest on several inputs at once."""

from __future__ import annotations

import queue
import threading
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
        self._jobs: queue.SimpleQueue[_Job[T, R] | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: T, *, stop: Stop | None = None) -> R:
        """The result for `item`; blocks. Raises what `run` raised for it, `EngineFailed` once closed.

        With `stop`, `JobCancelled` as soon as it is set: what waits is not run, what runs is not waited for.
        """
        return self.submit_all([item], stop=stop)[0]

    def submit_all(self, items: Sequence[T], *, stop: Stop | None = None) -> list[R]:
        """The results for `items`, in order; as `submit`, but they may share batches."""
        jobs: list[_Job[T, R]] = [_Job(item, Future()) for item in items]
        with self._gate:
            if self._closed:
                raise EngineFailed(f"{self._name} is closed.")
            for job in jobs:
                self._jobs.put(job)
        try:
            return [_result(job.future, stop) for job in jobs]
        finally:
            for job in jobs:
                job.future.cancel()

    def close(self) -> None:
        """Finish what was submitted, then end the thread; calling it again does nothing."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._gather()
            wanted = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if wanted:
                self._serve(wanted)

    def _gather(self) -> tuple[list[_Job[T, R]], bool]:
        """The waiting jobs, at least one unless closing; False when no more will come."""
        job = self._jobs.get()
        batch: list[_Job[T, R]] = []
        while job is not None:
            batch.append(job)
            if len(batch) == self._max_batch:
                return batch, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

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
