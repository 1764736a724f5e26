"""One cluster for all acceptance tests, brought up by the command that users type."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.blobs import open_store
from shared.contracts.base import BlobRef
from shared.producer import Producer
from shared.settings import settings
from tests.support.servers import free_port

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Cluster:
    """A running cluster and the ways to talk to it."""

    home: Path
    environment: dict[str, str]
    producer: Producer

    def maeari(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command; `ok`: it must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "shared.cli", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not ok or done.returncode == 0, (
            f"maeari {arguments} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def json(self, *arguments: str) -> Any:
        """What the command prints with `--json`."""
        return json.loads(self.maeari(*arguments, "--json").stdout)

    def upload(self, data: bytes, name: str = "question.wav", tenant: str = "default") -> BlobRef:
        """Put audio where the workers find it."""
        return open_store((self.home / "blobs").as_uri()).put(tenant, "audio", name, data, "audio/wav")


def speak(text: str, *options: str) -> bytes:
    """A recording of `text` by espeak-ng."""
    command = ["espeak-ng", "-v", "ko", *options, "--stdin", "--stdout"]
    return subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """All five roles with their real engines under the laptop profile, and a copy of the adapters that a test may break."""
    home = tmp_path_factory.mktemp("home")
    ports = {name: str(free_port()) for name in ("redis", "chroma", "flower")}
    environment = os.environ | {
        "MAEARI_HOME": str(home),
        "MAEARI_REDIS_URL": f"redis://127.0.0.1:{ports['redis']}/0",
        "MAEARI_CHROMA_PORT": ports["chroma"],
        "MAEARI_FLOWER_PORT": ports["flower"],
        "MAEARI_TENANTS": "default, acme, rival, alice, bob",
        "MAEARI_LLM_ADAPTERS_PATH": str(home / "adapters"),
    }
    shutil.copytree(settings().adapters_path, home / "adapters")
    running = Cluster(home, environment, Producer(environment["MAEARI_REDIS_URL"]))
    try:
        running.maeari("up", "--json")
        yield running
    finally:
        running.maeari("down", ok=False)
