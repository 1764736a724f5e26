"""A real worker's threads go on with the next message by themselves; Celery's own account of it stays true."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
    """A channel whose messages come when the test says so."""

    lets_threads_take = True

    def __init__(self) -> None:
        self.came: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self.rooms: list[int] = []
        """Of those who listened."""

    def lists(self) -> list[str]:
        return ["rag", "rag:9"]

    def take(self, lists_now: Callable[[], Sequence[str]]) -> None:
        """Nothing stands in it any more."""
        lists_now()

    def listen(self, room: int, _: object) -> list[Any]:
        self.rooms.append(room)
        try:
            return self.came.get(timeout=0.05)
        except queue.Empty:
            return []


class _Message:
    """Runs `body`."""

    def __init__(self, body: Callable[[], object]) -> None:
        self.headers = {"task": "any"}
        self.body = body
        self.acknowledged: list[bool] = []

    def ack_log_error(self, *_: object) -> None:
        self.acknowledged.append(True)

    reject_log_error = ack = ack_log_error


def connected(pool: LinePool, line: _Line) -> SimpleNamespace:
    """Celery's consumer of a line."""

    def handle(message: _Message, *_: object) -> None:
        pool.on_apply(message.body, (), {}, callback=message.ack_log_error)

    return SimpleNamespace(task_consumer=SimpleNamespace(channel=line), strategies={"any": handle})


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
    pool._consumer = connected(pool, _Line())
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


def test_one_thread_listens_and_leaves_that_to_the_next_when_it_has_a_message(pool: LinePool) -> None:
    line, gates = _Line(), [threading.Event(), threading.Event()]
    messages = [_Message(lambda gate=gate: gate.wait(60)) for gate in gates]  # type: ignore[misc]
    pool.listen_for(connected(pool, line))
    until(lambda: line.rooms, "somebody listens")
    assert pool.info["threads"] == 1
    line.came.put([messages[0]])
    until(lambda: pool.info["threads"] == 2, "somebody else listens")
    assert line.rooms[0] == 2 and until(lambda: line.rooms[-1] == 1, "there is room for one")
    assert pool._lists() == (), "where somebody listens nothing stands in line"
    line.came.put([messages[1]])
    until(lambda: not pool._listening, "both are at work")
    assert pool._lists() == ["rag", "rag:9"], "who is done first looks for a further message"
    for gate in gates:
        gate.set()
    until(lambda: [message.acknowledged for message in messages] == [[True]] * 2, "both are done")
    until(lambda: pool._listening, "somebody listens again")


def test_messages_that_come_together_are_run_together(pool: LinePool) -> None:
    line, both = _Line(), threading.Barrier(2)
    messages = [_Message(lambda: both.wait(60)) for _ in range(2)]
    pool.listen_for(connected(pool, line))
    line.came.put(messages)
    until(lambda: [message.acknowledged for message in messages] == [[True]] * 2, "each had a thread")


def test_what_is_claimed_when_a_worker_is_told_to_stop_is_run(pool: LinePool, monkeypatch: pytest.MonkeyPatch) -> None:
    line, wanted = _Line(), list[bool]()
    messages = [_Message(lambda: None) for _ in range(3)]  # more than there are threads

    def listen(_: int, still: Callable[[], bool]) -> list[Any]:
        wanted.append(still())
        monkeypatch.setattr(state, "should_stop", 0)
        wanted.append(still())
        return messages

    monkeypatch.setattr(line, "listen", listen)
    pool.listen_for(connected(pool, line))
    until(lambda: [message.acknowledged for message in messages] == [[True]] * 3, "all are run")
    until(lambda: len(pool._free) == pool.info["threads"], "nobody listens any more")
    assert wanted == [True, False] and not pool._listening


def test_nobody_listens_where_redis_does_not_let_threads_take(pool: LinePool) -> None:
    line = _Line()
    pool.listen_for(connected(pool, line))
    until(lambda: line.rooms, "somebody listens")
    line.lets_threads_take = False
    line.came.put([])
    done = threading.Event()
    run(pool, done.set)
    assert done.wait(60), "the loop's own are run"
    until(lambda: not pool._listening, "nobody listens")


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
