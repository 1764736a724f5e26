"""The threads of a worker, which wait for messages themselves.

Celery's own way round (its event loop takes a message, hands it to a thread, hears of the end and takes another) costs
more than a small job. Of the threads that are free, one waits at Redis. With a message it leaves the waiting to the
next free one and runs the job; in a line, the trip that ends a job brings its thread the next. Requests, events,
revocations and what `inspect` tells are Celery's own, and so are connections, consumers and the end of a worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from celery.concurrency.base import apply_target
from celery.concurrency.thread import TaskPool
from celery.worker import state

from shared.jobs import NEXT

log = logging.getLogger("maeari.worker")

_UNRUN = "a message could not be run; its record brings it back"

PAUSE_S = 0.1
"""Seconds between two looks whether Celery is connected again, and after what should not happen."""


class _Call(NamedTuple):
    """What Celery asks a pool to run."""

    target: Callable[..., Any]
    args: Any
    kwargs: Any
    callback: Callable[..., Any]
    accept_callback: Callable[..., Any] | None


class _Seat:
    """A thread's place in the pool."""

    def __init__(self, work: Callable[[], None]) -> None:
        """`work`: what it does first."""
        self.work: Callable[[], None] | None = work
        """What it does, or does when the bell rings; then None means: no more."""
        self.bell = threading.Lock()
        self.bell.acquire()


class LinePool(TaskPool):
    """Celery's thread pool for the channels of `shared.transport`.

    Of the threads that are free, the one that worked last goes on: what it needs is still in the processor's caches.
    """

    _consumer: Any = None
    """Celery's consumer, once it is ready."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As Celery's."""
        super().__init__(*args, **options)
        self._mine = threading.local()
        self._seating = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._free: list[_Seat] = []
        self._calls: deque[_Call] = deque()
        """For which no thread is free."""
        self._listening = False
        """A thread waits for messages."""
        self._stopping = False

    def listen_for(self, consumer: Any) -> None:
        """Wait for the messages of Celery's consumer from now on."""
        self._consumer = consumer
        with self._seating:
            self._seat_listener()

    def on_stop(self) -> None:
        """What runs is run to its end."""
        with self._seating:
            self._stopping = True
            self._calls.clear()
            for seat in self._free:
                seat.bell.release()
            self._free = []
        for thread in self._threads:
            thread.join()
        super().on_stop()

    def _get_info(self) -> Any:
        return super()._get_info() | {"threads": len(self._threads)}  # type: ignore[misc]

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_: Any,
    ) -> Any:
        """Run it on a thread; on a thread that has taken it itself, there."""
        call = _Call(target, args, kwargs, callback, accept_callback)
        following = self._following
        if following is None:
            with self._seating:
                if not self._seated(partial(self._work, call)):
                    self._calls.append(call)
            return None
        following.append(call)
        return None

    # --- seats; asked with the lock held, but for `_sit` and `_rests` ---

    def _seated(self, work: Callable[[], None]) -> bool:
        """Have a free thread do it; whether there is one."""
        if self._free:
            seat = self._free.pop()
            seat.work = work
            seat.bell.release()
            return True
        if self._stopping or len(self._threads) == self.limit:
            return False
        thread = threading.Thread(target=self._sit, args=(_Seat(work),), name="pool", daemon=True)
        self._threads.append(thread)
        thread.start()
        return True

    def _seat_listener(self) -> None:
        if self._wants_listener() and not self._listening:
            self._listening = self._seated(self._listen)

    def _wants_listener(self) -> bool:
        """A thread should wait for messages."""
        if self._consumer is None or self._ends():
            return False
        channel = self._channel()
        return channel is None or bool(channel.lets_threads_take)

    def _sit(self, seat: _Seat) -> None:
        while seat.work is not None:
            try:
                seat.work()
            except BaseException:
                log.exception(_UNRUN)
                time.sleep(PAUSE_S)
            if self._rests(seat):
                seat.bell.acquire()

    def _rests(self, seat: _Seat) -> bool:
        """Give the seat its next work; whether there is none yet."""
        with self._seating:
            seat.work = self._further_work()
            rests = seat.work is None and not self._stopping
            if rests:
                self._free.append(seat)
        return rests

    def _further_work(self) -> Callable[[], None] | None:
        if self._calls:
            return partial(self._work, self._calls.popleft())
        if self._listening or not self._wants_listener():
            return None
        self._listening = True
        return self._listen

    # --- a thread at work ---

    @property
    def _following(self) -> list[_Call] | None:
        """What this thread runs next; None on a thread that is not the pool's, or is not at work."""
        return getattr(self._mine, "following", None)

    def _work(self, call: _Call | None = None, message: Any = None) -> None:
        """Run a call, or what becomes of a message; then what this thread has taken meanwhile."""
        following: list[_Call] = [call] if call else []
        self._mine.following = following
        NEXT.lists = self._lists
        try:
            if message is not None:
                self._request(message)
            while following:
                self._run(following.pop())
        finally:
            self._mine.following = None

    def _run(self, call: _Call) -> None:
        def then(*found: Any, **named: Any) -> Any:
            self._take()  # before this job's message counts as done: Celery would think this thread free
            return call.callback(*found, **named)

        apply_target(call.target, call.args, call.kwargs, then, call.accept_callback)

    def _listen(self) -> None:
        """Wait for messages. One is run here, others elsewhere; somebody else waits then."""
        messages: list[Any] = []
        try:
            while not messages and not self._calls and self._wants_listener():
                messages = self._heard()
        finally:
            self._listening = False
        if messages:
            for message in messages[1:]:
                self._request(message)
            with self._seating:
                self._seat_listener()
            self._work(message=messages[0])

    def _heard(self) -> list[Any]:
        channel = self._channel()
        if channel is None:
            time.sleep(PAUSE_S)
            return []
        with self._seating:
            room = 1 + len(self._free) + self.limit - len(self._threads)
        heard: list[Any] = channel.listen(room, self._wants_listener)
        return heard

    def _lists(self) -> Sequence[str]:
        """Where the thread that asks may take a further message from now; where somebody waits, there is none."""
        channel = self._channel()
        if channel is None or self._calls or self._listening or self._ends():
            return ()
        lists: Sequence[str] = channel.lists()
        return lists

    def _ends(self) -> bool:
        """Take no further message."""
        told = state.should_stop
        return self._stopping or not (told is None or told is False)  # 0 means: stop, all is well

    def _channel(self) -> Any:
        return None if self._consumer is None else getattr(self._consumer.task_consumer, "channel", None)

    def _take(self) -> None:
        """Take the next message, if there is one."""
        channel = self._channel()
        message = None if channel is None else channel.take(self._lists)
        if message is not None:
            self._request(message)

    def _request(self, message: Any) -> None:
        """Have Celery make a request of a message, which comes back through `on_apply`."""
        try:
            handle = self._consumer.strategies[message.headers["task"]]
            handle(message, None, message.ack_log_error, message.reject_log_error, ())
        except Exception:
            log.exception(_UNRUN)
            message.ack()
