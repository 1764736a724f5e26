"""This process's connection to Redis: how clients are made, and the one `Jobs` that tasks and the transport share."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from .errors import AccessDenied, BrokerUnavailable
from .jobs import Jobs
from .keys import Keys
from .settings import Settings, settings
from .signing import Signing

T = TypeVar("T")

TROUBLE_S = 60.0
"""Seconds that a worker holds on to a message or to finished work which Redis does not take."""

PATIENCE_S = 10.0
"""Seconds that a client rides out a Redis that does not answer, before it raises."""

_LATER = re.compile(r"\b(OOM|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|LOADING|BUSY|MISCONF|NOREPLICAS|UNBLOCKED)\b")
"""Codes with which Redis refuses now what it will do later; within a script they stand in the middle of the text."""

_DENIED = re.compile("ACL failure in script|user executing the script can't")
"""How Redis says within a script that its caller may not; the words depend on its version."""

_REFUSED = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)

_LOST: list[type[Exception]] = [redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError]
"""What a fresh connection may mend: after a failover the old one leads to a read-only replica."""


def is_trouble(error: redis.RedisError) -> bool:
    """Redis cannot serve now and may soon; else the command itself is wrong."""
    return isinstance(error, _REFUSED) or bool(_LATER.search(str(error)))


def is_denial(error: redis.RedisError) -> bool:
    """Redis knows this user and forbids it, or does not know it; asking again changes nothing."""
    denied = isinstance(error, redis.exceptions.NoPermissionError | redis.AuthenticationError)
    return denied or bool(_DENIED.search(str(error)))


def patiently(step: Callable[[], T]) -> T:
    """Do a step that may be repeated, as soon as Redis lets it through: finished work is too dear to be thrown away."""
    until = time.monotonic() + TROUBLE_S
    while True:
        try:
            return step()
        except redis.RedisError as error:
            if time.monotonic() > until or not is_trouble(error):
                raise
            time.sleep(0.5)


@contextlib.contextmanager
def reaching(hint: str = "") -> Iterator[None]:
    """Redis's trouble as `BrokerUnavailable`, with `hint` for the caller; its refusal as `AccessDenied`."""
    try:
        yield
    except redis.RedisError as error:
        if is_denial(error):
            raise AccessDenied(f"({error})") from error
        raise BrokerUnavailable(f"{_reason(error)} {hint}".strip()) from error


def _reason(error: redis.RedisError) -> str:
    if isinstance(error, redis.OutOfMemoryError):
        return "Its memory is full."
    if isinstance(error, redis.ReadOnlyError):
        return "It is a read-only replica."
    return f"({type(error).__name__})"


def _goes_on(until: float, also: Callable[[Exception], bool] | None) -> Callable[[Exception], bool]:
    return lambda error: time.monotonic() < until and (also is None or also(error))


class Patience(Retry):
    """Retries for so many seconds, however long each try takes."""

    def __init__(self, seconds: float) -> None:
        """`seconds` since the first try, after which the next failure is final."""
        super().__init__(ExponentialWithJitterBackoff(cap=1.0, base=0.02), -1)
        self.seconds = seconds

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """As `redis.retry.Retry`."""
        goes_on = _goes_on(time.monotonic() + self.seconds, is_retryable)
        return super().call_with_retry(do, fail, goes_on, with_failure_count)


class AsyncPatience(AsyncRetry):
    """`Patience` for asyncio."""

    def __init__(self, seconds: float) -> None:
        """`seconds` since the first try, after which the next failure is final."""
        super().__init__(ExponentialWithJitterBackoff(cap=1.0, base=0.02), -1)
        self.seconds = seconds

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """As `redis.asyncio.retry.Retry`."""
        goes_on = _goes_on(time.monotonic() + self.seconds, is_retryable)
        return await super().call_with_retry(do, fail, goes_on, with_failure_count)


_DEFAULTS: dict[str, Any] = {
    "decode_responses": True,
    "encoding_errors": "backslashreplace",  # a broken message in a record must not break those who look at it
    "socket_timeout": 3.0,
    "socket_connect_timeout": 3.0,
    "socket_keepalive": True,
    "health_check_interval": 15,
    "retry_on_error": _LOST,
}


def connect(url: str, *, patience_s: float = PATIENCE_S, **options: Any) -> redis.Redis:
    """A client that decodes replies and rides out a restart of Redis for `patience_s` seconds.

    `url`: `redis://`, `rediss://`, `unix://`, or `sentinel://host:26379,host:26379/0?service=mymaster`.
    """
    chosen = _DEFAULTS | {"retry": Patience(patience_s)} | options
    if url.startswith("sentinel://"):
        return _through_sentinel(url, chosen)
    client: redis.Redis = redis.Redis.from_url(url, **chosen)
    return client


def connect_async(url: str) -> redis.asyncio.Redis:
    """`connect` for asyncio."""
    return redis.asyncio.Redis.from_url(url, **_DEFAULTS, retry=AsyncPatience(PATIENCE_S))


def _through_sentinel(url: str, options: dict[str, Any]) -> redis.Redis:
    from redis.sentinel import Sentinel

    parts = urlsplit(url)
    hosts = [host.rpartition(":") for host in parts.netloc.rpartition("@")[2].split(",")]
    service = parse_qs(parts.query).get("service", ["mymaster"])[0]
    sentinel = Sentinel([(host, int(port)) for host, _, port in hosts], socket_timeout=3.0)
    client: redis.Redis = sentinel.master_for(
        service, db=int(parts.path.strip("/") or 0), username=parts.username, password=parts.password, **options
    )
    return client


def jobs_at(configured: Settings, **options: Any) -> Jobs:
    """`Jobs` at the Redis that the settings name."""
    return Jobs(connect(configured.redis_url, **options), Keys(configured.key_prefix), Signing.of(configured))


@cache
def jobs() -> Jobs:
    """The `Jobs` of this process."""
    return jobs_at(settings())
