"""Raw Redis with acknowledgement: what a queue costs when it does nothing but carry. `worker NAME [NEXT]` or `client`.

A job is moved to a list of jobs under way, run, then answered and taken off that list in one transaction.
"""

from __future__ import annotations

import json
import os
import sys
import uuid

import redis

from tests.benchmarks.peers.client import PAYLOAD, RESULT, answer

CLIENT = redis.Redis.from_url(os.environ["BENCH_REDIS"], decode_responses=True, protocol=2)
CLIENT.connection_pool.connection_kwargs["socket_timeout"] = None


def worker(queue: str, further: str = "") -> None:
    """Take, run, pass on or answer."""
    running = f"{queue}:running"
    while True:
        raw = CLIENT.blmove(queue, running, 0, "RIGHT", "LEFT")
        job = json.loads(raw)
        pipe = CLIENT.pipeline()
        if further:
            pipe.lpush(further, raw)
        else:
            pipe.rpush(f"reply:{job['id']}", json.dumps(RESULT))
            pipe.expire(f"reply:{job['id']}", 3600)
        pipe.lrem(running, 1, raw)
        pipe.execute()


def push(queue: str) -> str:
    """Hand in a job."""
    job_id = str(uuid.uuid4())
    CLIENT.lpush(queue, json.dumps({"id": job_id, "payload": PAYLOAD}, ensure_ascii=False))
    return job_id


def wait(job_id: str) -> None:
    """Its answer."""
    json.loads(CLIENT.blpop([f"reply:{job_id}"], 0)[1])


def burst(count: int) -> None:
    """All at once, then all answers."""
    for job_id in [push("jobs") for _ in range(count)]:
        wait(job_id)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker(*sys.argv[2:])
    else:
        answer(lambda: wait(push("jobs")), burst, chain=lambda: wait(push("first")))
