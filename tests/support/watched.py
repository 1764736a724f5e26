"""A Redis primary with a replica and a Sentinel that watches them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import redis

from shared.connection import connect

from .servers import RedisServer, free_port, redis_binary
from .waiting import until

SERVICE = "maeari"
DOWN_MS = 1_000
"""Milliseconds of silence after which the Sentinel takes the primary for dead."""


class WatchedRedis:
    """Three processes behind one URL."""

    def __init__(self, folder: Path) -> None:
        at_once = ("--repl-diskless-sync-delay", "0")
        self.first = RedisServer(folder / "a", *at_once)
        self.second = RedisServer(folder / "b", *at_once, "--replicaof", "127.0.0.1", str(self.first.port))
        until(lambda: self._in_step(self.first), "the replica follows")
        port = free_port()
        folder.joinpath("sentinel.conf").write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor {SERVICE} 127.0.0.1 {self.first.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\nsentinel failover-timeout {SERVICE} 3000\n",
            "utf-8",
        )
        command = [redis_binary(), str(folder / "sentinel.conf"), "--sentinel"]
        with (folder / "sentinel.log").open("wb") as log:
            self._sentinel = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        self.url = f"sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/0?service={SERVICE}"
        """Nobody listens at the first address: clients ask the next one."""
        self._at_sentinel: Any = redis.Redis(port=port, decode_responses=True)
        until(self._hurried, "the Sentinel answers")
        until(self._sees_the_replica, "the Sentinel knows the replica")

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
        until(lambda: self._in_step(primary), "the replica is in step", timeout_s=60)

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
