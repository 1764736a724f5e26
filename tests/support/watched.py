"""A Redis primary with a replica and a Sentinel that watches them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import redis

import access
from shared.connection import connect

from .servers import RedisServer, free_port, listening, redis_binary
from .waiting import until

SERVICE = "maeari"
DOWN_MS = 2_500
"""Milliseconds of silence after which the Sentinel takes the primary for dead; a starved one is not."""


class WatchedRedis:
    """Three processes behind one URL, with the users of `deploy/redis`."""

    def __init__(self, folder: Path, *, tls: Path | None = None) -> None:
        """`tls`: folder of certificates; then nothing else is spoken among all of them."""
        self._tls = tls
        access.write_users(folder, {}, access.Cluster())
        self.passwords = access.read_passwords(folder)
        self.first = self._server(folder, "a")
        self.second = self._server(folder, "b", "--replicaof", "127.0.0.1", str(self.first.port))
        until(lambda: self._in_step(self.first), "the replica follows")
        self._port = free_port()
        self._sentinel = self._watcher(folder)
        self._at_sentinel = self._client_of_the_sentinel()
        until(self._hurried, "the Sentinel answers")
        until(self._sees_the_replica, "the Sentinel knows the replica")

    def _server(self, folder: Path, name: str, *options: str) -> RedisServer:
        own = ["--aclfile", str(folder / "users.acl"), "--repl-diskless-sync-delay", "0"]
        own += ["--masteruser", "replica", "--masterauth", self.passwords["replica"]]
        if self._tls:
            own += ["--tls-replication", "yes", "--tls-auth-clients", "optional"]
        credentials = f"admin:{self.passwords['admin']}"
        return RedisServer(folder / name, *own, *options, credentials=credentials, tls=self._tls)

    def _watcher(self, folder: Path) -> subprocess.Popen[bytes]:
        lines = [
            "bind 127.0.0.1",
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.first.port} 1",
            f"sentinel auth-user {SERVICE} sentinel",
            f"sentinel auth-pass {SERVICE} {self.passwords['sentinel']}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        config = folder / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n", "utf-8")
        command = [redis_binary(), str(config), "--sentinel", *listening(self._port, self._tls)]
        if self._tls:
            command += ["--tls-replication", "yes", "--tls-auth-clients", "optional"]
        with (folder / "sentinel.log").open("wb") as log:
            return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)

    def _client_of_the_sentinel(self) -> Any:
        secure = {"ssl": True, "ssl_ca_certs": str(self._tls / "ca.crt")} if self._tls else {}
        return redis.Redis(port=self._port, host="127.0.0.1", decode_responses=True, **secure)

    def url_of(self, user: str) -> str:
        """Nobody listens at the first address: clients ask the next one."""
        scheme = "sentinels" if self._tls else "sentinel"
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{self._port}"
        return f"{scheme}://{user}:{self.passwords[user]}@{hosts}/0?service={SERVICE}"

    @property
    def url(self) -> str:
        """The administrator's."""
        return self.url_of("admin")

    def role_urls(self) -> dict[str, str]:
        """The workers' own, by role."""
        return {role: self.url_of(f"worker-{role}") for role in access.ROLES}

    def _hurried(self) -> bool:
        """It looks around every 200 ms, where it would take seconds."""
        try:
            periods = [word for name in ("INFO", "ASK", "PUBLISH") for word in (f"{name}-PERIOD", 200)]
            return bool(self._at_sentinel.execute_command("SENTINEL DEBUG", *periods))
        except redis.RedisError:
            return False

    def _sees_the_replica(self) -> bool:
        try:
            return int(self._at_sentinel.sentinel_master(SERVICE)["num-slaves"]) == 1
        except redis.RedisError:
            return False

    def roles(self) -> tuple[RedisServer, RedisServer]:
        """The primary, as the Sentinel names it, and the other one."""
        port = int(self._at_sentinel.sentinel_get_master_addr_by_name(SERVICE)[1])
        return (self.first, self.second) if port == self.first.port else (self.second, self.first)

    def make_whole(self) -> None:
        """Start what has died, and wait until the replica has everything that the primary has."""
        primary, replica = self.roles()
        if replica.ended:
            replica.start()
        until(lambda: self._in_step(primary), "the replica is in step", timeout_s=120)

    def _in_step(self, primary: RedisServer) -> bool:
        found = primary.client.info("replication")
        return found["role"] == "master" and found["connected_slaves"] == 1 and found["slave0"]["state"] == "online"

    @property
    def client(self) -> redis.Redis:
        """At the primary, whichever it is."""
        return connect(self.url)

    def close(self) -> None:
        """End all three."""
        self._sentinel.kill()
        self._sentinel.wait()
        for server in (self.first, self.second):
            server.close()
