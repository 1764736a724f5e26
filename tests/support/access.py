"""A Redis that lets in the users of `deploy/redis` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

import access
from shared.connection import connect
from shared.producer import Producer

from .servers import IN_MEMORY, RedisServer


class GuardedRedis(RedisServer):
    """Its `url` is the administrator's; every other user has one of its own."""

    def __init__(self, folder: Path, *apps: str, options: tuple[str, ...] = IN_MEMORY, tls: Path | None = None) -> None:
        """`apps`: applications that enqueue, as the script takes them."""
        access.write_users(folder, access.parse_apps(apps), access.Cluster())
        self.passwords = access.read_passwords(folder)
        own = ("--aclfile", str(folder / "users.acl"))
        self._scheme = "rediss" if tls else "redis"
        super().__init__(folder, *options, *own, credentials=f"admin:{self.passwords['admin']}", tls=tls)

    def url_of(self, user: str) -> str:
        """Where and as whom."""
        return f"{self._scheme}://{user}:{self.passwords[user]}@127.0.0.1:{self.port}/0"

    def role_urls(self) -> dict[str, str]:
        """The workers' own, by role."""
        return {role: self.url_of(f"worker-{role}") for role in access.ROLES}

    def client_of(self, user: str) -> redis.Redis:
        """A client that gives up at once."""
        return connect(self.url_of(user), patience_s=0.0)

    def producer_of(self, app: str) -> Producer:
        """The Python producer of an application."""
        producer = Producer(self.url_of(f"producer-{app}"), application=app)
        producer.jobs.client = self.client_of(f"producer-{app}")
        return producer

    def denials(self) -> list[tuple[Any, ...]]:
        """What Redis refused whom since the last look."""
        client = self.client
        found = [(entry["username"], entry["context"], entry["object"]) for entry in client.acl_log()]
        client.acl_log_reset()
        return found
