"""Where Redis is, as `MAEARI_REDIS_URL` says: one server, or the primary that Sentinels name; with TLS or without."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import ConfigurationInvalid
from .settings import Settings

SCHEMES = {"redis": False, "rediss": True, "sentinel": False, "sentinels": True, "unix": False}
"""Schemes of URLs, and whether they mean TLS."""

SENTINEL_PORT = 26379

SENTINEL_S = 3.0
"""Seconds that one Sentinel has to answer before the next one is asked."""


@dataclass(frozen=True)
class Endpoint:
    """A place to connect to."""

    url: str = field(repr=False)
    """`redis[s]://user:password@host:6379/0`, `unix:///path`, or
    `sentinel[s]://user:password@host:26379,host:26379/0?service=maeari`; where the Sentinels have a user of their own,
    `&sentinel_username=…&sentinel_password=…`."""
    tls: Mapping[str, Any] = field(default_factory=dict)
    """Options of a TLS connection; empty without."""

    @classmethod
    def of(cls, url: str, configured: Settings) -> Endpoint:
        """The endpoint of a URL, with the certificates of the settings. Raises `ConfigurationInvalid`."""
        scheme = urlsplit(url).scheme
        if scheme not in SCHEMES:
            known = ", ".join(f"{name}://" for name in SCHEMES)
            raise ConfigurationInvalid(f"A Redis URL begins with one of {known}.", field="redis_url")
        if re.search(r"ssl_cert_reqs|ssl_check_hostname", urlsplit(url).query):
            raise ConfigurationInvalid("A Redis URL cannot switch off the check of certificates.", field="redis_url")
        return cls(url, _tls(configured) if SCHEMES[scheme] else {})

    @property
    def watched(self) -> bool:
        """Sentinels say which server is the primary."""
        return self.url.startswith("sentinel")

    @property
    def service(self) -> str:
        """What the Sentinels call the primary."""
        return self._query("service") or "mymaster"

    @property
    def db(self) -> int:
        """Number of the database."""
        return int(urlsplit(self.url).path.strip("/") or 0)

    def _query(self, name: str) -> str | None:
        return next(iter(parse_qs(urlsplit(self.url).query).get(name, [])), None)

    def client(self, **options: Any) -> redis.Redis:
        """A client; `options` as redis-py's."""
        if self.watched:
            found: redis.Redis = self.manager().master_for(self.service, **self._credentials(), **options)
            return found
        made: redis.Redis = redis.Redis.from_url(self.url, **self.tls, **options)
        return made

    def manager(self, **options: Any) -> redis.sentinel.Sentinel:
        """Asks the Sentinels, each one once: there are others. `options`: of connections to the primary."""
        asking = self._asking() | {"retry": Retry(NoBackoff(), 0)}
        return redis.sentinel.Sentinel(self._sentinels(), sentinel_kwargs=asking, **options)

    def async_client(self, **options: Any) -> redis.asyncio.Redis:
        """A client for asyncio."""
        if self.watched:
            asking = self._asking() | {"retry": AsyncRetry(NoBackoff(), 0)}
            manager = redis.asyncio.sentinel.Sentinel(self._sentinels(), sentinel_kwargs=asking)
            found: redis.asyncio.Redis = manager.master_for(self.service, **self._credentials(), **options)
            return found
        return redis.asyncio.Redis.from_url(self.url, **self.tls, **options)

    def _credentials(self) -> dict[str, Any]:
        parts = urlsplit(self.url)
        return {
            "db": self.db,
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            **({"ssl": True, **self.tls} if self.tls else {}),
        }

    def _sentinels(self) -> list[tuple[str, int]]:
        hosts = (urlsplit(f"//{host}") for host in urlsplit(self.url).netloc.rpartition("@")[2].split(","))
        return [(host.hostname or "", host.port or SENTINEL_PORT) for host in hosts]

    def _asking(self) -> dict[str, Any]:
        """How Sentinels are spoken to."""
        user, password = self._query("sentinel_username"), self._query("sentinel_password")
        return {
            "socket_timeout": SENTINEL_S,
            "socket_connect_timeout": SENTINEL_S,
            "username": user,
            "password": password,
            **({"ssl": True, **self.tls} if self.tls else {}),
        }

    def broker(self, alias: str) -> str:
        """The URL as Kombu reads it, under a transport's name."""
        parts = urlsplit(self.url)
        user, at, hosts = parts.netloc.rpartition("@")
        return f"{alias}://{user}{at}{hosts.split(',')[0]}/{self.db}"


async def close(client: redis.asyncio.Redis) -> None:
    """Close a client for asyncio, with the connections on which it asks Sentinels."""
    await client.aclose()
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


def shown_url(url: str) -> str:
    """A URL without its secrets."""
    parts = urlsplit(url)
    service = re.search(r"service=[^&]*", parts.query)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=service[0] if service else "").geturl()


def _tls(configured: Settings) -> dict[str, Any]:
    files = {
        "ssl_ca_certs": configured.redis_ca_file,
        "ssl_certfile": configured.redis_cert_file,
        "ssl_keyfile": configured.redis_key_file,
    }
    for path in files.values():
        if path is not None and not path.is_file():
            raise ConfigurationInvalid(f"There is no file {path}.", field="redis_ca_file")
    chosen = {name: str(path) for name, path in files.items() if path is not None}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **chosen}


_TROUBLES = {
    "CERTIFICATE_REQUIRED|certificate required|HANDSHAKE_FAILURE": (
        "Redis asks for a certificate of its clients: MAEARI_REDIS_CERT_FILE, MAEARI_REDIS_KEY_FILE."
    ),
    "mismatch": "Redis's certificate is for another host than MAEARI_REDIS_URL names.",
    "certificate has expired": "Redis's certificate has expired.",
    "UNKNOWN_CA|unknown ca": "Redis does not trust the certificate in MAEARI_REDIS_CERT_FILE.",
    "CERTIFICATE_VERIFY_FAILED": "Redis's certificate is of no authority that MAEARI_REDIS_CA_FILE names.",
}
"""What OpenSSL says when a TLS connection will not come about, and what that means to people."""


def tls_trouble(error: BaseException) -> str:
    """Why a TLS connection will never come about with these settings; empty when that is not the trouble."""
    text = f"{error} {error.__cause__ or ''} {error.__context__ or ''}"
    if "SSL" not in text and "ssl" not in text:
        return ""
    return next((sentence for pattern, sentence in _TROUBLES.items() if re.search(pattern, text)), "")
