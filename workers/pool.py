"""The threads of a worker, each of which goes on with the next message by itself where messages stand in line.

Celery's own way round (its event loop takes a message, hands it to a thread, hears of the end and takes another) costs
more than a small job. A job that finds a thread idle goes that way; in a line the loop sleeps, and the trip that ends a
job brings its thread the next one. Requests, events,
revocations and what `inspect` tells are Celery's own either way.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from celery.concurrency.base import apply_target
from celery.concurrency.thread import TaskPool
from celery.worker import state

from shared.jobs import NEXT

log = logging.getLogger("maeari.worker")


class _Call(NamedTuple):
    """What Celery asks a pool to run."""

    target: Callable[..., Any]
    args: Any
    kwargs: Any
    callback: Callable[..., Any]
    accept_callback: Callable[..., Any] | None


class LinePool(TaskPool):
    """Celery's thread pool for the channels of `shared.transport`."""

    consumer: Any = None
    """Celery's consumer, once it is ready."""
    executor: ThreadPoolExecutor

    def __init__(self, *args: Any, **options: Any) -> None:
        """As Celery's."""
        super().__init__(*args, **options)
        self._mine = threading.local()

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
            return self.executor.submit(self._work, call)
        following.append(call)
        return None

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
        if stopping or channel is None or self.executor._work_queue.qsize():
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
            log.exception("a message could not be run; its record brings it back")
            message.ack()

    def _acknowledging(self, acknowledge: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any) -> None:
            if self._following:  # its place is taken already
                acknowledge(*args)
            else:
                self.consumer.call_soon_ack(acknowledge, *args)

        return done
