"""This process's connection to Redis: how clients are made, and the one `Jobs` that tasks and the transport share."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from .jobs import Jobs
from .keys import Keys
from .settings import Settings, settings

_TROUBLE: list[type[Exception]] = [redis.ConnectionError, redis.TimeoutError]


def connect(url: str, **options: Any) -> redis.Redis:
    """A client that decodes replies and rides out a restart of Redis (about 10 s of retries).

    `url`: `redis://`, `rediss://`, `unix://`, or `sentinel://host:26379,host:26379/0?service=mymaster`.
    """
    defaults: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": 15.0,
        "socket_connect_timeout": 3.0,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(ExponentialWithJitterBackoff(cap=1.0, base=0.02), 12),
        "retry_on_error": _TROUBLE,
    }
    chosen = defaults | options
    if url.startswith("sentinel://"):
        return _through_sentinel(url, chosen)
    client: redis.Redis = redis.Redis.from_url(url, **chosen)
    return client


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
    return Jobs(connect(configured.redis_url, **options), Keys(configured.key_prefix))


@cache
def jobs() -> Jobs:
    """The `Jobs` of this process."""
    return jobs_at(settings())
