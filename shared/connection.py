"""This process's connection to Redis: how clients are made, and the one `Jobs` that tasks and the transport share."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from .endpoint import Endpoint, tls_trouble
from .errors import AccessDenied, BrokerUnavailable, ConfigurationInvalid
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
    """Redis cannot serve now and may soon; else the command itself is wrong, or the settings are."""
    return not _is_final(error) and (isinstance(error, _REFUSED) or bool(_LATER.search(str(error))))


def _is_final(error: Exception) -> bool:
    """No waiting mends it: a password, a right or a certificate is wrong."""
    return isinstance(error, redis.RedisError) and (is_denial(error) or bool(tls_trouble(error)))


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
    """Redis's trouble as `BrokerUnavailable`, with `hint` for the caller; its refusal as `AccessDenied`.

    A TLS connection that will never come about is `ConfigurationInvalid`.
    """
    try:
        yield
    except redis.RedisError as error:
        if is_denial(error):
            raise AccessDenied(f"({error})") from error
        if why := tls_trouble(error):
            raise ConfigurationInvalid(why, field="redis_url") from error
        raise BrokerUnavailable(f"{_reason(error)} {hint}".strip()) from error


def _reason(error: redis.RedisError) -> str:
    if isinstance(error, redis.OutOfMemoryError):
        return "Its memory is full."
    if isinstance(error, redis.ReadOnlyError):
        return "It is a read-only replica."
    return f"({type(error).__name__})"


def _goes_on(until: float, also: Callable[[Exception], bool] | None) -> Callable[[Exception], bool]:
    return lambda error: time.monotonic() < until and not _is_final(error) and (also is None or also(error))


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
    "max_connections": 10_000,  # as Redis's own limit; with redis-py's 100, a hundred and first follower is refused
    "retry_on_error": _LOST,
}


def connect(url: str, *, patience_s: float = PATIENCE_S, **options: Any) -> redis.Redis:
    """A client that decodes replies and rides out a restart of Redis for `patience_s` seconds.

    `url`: see `shared.endpoint`. Raises `ConfigurationInvalid` where it cannot be used.
    """
    return Endpoint.of(url, settings()).client(**_DEFAULTS | {"retry": Patience(patience_s)} | options)


def connect_async(url: str) -> redis.asyncio.Redis:
    """`connect` for asyncio."""
    return Endpoint.of(url, settings()).async_client(**_DEFAULTS, retry=AsyncPatience(PATIENCE_S))


def jobs_at(configured: Settings, **options: Any) -> Jobs:
    """`Jobs` at the Redis that the settings name."""
    return Jobs(connect(configured.redis_url, **options), Keys(configured.key_prefix), Signing.of(configured))


@cache
def jobs() -> Jobs:
    """The `Jobs` of this process."""
    return jobs_at(settings())
