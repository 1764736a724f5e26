"""The two threads that keep attempts alive and their callers informed.

The keeper renews leases and listens for cancellations; the flusher sends buffered text and stages of all running
attempts in one pipeline. Neither is ever run by an engine's loop.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import redis

from .connection import connect, jobs, jobs_at
from .jobs import Report
from .settings import settings

if TYPE_CHECKING:
    from .attempt import Attempt

log = logging.getLogger(__name__)

TICK_S = 0.25
"""Seconds between two looks at timeouts."""

AGAIN_S = 0.5
"""Seconds before what could not be sent is sent again."""

LISTEN_S = 2.0
"""Seconds between two looks at the health of the channel of cancellations."""

REMEMBERED_S = 5.0
"""Seconds that a ring is remembered: the attempt that it means may be claimed but not yet watched."""

HEARTBEAT_TIMEOUT_S = 1.5
"""Seconds that a heartbeat may take; with its repetition on a fresh connection it must fit into a lease."""

Key = tuple[str, int]
"""Id and fence of an attempt."""


class Keeper:
    """Renews the leases of this process's attempts and stops those that must end."""

    def __init__(self) -> None:
        """Start the threads."""
        self._attempts: dict[Key, Attempt] = {}
        self._rung: dict[str, float] = {}
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self._lease = settings().lease_s
        once = {"socket_timeout": HEARTBEAT_TIMEOUT_S, "socket_connect_timeout": HEARTBEAT_TIMEOUT_S, "patience_s": 0.0}
        self._jobs = jobs_at(settings(), **once)
        threading.Thread(target=self._beat, name="keeper", daemon=True).start()
        threading.Thread(target=self._listen, name="cancel-listener", daemon=True).start()

    @contextlib.contextmanager
    def watching(self, attempt: Attempt) -> Iterator[None]:
        """Keep `attempt` alive while the block runs."""
        with self._lock:
            self._attempts[attempt.key] = attempt
            self._busy.set()
            rung_at = self._rung.get(attempt.claim.root, -math.inf)
        if time.monotonic() - rung_at < REMEMBERED_S:
            attempt.beat_at = -math.inf
        try:
            yield
        finally:
            with self._lock:
                self._attempts.pop(attempt.key, None)
                if not self._attempts:
                    self._busy.clear()

    def running(self) -> int:
        """Attempts under way in this process."""
        return len(self._attempts)

    def stop_all(self, verdict: str) -> None:
        """Tell every attempt to end."""
        for attempt in self._snapshot():
            attempt.heed(verdict)

    def _snapshot(self) -> list[Attempt]:
        with self._lock:
            return list(self._attempts.values())

    def _beat(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(TICK_S)
            now = time.monotonic()
            attempts = self._snapshot()
            for attempt in attempts:
                if now > attempt.timeout_at:
                    attempt.heed("timeout")
            due = [attempt for attempt in attempts if self._keeps(attempt, now)]
            with contextlib.suppress(redis.RedisError):
                self._renew(due)

    def _keeps(self, attempt: Attempt, now: float) -> bool:
        """A heartbeat is due. An attempt that does not end when its time is over loses its record to another worker."""
        if now - attempt.beat_at < self._lease / 3 or now > attempt.timeout_at + self._lease:
            return False
        return attempt.verdict in ("ok", "timeout", "drained")

    def _renew(self, due: list[Attempt]) -> None:
        if due:
            verdicts = self._jobs.report_all([(attempt.claim, Report()) for attempt in due])
            for attempt, verdict in zip(due, verdicts, strict=True):
                attempt.heed(verdict)

    def _listen(self) -> None:
        """Cancellations ring here at once; without the doorbell the next heartbeat brings them."""
        client = connect(settings().redis_url, health_check_interval=LISTEN_S)
        while True:
            with contextlib.suppress(redis.RedisError), client.pubsub(ignore_subscribe_messages=True) as channel:
                channel.subscribe(jobs().keys.cancel_channel)
                self._catch_up()
                while channel.health_check_response_counter < 2:  # pings without an answer: the peer is gone
                    message = channel.get_message(timeout=LISTEN_S)
                    if message:
                        self._stop(message["data"])
            time.sleep(TICK_S)

    def _catch_up(self) -> None:
        """Ask after every attempt now: what rang while nobody listened is not rung again."""
        for attempt in self._snapshot():
            attempt.beat_at = -math.inf

    def _stop(self, root: str) -> None:
        """The record decides: whoever may cancel one job can ring for any."""
        now = time.monotonic()
        with self._lock:
            self._rung = {heard: at for heard, at in self._rung.items() if now - at < REMEMBERED_S} | {root: now}
        self._renew([attempt for attempt in self._snapshot() if attempt.claim.root == root])


REST, LONGEST_REST_S = 8, 0.25
"""The flusher rests `llm_flush_ms`, or so many times as long as sending took: many replies come in longer pieces."""


class Flusher:
    """Sends what attempts have buffered: the first piece at once, then what gathers in a rest."""

    def __init__(self) -> None:
        """Start the thread."""
        self._dirty: dict[Key, Attempt] = {}
        self._lock = threading.Lock()
        self._ring = threading.Event()
        self._under_way = threading.Lock()
        """Held while something is sent."""
        self._first = threading.Event()
        """Somebody has not been heard at all: the pause that follows others' pieces is not for them."""
        self._pause = settings().llm_flush_ms / 1000
        threading.Thread(target=self._flush, name="flusher", daemon=True).start()

    def add(self, attempt: Attempt) -> None:
        """`attempt` has something to send. Cheap; called from engines' callbacks."""
        with self._lock:
            self._dirty[attempt.key] = attempt
        if attempt.unheard:
            self._first.set()
        self._ring.set()

    def hasten(self, attempt: Attempt) -> None:
        """As `add`; the first word goes on this very thread, unless others' are on their way, which it then follows."""
        if not attempt.unheard or not self._under_way.acquire(blocking=False):
            self.add(attempt)
            return
        try:
            self._send([attempt])
        except redis.RedisError:
            self.add(attempt)
        finally:
            self._under_way.release()

    def forget(self, attempt: Attempt) -> None:
        """Nothing more is to be sent of `attempt`."""
        with self._lock:
            self._dirty.pop(attempt.key, None)

    def _flush(self) -> None:
        while True:
            self._ring.wait()
            self._ring.clear()
            self._first.clear()
            began = time.monotonic()
            with self._lock:
                dirty, self._dirty = list(self._dirty.values()), {}
            try:
                with self._under_way:
                    self._send(dirty)
            except Exception as error:
                log.warning("could not send events", exc_info=not isinstance(error, redis.RedisError) or None)
                time.sleep(AGAIN_S)
                for attempt in dirty:
                    if attempt.verdict == "ok":
                        self.add(attempt)
            self._first.wait(max(self._pause, min(LONGEST_REST_S, REST * (time.monotonic() - began))))

    def _send(self, dirty: list[Attempt]) -> None:
        with contextlib.ExitStack() as held:
            for attempt in dirty:
                held.enter_context(attempt.sending)
            drained = [(attempt, report) for attempt in dirty if (report := attempt.drain()) is not None]
            if drained:
                verdicts = jobs().report_all([(attempt.claim, report) for attempt, report in drained])
                for (attempt, _), verdict in zip(drained, verdicts, strict=True):
                    if attempt.sent(verdict):
                        self.add(attempt)


@cache
def keeper() -> Keeper:
    """The keeper of this process."""
    return Keeper()


@cache
def flusher() -> Flusher:
    """The flusher of this process."""
    return Flusher()
