"""Signed messages among real workers: whole turns run; what is forged, changed, late or unsigned never does."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from shared import envelope
from shared.contracts.events import TERMINAL, Failed
from shared.errors import BadSignature, InvalidRequest
from shared.jobs import Entry, Jobs
from shared.keys import Keys
from shared.signing import UNSIGNED, Signing
from tests.support.scripted import ScriptedCluster, terminals
from tests.support.servers import IN_MEMORY, RedisServer
from tests.support.waiting import until

KEY, OLD, FOREIGN = "first-" + "k" * 32, "older-" + "o" * 32, "foreign-" + "f" * 32
SIGNING = Signing((KEY.encode(),))
CREW = ("conductor-1", "llm-1", "tts-1", "rag-1")
EMBED = {"tenant": "t", "texts": ["안녕"]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCluster]:
    """Workers that sign with one key and accept two."""
    folder = tmp_path_factory.mktemp("signed")
    cluster = ScriptedCluster(
        folder,
        *CREW,
        server=RedisServer(folder / "redis", *IN_MEMORY),
        signing_keys=f"{KEY},{OLD}",
        scripted_token_ms=40,
    )
    cluster.producer.jobs.signing = SIGNING
    yield cluster
    cluster.close()


def as_if(cluster: ScriptedCluster, signing: Signing) -> Jobs:
    """A producer with other keys."""
    return Jobs(cluster.server.client, Keys("maeari:"), signing)


def fault(cluster: ScriptedCluster, job_id: str) -> str:
    """The code that the job failed with."""
    last = cluster.events(job_id)[-1]
    assert isinstance(last, Failed), last
    return last.fault.code


def buried(cluster: ScriptedCluster, job_id: str) -> str:
    """Reason of the dead letter of that job, waited for."""
    found = lambda: [letter.reason for letter in cluster.producer.dead() if letter.job_id == job_id]  # noqa: E731
    return until(found, f"{job_id} is among the dead letters")[0]


def starts(cluster: ScriptedCluster, job_id: str) -> int:
    return len(cluster.starts(job_id))


def recorded(
    cluster: ScriptedCluster, job_id: str, message: str, *, task: str = "rag.embed", queue: str = "rag"
) -> None:
    """Enqueue a message as it is, as anybody may who can call the script."""
    answer = cluster.producer.jobs.run("enqueue", job_id, task, queue, 0, "t", 600_000, 0, 3, message)
    assert answer == ["ok"]


def test_a_turn_is_signed_from_its_first_stage_to_its_last(cluster: ScriptedCluster) -> None:
    cluster.turn("signed-turn")
    cluster.wait_ended("signed-turn")
    cluster.assert_ran_once("signed-turn")
    assert {stage.task for stage in cluster.view("signed-turn").stages} == {
        "rag.retrieve", "llm.generate", "tts.synthesize", "turns.finish",
    }  # fmt: skip
    assert "signed-turn" not in {letter.job_id for letter in cluster.producer.dead()}


def test_a_key_that_is_on_its_way_out_still_verifies(cluster: ScriptedCluster) -> None:
    old = as_if(cluster, Signing((OLD.encode(),)))
    assert old.enqueue(Entry("old-key", "rag.embed", EMBED, tenant="t"))
    cluster.wait_ended("old-key")
    cluster.assert_ran_once("old-key")


@pytest.mark.parametrize("keys", [(), (FOREIGN.encode(),)], ids=["unsigned", "foreign"])
def test_a_message_without_a_key_of_the_cluster_is_dead_lettered_and_its_job_fails(
    cluster: ScriptedCluster, keys: tuple[bytes, ...]
) -> None:
    job_id = f"forged-{len(keys)}"
    as_if(cluster, Signing(keys)).enqueue(Entry(job_id, "rag.embed", EMBED, tenant="t"))
    assert fault(cluster, job_id) == "bad_signature"
    assert starts(cluster, job_id) == 0
    assert "headers.signature: The message is not signed by a key of this cluster." in buried(cluster, job_id)
    stored = json.loads(cluster.server.client.get(f"celery-task-meta-{job_id}") or "")
    assert stored["result"]["exc_type"] == "bad_signature"
    with pytest.raises(BadSignature):
        cluster.producer.result(job_id)


def test_a_dead_letter_that_was_never_signed_cannot_be_replayed_and_stays(cluster: ScriptedCluster) -> None:
    as_if(cluster, UNSIGNED).enqueue(Entry("never", "rag.embed", EMBED, tenant="t"))
    buried(cluster, "never")
    entry = next(letter.entry for letter in cluster.producer.dead() if letter.job_id == "never")
    with pytest.raises(BadSignature):
        cluster.producer.replay(entry)
    assert cluster.producer.dead_letter(entry).job_id == "never"


def test_a_signed_dead_letter_is_replayed_under_a_new_signature_even_when_its_deadline_is_over(
    cluster: ScriptedCluster,
) -> None:
    raw = envelope.build("rag.embed", "again", EMBED, signing=SIGNING, deadline_ms=1)
    entry = cluster.producer.jobs.client.xadd(
        "maeari:dead", {"queue": "rag", "job_id": "again", "task": "", "reason": "x", "raw": raw}
    )
    assert cluster.producer.replay(entry) == "again"
    cluster.wait_ended("again")
    cluster.assert_ran_once("again")


def test_an_old_message_under_a_new_record_is_too_late(cluster: ScriptedCluster) -> None:
    captured = envelope.build("rag.embed", "old", EMBED, signing=SIGNING, deadline_ms=int(time.time() * 1000) - 1)
    recorded(cluster, "old", captured)
    assert fault(cluster, "old") == "deadline_exceeded"


def test_a_deadline_that_is_put_off_in_the_record_still_counts(cluster: ScriptedCluster) -> None:
    request = {"tenant": "t", "voice": "v", "text": "가나다라마바사. " * 500}
    soon = int(time.time() * 1000) + 1_500
    recorded(
        cluster, "put-off", envelope.build("tts.synthesize", "put-off", request, signing=SIGNING, deadline_ms=soon),
        task="tts.synthesize", queue="tts",
    )  # fmt: skip
    assert fault(cluster, "put-off") == "deadline_exceeded"
    view = cluster.view("put-off")
    assert view.deadline_ms > soon + 60_000, "the record allowed more"


def test_a_signed_message_under_the_id_of_another_job_is_refused(cluster: ScriptedCluster) -> None:
    message = json.loads(envelope.build("rag.embed", "mine", EMBED, signing=SIGNING, deadline_ms=2_000_000_000_000))
    message["headers"]["id"] = "yours"
    recorded(cluster, "yours", json.dumps(message))
    assert fault(cluster, "yours") == "bad_signature"


def test_a_waiting_turn_whose_request_was_changed_in_its_record_fails(cluster: ScriptedCluster) -> None:
    cluster.workers["tts-1"].signal(signal.SIGSTOP)  # without speech the turn cannot end before the change
    try:
        cluster.turn("changed")
        cluster.until_event("changed", "text.delta")
        keys, client = cluster.producer.jobs.keys, cluster.server.client
        message: dict[str, Any] = json.loads(client.hget(keys.job("changed"), "env") or "")
        message["body"] = message["body"].replace("artist", "parent")
        client.hset(keys.job("changed"), "env", json.dumps(message))
    finally:
        cluster.workers["tts-1"].signal(signal.SIGCONT)
    events = cluster.events("changed")
    assert terminals(events) == ["failed"]
    assert fault(cluster, "changed") == "bad_signature"


def test_a_raw_push_runs_nothing_and_harms_no_job(cluster: ScriptedCluster) -> None:
    cluster.embed("innocent")
    cluster.wait_ended("innocent")
    forged = envelope.build("rag.embed", "innocent", {"tenant": "t", "texts": ["다른 말"]})
    cluster.server.client.lpush("rag", forged)
    assert "signature" in buried(cluster, "innocent")
    assert cluster.view("innocent").state == "done"
    assert starts(cluster, "innocent") == 1


def test_a_producer_refuses_what_workers_would_refuse(cluster: ScriptedCluster) -> None:
    with pytest.raises(InvalidRequest, match="ahead"):
        cluster.embed("far", deadline_s=10 * 86_400)
    assert cluster.producer.job("far") is None


def test_keys_are_nowhere_to_be_read(cluster: ScriptedCluster) -> None:
    cluster.turn("quiet")
    cluster.wait_ended("quiet")
    assert cluster.events("quiet")[-1].type in TERMINAL
    logs = "".join(worker.log() for worker in cluster.workers.values())
    client = cluster.server.client
    kept = "".join(everything(client, key) for key in client.scan_iter("*", count=1000))
    assert "quiet" in kept
    assert "v1=" in kept
    for secret in (KEY, OLD):
        assert secret not in logs
        assert secret not in kept


def everything(client: Any, key: str) -> str:
    """A key with its value, whatever its type."""
    readers = {
        "string": client.get, "hash": client.hgetall, "list": lambda k: client.lrange(k, 0, -1),
        "stream": client.xrange, "zset": lambda k: client.zrange(k, 0, -1), "set": client.smembers,
    }  # fmt: skip
    return f"{key} {readers[client.type(key)](key)}"
