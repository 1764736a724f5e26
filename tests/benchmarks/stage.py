"""A small cluster for a measurement, taken down afterwards."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    workers = [WorkerProcess(role, folder, variables) for role in roles]
    producer = Producer(server.url)
    try:
        for worker in workers:
            worker.wait_ready(producer, timeout_s=300)
        yield Stage(producer, server, workers)
    finally:
        for worker in workers:
            worker.close()
        server.close()


def median(values: Sequence[float]) -> float:
    """The middle value, to three significant places."""
    return round(statistics.median(values), 3)


def quantile(values: Sequence[float], share: float) -> float:
    """The value at `share` of the sorted values."""
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 3)


def spread(values: Sequence[float]) -> str:
    """Smallest, middle, largest."""
    return f"{min(values):.3g} .. {statistics.median(values):.3g} .. {max(values):.3g}"
