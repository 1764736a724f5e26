"""Real servers for tests, each with its own port and folder."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import redis

from shared.cluster import services

from .waiting import until

_CANDIDATES = itertools.count(10_000 + os.getpid() * 37 % 18_000)


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on, and that this process gives away once.

    Below those that the kernel hands out by itself: none of theirs can take it before it is listened on.
    """
    while True:
        port = 10_000 + next(_CANDIDATES) % 20_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def redis_binary() -> str:
    """The Redis server that `maeari up` would start; a machine without one fails the test, it does not skip it."""
    found = services.redis_binary()
    assert found, "there is no Redis server on this machine"
    return str(found)


def listening(port: int, tls: Path | None) -> list[str]:
    """Options of a server for one port, with or without TLS."""
    if tls is None:
        return ["--port", str(port)]
    names = {"cert": "redis.crt", "key": "redis.key", "ca-cert": "ca.crt"}
    files = [word for kind, name in names.items() for word in (f"--tls-{kind}-file", str(tls / name))]
    return ["--port", "0", "--tls-port", str(port), *files]


IN_MEMORY = ("--appendonly", "no")
"""Options for tests that do not restart Redis: they would wait for the disk at every step."""


class RedisServer:
    """A Redis with an append-only file that can be killed, frozen and started again on the same data."""

    def __init__(self, folder: Path, *options: str, credentials: str = "", tls: Path | None = None) -> None:
        """`options`: as the server takes them, a configuration file first.

        `credentials`: `user:password` of whoever may do everything, where the options shut the others out.
        `tls`: folder of certificates, as `deploy/redis/access.py` makes them; then nothing else is spoken.
        """
        self.folder = folder
        self.port = free_port()
        scheme, query = ("rediss", f"?ssl_ca_certs={tls / 'ca.crt'}") if tls else ("redis", "")
        self.url = f"{scheme}://{credentials}@127.0.0.1:{self.port}/0{query}".replace("//@", "//")
        self._listen = listening(self.port, tls)
        self._config = [option for option in options[:1] if not option.startswith("--")]
        self._options = options[len(self._config) :]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def client(self) -> redis.Redis:
        """A fresh client."""
        client: redis.Redis = redis.Redis.from_url(self.url, decode_responses=True)
        return client

    def start(self) -> None:
        """Start and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [redis_binary(), *self._config, *self._listen, "--dir", str(self.folder), "--bind", "127.0.0.1"]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", *self._options]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    @property
    def ended(self) -> bool:
        """Its process is no more."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """As a power cut."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """As an operator does."""
        self._signal(signal.SIGTERM)
        assert self._process is not None
        self._process.wait()

    def freeze(self) -> None:
        """Stop answering without closing anything; it is still when this returns."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        self._signal(signal.SIGSTOP)
        until(lambda: process.status() == psutil.STATUS_STOPPED, "Redis stands still")

    def thaw(self) -> None:
        """Go on answering."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.kill()
            self._process.wait()
