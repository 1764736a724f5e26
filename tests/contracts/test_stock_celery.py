"""Stock Celery beside us: its worker runs our messages, its client reads our results."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.result import AsyncResult

from shared.claims import Claim
from shared.contracts.base import Fault
from shared.jobs import Entry, Jobs, Report
from shared.keys import CELERY_RESULT
from tests.support.servers import RedisServer
from tests.support.waiting import until

REQUEST = {"tenant": "acme", "texts": ["안녕 🌊"]}
FAULT = Fault(code="engine_failed", message="The engine failed on this job.", stage="rag.embed")


def test_stock_celery_runs_our_message_unchanged(jobs: Jobs, redis_server: RedisServer) -> None:
    app = Celery("stock", broker=redis_server.url, backend=redis_server.url, set_as_current=False)
    app.conf.update(task_default_queue="rag", broker_transport_options={"sep": ":"}, worker_hijack_root_logger=False)
    seen: list[tuple[str, Any, Any]] = []
    done = threading.Event()

    @app.task(name="rag.embed", bind=True)
    def embed(self: Any, payload: Any) -> None:
        seen.append((self.request.id, payload, self.request.root_id))
        done.set()

    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR", shutdown_timeout=120):
        jobs.enqueue(Entry("spring.1", "rag.embed", REQUEST, tenant="acme"))
        assert done.wait(120)
    assert seen == [("spring.1", REQUEST, "spring.1")]


def finished(jobs: Jobs, how: str) -> None:
    """A job that has ended in the way `how`."""
    jobs.enqueue(Entry("j1", "rag.embed", REQUEST, tenant="acme"))
    if how == "REVOKED":
        jobs.cancel("j1")
        return
    claim = jobs.claim("j1", "w")
    assert isinstance(claim, Claim)
    if how == "SUCCESS":
        jobs.report(claim, Report(ending="done", result={"reply": "안녕 🌊"}, ends_job=True))
    else:
        jobs.fail(claim, FAULT, retry_ms=None)


@pytest.fixture
def client_app(redis_server: RedisServer) -> Iterator[Celery]:
    """Any Celery client that looks for results in our Redis."""
    app = Celery("client", broker=redis_server.url, backend=redis_server.url, set_as_current=False)
    yield app
    app.backend.result_consumer.stop()
    app.close()


@pytest.mark.parametrize("how", ["SUCCESS", "FAILURE", "REVOKED"])
def test_celerys_own_client_reads_our_results(jobs: Jobs, client_app: Celery, how: str) -> None:
    finished(jobs, how)
    result: AsyncResult[Any] = client_app.AsyncResult("j1")
    assert (result.state, result.ready()) == (how, True)
    if how == "SUCCESS":
        assert result.get(timeout=60) == {"reply": "안녕 🌊"}
        return
    code, message = {
        "FAILURE": ("engine_failed", "The engine failed on this job."),
        "REVOKED": ("cancelled", "The job was cancelled."),
    }[how]
    assert type(result.result).__name__ == code
    assert str(result.result) == message
    with pytest.raises(type(result.result), match=message):
        result.get(timeout=60)
    assert result.date_done is not None


def test_celerys_own_client_is_told_of_a_result_that_it_waits_for(jobs: Jobs, client_app: Celery) -> None:
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(client_app.AsyncResult("j1").get(timeout=120)))
    waiting.start()
    until(lambda: jobs.client.pubsub_numsub(CELERY_RESULT + "j1")[0][1], "the client has subscribed")
    finished(jobs, "SUCCESS")
    waiting.join(120)
    assert found == [{"reply": "안녕 🌊"}]


def test_the_result_has_the_fields_that_celery_writes(jobs: Jobs) -> None:
    fields = {}
    for how in ("SUCCESS", "FAILURE", "REVOKED"):
        jobs.client.flushall()
        finished(jobs, how)
        fields[how] = json.loads(jobs.client.get(CELERY_RESULT + "j1"))
    assert set(fields["SUCCESS"]) == {"status", "traceback", "children", "task_id", "result"}
    for how in ("FAILURE", "REVOKED"):
        assert set(fields[how]) == {"status", "traceback", "task_id", "result", "date_done"}
        assert set(fields[how]["result"]) == {"exc_type", "exc_message", "exc_module"}
