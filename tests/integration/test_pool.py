"""A real worker's threads go on with the next message by themselves; Celery's own account of it stays true."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.worker import state

import celeryconfig
from tests.support.scripted import ScriptedCluster
from tests.support.servers import IN_MEMORY, RedisServer
from tests.support.waiting import until
from workers.pool import LinePool

pytestmark = pytest.mark.timeout(600)

JOBS = 120


def test_a_line_is_worked_off_by_the_threads_and_counted_by_celery(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", *IN_MEMORY)
    cluster = ScriptedCluster(tmp_path, server=server, tenant_share=JOBS)
    try:
        cluster.add("conductor-1", tenant_share=JOBS)  # writes the share that lets all of them stand in line
        requests = [{"texts": [f"{number}번째"]} for number in range(JOBS)]
        ids = [cluster.producer.submit("rag.embed", request).job_id for request in requests]
        server.client.config_resetstat()
        cluster.add("rag-1", tenant_share=JOBS)
        for job_id in ids:
            assert len(cluster.producer.result(job_id, timeout_s=120)["vectors"]) == 1
        views = [cluster.producer.job(job_id) for job_id in ids]
        assert [view.attempts for view in views if view] == [1] * JOBS
        asked = server.client.info("commandstats")
        assert asked["cmdstat_lmpop"]["calls"] > JOBS / 2, "most of the line was taken by threads"

        app = Celery(broker=server.url, broker_transport_options=celeryconfig.broker_transport_options)
        control = app.control
        until(lambda: _total(control) == {"rag.embed": JOBS}, "Celery has counted every job")
        assert not control.inspect(destination=["rag-1@test"]).active()["rag-1@test"]

        last = cluster.producer.submit("rag.embed", requests[0]).job_id  # the loop is awake again
        assert cluster.producer.result(last, timeout_s=120)
    finally:
        cluster.close()


class _Line:
    """A channel whose messages stand in line."""

    def lists(self) -> list[str]:
        return ["rag", "rag:9"]


def test_a_worker_that_is_to_stop_asks_for_no_further_message(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = LinePool(2)
    pool.executor = ThreadPoolExecutor(1)
    assert pool._lists() == (), "nothing is connected yet"
    pool.consumer = SimpleNamespace(task_consumer=SimpleNamespace(channel=_Line()))
    assert pool._lists() == ["rag", "rag:9"]
    for code in (0, 1, True):  # 0 is the exit code of a worker with which all is well
        monkeypatch.setattr(state, "should_stop", code)
        assert pool._lists() == ()
    monkeypatch.setattr(state, "should_stop", None)
    go = threading.Event()
    for _ in range(2):
        pool.executor.submit(go.wait, 60)
    assert pool._lists() == (), "what is here already comes first"
    go.set()
    pool.executor.shutdown()


def _total(control: object) -> dict[str, int] | None:
    stats = control.inspect(destination=["rag-1@test"]).stats()  # type: ignore[attr-defined]
    total: dict[str, int] | None = stats["rag-1@test"]["total"] if stats else None
    return total
