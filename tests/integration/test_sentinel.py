"""A primary dies under load and its replica takes over, while workers and producers find it through a Sentinel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import access
from shared.cluster.probes import ask_redis
from shared.connection import connect
from shared.contracts.events import TERMINAL
from shared.errors import BrokerUnavailable
from shared.producer import AsyncProducer, Producer
from shared.settings import settings
from tests.support.figures import figure
from tests.support.load import SteadyLoad
from tests.support.scripted import ScriptedCluster, terminals
from tests.support.waiting import until
from tests.support.watched import WatchedRedis

pytestmark = pytest.mark.timeout(600)

CREW = ("conductor-1", "llm-1", "tts-1", "rag-1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCluster]:
    """Leases are short, for the sake of the test's length."""
    folder = tmp_path_factory.mktemp("watched")
    timing = {"lease_s": 5, "redeliver_after_s": 3, "scripted_token_ms": 30, "scripted_sentence_ms": 50}
    server = WatchedRedis(folder)
    cluster = ScriptedCluster(folder, *CREW, server=server, urls=server.role_urls(), **timing)
    yield cluster
    cluster.close()


@pytest.fixture
def watched(cluster: ScriptedCluster) -> WatchedRedis:
    """Both servers are there, the replica in step."""
    found = cluster.server
    assert isinstance(found, WatchedRedis)
    found.make_whole()
    return found


async def followed(url: str, job_id: str) -> list[str]:
    """The types of a job's events as a service sees them that goes on after each interruption."""
    producer, seq, kinds = AsyncProducer(url), 0, list[str]()
    while not kinds or kinds[-1] not in TERMINAL:
        with contextlib.suppress(BrokerUnavailable):
            async for event in producer.follow(job_id, after=seq, timeout_s=180):
                seq = event.seq
                kinds.append(event.type)
    await producer.close()
    return kinds


def test_writes_stop_while_no_replica_has_them_where_that_is_asked_for(
    cluster: ScriptedCluster, watched: WatchedRedis
) -> None:
    primary, replica = watched.roles()
    primary.client.config_set("min-replicas-max-lag", 1, "min-replicas-to-write", 1)
    impatient = Producer(watched.url)
    impatient.jobs.client = connect(watched.url, patience_s=0.0)
    replica.freeze()
    try:
        with pytest.raises(BrokerUnavailable):
            until(lambda: impatient.submit("rag.embed", {"texts": ["안녕"]}) and None, "writes are refused")
    finally:
        replica.thaw()
        primary.client.config_set("min-replicas-to-write", 0)
    watched.make_whole()
    cluster.embed("after")
    cluster.wait_ended("after")


async def test_a_failover_under_load_loses_no_job_that_the_replica_had(
    cluster: ScriptedCluster, watched: WatchedRedis
) -> None:
    primary, replica = watched.roles()
    producer = Producer(watched.url)
    with SteadyLoad(cluster, "load") as load:
        cluster.until_event("load-0", "text.delta")
        safe = [f"safe-{number}" for number in range(8)]
        for number, job_id in enumerate(safe):
            producer.submit("turns.start", cluster.turn_request(job_id, f"s{number % 3}"), job_id=job_id)
        until(lambda: producer.jobs.client.wait(1, 1_000), "the replica has them")  # on the connection that wrote them
        reader = asyncio.create_task(followed(watched.url, safe[0]))
        primary.kill()
        await asyncio.to_thread(until, lambda: watched.roles()[0] is replica, "the replica was promoted")
        cluster.embed("fresh")
        await asyncio.to_thread(cluster.wait_ended, "fresh", *safe)
    for job_id in (*safe, "fresh"):
        assert terminals(cluster.events(job_id)) == ["done"], job_id
    assert (await reader)[-1] == "done"
    lost = [job_id for job_id in load.jobs if producer.job(job_id) is None]
    figure(f"{len(load.jobs)} jobs of the load, {load.refused} calls refused, {len(lost)} acknowledged jobs lost")
    for number, job_id in enumerate(load.jobs):  # what a producer does that hears nothing more
        (cluster.turn if number % 2 == 0 else cluster.embed)(job_id, tenant=f"t{number % 3}")
    await asyncio.to_thread(cluster.wait_ended, *load.jobs)
    assert {cluster.view(job_id).state for job_id in load.jobs} == {"done"}
    assert all(worker.process and worker.process.poll() is None for worker in cluster.workers.values())
    watched.make_whole()  # the old primary comes back as a replica that nobody writes to
    cluster.turn("home")
    cluster.wait_ended("home")
    assert terminals(cluster.events("home")) == ["done"]


async def test_sentinels_and_servers_are_reached_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = tmp_path / "tls"
    access.write_certificates(tls, ["127.0.0.1"])
    monkeypatch.setenv("MAEARI_REDIS_CA_FILE", str(tls / "ca.crt"))
    settings.cache_clear()
    server = WatchedRedis(tmp_path / "redis", tls=tls)
    files = {"redis_ca_file": str(tls / "ca.crt")}
    cluster = ScriptedCluster(tmp_path, "rag-1", server=server, urls=server.role_urls(), **files)
    try:
        cluster.embed("secret")
        assert (await followed(server.url, "secret"))[-1] == "done"
        assert ask_redis(server.url).state == "ready"
        assert not [user for user, secret in server.passwords.items() if secret in cluster.workers["rag-1"].log()]
    finally:
        cluster.close()
        settings.cache_clear()
