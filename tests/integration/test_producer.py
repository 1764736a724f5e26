"""The thin producer at a real Redis, without workers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.contracts.events import Accepted
from shared.errors import BrokerUnavailable, InvalidRequest, QueueFull
from shared.jobs import TOGETHER
from shared.producer import AsyncProducer, Producer
from tests.support.servers import RedisServer, free_port


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


REQUEST = {"texts": ["안녕"]}


def test_many_jobs_are_handed_in_together_each_once(redis_server: RedisServer) -> None:
    redis_server.client.flushall()
    producer = Producer(redis_server.url)
    ids = [f"doc-{number}" for number in range(2 * TOGETHER + 5)]
    made = producer.submit_all("rag.embed", [REQUEST] * len(ids), job_ids=ids, priority="batch", deadline_s=60)
    assert [(job.job_id, job.created) for job in made] == [(name, True) for name in ids]
    view = producer.job(ids[-1])
    assert view is not None and view.priority == "batch" and view.deadline_ms - view.created_ms == 60_000
    depth = producer.queues()["rag"]
    assert depth.waiting + depth.parked == len(ids)
    again = producer.submit_all("rag.embed", [REQUEST, REQUEST], job_ids=["doc-1", "new"])
    assert [job.created for job in again] == [False, True]
    assert producer.submit_all("rag.embed", []) == []


def test_jobs_handed_in_together_get_ids_of_the_application(redis_server: RedisServer) -> None:
    made = Producer(redis_server.url, application="spring").submit_all("rag.embed", [REQUEST, REQUEST])
    assert len({job.job_id for job in made}) == 2
    assert all(job.job_id.startswith("spring.") for job in made)


def test_one_wrong_request_among_many_is_named_and_none_is_handed_in(redis_server: RedisServer) -> None:
    redis_server.client.flushall()
    producer = Producer(redis_server.url)
    with pytest.raises(InvalidRequest) as refused:
        producer.submit_all("rag.embed", [REQUEST, REQUEST, {"texts": "안녕"}])
    assert refused.value.field == "2.texts"
    with pytest.raises(InvalidRequest) as refused:
        producer.submit_all("rag.embed", [REQUEST, REQUEST], job_ids=["a", "b c"])
    assert refused.value.field == "1.job_id"
    with pytest.raises(ValueError, match="zip"):
        producer.submit_all("rag.embed", [REQUEST, REQUEST], job_ids=["a"])
    assert producer.queues()["rag"].waiting == 0


def test_where_there_is_no_room_for_all_it_is_said_which_are_jobs_now(redis_server: RedisServer) -> None:
    redis_server.client.flushall()
    producer = Producer(redis_server.url)
    redis_server.client.hset(producer.jobs.keys.config, "queue_limit", 3)
    ids = [f"j{number}" for number in range(5)]
    with pytest.raises(QueueFull, match="no room for default") as full:
        producer.submit_all("rag.embed", [REQUEST] * 5, job_ids=ids)
    assert full.value.taken_on == ids[:3] and full.value.retry_after_s > 0
    redis_server.client.hset(producer.jobs.keys.config, "queue_limit", 10)
    again = producer.submit_all("rag.embed", [REQUEST] * 5, job_ids=ids)
    assert [job.created for job in again] == [False, False, False, True, True]
    redis_server.client.flushall()


def test_jobs_handed_in_together_survive_a_redis_that_forgot_its_scripts(redis_server: RedisServer) -> None:
    producer = Producer(redis_server.url)
    producer.submit_all("rag.embed", [REQUEST])
    redis_server.client.script_flush()
    assert all(job.created for job in producer.submit_all("rag.embed", [REQUEST] * 3))


def test_without_a_redis_nothing_of_many_is_handed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.connection.PATIENCE_S", 0.1, raising=False)
    with pytest.raises(BrokerUnavailable, match="each is one job"):
        Producer(f"redis://127.0.0.1:{free_port()}").submit_all("rag.embed", [REQUEST] * 2)


def test_the_producer_of_asyncio_hands_in_many_as_well(redis_server: RedisServer) -> None:
    async def both() -> list[bool]:
        producer = AsyncProducer(redis_server.url)
        made = await producer.submit_all("rag.embed", [REQUEST, REQUEST])
        await producer.close()
        return [job.created for job in made]

    assert asyncio.run(both()) == [True, True]
