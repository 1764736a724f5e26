"""Where a cluster keeps what: every path under its home folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

_SOCKET_LIMIT = 90
"""Bytes; a Unix socket's path ends at 107, and the supervisor appends its process id while binding."""


@dataclass(frozen=True)
class Layout:
    """Paths under `home`, an absolute folder."""

    home: Path

    @property
    def run(self) -> Path:
        """Configuration, pid file, socket, password: for the owner's eyes alone."""
        return self.home / "run"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.home / "logs"

    @property
    def redis(self) -> Path:
        """Data of the embedded Redis."""
        return self.home / "redis"

    @property
    def chroma(self) -> Path:
        """Data of the Chroma server."""
        return self.home / "chroma"

    @property
    def replies(self) -> Path:
        """Where `maeari ask` puts the audio of replies."""
        return self.home / "replies"

    @property
    def demo(self) -> Path:
        """Spoken questions of `maeari demo`."""
        return self.home / "demo"

    @property
    def state(self) -> Path:
        """What the last `up` started: replicas and GPUs."""
        return self.run / "cluster.json"

    @property
    def lock(self) -> Path:
        """Held by the one `up` or `down` at work."""
        return self.run / "lock"

    @property
    def supervisor_conf(self) -> Path:
        """The supervisor's generated configuration."""
        return self.run / "supervisord.conf"

    @property
    def supervisor_pid(self) -> Path:
        """The supervisor's process id."""
        return self.run / "supervisord.pid"

    @property
    def redis_conf(self) -> Path:
        """The embedded Redis's generated configuration."""
        return self.run / "redis.conf"

    @property
    def flower_conf(self) -> Path:
        """Flower's generated configuration."""
        return self.run / "flower.py"

    @property
    def flower_password(self) -> Path:
        """The password that was made for Flower."""
        return self.run / "flower.password"

    @property
    def socket(self) -> Path:
        """The supervisor's socket; in the temporary folder where the home's path is too long for one."""
        inside = self.run / "supervisor.sock"
        if len(os.fsencode(inside)) <= _SOCKET_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"maeari-{os.getuid()}-{digest}" / "supervisor.sock"

    def log(self, name: str) -> Path:
        """Log of a process."""
        return self.logs / f"{name}.log"

    def make(self) -> None:
        """Create the folders; those with secrets or people's data are closed to others."""
        for folder in (self.home, self.run, self.logs, self.redis, self.chroma, self.socket.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write_private(self, path: Path, content: str) -> None:
        """Write a file that only the owner can read."""
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
        draft.replace(path)


def layout_of(home: Path) -> Layout:
    """The layout of a home folder, made absolute."""
    return Layout(home.expanduser().resolve())
