"""What our channel and our messages rely on in the pinned celery, kombu and redis. An upgrade that changes it fails here.

After an upgrade: read the new source of what is named below, carry over what changed, then renew the digests.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import kombu.transport.redis as stock
import pytest
import redis
from kombu.exceptions import OperationalError
from kombu.transport import virtual
from kombu.utils import functional

import celeryconfig
from shared import envelope, transport
from shared.app import app
from shared.claims import ASKED, Claim
from shared.contracts.catalog import CATALOG, QUEUES
from shared.jobs import NEXT, Entry, Jobs, Report
from shared.keys import BATCH, queue_list
from tests.support.servers import RedisServer, free_port
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
REQUEST = {"tenant": "acme", "texts": ["안녕 🌊"]}

COPIED = {
    "_brpop_read": "(self, **options)",
    "_brpop_start": "(self, timeout=None)",
    "_restore": "(self, message, leftmost=False)",
}
"""Methods of Kombu's channel that ours stands in for, with their signatures."""

DIGESTS = {
    "_brpop_read": "c42518699709f2df",
    "_brpop_start": "06723d707ddf2240",
    "_restore": "92e63e38835b6592",
    "_restore_at_beginning": "6fb09b551b47ce29",
    "close": "101e9b9cdad44b88",
}
"""Of the source of what we replace, or what calls it."""


@pytest.fixture
def connection(jobs: Jobs, redis_server: RedisServer) -> Iterator[kombu.Connection]:
    """A connection as our workers make it."""
    url = redis_server.url.replace("redis://", f"{transport.ALIAS}://")
    with kombu.Connection(url, transport_options=celeryconfig.broker_transport_options) as made:
        yield made


def signature(function: Any) -> str:
    parameters = inspect.signature(function).parameters.values()
    return str(inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]))


@pytest.mark.parametrize("package", ["celery", "kombu", "redis"])
def test_the_installed_version_is_the_one_these_tests_were_written_for(package: str) -> None:
    pinned = {"celery": "5.7.0", "kombu": "5.7.0", "redis": "8.1.0"}[package]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert f"{package}=={pinned}" in project
    assert importlib.metadata.version(package) == pinned


@pytest.mark.parametrize(("name", "expected"), COPIED.items())
def test_what_we_stand_in_for_has_the_same_signature(name: str, expected: str) -> None:
    assert signature(getattr(stock.Channel, name)) == expected
    assert signature(getattr(transport.GuardedChannel, name)) == expected


@pytest.mark.parametrize(("name", "digest"), DIGESTS.items())
def test_what_we_stand_in_for_is_as_it_was_when_we_copied_it(name: str, digest: str) -> None:
    source = inspect.getsource(getattr(stock.Channel, name))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == digest, source


def test_the_way_to_sentinels_is_as_it_was_when_we_replaced_it() -> None:
    for name, digest in {"_sentinel_managed_pool": "bde54a2d6e93ac13", "_get_pool": "6abc6e5c81e1880c"}.items():
        source = inspect.getsource(getattr(stock.SentinelChannel, name))
        assert hashlib.sha256(source.encode()).hexdigest()[:16] == digest, source
    channel = transport.GuardedSentinelChannel
    assert channel._brpop_read is transport.GuardedChannel._brpop_read
    assert channel._get_pool is stock.SentinelChannel._get_pool
    assert channel.connection_class is stock.SentinelChannel.connection_class


def test_what_our_channel_uses_of_kombus_is_there(connection: kombu.Connection) -> None:
    channel: Any = connection.channel()
    for name in ("_queue_cycle", "_in_poll", "_flush_brpop_reauth", "connection_errors", "client", "sep", "_closing"):
        assert hasattr(channel, name), name
    assert callable(channel._queue_cycle.rotate)
    assert callable(channel.connection._deliver)
    assert transport.Transport.Channel is transport.GuardedChannel
    assert type(connection.transport) is transport.Transport


