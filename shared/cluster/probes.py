"""Is it there, and is it what it should be? Questions to ports and servers, each with a short time-out."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from redis import Redis

TIMEOUT_S = 2.0
"""Seconds that a probe waits."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that mean this machine."""


def port_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class RedisAnswer:
    """What a Redis URL answered."""

    state: Literal["ready", "loading", "refused", "untrusted", "silent", "foreign"]
    """`refused`: it wants other credentials; `untrusted`: no TLS connection comes about with these certificates;
    `silent`: nothing listens; `foreign`: it is no Redis."""
    why: str = ""
    version: str = ""
    persistent: bool | None = None
    """Jobs outlive a restart; None: the server does not say."""
    policy: str | None = None
    """What it throws away when memory is full; None: the server does not say."""
    folder: Path | None = None
    """Its data folder, where it says."""


def ask_redis(url: str) -> RedisAnswer:
    """Connect once and look at what matters to jobs."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from shared.connection import connect
    from shared.endpoint import tls_trouble
    from shared.errors import ConfigurationInvalid

    once = Retry(NoBackoff(), 0)
    try:
        client = connect(url, retry=once, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    except (ValueError, ConfigurationInvalid) as error:
        return RedisAnswer("foreign", f"the URL cannot be used: {error}")
    try:
        client.ping()
        return _described(client)
    except redis.BusyLoadingError:
        return RedisAnswer("loading", "it still reads its data")
    except (redis.AuthenticationError, redis.ResponseError) as error:
        return RedisAnswer("refused", str(error))
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        why = tls_trouble(error)
        return RedisAnswer("untrusted", why) if why else RedisAnswer("silent", str(error))
    except redis.RedisError as error:
        return RedisAnswer("foreign", str(error))
    finally:
        client.close()


def _described(client: Redis) -> RedisAnswer:
    import redis

    version = ""
    try:
        version = str(client.info("server")["redis_version"])
        asked = ("appendonly", "save", "maxmemory-policy", "dir")
        config = {name: str(client.config_get(name).get(name, "")) for name in asked}
    except redis.ResponseError:
        return RedisAnswer("ready", "it does not show its configuration", version)
    persistent = config["appendonly"] == "yes" or bool(config["save"])
    return RedisAnswer("ready", "", version, persistent, config["maxmemory-policy"], Path(config["dir"]))


def http_status(url: str) -> int | None:
    """Status of a GET, or None where nothing answers in time."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return None


def chroma_answers(host: str, port: int) -> bool:
    """Whether a Chroma server serves there."""
    return http_status(f"http://{host}:{port}/api/v2/heartbeat") == 200


def flower_answers(port: int) -> bool:
    """Whether Flower serves there."""
    return http_status(f"http://127.0.0.1:{port}/healthcheck") == 200
