"""Least privilege on a real Redis: every user of `deploy/redis` can do its whole work, and nothing else.

`-s` shows nothing here; a refusal that was not meant shows in Redis's own log of them (`GuardedRedis.denials`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from httpx import get as http_get

import access
from shared.blobs import open_store
from shared.connection import connect, is_denial
from shared.contracts.catalog import QUEUES
from shared.errors import AccessDenied, CallerGone
from shared.jobs import Entry, Jobs
from shared.keys import Keys
from shared.producer import Producer
from tests.support.access import GuardedRedis
from tests.support.scripted import ScriptedCluster, terminals
from tests.support.servers import free_port
from tests.support.waiting import until
from workers.roles import roles

ROOT = Path(__file__).resolve().parents[2]
CREW = tuple(f"{role}-1" for role in access.ROLES)
EMBED = {"tenant": "t", "texts": ["안녕"]}
ENDLESS = {"tenant": "t", "voice": "v", "text": "가나다라마바사. " * 1_000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    """Nobody works here: what is handed in stays where it is."""
    server = GuardedRedis(tmp_path_factory.mktemp("guarded"), "spring", "web:turns,llm")
    yield server
    server.close()


@pytest.fixture
def quiet(server: GuardedRedis) -> GuardedRedis:
    """The same, empty, its log of refusals too."""
    server.client.flushall()
    server.denials()
    return server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCluster]:
    """One worker of each role, each under its own user; the cluster's own producer is the administrator's."""
    folder = tmp_path_factory.mktemp("crew")
    server = GuardedRedis(folder / "redis", "spring")
    cluster = ScriptedCluster(folder, *CREW, server=server, urls=server.role_urls(), presence_ttl_s=2)
    yield cluster
    cluster.close()


@pytest.fixture
def guarded(cluster: ScriptedCluster) -> Iterator[GuardedRedis]:
    """The cluster's Redis, which must refuse nothing while the test runs."""
    assert isinstance(cluster.server, GuardedRedis)
    cluster.server.denials()
    yield cluster.server
    assert cluster.server.denials() == []


def jobs_of(server: GuardedRedis, user: str) -> Jobs:
    return Jobs(server.client_of(user), Keys("maeari:"))


# --- everybody can work ---


def test_an_application_and_every_role_do_a_turn_from_audio_to_audio(
    cluster: ScriptedCluster, guarded: GuardedRedis
) -> None:
    store = open_store((cluster.folder / "blobs").as_uri())
    store.put("t", "audio", "question.wav", b"RIFF", "audio/wav")
    producer = guarded.producer_of("spring")
    request = {"tenant": "t", "pack": "artist", "session": "s", "audio": {"key": "t/audio/question.wav"}}
    for number in range(2):  # the second one finds the first in its session
        job = producer.submit("turns.start", request, job_id=f"spring.turn-{number}", deadline_s=300, presence=True)
        kinds = []
        for event in producer.follow(job.job_id, timeout_s=120):
            producer.keep_alive(job.job_id)
            kinds.append(event.type)
        assert kinds[-1] == "done", kinds
        assert {"transcript", "context", "text.delta", "audio"} < set(kinds)
        assert producer.result(job.job_id)["reply"]
    assert not producer.submit("turns.start", request, job_id="spring.turn-0").created
    assert guarded.client.llen("maeari:session:t:artist:s") == 2


def test_an_application_ends_its_jobs_by_cancelling_and_by_going_away(
    cluster: ScriptedCluster, guarded: GuardedRedis
) -> None:
    producer = guarded.producer_of("spring")
    producer.submit("tts.synthesize", ENDLESS, job_id="spring.cancelled", priority="batch")
    cluster.until_event("spring.cancelled", "started")
    assert producer.cancel("spring.cancelled")
    cluster.logged("tts-1", r"stopped job=spring\.cancelled ")
    producer.submit("tts.synthesize", ENDLESS, job_id="spring.gone", presence=True)
    with pytest.raises(CallerGone):
        producer.result("spring.gone", timeout_s=120)


def test_retries_dead_letters_and_full_queues_need_no_further_right(
    cluster: ScriptedCluster, guarded: GuardedRedis
) -> None:
    before = guarded.client.xlen("maeari:dead")
    guarded.client.lpush("rag", "no message at all")
    until(lambda: guarded.client.xlen("maeari:dead") > before, "it is a dead letter")
    for number in range(5):  # of one tenant: all but one are parked
        guarded.producer_of("spring").submit("rag.embed", EMBED, job_id=f"spring.parked-{number}")
    cluster.wait_ended(*(f"spring.parked-{number}" for number in range(5)))
    guarded.producer_of("spring").submit(
        "turns.start", {"pack": "nobody", "session": "s", "text": "x"}, job_id="spring.bad"
    )
    assert terminals(cluster.events("spring.bad")) == ["failed"]
    cluster.producer.jobs.enqueue(Entry("untrained", "training.run", {"nothing": "known"}, tenant="t"))
    assert terminals(cluster.events("untrained")) == ["failed"]