def test_workers_look_in_short_steps_whether_redis_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(app.connection_for_read()) is transport.Connection
    steps = inspect.signature(kombu.Connection._ensure_connection).parameters
    assert [steps[f"interval_{name}"].default for name in ("start", "step", "max")] == [2, 2, 30]
    gone = transport.Connection(f"{transport.ALIAS}://127.0.0.1:{free_port()}")
    slept: list[float] = []
    monkeypatch.setattr(functional, "sleep", slept.append)
    with pytest.raises(OperationalError):
        gone.ensure_connection(None, 2)
    assert 0 < sum(slept) < 2.0, "Kombu's own steps would have taken six seconds"


def test_no_bookkeeping_of_unacknowledged_messages_is_kept_in_redis(connection: kombu.Connection) -> None:
    channel: Any = connection.channel()
    assert channel.ack_emulation is False
    assert type(channel.qos) is virtual.QoS
    assert stock.Channel.ack_emulation is True
    assert channel.qos.restore_visible() is None


def test_the_names_of_lists_are_those_that_the_scripts_push_to(connection: kombu.Connection) -> None:
    channel: Any = connection.channel()
    for queue in QUEUES:
        assert channel._q_for_pri(queue, 0) == queue == queue_list(queue)
        assert channel._q_for_pri(queue, BATCH) == f"{queue}:9" == queue_list(queue, BATCH)
    assert channel._q_for_pri("llm", 5) == "llm", "there are two classes"


def test_a_worker_asks_for_interactive_messages_first_and_writes_nothing_per_message(
    connection: kombu.Connection, jobs: Jobs
) -> None:
    jobs.enqueue(Entry("slow", "rag.embed", REQUEST, tenant="acme", priority=BATCH))
    jobs.enqueue(Entry("fast", "rag.embed", REQUEST, tenant="acme"))
    seen: list[str] = []

    def take(_: Any, message: kombu.Message) -> None:
        seen.append(message.headers["id"])
        message.ack()

    queues = [kombu.Queue(name, exchange="", routing_key=name) for name in ("rag", "knowledge")]
    consumer = connection.Consumer(queues, callbacks=[take], prefetch_count=16, accept=["json"])
    with consumer, jobs.client.monitor() as monitor:
        while len(seen) < 2:
            connection.drain_events(timeout=5)
        jobs.client.echo("over")
        commands = list(iter(lambda: monitor.next_command()["command"], "ECHO over"))
    assert seen == ["fast", "slow"]
    asked = [command.split() for command in commands if command.startswith("BLMPOP")]
    assert {tuple(command[:3]) for command in asked} == {("BLMPOP", "1", "4")}
    orders = (["rag", "knowledge", "rag:9", "knowledge:9"], ["knowledge", "rag", "knowledge:9", "rag:9"])
    assert all(command[3:7] in orders for command in asked), asked
    writes = {command.split()[0] for command in commands} - {"BLMPOP", "PING", "CLIENT", "HELLO", "SELECT", "SMEMBERS"}
    assert writes == set()


def test_of_a_line_several_are_taken_together_and_no_more_than_may_be_held(
    connection: kombu.Connection, jobs: Jobs
) -> None:
    for number in range(12):
        jobs.enqueue(Entry(f"j{number}", "rag.embed", REQUEST | {"tenant": f"t{number}"}, tenant=f"t{number}"))
    taken: list[kombu.Message] = []
    queue = kombu.Queue("rag", exchange="", routing_key="rag")
    with connection.Consumer([queue], callbacks=[lambda _, m: taken.append(m)], prefetch_count=9, accept=["json"]):
        connection.drain_events(timeout=5)
        assert len(taken) == 2, "the others are for other workers"
        while len(taken) < 9:
            connection.drain_events(timeout=5)
        assert [message.headers["id"] for message in taken] == [f"j{number}" for number in range(9)]
        assert [message.payload for message in taken] == [envelope.NO_BODY] * 9
        assert jobs.client.llen("rag") == 3
        for message in taken[:2]:
            message.ack()
        connection.drain_events(timeout=5)
        assert [message.headers["id"] for message in taken[9:]] == ["j9", "j10"]


