"""The Java client where Redis knows its users and workers run signed messages alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.access import GuardedRedis
from tests.support.java import JavaClient, JavaError
from tests.support.scripted import ScriptedCluster

KEY, FOREIGN = "열쇠 🔑 " + "k" * 32, "foreign-" + "f" * 32
REQUEST = {"texts": ["안녕 🌊"]}


@dataclass
class Guarded:
    """Java processes at one cluster: the application, and two that sign otherwise."""

    cluster: ScriptedCluster
    server: GuardedRedis
    java: JavaClient
    unsigned: JavaClient
    foreign: JavaClient


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One worker under its own user; the Java processes are the application `spring`."""
    folder = tmp_path_factory.mktemp("guarded")
    server = GuardedRedis(folder / "redis", "spring")
    url, blobs, log = server.url_of("producer-spring"), folder / "blobs", folder / "java.log"
    javas = [JavaClient(url, blobs, application="spring", secret=secret, log=log) for secret in (KEY, "", FOREIGN)]
    cluster = ScriptedCluster(
        folder, "rag-1", server=server, urls=server.role_urls(), signing_keys=KEY, blob_url=blobs.as_uri()
    )
    yield Guarded(cluster, server, *javas)
    for java in javas:
        java.close()
    cluster.close()


def test_an_application_may_do_all_that_the_client_does(guarded: Guarded) -> None:
    guarded.server.denials()
    java = guarded.java
    assert java.do("ping")
    job_id = java.submit("rag.embed", REQUEST, presence=True, deadline_ms=60_000)
    java.do("keep_alive", job_id=job_id)
    assert java.do("follow", job_id=job_id)[-1]["type"] == "done"
    assert java.do("result", job_id=job_id, task="rag.embed")["dimension"] > 0
    waiting = java.submit("stt.transcribe", {"audio": {"key": "t/audio/x.wav"}})  # nobody serves this queue
    assert java.do("cancel", job_id=waiting) is True
    assert java.do("follow", job_id=waiting)[-1]["type"] == "cancelled"
    assert guarded.server.denials() == []


def test_another_applications_jobs_are_out_of_reach(guarded: Guarded) -> None:
    producer = guarded.cluster.producer  # the administrator's
    producer.submit("stt.transcribe", {"audio": {"key": "default/audio/x.wav"}}, job_id="web.1")
    for what in ("follow", "result", "cancel", "keep_alive"):
        with pytest.raises(JavaError) as denied:
            guarded.java.do(what, job_id="web.1", task="stt.transcribe")
        assert (denied.value.kind, denied.value.code) == ("BrokerRefusedException", "access_denied"), what
    with pytest.raises(JavaError) as denied:
        guarded.java.submit("rag.embed", REQUEST, job_id="web.2")
    assert denied.value.code == "access_denied"
    assert producer.cancel("web.1")


def test_a_stream_that_is_forbidden_disturbs_nobody_who_follows_his_own(guarded: Guarded) -> None:
    mine = guarded.java.submit("stt.transcribe", {"audio": {"key": "t/audio/x.wav"}})
    following = guarded.java.begin("follow", job_id=mine)
    with pytest.raises(JavaError):
        guarded.java.do("follow", job_id="web.1")
    guarded.java.do("cancel", job_id=mine)
    assert [event["type"] for event in following.result()] == ["accepted", "cancelled"]


@pytest.mark.parametrize("who", ["unsigned", "foreign"])
def test_what_is_not_signed_with_the_clusters_key_is_not_run(guarded: Guarded, who: str) -> None:
    java: JavaClient = getattr(guarded, who)
    job_id = java.submit("rag.embed", REQUEST)
    with pytest.raises(JavaError) as refused:
        java.do("result", job_id=job_id, task="rag.embed")
    assert (refused.value.kind, refused.value.code) == ("JobRejectedException", "bad_signature")