def maeari(server: GuardedRedis, folder: Path, *words: str) -> str:
    """What the command prints in the hands of the operator."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAEARI_")} | {
        "MAEARI_REDIS_URL": server.url_of("operator"),
        "MAEARI_HOME": str(folder),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "shared.cli", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr


def test_an_operator_looks_after_the_cluster_and_sees_no_password(
    cluster: ScriptedCluster, guarded: GuardedRedis, tmp_path: Path
) -> None:
    cluster.embed("watched")
    cluster.wait_ended("watched")
    letter = guarded.client.xadd(
        "maeari:dead", {"queue": "rag", "job_id": "", "task": "", "reason": "why", "raw": "{}"}
    )
    said = {words: maeari(guarded, tmp_path, *words.split()) for words in ("status --json", "doctor")}
    status = json.loads(said["status --json"])
    assert {row["role"] for row in status["workers"]} == set(access.ROLES)
    assert re.search(r"redis keeps jobs.*(persistent|unfit|memory)", said["doctor"], re.DOTALL)
    operator = Producer(guarded.url_of("operator"))
    assert "why" in {dead.reason for dead in operator.dead()}
    assert operator.purge(letter) == 1
    raw = operator.jobs.message("rag.embed", "operator-0", EMBED)
    assert operator.replay(
        guarded.client.xadd("maeari:dead", {"queue": "rag", "job_id": "", "task": "", "reason": "", "raw": raw})
    )
    assert operator.result("operator-0", timeout_s=120)
    view = operator.job("operator-0")
    assert view is not None and view.state == "done"
    assert operator.submit("rag.embed", EMBED, job_id="operator-1").created
    assert operator.result("operator-1", timeout_s=120)
    assert not [words for words, text in said.items() if any(secret in text for secret in guarded.passwords.values())]


def test_the_dashboard_sees_every_worker(cluster: ScriptedCluster, guarded: GuardedRedis, tmp_path: Path) -> None:
    port = free_port()
    environment = os.environ | {"MAEARI_REDIS_URL": guarded.url_of("flower"), "FLOWER_UNAUTHENTICATED_API": "true"}
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "shared.app:app",
        "flower",
        "--address=127.0.0.1",
        f"--port={port}",
    ]
    log = tmp_path / "flower.log"
    with log.open("wb") as out:
        flower = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        expected = {f"{name}@test": True for name in CREW}
        until(lambda: asked(port) == expected, "Flower knows the workers", timeout_s=180, every_s=0.2)
    finally:
        flower.terminate()
        flower.wait(120)
    assert not [secret for secret in guarded.passwords.values() if secret in log.read_text("utf-8")]


def asked(port: int) -> Any:
    try:
        return http_get(f"http://127.0.0.1:{port}/api/workers?status=true", timeout=5).json()
    except Exception:  # noqa: BLE001 - it is not there yet
        return None


def test_a_worker_leaves_in_order_and_writes_no_password_into_its_log(
    cluster: ScriptedCluster, guarded: GuardedRedis
) -> None:
    assert cluster.workers["stt-1"].drain() == 0
    cluster.restart("stt-1")
    logs = "".join(worker.log() for worker in cluster.workers.values())
    assert "spring.turn-0" in logs or "ready" in logs
    assert not [user for user, secret in guarded.passwords.items() if secret in logs]


# --- and nothing else ---

Call = Callable[[Any], Any]

NOT_FOR_PRODUCERS: dict[str, Call] = {
    "see all keys": lambda c: c.keys("*"),
    "scan": lambda c: c.scan(),
    "random key": lambda c: c.randomkey(),
    "read the configuration": lambda c: c.config_get("*"),
    "change the configuration": lambda c: c.config_set("maxmemory", 1),
    "flush all": lambda c: c.flushall(),
    "flush": lambda c: c.flushdb(),
    "end Redis": lambda c: c.execute_command("SHUTDOWN", "NOSAVE"),
    "make users": lambda c: c.acl_setuser("x", enabled=True),
    "see users": lambda c: c.acl_list(),
    "see clients": lambda c: c.client_list(),
    "kill clients": lambda c: c.client_kill_filter(_type="normal"),
    "pause everybody": lambda c: c.client_pause(1),
    "info": lambda c: c.info(),
    "monitor": lambda c: c.execute_command("MONITOR"),
    "replicate": lambda c: c.replicaof("127.0.0.1", 1),
    "flush scripts": lambda c: c.script_flush(),
    "load functions": lambda c: c.function_load("#!lua name=x\nredis.register_function('f', function() return 1 end)"),
    "copy": lambda c: c.copy("maeari:job:web.1", "maeari:job:spring.1"),
    "a key of its own making": lambda c: c.set("spring.x", 1),
    "take a message": lambda c: c.brpop(["turns"], timeout=1),
    "take messages": lambda c: c.blmpop(1, 1, "turns", direction="RIGHT", count=4),
    "take the next message": lambda c: c.lmpop(1, "turns", direction="RIGHT"),
    "read a queue": lambda c: c.lrange("turns", 0, -1),
    "look into a queue": lambda c: c.lindex("turns", -1),
    "remove from a queue": lambda c: c.lrem("turns", 0, "x"),
    "delete a queue": lambda c: c.delete("turns"),
    "push elsewhere": lambda c: c.lpush("celery", "x"),
    "read another's result": lambda c: c.get("celery-task-meta-web.1"),
    "forge another's result": lambda c: c.set("celery-task-meta-web.1", "x"),
    "announce another's result": lambda c: c.publish("celery-task-meta-web.1", "x"),
    "wait for another's result": lambda c: subscribed(c, "celery-task-meta-web.1"),
    "wait for all results": lambda c: psubscribed(c, "celery-task-meta-*"),
    "read another's stream": lambda c: c.xread({"maeari:events:web.1": "0-0"}),
    "read any stream": lambda c: c.xrange("maeari:events:spring.1"),
    "forge another's events": lambda c: c.xadd("maeari:events:web.1", {"type": "done"}),
    "read another's record": lambda c: c.hget("maeari:job:web.1", "env"),
    "change another's record": lambda c: c.hset("maeari:job:web.1", "state", "done"),
    "an application whose name begins alike": lambda c: c.hget("maeari:job:springer.1", "env"),
    "hold another's presence": lambda c: c.set("maeari:presence:web.1", 1),
    "end another's presence": lambda c: c.delete("maeari:presence:web.1"),
    "read another's stages": lambda c: c.lrange("maeari:stages:web.1", 0, -1),
    "read dead letters": lambda c: c.xrange("maeari:dead"),
    "write dead letters": lambda c: c.xadd("maeari:dead", {"x": 1}),
    "read conversations": lambda c: c.lrange("maeari:session:t:artist:s", 0, -1),
    "write conversations": lambda c: c.rpush("maeari:session:t:artist:s", "x"),
    "read the list of open jobs": lambda c: c.zrange("maeari:open", 0, -1),
    "change limits": lambda c: c.hset("maeari:config", "queue_limit", 0),
    "pass for a worker": lambda c: c.set("maeari:worker:x", "x"),
    "command workers": lambda c: c.publish("/0.celery.pidbox", "{}"),
    "hear commands": lambda c: subscribed(c, "/0.celery.pidbox"),
    "hear workers' events": lambda c: psubscribed(c, "/0.celeryev/*"),
    "hear cancellations": lambda c: subscribed(c, "maeari:cancel"),
    "Kombu's tables": lambda c: c.smembers("_kombu.binding.celery.pidbox"),
    "another's record by script": lambda c: c.eval("return redis.call('HGET', 'maeari:job:web.1', 'env')", 0),
    "all keys by script": lambda c: c.eval("return redis.call('KEYS', '*')", 0),
    "flush by script": lambda c: c.eval("return redis.call('FLUSHALL')", 0),
}


def subscribed(client: Any, channel: str) -> None:
    with client.pubsub() as heard:
        heard.subscribe(channel)
        heard.parse_response(block=True)


def psubscribed(client: Any, pattern: str) -> None:
    with client.pubsub() as heard:
        heard.psubscribe(pattern)
        heard.parse_response(block=True)


def refused(call: Call, client: Any) -> None:
    with pytest.raises(redis.RedisError) as error:
        call(client)
    assert is_denial(error.value), error.value


@pytest.mark.parametrize("what", NOT_FOR_PRODUCERS)
def test_an_application_cannot(quiet: GuardedRedis, what: str) -> None:
    refused(NOT_FOR_PRODUCERS[what], quiet.client_of("producer-spring"))
    assert len(quiet.denials()) == 1
    assert not quiet.client.keys("*")


def state_of(server: GuardedRedis) -> dict[str, Any]:
    """Everything that is there, but clocks."""
    client = server.client
    return {str(key): client.dump(key) if key != "maeari:config" else None for key in client.scan_iter("*")}


@pytest.mark.parametrize(
    "act",
    [
        lambda p: p.submit("turns.start", {"pack": "artist", "session": "s", "text": "x"}, job_id="web.mine"),
        lambda p: p.submit("turns.start", {"pack": "artist", "session": "s", "text": "x"}, job_id="web.1"),
        lambda p: p.cancel("web.1"),
        lambda p: p.result("web.1"),
        lambda p: list(p.follow("web.1")),
        lambda p: p.keep_alive("web.1"),
        lambda p: p.job("web.1"),
        lambda p: p.dead(),
        lambda p: p.purge(),
        lambda p: p.queues(),
        lambda p: p.workers(),
    ],
    ids=["enqueue", "resubmit", "cancel", "result", "follow", "presence", "show", "dead", "purge", "queues", "workers"],
)
def test_an_application_cannot_touch_anothers_jobs_through_the_producer(
    quiet: GuardedRedis, act: Callable[[Producer], Any]
) -> None:
    quiet.producer_of("web").submit("turns.start", {"pack": "artist", "session": "s", "text": "비밀"}, job_id="web.1")
    before = state_of(quiet)
    with pytest.raises(AccessDenied) as error:
        act(quiet.producer_of("spring"))
    assert "비밀" not in error.value.message
    assert state_of(quiet) == before


def test_an_application_has_the_queues_that_it_was_given(quiet: GuardedRedis) -> None:
    web = quiet.producer_of("web")
    messages = [{"role": "user", "content": "안녕"}]
    job = web.submit("llm.generate", {"tenant": "t", "messages": messages})
    assert job.created and job.job_id.startswith("web.")
    before = state_of(quiet)
    with pytest.raises(AccessDenied):
        web.submit("rag.embed", EMBED, job_id="web.no")
    assert state_of(quiet) == before, "nothing of it was recorded"


def test_a_cancellation_lets_another_application_of_the_tenant_go_on(quiet: GuardedRedis) -> None:
    """The next one in line is web's, and spring may not touch it: the reconciler does."""
    request = {"tenant": "t", "pack": "artist", "session": "s", "text": "x"}
    quiet.producer_of("spring").submit("turns.start", request, job_id="spring.first")
    for name in ("second", "third"):
        quiet.producer_of("web").submit("turns.start", request, job_id=f"web.{name}")
    conductor = jobs_of(quiet, "worker-conductor")
    assert quiet.producer_of("spring").cancel("spring.first")
    assert quiet.client.rpop("turns")  # its message, which nobody needs
    until(lambda: conductor.reconcile()[0], "the next one is delivered")
    for name in ("second", "third"):
        raw = until(lambda: quiet.client.rpop("turns"), f"{name} is in line")
        assert json.loads(raw)["headers"]["id"] == f"web.{name}"
        assert conductor.claim(f"web.{name}", "w")
    assert [user for user, _, _ in quiet.denials()] == ["producer-spring"]


