"""The guarded Kombu channel: a malformed message is dead-lettered, never fatal, and nothing is written per message.

Differences to Kombu's Redis channel (pinned version; `tests/contracts/test_transport.py` watches them):

- every popped message of the catalog's queues is checked before Celery sees it;
- no `unacked` bookkeeping. The job record already recovers a message whose worker dies (see `shared.jobs`), and the
  stock restore on a lost connection is what runs jobs twice. An unclaimed message is handed back on the way out;
- threads that are free wait for messages and take them themselves (`workers.pool`): going round Celery's loop costs
  more than a message. Where there are none, as in a solo pool, or Redis does not allow it, the loop takes them;
- the claim of a message's job is asked for before Celery is shown the message;
- a Redis that is gone or refuses is asked again in short steps.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from queue import Empty
from typing import Any

import kombu
import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from . import connection, envelope
from .claims import ASKED, Claim, new_owner
from .contracts.base import Fault
from .contracts.catalog import QUEUES
from .endpoint import Endpoint
from .errors import BadSignature, InvalidMessage, MaeariError
from .jobs import NEXT, Jobs
from .settings import settings

log = logging.getLogger(__name__)

kombu_redis: Any = import_module("kombu.transport.redis")
virtual: Any = import_module("kombu.transport.virtual")
"""Their stubs lack what a channel is made of."""

ALIAS = "maeari"
"""Scheme of broker URLs that use this transport."""

SENTINEL_ALIAS = "maeari-sentinel"
"""The same, where Sentinels say which Redis is the primary."""

PART, MANY = 4, 16
"""Of a line, a worker takes as many messages at a time as a `PART`th of its jobs, but not more than `MANY`.

The others get their part of the line so; a worker of few jobs, on whose engine each of them weighs, takes one.
"""

LISTEN_S = 1.0
"""Seconds that a thread waits for a message before it looks whether it still may."""

REFUSED_S = 0.5
"""Seconds before asking a Redis again that refuses to give messages."""


class ReadMessage(virtual.Message):  # type: ignore[misc]
    """Kombu's message; a body that the guard has read need not be read again."""

    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        """As Kombu's."""
        super().__init__(payload, channel, **options)
        if self.headers and envelope.REQUEST in self.headers:
            self._decoded_cache = envelope.NO_BODY


