"""Redis restarts, dies, is cut off, is full, is read-only, while real workers run turns: they resume by themselves, nothing is
lost and nothing runs twice; producers get their job or a clear error.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared import pulse
from shared.connection import connect
from shared.contracts.base import Fault
from shared.errors import BrokerUnavailable
from shared.producer import Producer
from shared.settings import Settings
from tests.support.figures import figure
from tests.support.load import SteadyLoad
from tests.support.proxy import TcpProxy
from tests.support.scripted import ScriptedCluster, terminals
from tests.support.servers import RedisServer, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)

CREW = ("conductor-1", "llm-1", "tts-1", "rag-1")
TIMING = {"scripted_token_ms": 20, "scripted_sentence_ms": 50, "lease_s": 12}
"""Leases are twice as long as usual: a worker that a busy machine starves must not lose its attempts beside Redis's trouble."""
ENDLESS = "가나다라마바사. " * 2_200
OWN_END_S = 45.0
"""Before which it is not said to its end."""
RESUME_S = 90.0
"""That a fresh job has to be done once Redis can be used again, or once connections hang; `-s` shows how long it took."""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedCluster, TcpProxy]]:
    """One worker of each role behind a proxy; the test itself speaks to Redis directly."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--enable-debug-command", "local")
    proxy = TcpProxy(server.port)
    url = f"redis://127.0.0.1:{proxy.port}/0"
    cluster = ScriptedCluster(tmp_path_factory.mktemp("crew"), *CREW, server=server, url=url, **TIMING)
    yield cluster, proxy
    cluster.close()
    proxy.close()


@pytest.fixture
def cluster(proxied: tuple[ScriptedCluster, TcpProxy]) -> Iterator[ScriptedCluster]:
    """The cluster, whose processes must survive the test."""
    cluster = proxied[0]
    before = pids(cluster)
    yield cluster
    assert pids(cluster) == before


def pids(cluster: ScriptedCluster) -> dict[str, int]:
    """The workers that are there, waited for."""
    found = lambda: {w.name: w.pid for w in cluster.producer.workers() if w.state == "ready"}  # noqa: E731
    return until(lambda: found() if len(found()) == len(CREW) else None, "all workers speak")


def impatient(cluster: ScriptedCluster, patience_s: float) -> Producer:
    """A producer that waits less long than others."""
    producer = Producer(cluster.server.url)
    producer.jobs.client = connect(cluster.server.url, patience_s=patience_s)
    return producer


def resumes(cluster: ScriptedCluster, job_id: str) -> None:
    """A whole turn is done in time."""
    began = time.monotonic()
    cluster.turn(job_id)
    cluster.wait_ended(job_id, timeout_s=RESUME_S)
    figure(f"{job_id}: a fresh turn was done {time.monotonic() - began:.1f} s after Redis could be used again")


@pytest.mark.parametrize("how", ["restarted", "killed"])
def test_a_redis_that_comes_back_with_its_file_loses_and_repeats_nothing(cluster: ScriptedCluster, how: str) -> None:
    with SteadyLoad(cluster, how) as load:
        cluster.until_event(f"{how}-0", "text.delta")
        if how == "killed":
            cluster.server.kill()
        else:
            cluster.server.stop()
        threading.Event().wait(1.0)  # as long as a restart takes
        cluster.server.start()
        resumes(cluster, f"{how}-after")
    cluster.assert_ran_once(*load.jobs, f"{how}-after")


@pytest.mark.parametrize("how", ["client kill", "reset"])
def test_cut_connections_lose_and_repeat_nothing(
    proxied: tuple[ScriptedCluster, TcpProxy], cluster: ScriptedCluster, how: str
) -> None:
    prefix = how.replace(" ", "-")
    with SteadyLoad(cluster, prefix) as load:
        for number in (0, 4, 8):
            until(lambda number=number: len(load.jobs) > number, "jobs were handed in")
            cluster.until_event(f"{prefix}-{number}", "text.delta")
            if how == "reset":
                proxied[1].reset()
            else:
                for kind in ("normal", "pubsub"):
                    cluster.server.client.client_kill_filter(_type=kind, skipme=True)
        resumes(cluster, f"{prefix}-after")
    cluster.assert_ran_once(*load.jobs, f"{prefix}-after")


def test_a_heartbeat_that_hangs_and_its_repetition_fit_into_a_lease() -> None:
    lease = Settings().lease_s
    assert lease / 3 + pulse.TICK_S + 2 * pulse.HEARTBEAT_TIMEOUT_S < lease


def test_workers_leave_connections_that_hang(
    proxied: tuple[ScriptedCluster, TcpProxy], cluster: ScriptedCluster
) -> None:
    """What was popped into a hanging connection is delivered again, what runs goes on with another connection, and a
    cancellation arrives although the doorbell hangs.
    """
    cluster.producer.submit("tts.synthesize", {"tenant": "x", "voice": "v", "text": ENDLESS}, job_id="hang-long")
    cluster.until_event("hang-long", "started")
    with SteadyLoad(cluster, "hang", every_s=0.3) as load:
        cluster.until_event("hang-0", "text.delta")
        assert proxied[1].stall() >= len(CREW)
        cancelled = time.time()
        cluster.producer.cancel("hang-long")
        resumes(cluster, "hang-after")
    stopped = cluster.logged("tts-1", "stopped job=hang-long ")
    figure(f"with every connection hanging, a cancelled synthesis stopped after {stopped - cancelled:.1f} s")
    assert stopped - cancelled < OWN_END_S
    for job_id in load.jobs:
        assert terminals(cluster.events(job_id)) == ["done"]
    assert not [event for job_id in load.jobs for event in cluster.starts(job_id) if event.attempt > 1]


@contextlib.contextmanager
def full(cluster: ScriptedCluster) -> Iterator[None]:
    """Redis refuses to grow."""
    client = cluster.server.client
    client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextlib.contextmanager
def replica(cluster: ScriptedCluster, *, stale: bool) -> Iterator[None]:
    """Redis follows a master that is not there: it refuses writes (READONLY), or everything (MASTERDOWN)."""
    client = cluster.server.client
    client.config_set("replica-serve-stale-data", "yes" if stale else "no")
    client.replicaof("127.0.0.1", free_port())
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@pytest.mark.parametrize("how", ["full", "readonly", "masterdown"])
def test_a_redis_that_refuses_for_a_while_loses_and_repeats_nothing(cluster: ScriptedCluster, how: str) -> None:
    refusing = full(cluster) if how == "full" else replica(cluster, stale=how == "readonly")
    with SteadyLoad(cluster, how) as load:
        cluster.until_event(f"{how}-0", "text.delta")
        with refusing:
            with pytest.raises(BrokerUnavailable) as refused:
                impatient(cluster, 0.5).submit("rag.embed", {"texts": ["안녕"]}, job_id="x")
            threading.Event().wait(3.0)  # long enough for every worker to meet it
        resumes(cluster, f"{how}-after")
    figure(f"{how}: {refused.value.message}")
    cluster.assert_ran_once(*load.jobs, f"{how}-after")


def test_a_replay_that_finds_redis_full_keeps_the_dead_letter(cluster: ScriptedCluster) -> None:
    cluster.embed("dead")
    cluster.wait_ended("dead")
    jobs = cluster.producer.jobs
    raw = '{"body": "[[{\\"texts\\": [\\"안녕\\"]}], {}, {}]", "content-type": "application/json", "properties": {}, "headers": {"task": "rag.embed", "id": "dead"}}'
    entry = jobs.bury("rag", raw, Fault(code="x", message="x", stage="x"))
    with full(cluster), pytest.raises(BrokerUnavailable, match="full"):
        cluster.producer.replay(entry)
    assert cluster.view("dead").state == "done"
    assert cluster.producer.dead_letter(entry).raw == raw
    assert cluster.producer.replay(entry) == "dead"
    cluster.wait_ended("dead")
    assert cluster.view("dead").state == "done"


def test_producers_learn_within_seconds_that_redis_is_gone_and_go_on_when_it_is_back(cluster: ScriptedCluster) -> None:
    cluster.turn("reader")
    cluster.wait_ended("reader")
    producer = impatient(cluster, 3.0)
    cluster.server.kill()
    calls: dict[str, Callable[[], Any]] = {
        "submit": lambda: producer.submit("rag.embed", {"texts": ["안녕"]}),
        "follow": lambda: list(producer.follow("reader")),
        "result": lambda: producer.result("reader"),
        "cancel": lambda: producer.cancel("reader"),
        "status": producer.queues,
    }
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = {name: pool.submit(call) for name, call in calls.items()}
        errors = {name: answer.exception() for name, answer in answers.items()}  # or the test's time is over
    assert {name: type(error) for name, error in errors.items()} == dict.fromkeys(calls, BrokerUnavailable)
    cluster.server.start()
    assert cluster.producer.result("reader")["reply"]
    resumes(cluster, "gone-after")