@pytest.fixture
def warm(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Of a worker that has spoken to Redis before."""
    monkeypatch.setattr(transport.connection, "jobs", lambda: jobs)
    jobs.claim("nobody", "w")
    return jobs


def received(connection: kombu.Connection, count: int) -> list[kombu.Message]:
    """Messages of `rag`, as a worker of 16 jobs takes them."""
    taken: list[kombu.Message] = []
    queue = kombu.Queue("rag", exchange="", routing_key="rag")
    with connection.Consumer([queue], callbacks=[lambda _, m: taken.append(m)], prefetch_count=16, accept=["json"]):
        while len(taken) < count:
            connection.drain_events(timeout=5)
    return taken


def test_claims_are_on_their_way_before_celery_sees_the_messages_in_one_trip_for_all(
    connection: kombu.Connection, warm: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        warm.enqueue(Entry(f"j{number}", "rag.embed", REQUEST | {"tenant": f"t{number}"}, tenant=f"t{number}"))
    trips: list[int] = []
    send = warm._own.send
    monkeypatch.setattr(warm._own, "send", lambda commands: trips.append(len(commands)) or send(commands))
    messages = received(connection, 4)
    assert trips == [4]
    for message in messages:
        asked = message.headers[ASKED]
        claim = asked.take()
        assert isinstance(claim, Claim) and (claim.id, claim.attempt) == (message.headers["id"], 1)
        assert asked.take() is None, "it is taken once"
        assert warm.claim(claim.id, asked.owner) == claim, "the same owner may ask again"
    assert len(warm._own._idle) == 1, "the connection has come back"


def test_what_is_not_begun_goes_back_with_its_claim_and_does_not_count(
    connection: kombu.Connection, warm: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_impatient", lambda: warm)
    for job_id in ("begun", "unbegun"):
        warm.enqueue(Entry(job_id, "rag.embed", REQUEST | {"tenant": job_id}, tenant=job_id))
    begun, unbegun = received(connection, 2)
    assert isinstance(begun.headers[ASKED].take(), Claim)
    channel: Any = connection.channel()
    for message in (begun, unbegun):
        channel._restore(message)
    fields = [warm.client.hmget(warm.keys.job(job_id), "state", "attempts") for job_id in ("begun", "unbegun")]
    assert fields == [["running", "1"], ["queued", "0"]]
    assert [envelope.job_id(raw) for raw in warm.client.lrange("rag", 0, -1)] == ["unbegun"]
    assert unbegun.headers[ASKED].take() is None, "who runs it after all must claim it anew"


@pytest.mark.parametrize("why", ["no connection is idle", "others are on their way"])
def test_no_claim_is_asked_for_where_that_would_make_somebody_wait(
    connection: kombu.Connection, warm: Jobs, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    warm.enqueue(Entry("j1", "rag.embed", REQUEST, tenant="acme"))
    if why == "no connection is idle":
        monkeypatch.setattr(warm._own, "_idle", [])
    else:
        monkeypatch.setattr(warm._lane, "_under_way", 1)
    (message,) = received(connection, 1)
    assert ASKED not in message.headers
    assert warm.client.hget(warm.keys.job("j1"), "state") == "queued"


def test_a_claim_whose_answer_was_lost_is_asked_for_again_by_its_owner(
    connection: kombu.Connection, warm: Jobs
) -> None:
    warm.enqueue(Entry("j1", "rag.embed", REQUEST, tenant="acme"))
    (message,) = received(connection, 1)
    asked = message.headers[ASKED]
    until(lambda: warm.client.hget(warm.keys.job("j1"), "state") == "running", "Redis has granted it")
    lost = asked._untaken[0]._connection
    lost.disconnect()
    assert asked.take() is None
    assert lost not in warm._own._idle, "it is given up"
    claim = warm.claim("j1", asked.owner)
    assert isinstance(claim, Claim) and claim.attempt == 1


@pytest.mark.parametrize(("places", "count"), [(1, 1), (4, 1), (16, 4), (40, 10), (64, 16), (256, 16)])
def test_a_worker_takes_as_many_at_a_time_as_a_part_of_its_jobs(
    connection: kombu.Connection, places: int, count: int
) -> None:
    channel: Any = connection.channel()
    channel.basic_qos(0, places, False)
    assert channel._at_once() == count


def test_a_dashboards_own_queues_are_read_as_kombu_reads_them(connection: kombu.Connection) -> None:
    channel: Any = connection.channel()
    channel.basic_qos(0, 16, False)
    channel._active_queues.append("celeryev.1")
    assert channel._at_once() == 1


def test_without_the_right_to_take_several_one_is_taken_at_a_time(connection: kombu.Connection, jobs: Jobs) -> None:
    jobs.client.acl_setuser("narrow", enabled=True, nopass=True, keys=["*"], channels=["*"], categories=["+@all"])
    jobs.client.acl_setuser("narrow", enabled=True, nopass=True, commands=["-blmpop"])
    for number in range(3):
        jobs.enqueue(Entry(f"j{number}", "rag.embed", REQUEST | {"tenant": f"t{number}"}, tenant=f"t{number}"))
    taken: list[kombu.Message] = []
    queue = kombu.Queue("rag", exchange="", routing_key="rag")
    narrow = connection.clone(userid="narrow", password="none")
    with narrow, narrow.Consumer([queue], callbacks=[lambda _, m: taken.append(m)], prefetch_count=6, accept=["json"]):
        for count in (1, 2, 3):
            narrow.drain_events(timeout=5)
            assert len(taken) == count
    jobs.client.acl_deluser("narrow")


@pytest.fixture
def line(
    connection: kombu.Connection, jobs: Jobs, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A channel on which free threads take messages of two queues."""
    monkeypatch.setattr(transport.connection, "jobs", lambda: jobs)
    queues = [kombu.Queue(name, exchange="", routing_key=name) for name in ("rag", "knowledge")]
    with connection.Consumer(queues, callbacks=[lambda *_: None], accept=["json"]) as consumer:
        monkeypatch.setattr(consumer.channel.qos, "can_consume", lambda: False)  # as in a worker whose threads are busy
        yield consumer.channel
    NEXT.lists, NEXT.answered = None, False


def test_a_free_thread_takes_interactive_messages_first_and_queues_have_their_turns(line: Any, jobs: Jobs) -> None:
    for number in range(3):
        tenant = {"tenant": f"t{number}"}
        jobs.enqueue(Entry(f"slow{number}", "rag.embed", REQUEST | tenant, tenant=f"t{number}", priority=BATCH))
        jobs.enqueue(Entry(f"fast{number}", "rag.embed", REQUEST | tenant, tenant=f"t{number}"))
        jobs.enqueue(Entry(f"other{number}", "knowledge.list", {"pack": "parent"} | tenant, tenant=f"t{number}"))
    taken = [line.take(line.lists) for _ in range(9)]
    ids = [message.headers["id"] for message in taken]
    assert {name.rstrip("012") for name in ids[:6]} == {"fast", "other"} and {*ids[:2]} == {"fast0", "other0"}
    assert ids[6:] == ["slow0", "slow1", "slow2"]
    assert line.take(line.lists) is None
    assert len(line.qos._delivered) == 9, "they count as what the worker holds"
    assert [message.payload for message in taken] == [envelope.NO_BODY] * 9


def test_a_free_thread_buries_what_cannot_be_run(line: Any, jobs: Jobs) -> None:
    jobs.client.lpush("rag", '{"no": "message"}')
    assert line.take(line.lists) is None
    assert [letter.queue for letter in jobs.dead()] == ["rag"]


@pytest.mark.parametrize("answer", [redis.exceptions.NoPermissionError("no"), redis.ResponseError("unknown command")])
def test_where_free_threads_may_not_take_they_stop_asking(
    line: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, answer: Exception
) -> None:
    jobs.enqueue(Entry("j1", "rag.embed", REQUEST, tenant="acme"))
    asked: list[Any] = []
    monkeypatch.setattr(jobs._own, "ask", lambda commands: asked.append(commands) or [answer])
    assert line.take(line.lists) is None and line.take(line.lists) is None
    assert len(asked) == 1
    assert line._takes_several, "the loop may still take several together: another right"


def test_a_free_thread_that_finds_redis_gone_leaves_it_to_the_loop(
    line: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.enqueue(Entry("j1", "rag.embed", REQUEST, tenant="acme"))
    with monkeypatch.context() as broken:
        broken.setattr(jobs._own, "ask", _raise_connection_error)
        assert line.take(line.lists) is None
    assert line.take(line.lists).headers["id"] == "j1"


def wanted() -> bool:
    """The worker goes on."""
    return True


def test_a_free_thread_waits_and_gets_of_a_line_what_there_is_room_for(line: Any, jobs: Jobs) -> None:
    line.basic_qos(0, 16, False)
    for number in range(6):
        tenant = {"tenant": f"t{number}"}
        jobs.enqueue(Entry(f"j{number}", "rag.embed", REQUEST | tenant, tenant=f"t{number}"))
    told = [[message.headers["id"] for message in line.listen(room, wanted)] for room in (1, 16, 16)]
    assert told == [["j0"], ["j1", "j2", "j3", "j4"], ["j5"]], "a quarter of its places at a time"
    assert len(line.qos._delivered) == 6
    threading.Timer(0.2, lambda: jobs.enqueue(Entry("late", "rag.embed", REQUEST, tenant="acme"))).start()
    assert until(lambda: line.listen(16, wanted), "it comes")[0].headers["id"] == "late"
    jobs.client.lpush("rag", '{"no": "message"}')
    assert line.listen(16, wanted) == [] and jobs.dead()


def test_what_a_thread_gets_when_its_worker_is_to_stop_goes_back_without_having_been_claimed(
    line: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_impatient", lambda: jobs)
    line.basic_qos(0, 16, False)
    for number in range(2):
        jobs.enqueue(Entry(f"j{number}", "rag.embed", REQUEST | {"tenant": f"t{number}"}, tenant=f"t{number}"))
    assert line.listen(16, lambda: False) == [] and not line.qos._delivered
    assert [jobs.client.hget(jobs.keys.job(f"j{number}"), "attempts") for number in range(2)] == ["0", "0"]
    assert [message.headers["id"] for message in line.listen(16, wanted)] == ["j0", "j1"], "in their order"


def test_the_loop_asks_for_nothing_while_threads_wait(line: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LISTEN_S", 0.01)
    monkeypatch.setattr(transport, "REFUSED_S", 0.01)
    started: list[Any] = []
    monkeypatch.setattr(stock.Channel, "_brpop_start", lambda *_: started.append("asked"))
    line.basic_qos(0, 1, False)
    line._brpop_start()
    line.listen(1, wanted)
    line._brpop_start()
    assert started == ["asked"], "only before"
    monkeypatch.setattr(jobs._own, "ask", _raise_connection_error)
    assert line.listen(1, wanted) == [] and line.lets_threads_take, "threads ask again"
    monkeypatch.setattr(jobs._own, "ask", lambda _: [redis.exceptions.NoPermissionError("no")])
    assert line.listen(1, wanted) == [] and line.lists() == []
    line._brpop_start()
    assert started == ["asked"] * 2 and not line.lets_threads_take, "the loop takes over"


def ended(jobs: Jobs, job_id: str) -> None:
    """A job's last report, as a thread of a worker makes it."""
    claim = jobs.claim(job_id, "me")
    assert isinstance(claim, Claim)
    assert jobs.report(claim, Report(ending="done", result={}, ends_job=True, number=1)) == "ok"


def test_the_trip_that_ends_a_job_brings_the_next_message(line: Any, jobs: Jobs) -> None:
    for number in range(3):
        jobs.enqueue(Entry(f"j{number}", "rag.embed", REQUEST | {"tenant": f"t{number}"}, tenant=f"t{number}"))
    first = line.take(line.lists)
    NEXT.lists = line.lists
    ended(jobs, first.headers["id"])
    assert NEXT.answered and jobs.client.llen("rag") == 1
    assert line.take(line.lists).headers["id"] == "j1"
    assert not NEXT.answered
    NEXT.lists = None
    ended(jobs, "j1")
    assert not NEXT.answered and jobs.client.llen("rag") == 1, "not asked for"


def test_a_report_that_is_made_again_brings_no_second_message(line: Any, jobs: Jobs) -> None:
    for number in range(3):
        jobs.enqueue(Entry(f"j{number}", "rag.embed", REQUEST | {"tenant": f"t{number}"}, tenant=f"t{number}"))
    line.take(line.lists)
    NEXT.lists = line.lists
    claim = jobs.claim("j0", "me")
    assert isinstance(claim, Claim)
    for _ in range(2):
        assert jobs.report(claim, Report(ending="done", result={}, ends_job=True, number=1)) == "ok"
    assert jobs.client.llen("rag") == 1
    assert line.take(line.lists).headers["id"] == "j1"


@pytest.mark.parametrize("broken", ["{", b"\xff\xfe"])
def test_what_cannot_be_run_comes_with_that_trip_as_well_and_is_buried(line: Any, jobs: Jobs, broken: Any) -> None:
    jobs.enqueue(Entry("j1", "rag.embed", REQUEST, tenant="acme"))
    line.take(line.lists)
    jobs.client.lpush("rag", broken)
    NEXT.lists = line.lists
    ended(jobs, "j1")
    assert line.take(line.lists) is None
    assert [letter.queue for letter in jobs.dead()] == ["rag"]
    assert line.take(line.lists) is None and not NEXT.answered


def test_without_the_right_to_it_that_trip_still_ends_the_job(line: Any, jobs: Jobs, redis_server: RedisServer) -> None:
    jobs.client.acl_setuser("narrow", enabled=True, nopass=True, keys=["*"], channels=["*"], categories=["+@all"])
    jobs.client.acl_setuser("narrow", enabled=True, nopass=True, commands=["-lmpop"])
    for number in range(2):
        jobs.enqueue(Entry(f"j{number}", "rag.embed", REQUEST | {"tenant": f"t{number}"}, tenant=f"t{number}"))
    url = redis_server.url.replace("redis://", "redis://narrow:none@")
    narrow = Jobs(redis.Redis.from_url(url, decode_responses=True), jobs.keys)
    NEXT.lists = line.lists
    ended(narrow, line.take(line.lists).headers["id"])
    assert line.take(line.lists) is None and line.lists() == [], "nor are threads to ask again"
    assert jobs.client.llen("rag") == 1
    jobs.client.acl_deluser("narrow")


def _raise_connection_error(_: Any) -> Any:
    raise redis.ConnectionError


def test_what_was_taken_and_not_acknowledged_goes_back_when_the_channel_closes(
    connection: kombu.Connection, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_impatient", lambda: jobs)
    jobs.enqueue(Entry("j1", "rag.embed", REQUEST, tenant="acme"))
    taken: list[kombu.Message] = []
    with connection.Consumer(
        [kombu.Queue("rag", exchange="", routing_key="rag")], callbacks=[lambda _, m: taken.append(m)], accept=["json"]
    ):
        until(lambda: taken or connection.drain_events(timeout=5), "the message has come")
    assert jobs.client.llen("rag") == 0
    connection.close()
    assert [envelope.job_id(raw) for raw in jobs.client.lrange("rag", 0, -1)] == ["j1"]


def test_a_message_that_comes_when_consuming_is_over_goes_back_without_having_been_claimed(
    connection: kombu.Connection, warm: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_impatient", lambda: warm)
    queue = kombu.Queue("rag", exchange="", routing_key="rag")
    with (
        connection.Consumer([queue], callbacks=[lambda *_: None], prefetch_count=16, accept=["json"]),
        pytest.raises(TimeoutError),
    ):
        connection.drain_events(timeout=0.1)
    warm.enqueue(Entry("j1", "rag.embed", REQUEST, tenant="acme"))
    assert warm.client.llen("rag") == 0, "the channel's question was still open"
    connection.close()
    assert [envelope.job_id(raw) for raw in warm.client.lrange("rag", 0, -1)] == ["j1"]
    assert warm.client.hmget(warm.keys.job("j1"), "state", "fence") == [
        "queued",
        warm.client.hget(warm.keys.job("j1"), "created"),
    ]


def test_every_queue_of_the_catalog_is_a_plain_list_of_celerys(connection: kombu.Connection) -> None:
    assert {queue.name for queue in celeryconfig.task_queues} == set(QUEUES) == {s.queue for s in CATALOG.values()}
    assert all(queue.exchange.name == "" and queue.routing_key == queue.name for queue in celeryconfig.task_queues)
    assert celeryconfig.broker_transport_options["sep"] == ":"
    assert celeryconfig.broker_transport_options["priority_steps"] == [0, BATCH]
    assert celeryconfig.broker_channel_error_retry is True
