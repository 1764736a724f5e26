"""Stock Celery: its own Redis transport and its own result backend, nothing of this project. `python -m` is the client."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain

from tests.benchmarks.peers.client import PAYLOAD, RESULT, answer

app = Celery("stock", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(result_expires=3600, task_default_queue="jobs", broker_connection_retry_on_startup=True)


@app.task(name="noop")
def noop(payload: dict[str, Any]) -> dict[str, Any]:
    """The job."""
    return RESULT


@app.task(name="pass_on")
def pass_on(payload: dict[str, Any]) -> dict[str, Any]:
    """A stage of the chain."""
    return payload


def burst(count: int) -> None:
    """All at once, then all results."""
    for result in [noop.delay(PAYLOAD) for _ in range(count)]:
        result.get(timeout=300)


def three() -> None:
    """Three stages on three workers."""
    stages = pass_on.s(PAYLOAD).set(queue="first") | pass_on.s().set(queue="second") | pass_on.s().set(queue="third")
    chain(stages).apply_async().get(timeout=60)


if __name__ == "__main__":
    answer(lambda: noop.delay(PAYLOAD).get(timeout=60), burst, chain=three)
