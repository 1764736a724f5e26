"""A small cluster for a measurement, taken down afterwards."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.packs import load_pack, sample_questions
from shared.producer import Producer
from tests.support.servers import RedisServer
from tests.support.workers import WorkerProcess


@dataclass
class Stage:
    """What a measurement works with."""

    producer: Producer
    server: RedisServer
    workers: list[WorkerProcess]


@contextlib.contextmanager
def stage(folder: Path, roles: Sequence[str], **environment: str) -> Iterator[Stage]:
    """Redis (fsync every second, as `maeari up` sets it) and one worker of each role."""
    server = RedisServer(folder / "redis", "--appendfsync", "everysec")
    variables = {
        "MAEARI_REDIS_URL": server.url,
        "MAEARI_HOME": str(folder),
        "MAEARI_LOG_LEVEL": "WARNING",
    } | environment
    workers = [WorkerProcess(role, folder, variables, name=f"{role}-{place}@bench") for place, role in enumerate(roles)]
    producer = Producer(server.url)
    try:
        for worker in workers:
            worker.wait_ready(producer, timeout_s=300)
        yield Stage(producer, server, workers)
    finally:
        for worker in workers:
            worker.close()
        server.close()


def spoken_question(folder: Path) -> Path:
    """A question to the artist's pack, spoken by espeak-ng."""
    question = sample_questions(load_pack("artist"))[0]
    command = ["espeak-ng", "-v", "ko", "--stdin", "--stdout"]
    path = folder / "question.wav"
    path.write_bytes(subprocess.run(command, input=question.encode(), capture_output=True, check=True).stdout)
    return path
