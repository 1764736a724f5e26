"""This cluster's client of the hops section, in a process of its own as every peer's: the thin producer alone."""

from __future__ import annotations

import uuid

from shared.producer import Producer
from tests.benchmarks.peers.client import PAYLOAD, answer

TURN = {"pack": "artist", "text": "안녕", "speech": False}

producer = Producer()


def trip() -> None:
    """Hand in a job and follow it to its end."""
    for _ in producer.follow(producer.submit("rag.embed", PAYLOAD).job_id, timeout_s=60):
        pass


def burst(count: int) -> None:
    """All at once, then all results."""
    for job_id in [producer.submit("rag.embed", PAYLOAD).job_id for _ in range(count)]:
        producer.result(job_id, timeout_s=300)


def three() -> None:
    """A turn without context: start, generate, finish."""
    request = TURN | {"session": uuid.uuid4().hex, "top_k": 0}
    for _ in producer.follow(producer.submit("turns.start", request).job_id, timeout_s=60):
        pass


if __name__ == "__main__":
    answer(trip, burst, three)
