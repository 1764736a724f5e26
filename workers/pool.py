"""The threads of a worker, each of which goes on with the next message by itself where messages stand in line.

Celery's own way round (its event loop takes a message, hands it to a thread, hears of the end and takes another) costs
more than a small job. A job that finds a thread idle goes that way; in a line the loop sleeps, and the trip that ends a
job brings its thread the next one. Requests, events,
revocations and what `inspect` tells are Celery's own either way.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from celery.concurrency.base import apply_target
from celery.concurrency.thread import TaskPool
from celery.worker import state
from celery.worker.consumer import Consumer

from shared.jobs import NEXT

log = logging.getLogger("maeari.worker")

_UNRUN = "a message could not be run; its record brings it back"


class _Call(NamedTuple):
    """What Celery asks a pool to run."""

    target: Callable[..., Any]
    args: Any
    kwargs: Any
    callback: Callable[..., Any]
    accept_callback: Callable[..., Any] | None


class LineConsumer(Consumer):
    """Celery's consumer, whose loop is not woken for every message that is done."""

    task_consumer: Any = None

    def __init__(self, *args: Any, **options: Any) -> None:
        """As Celery's."""
        super().__init__(*args, **options)
        self._counting = threading.Lock()

    def call_soon_ack(self, p: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Count a message as done, on the thread that did it; the loop looks round where it may wait for the room."""
        with self._counting:
            p(*args, **options)
            channel = getattr(self.task_consumer, "channel", None)
            room = channel.qos.can_consume_max_estimate() if channel else 0
        if room is not None and room <= 1:  # two at a time may each find the place that the other has made
            self.call_soon(int)


class _Seat:
    """A thread's place in the pool."""

    def __init__(self, call: _Call) -> None:
        """`call`: to be run first."""
        self.call: _Call | None = call
        """What to run, or to run when the bell rings; then None means: no more."""
        self.bell = threading.Lock()
        self.bell.acquire()


class LinePool(TaskPool):
    """Celery's thread pool for the channels of `shared.transport`.

    Of the threads that are free, the one that worked last goes on: what it needs is still in the processor's caches.
    """

    consumer: Any = None
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
        self._stopping = False

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
        """Run it on a thread; on a thread that has taken it from the line itself, after what it runs now."""
        call = _Call(target, args, kwargs, callback, accept_callback)
        following = self._following
        if following is None:
            self._seat(call)
            return None
        following.append(call)
        return None

    def _seat(self, call: _Call) -> None:
        with self._seating:
            if not self._free:
                self._seat_later(call)
                return
            seat = self._free.pop()
        seat.call = call
        seat.bell.release()

    def _seat_later(self, call: _Call) -> None:
        if self._stopping or len(self._threads) == self.limit:
            self._calls.append(call)
            return
        thread = threading.Thread(target=self._sit, args=(_Seat(call),), name="pool", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _sit(self, seat: _Seat) -> None:
        while seat.call is not None:
            try:
                self._work(seat.call)
            except BaseException:
                log.exception(_UNRUN)
            if self._rests(seat):
                seat.bell.acquire()

    def _rests(self, seat: _Seat) -> bool:
        """Give the seat its next call; whether there is none yet."""
        with self._seating:
            seat.call = self._calls.popleft() if self._calls else None
            rests = seat.call is None and not self._stopping
            if rests:
                self._free.append(seat)
        return rests

    @property
    def _following(self) -> list[_Call] | None:
        """What this thread runs next; None on a thread that is not the pool's."""
        return getattr(self._mine, "following", None)

    def _work(self, call: _Call) -> None:
        following: list[_Call] = [call]
        self._mine.following = following
        NEXT.lists = self._lists
        try:
            while following:
                self._run(following.pop())
        finally:
            self._mine.following = None

    def _run(self, call: _Call) -> None:
        def then(*found: Any, **named: Any) -> Any:
            self._take()  # before this job's message counts as done, or the loop would take another in its place
            return call.callback(*found, **named)

        apply_target(call.target, call.args, call.kwargs, then, call.accept_callback)

    def _lists(self) -> Sequence[str]:
        """Where the thread that asks may take a further message from now."""
        stopping = not (state.should_stop is None or state.should_stop is False)  # 0 means: stop, all is well
        channel = self._channel()
        if stopping or channel is None or self._calls:
            return ()
        lists: Sequence[str] = channel.lists()
        return lists

    def _channel(self) -> Any:
        return None if self.consumer is None else getattr(self.consumer.task_consumer, "channel", None)

    def _take(self) -> None:
        """Have Celery make a request of the next message, which comes back through `on_apply`."""
        channel = self._channel()
        message = None if channel is None else channel.take(self._lists)
        if message is None:
            return
        try:
            handle = self.consumer.strategies[message.headers["task"]]
            handle(message, None, self._acknowledging(message.ack_log_error), message.reject_log_error, ())
        except Exception:
            log.exception(_UNRUN)
            message.ack()

    def _acknowledging(self, acknowledge: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any) -> None:
            if self._following:  # its place is taken already
                acknowledge(*args)
            else:
                self.consumer.call_soon_ack(acknowledge, *args)

        return done
