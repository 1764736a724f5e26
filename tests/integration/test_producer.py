"""The thin producer at a real Redis, without workers."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

from shared.contracts.events import Accepted
from shared.producer import Producer
from tests.support.servers import RedisServer


def test_one_process_follows_hundreds_of_jobs(redis_server: RedisServer) -> None:
    producer = Producer(redis_server.url)
    jobs = [producer.submit("rag.embed", {"texts": ["안녕"]}).job_id for _ in range(150)]
    followed = [producer.follow(job, timeout_s=60) for job in jobs]

    def waits(number: int) -> bool:
        first = next(followed[number])
        try:
            next(producer.follow(jobs[number], after=first.seq, timeout_s=5))
        except TimeoutError:
            return isinstance(first, Accepted)
        return False

    with ThreadPoolExecutor(len(jobs)) as pool:
        assert all(pool.map(waits, range(len(jobs))))


def test_a_forgotten_producer_leaves_no_connection_to_the_garbage_collector(redis_server: RedisServer) -> None:
    gc.disable()
    try:
        producer = Producer(redis_server.url)
        producer.jobs.client.script_flush()
        next(producer.follow(producer.submit("rag.embed", {"texts": ["안녕"]}).job_id, timeout_s=60))
        client = weakref.ref(producer.jobs.client)
        del producer
        assert client() is None
    finally:
        gc.enable()