def test_a_record_that_claims_to_belong_to_another_job_leads_no_worker_there(
    cluster: ScriptedCluster, guarded: GuardedRedis
) -> None:
    cluster.producer.submit("tts.synthesize", ENDLESS, job_id="web.victim")
    cluster.until_event("web.victim", "started")
    spring = guarded.producer_of("spring")
    attack = jobs_of(guarded, "producer-spring")
    spring.submit("rag.embed", {"tenant": "t", "texts": ["x"] * 3}, job_id="spring.thief", deadline_s=300)
    attack.client.hset("maeari:job:spring.thief", "root", "web.victim")
    cluster.wait_ended("spring.thief")
    spring.submit("turns.start", {"pack": "nobody", "session": "s", "text": "x"}, job_id="spring.thief-2")
    attack.client.hset("maeari:job:spring.thief-2", "root", "web.victim")
    cluster.wait_ended("spring.thief-2")
    for _ in range(5):
        attack.client.publish("maeari:cancel", "web.victim")
    assert cluster.view("web.victim").state == "running"
    assert "error" not in [event for event in cluster.workers["tts-1"].log().splitlines() if "web.victim" in event]
    entries = guarded.client.xrange("maeari:events:web.victim")
    assert [fields["type"] for _, fields in entries] == ["accepted", "started"]
    cluster.producer.cancel("web.victim")


