"""This cluster's client of the hops section, in a process of its own as every peer's: the thin producer alone."""

from __future__ import annotations

import uuid

from shared.producer import Producer
from tests.benchmarks.peers.client import PAYLOAD, answer

TURN = {"pack": "artist", "text": "안녕", "speech": False}

producer = Producer()


def trip() -> None:
    """Hand in a job and wait for its result."""
    producer.result(producer.submit("rag.embed", PAYLOAD).job_id, timeout_s=60)


def followed() -> None:
    """The same, hearing every event."""
    _follow(producer.submit("rag.embed", PAYLOAD).job_id)


def _follow(job_id: str) -> None:
    for _ in producer.follow(job_id, timeout_s=60):
        pass


def burst(count: int) -> None:
    """All at once, then all results."""
    for job_id in [producer.submit("rag.embed", PAYLOAD).job_id for _ in range(count)]:
        producer.result(job_id, timeout_s=300)


def three() -> None:
    """A turn without context: start, generate, finish."""
    producer.result(_turn(), timeout_s=60)


def three_followed() -> None:
    """The same, hearing every event."""
    _follow(_turn())


def _turn() -> str:
    request = TURN | {"session": uuid.uuid4().hex, "top_k": 0}
    return producer.submit("turns.start", request).job_id


if __name__ == "__main__":
    answer(trip, burst, chain=three, trips_followed=followed, chain_followed=three_followed)
