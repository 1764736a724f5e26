"""A real worker's threads go on with the next message by themselves; Celery's own account of it stays true."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.worker import state
from kombu.transport.virtual import QoS

import celeryconfig
from tests.support.scripted import ScriptedCluster
from tests.support.servers import IN_MEMORY, RedisServer
from tests.support.waiting import until
from workers.pool import LineConsumer, LinePool

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


@pytest.mark.parametrize(("under_way", "looks_round"), [(1, False), (2, False), (3, True), (4, True)])
def test_the_loop_is_woken_for_room_that_it_may_wait_for(under_way: int, looks_round: bool) -> None:
    qos = QoS(SimpleNamespace(do_restore=False), prefetch_count=3)
    for tag in range(under_way):
        qos.append("message", tag)
    woken: list[object] = []
    consumer = LineConsumer.__new__(LineConsumer)
    consumer._counting = threading.Lock()
    consumer.task_consumer = SimpleNamespace(channel=SimpleNamespace(qos=qos))
    consumer.hub = SimpleNamespace(call_soon=woken.append)
    consumer.call_soon_ack(qos.ack, 0)
    assert bool(woken) == looks_round
    assert qos.can_consume_max_estimate() == max(0, 4 - under_way)


class _Line:
    """A channel whose messages stand in line."""

    def lists(self) -> list[str]:
        return ["rag", "rag:9"]

    def take(self, lists: object) -> None:
        """Nothing stands in it any more."""


@pytest.fixture
def pool() -> Iterator[LinePool]:
    """Two threads, and nothing connected."""
    made = LinePool(2)
    yield made
    made.on_stop()


def run(pool: LinePool, target: Callable[..., object], *args: object) -> None:
    """As Celery asks for it."""
    pool.on_apply(target, args, {}, callback=lambda *_: None)


def test_a_worker_that_is_to_stop_asks_for_no_further_message(pool: LinePool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool._lists() == (), "nothing is connected yet"
    pool.consumer = SimpleNamespace(task_consumer=SimpleNamespace(channel=_Line()))
    assert pool._lists() == ["rag", "rag:9"]
    for code in (0, 1, True):  # 0 is the exit code of a worker with which all is well
        monkeypatch.setattr(state, "should_stop", code)
        assert pool._lists() == ()
    monkeypatch.setattr(state, "should_stop", None)
    go = threading.Event()
    for _ in range(3):
        run(pool, go.wait, 60)
    assert pool._lists() == (), "what is here already comes first"
    go.set()


def test_as_many_threads_as_the_pool_has_places_and_the_last_one_goes_on_first(pool: LinePool) -> None:
    ran: list[int] = []
    gates = [threading.Event() for _ in range(3)]

    def wait(place: int) -> None:
        assert gates[place].wait(60)
        ran.append(threading.get_ident())

    for place in range(3):
        run(pool, wait, place)
    gates[1].set()
    gates[2].set()
    until(lambda: len(ran) == 2, "two are done")
    assert len(set(ran)) == 1, "the third waited for the second's thread"
    gates[0].set()
    until(lambda: len(pool._free) == 2, "both are free")
    for _ in range(5):
        run(pool, lambda: ran.append(threading.get_ident()))
        until(lambda: len(pool._free) == 2, "it is done")
    assert len(ran) == 8 and len(set(ran[2:])) == 1, "the thread that ended last has all"
    assert pool.info["threads"] == 2


def test_a_thread_outlives_what_it_could_not_run(pool: LinePool, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    for _ in range(4):
        run(pool, lambda: 1 / 0)
    run(pool, done.set)
    assert done.wait(60)
    assert "could not be run" in caplog.text


def test_a_pool_that_stops_runs_to_its_end_what_runs_and_nothing_else() -> None:
    pool, go, ran = LinePool(1), threading.Event(), []

    def first() -> None:
        go.wait(60)
        ran.append("first")

    run(pool, first)
    run(pool, ran.append, "second")
    stopping = threading.Thread(target=pool.on_stop)
    stopping.start()
    until(lambda: pool._stopping, "it stops")
    go.set()
    stopping.join(60)
    assert ran == ["first"] and not stopping.is_alive()


def _total(control: object) -> dict[str, int] | None:
    stats = control.inspect(destination=["rag-1@test"]).stats()  # type: ignore[attr-defined]
    total: dict[str, int] | None = stats["rag-1@test"]["total"] if stats else None
    return total