def test_a_message_that_is_pushed_under_the_id_of_anothers_job_does_not_run_in_its_place(
    cluster: ScriptedCluster, guarded: GuardedRedis
) -> None:
    assert cluster.workers["rag-1"].drain() == 0
    cluster.embed("web.hijacked")
    own = str(guarded.client.lindex("rag", 0))
    guarded.client.rpush("rag", own.replace("안녕", "남의 말"))  # in front, which an application cannot even reach
    cluster.restart("rag-1")
    cluster.wait_ended("web.hijacked")
    cluster.assert_ran_once("web.hijacked")
    until(
        lambda: "the job was recorded with another message" in {letter.reason for letter in cluster.producer.dead()},
        "the forged message is a dead letter",
    )


NOT_FOR_WORKERS: dict[str, Call] = {
    name: NOT_FOR_PRODUCERS[name]
    for name in (
        "see all keys", "scan", "read the configuration", "change the configuration", "flush all", "flush", "end Redis",
        "make users", "see clients", "kill clients", "monitor", "replicate", "flush scripts",
        "load functions", "a key of its own making", "push elsewhere", "read another's result", "wait for all results",
        "read any stream", "read dead letters", "pass for a worker", "command workers", "flush by script",
    )
}  # fmt: skip


@pytest.mark.parametrize("role", access.ROLES)
def test_a_worker_cannot_administrate_nor_do_the_work_of_other_roles(quiet: GuardedRedis, role: str) -> None:
    client = quiet.client_of(f"worker-{role}")
    for call in NOT_FOR_WORKERS.values():
        refused(call, client)
    for queue in set(QUEUES) - set(access.ROLES[role]):
        refused(lambda c, queue=queue: c.brpop([queue], timeout=1), client)
        refused(lambda c, queue=queue: c.lrange(queue, 0, -1), client)
    if role != "conductor":
        refused(lambda c: c.rpush("maeari:session:t:artist:s", "x"), client)
        refused(lambda c: c.zrangebyscore("maeari:open", "-inf", "+inf"), client)
    if role in ("llm", "tts"):
        refused(NOT_FOR_PRODUCERS["read conversations"], client)


