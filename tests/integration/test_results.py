"""Waiting for a job's result at a real Redis: woken once, whatever becomes of the job and of the connection."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from shared import results
from shared.connection import connect
from shared.errors import EngineFailed, JobCancelled, JobNotFound
from shared.jobs import Jobs, Report
from shared.keys import CELERY_RESULT, Keys
from tests.support.records import FAULT, claim, enqueue
from tests.support.servers import RedisServer
from tests.support.waiting import until

RESULT = {"vectors": [[0.5]]}
_NUMBERS = itertools.count()


def finish(jobs: Jobs, job_id: str) -> None:
    """As a worker does."""
    jobs.report(claim(jobs, job_id), Report(ending="done", result=RESULT, ends_job=True, number=1))


def listeners(jobs: Jobs, job_id: str) -> int:
    """Who waits for its result."""
    ((_, count),) = jobs.client.pubsub_numsub(CELERY_RESULT + job_id)
    return int(count)


def reads(jobs: Jobs) -> list[int]:
    """How often results and events were asked for."""
    calls = jobs.client.info("commandstats")
    return [calls.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in ("get", "xread")]


@pytest.fixture
def job(jobs: Jobs) -> str:
    """A job that waits in its queue; of a name that no other test's connections may still listen for."""
    name = f"waited-{next(_NUMBERS)}"
    enqueue(jobs, name)
    return name


@pytest.fixture
def caller(redis_server: RedisServer) -> Iterator[Jobs]:
    """Connections of a producer's."""
    made = Jobs(connect(redis_server.url), Keys("maeari:"))
    yield made
    made.client.connection_pool.disconnect()  # kept connections listen until they are asked for the next job


@pytest.fixture
def waiting(jobs: Jobs, job: str, caller: Jobs) -> Iterator[Callable[[], Future[dict[str, Any]]]]:
    """Somebody waits for the result and is listening."""
    with ThreadPoolExecutor(4) as pool:

        def wait() -> Future[dict[str, Any]]:
            before = listeners(jobs, job)
            found = pool.submit(results.wait, caller, job, timeout_s=60)
            until(lambda: listeners(jobs, job) > before, "it listens")
            return found

        yield wait


Wait = Callable[[], "Future[dict[str, Any]]"]


def test_a_result_is_told_to_all_who_wait_and_to_those_who_come_later(
    jobs: Jobs, job: str, caller: Jobs, waiting: Wait
) -> None:
    first, second = waiting(), waiting()
    finish(jobs, job)
    assert first.result(60) == second.result(60) == RESULT
    heard, asked = listeners(jobs, job), reads(jobs)
    assert results.wait(caller, job) == RESULT
    assert listeners(jobs, job) == heard and reads(jobs) == [asked[0] + 1, asked[1]], "what is there is asked for once"


def test_no_event_on_the_way_wakes_who_waits(
    jobs: Jobs, job: str, waiting: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "LOOK_S", 60)
    found = waiting()
    before = reads(jobs)
    finish(jobs, job)
    assert found.result(60) == RESULT and reads(jobs) == before


def test_what_a_job_failed_with_is_told_whole(jobs: Jobs, job: str, waiting: Wait) -> None:
    found = waiting()
    jobs.fail(claim(jobs, job), FAULT, retry_ms=None)
    with pytest.raises(EngineFailed, match="The engine failed on this job"):
        found.result(60)


def test_a_cancelled_job_is_told(jobs: Jobs, job: str, waiting: Wait) -> None:
    found = waiting()
    jobs.cancel(job)
    with pytest.raises(JobCancelled):
        found.result(60)


def test_an_announcement_that_was_lost_with_its_connection_is_made_up_for(
    jobs: Jobs, job: str, redis_server: RedisServer, waiting: Wait
) -> None:
    found = waiting()
    redis_server.client.client_kill_filter(_type="pubsub")
    finish(jobs, job)
    assert found.result(60) == RESULT


def test_an_announcement_that_never_came_is_made_up_for(jobs: Jobs, job: str, waiting: Wait) -> None:
    found = waiting()
    jobs.client.set(CELERY_RESULT + job, '{"status": "SUCCESS", "result": {"vectors": [[0.5]]}}', ex=60)
    assert found.result(60) == RESULT


def test_a_connection_hears_of_one_job_after_another(jobs: Jobs, caller: Jobs) -> None:
    for number in range(3):
        enqueue(jobs, f"n{number}")
        ending = threading.Timer(0.05, finish, (jobs, f"n{number}"))
        ending.start()
        assert results.wait(caller, f"n{number}", timeout_s=60) == RESULT
        ending.join()
    assert [listeners(jobs, f"n{number}") for number in range(3)] == [0, 0, 1]


def test_many_threads_wait_again_and_again_over_kept_connections(jobs: Jobs, caller: Jobs) -> None:
    names = [f"m{number}" for number in range(64)]
    for name in names:
        enqueue(jobs, name)
    with ThreadPoolExecutor(16) as pool:
        found = [pool.submit(results.wait, caller, name, timeout_s=60) for name in names]
        for name in names:
            finish(jobs, name)
        assert [one.result(60) for one in found] == [RESULT] * 64
    assert 1 <= len(caller._own._hearing) <= 16


def test_time_runs_out_and_the_result_still_comes_later(jobs: Jobs, job: str, caller: Jobs) -> None:
    with pytest.raises(TimeoutError, match=f"{job} has not ended"):
        results.wait(caller, job, timeout_s=0.05)
    finish(jobs, job)
    assert results.wait(caller, job, timeout_s=0) == RESULT


def test_a_job_that_nobody_knows_and_a_result_that_is_no_longer_kept(jobs: Jobs, job: str, caller: Jobs) -> None:
    with pytest.raises(JobNotFound):
        results.wait(caller, "nobody")
    finish(jobs, job)
    jobs.client.delete(CELERY_RESULT + job)
    with pytest.raises(JobNotFound, match="done, and its result is no longer kept"):
        results.wait(caller, job)


def test_who_may_not_listen_follows_the_events(jobs: Jobs, redis_server: RedisServer, job: str) -> None:
    redis_server.client.acl_setuser(
        "deaf", enabled=True, nopass=True, keys=["*"], commands=["+@all"], reset=True, reset_channels=True
    )
    deaf = Jobs(connect(redis_server.url.replace("://", "://deaf:x@")), Keys("maeari:"))
    old = Jobs(connect(redis_server.url, protocol=2), Keys("maeari:"))
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(results.wait, caller, job, timeout_s=60) for caller in (deaf, old)]
        finish(jobs, job)
        assert [one.result(60) for one in found] == [RESULT] * 2
    redis_server.client.acl_deluser("deaf")
