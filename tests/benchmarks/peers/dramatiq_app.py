"""Dramatiq over Redis with its result backend; `python -m` is the client."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from tests.benchmarks.peers.client import PAYLOAD, RESULT, answer

URL = os.environ["BENCH_REDIS"]
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL), result_ttl=3_600_000))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(payload: dict[str, Any]) -> dict[str, Any]:
    """The job."""
    return RESULT


def burst(count: int) -> None:
    """All at once, then all results."""
    for message in [noop.send(PAYLOAD) for _ in range(count)]:
        message.get_result(block=True, timeout=300_000)


if __name__ == "__main__":
    answer(lambda: noop.send(PAYLOAD).get_result(block=True, timeout=60_000), burst)