def test_the_others_can_do_what_their_names_say(quiet: GuardedRedis) -> None:
    health = quiet.client_of("health")
    assert health.ping()
    refused(lambda c: c.get("x"), health)
    refused(lambda c: c.info(), health)
    operator = quiet.client_of("operator")
    for name in (
        "see all keys", "change the configuration", "flush all", "flush", "end Redis", "make users", "kill clients",
        "replicate", "load functions", "a key of its own making", "command workers", "flush by script",
    ):  # fmt: skip
        refused(NOT_FOR_PRODUCERS[name], operator)
    flower = quiet.client_of("flower")
    for name in ("see all keys", "flush all", "read a queue", "take a message", "read another's result", "read any stream",
                 "read another's record", "change another's record", "read dead letters", "end Redis"):  # fmt: skip
        refused(NOT_FOR_PRODUCERS[name], flower)
    with pytest.raises(redis.AuthenticationError):
        connect(f"redis://127.0.0.1:{quiet.port}/0", patience_s=0.0).ping()


# --- the script ---


def test_the_script_knows_the_roles_and_queues_of_the_cluster() -> None:
    assert {name: role.queues for name, role in roles().items()} == dict(access.ROLES)
    assert set(QUEUES) == set(access.QUEUES)


def test_passwords_are_kept_private_and_stay_when_an_application_is_added(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "deploy" / "redis" / "access.py"), "users", "--to", str(tmp_path)]
    subprocess.run([*script, "--app", "spring"], check=True, capture_output=True)
    first = (tmp_path / "passwords").read_text("utf-8")
    ran = subprocess.run([*script, "--app", "spring", "--app", "web:turns"], check=True, capture_output=True, text=True)
    second = (tmp_path / "passwords").read_text("utf-8")
    assert set(first.splitlines()) < set(second.splitlines())
    secrets = [line.partition(":")[2] for line in second.splitlines()]
    assert len(set(secrets)) == len(access.names(["spring", "web"]))
    assert min(map(len, secrets)) >= 32
    acl = (tmp_path / "users.acl").read_text("utf-8")
    assert not [secret for secret in secrets if secret in acl + ran.stdout + ran.stderr]
    assert {oct((tmp_path / name).stat().st_mode & 0o777) for name in ("passwords", "users.acl")} == {"0o600"}


@pytest.mark.parametrize("app", ["", "Spring", "a.b", "a*", "web:nothing", "../x", "a b"])
def test_a_name_that_would_own_too_much_is_refused(app: str) -> None:
    with pytest.raises(SystemExit):
        access.parse_apps([app])
