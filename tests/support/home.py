"""A cluster of its own for a test, brought up and down by the command that users type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from shared.cluster.layout import Layout, layout_of
from shared.cluster.supervisor import Supervisor

from .servers import free_port

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Home:
    """A cluster's settings and its command."""

    environment: dict[str, str]
    layout: Layout

    def run(self, *arguments: str, ok: bool = True, **changes: str) -> subprocess.CompletedProcess[str]:
        """`maeari ...`; `ok`: it must succeed, else it must fail."""
        done = subprocess.run(
            [sys.executable, "-m", "shared.cli", *arguments],
            cwd=ROOT,
            env=self.environment | changes,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == ok, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, ok: bool = True, **changes: str) -> Any:
        """What it prints for programs."""
        return json.loads(self.run(*arguments, "--json", ok=ok, **changes).stdout)

    def port(self, service: str) -> int:
        """Port of a service."""
        if service == "redis":
            return int(self.environment["MAEARI_REDIS_URL"].rpartition(":")[2].partition("/")[0])
        return int(self.environment[f"MAEARI_{service.upper()}_PORT"])

    @property
    def ports(self) -> list[int]:
        """All three."""
        return [self.port(service) for service in ("redis", "chroma", "flower")]

    def client(self) -> Any:
        """Of its Redis."""
        return redis.Redis.from_url(self.environment["MAEARI_REDIS_URL"], decode_responses=True)

    def processes(self) -> dict[str, int]:
        """Every living process under the supervisor by name; beware, none is seen when there is no supervisor."""
        return {name: process.pid for name, process in Supervisor(self.layout).processes().items() if process.pid}

    def names(self) -> dict[str, str]:
        """State of every process that `status` shows."""
        status = json.loads(
            subprocess.run(
                [sys.executable, "-m", "shared.cli", "status", "--json"],
                cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
            ).stdout
        )  # fmt: skip
        return {row["name"]: row["state"] for row in (*status["services"], *status["workers"])}


def make_home(folder: Path) -> Home:
    layout = layout_of(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAEARI_")} | {
        "MAEARI_HOME": str(folder),
        "MAEARI_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "MAEARI_CHROMA_PORT": str(free_port()),
        "MAEARI_FLOWER_PORT": str(free_port()),
        "MAEARI_DRAIN_S": "10",
    }
    return Home(environment, layout)