class GuardedChannel(kombu_redis.Channel):  # type: ignore[misc]
    """Kombu's channel with a guard at its mouth."""

    ack_emulation = False

    Message = ReadMessage
    _takes_several = True
    _several = False
    """What is being waited for may come as several messages."""
    lets_threads_take = True
    """Redis allows it."""
    _listened = False
    """They do."""
    _turns = itertools.count()

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self._listened and self.lets_threads_take and not self._others:
            return
        count = self._at_once()
        self._several = count > 1
        if not self._several:
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        keys = [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]
        wait = (self.brpop_timeout if timeout is None else timeout) or 0
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        self.client.connection.send_command("BLMPOP", wait, len(keys), *keys, "RIGHT", "COUNT", count)

    def _at_once(self) -> int:
        """How many messages may come together."""
        if not self._takes_several or self._others:
            return 1
        return self._part(int(self.qos.can_consume_max_estimate() or 0))

    @property
    def _others(self) -> bool:
        """Queues are consumed that are none of the catalog's."""
        return any(queue not in QUEUES for queue in self._active_queues)

    def _part(self, room: int) -> int:
        """What this worker takes of a line at a time."""
        return min(room, MANY, max(1, int(self.qos.prefetch_count) // PART))

    def _brpop_read(self, **options: Any) -> bool:
        try:
            key, messages = self._popped(options)
            queue = self._queue_of(key)
            self._queue_cycle.rotate(queue)
            for message in self._read(messages, queue):
                self.connection._deliver(message, queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _popped(self, options: dict[str, Any]) -> tuple[bytes, list[bytes]]:
        try:
            asked = "BLMPOP" if self._several else "BRPOP"
            popped = self.client.parse_response(self.client.connection, asked, **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        except redis.ResponseError as error:
            if self._several and _unavailable(error):
                self._takes_several = False
                raise Empty from error
            time.sleep(REFUSED_S)  # read-only, say: Celery connects again at once, and would do so without a breath
            raise
        if not popped:
            raise Empty
        return popped[0], popped[1] if self._several else [popped[1]]

    def _read(self, found: Sequence[bytes], queue: str) -> list[dict[str, Any]]:
        """Messages as Celery needs them, less those that went to the dead letters; jobs' claims are on their way.

        No claim is asked for when consuming is over: these messages go back.
        """
        if queue not in QUEUES:
            return [loads(bytes_to_str(raw)) for raw in found]
        messages = [message for raw in found if (message := _guard(raw, queue)) is not None]
        if queue in self._active_queues and not self._closing:
            headers = [message["headers"] for message in messages]
            asked = connection.jobs().ask_ahead([(told["id"], new_owner(), told[envelope.DIGEST]) for told in headers])
            for told, claim in zip(headers, asked, strict=bool(asked)):
                told[ASKED] = claim
        return messages

    def take(self, lists_now: Callable[[], Sequence[str]]) -> Any:
        """For a thread that is free: the next message of a line, which counts as delivered; None where none stands.

        What the trip that ended its last job brought; else of `lists_now`.
        """
        if NEXT.answered:
            NEXT.answered, found = False, NEXT.answer
        else:
            lists = lists_now()
            found = connection.jobs().take(lists) if lists else None
        if not self._sound(found):
            return None
        key, (raw,) = found
        payload = _guard(raw, self._queue_of(key))
        return None if payload is None else self._delivered(payload)

    def listen(self, room: int, wanted: Callable[[], bool]) -> list[Any]:
        """For a thread that is free: messages, not more than `room`, as soon as there are any; they count as delivered.

        None after `LISTEN_S`, or where Redis has trouble. What is not `wanted` any more when it comes goes back.
        """
        self._listened = True
        lists = self.lists()
        found: Any = connection.jobs().wait(lists, LISTEN_S, self._part(room)) if lists else None
        if self._sound(found):
            key, raws = found
            if wanted():
                return [self._delivered(payload) for payload in self._read(raws, self._queue_of(key))]
            for raw in reversed(raws):  # each to the head of the line
                self._give_back(_guard(raw, self._queue_of(key)))
        if not lists or isinstance(found, redis.RedisError):
            time.sleep(REFUSED_S)
        return []

    def _give_back(self, payload: dict[str, Any] | None) -> None:
        if payload is not None:
            self._restore(self.Message(payload, channel=self))

    def _delivered(self, payload: dict[str, Any]) -> Any:
        message = self.Message(payload, channel=self)
        self.qos.append(message, message.delivery_tag)
        return message

    def _queue_of(self, key: bytes) -> str:
        return str(bytes_to_str(key).rsplit(self.sep, 1)[0])

    def lists(self) -> list[str]:
        """Where threads take from: an interactive message of any queue before a batch one, and queues in turn."""
        if not self.lets_threads_take:
            return []
        queues = [queue for queue in tuple(self._active_queues) if queue in QUEUES]
        turn = next(self._turns) % max(1, len(queues))
        queues = queues[turn:] + queues[:turn]
        return [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]

    def _sound(self, answer: Any) -> bool:
        """Not where Redis has trouble, of which Celery's loop hears as well, or does not know or allow this."""
        if isinstance(answer, redis.ResponseError):
            self.lets_threads_take = not _unavailable(answer)
        return bool(answer) and not isinstance(answer, redis.RedisError)

    def _restore(self, message: Any, leftmost: bool = False) -> None:  # noqa: ARG002 - Kombu's signature
        """Where it cannot go back now, the record brings it back; Kombu would write the message to a file."""
        if message.headers and message.delivery_info.get("routing_key") in QUEUES:
            asked = message.headers.get(ASKED)
            claim = asked.take() if asked else None  # None: the job is being run
            with contextlib.suppress(redis.RedisError):
                if isinstance(claim, Claim):
                    _impatient().release(claim)
                else:
                    _impatient().hand_back(message.headers["id"])


def _unavailable(error: redis.ResponseError) -> bool:
    """A Redis before 7 knows no such command, or this user may not use it."""
    return isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error)


@cache
def _impatient() -> Jobs:
    return connection.jobs_at(settings(), patience_s=0.0)


def _guard(raw: bytes, queue: str) -> dict[str, Any] | None:
    """The message in the form that Celery needs, or None when it went to the dead letters."""
    try:
        return envelope.check(raw, queue, signing=connection.jobs().signing).message
    except MaeariError as error:
        log.warning("dead letter from queue %s: %s field=%s", queue, error.code, error.field)
        code = error.code if isinstance(error, BadSignature) else InvalidMessage.code
        fault = Fault(code=code, message=f"{error.field}: {error.message}", stage=queue, field=error.field)
    except Exception as error:
        log.exception("dead letter from queue %s: the guard stumbled", queue)
        fault = Fault(code="invalid_message", message=f"The guard stumbled ({type(error).__name__}).", stage=queue)
    connection.patiently(lambda: connection.jobs().bury(queue, raw, fault, envelope.job_id(raw)))
    return None


class GuardedSentinelChannel(GuardedChannel, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """The same at the primary that Sentinels name, asked anew for each connection."""

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        """As Kombu's, with the Sentinels and the service of `MAEARI_REDIS_URL`."""
        params = self._connparams(asynchronous)
        for name in ("host", "port"):
            params.pop(name, None)
        endpoint = Endpoint.of(settings().redis_url, settings())
        manager = endpoint.manager(**params)
        setattr(self, "_async_sentinel_manager" if asynchronous else "_sentinel_manager", manager)
        return manager.master_for(endpoint.service, redis.Redis).connection_pool


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """Kombu's Redis transport over guarded channels."""

    Channel = GuardedChannel


class SentinelTransport(Transport, kombu_redis.SentinelTransport):  # type: ignore[misc]
    """Kombu's Sentinel transport over guarded channels."""

    Channel = GuardedSentinelChannel


class Connection(kombu.Connection):
    """Kombu's connection that looks every two seconds whether Redis is back; Kombu's own waits up to thirty."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """As Kombu's, with other intervals."""
        steps = {"interval_start": 0.2, "interval_step": 0.4, "interval_max": 2.0}
        return super().ensure_connection(*args, **steps | options)


TRANSPORT_ALIASES[ALIAS] = f"{__name__}:Transport"
TRANSPORT_ALIASES[SENTINEL_ALIAS] = f"{__name__}:SentinelTransport"
