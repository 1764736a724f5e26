"""Real worker processes whose engines only keep time: what happens to work when they drain, die, are told to stop or are flooded.

Leases, redelivery and the reconciler run at their default settings in the crew. `-s` shows the figures: how many seconds
something took is the machine's matter as well, so what is asserted is what happened, and that the settings leave it time.
"""

from __future__ import annotations

import base64
import signal
import statistics
import threading
import time
from array import array
from collections.abc import Iterator

import pytest

from shared.contracts.events import Failed
from shared.errors import AttemptsExhausted, CallerGone, DeadlineExceeded, JobCancelled, QueueFull
from shared.jobs import Jobs
from shared.results import error_of
from shared.settings import Settings
from tests.support.figures import figure
from tests.support.scripted import ScriptedCluster, terminals
from tests.support.servers import IN_MEMORY, RedisServer
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)

CREW = ("conductor-1", "conductor-2", "llm-1", "llm-2", "tts-1", "tts-2", "rag-1", "rag-2")
RECOVERY_S = 10.0
"""Within which work of a killed worker goes on."""
FEW = 100
"""Of a thousand jobs; how many threads of a busy machine may overtake one."""
DRAIN_S = 4.0
"""That a draining worker has to finish; enough for short replies."""
LONG_TOKENS = 160
"""Of a reply that takes twice as long as a worker drains, and longer than whatever is done to its worker."""
LONG_TEXT = "가" * 160
OWN_END_MS = 7_000.0
"""Before which neither a whole reply nor `LONG_TEXT` ends by itself."""


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCluster]:
    """Two workers of each role; a reply takes half a minute unless `max_tokens` ends it earlier."""
    folder = tmp_path_factory.mktemp("crew")
    cluster = ScriptedCluster(
        folder,
        *CREW,
        server=RedisServer(folder / "redis", *IN_MEMORY),
        scripted_token_ms=60,
        scripted_sentence_ms=1000,
        scripted_reply="가나다라 " * 200,
        presence_ttl_s=2,
        drain_s=DRAIN_S,
    )
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCluster]:
    """A conductor with short leases; each test adds the workers that it sacrifices. A whole reply takes eight seconds."""
    folder = tmp_path_factory.mktemp("small")
    timing = {"lease_s": 2, "redeliver_after_s": 1, "scripted_token_ms": 20, "scripted_reply": "가나다라 " * 160}
    cluster = ScriptedCluster(folder, "conductor-1", server=RedisServer(folder / "redis", *IN_MEMORY), **timing)
    yield cluster
    cluster.close()


# --- vectors ---


def test_packed_vectors_are_those_that_come_as_numbers(crew: ScriptedCluster) -> None:
    request = {"tenant": "t", "texts": ["안녕", "🌊", "하늘"]}
    plain, packed = (
        crew.producer.result(crew.producer.submit("rag.embed", request | how).job_id, timeout_s=60)
        for how in ({}, {"encoding": "base64"})
    )
    numbers = array("f", base64.b64decode(packed["packed"]))
    rows = [numbers[at : at + packed["dimension"]] for at in range(0, len(numbers), packed["dimension"])]
    assert (packed["vectors"], plain["packed"]) == ([], "")
    assert len(rows) == 3
    for row, vector in zip(rows, plain["vectors"], strict=True):
        assert list(row) == pytest.approx(vector, abs=1e-6)


# --- ends that were decided ---


def test_a_queued_job_that_is_cancelled_never_starts(crew: ScriptedCluster) -> None:
    request = {"tenant": "t", "audio": {"key": "t/audio/x.wav"}}
    job = crew.producer.submit("stt.transcribe", request)  # nobody serves this queue
    assert crew.producer.cancel(job.job_id)
    assert [event.type for event in crew.events(job.job_id)] == ["accepted", "cancelled"]
    with pytest.raises(JobCancelled):
        crew.producer.result(job.job_id)


@pytest.mark.parametrize("what", ["generation", "synthesis"])
def test_what_runs_stops_at_once_when_it_is_cancelled(crew: ScriptedCluster, what: str) -> None:
    """That it is the doorbell which stops it, and no heartbeat, is in `test_attempt.py`."""
    latencies = [cancel_latency(crew, what, f"cancel-{what}-{number}") for number in range(5)]
    figure(f"cancel of a running {what}: {sorted(round(value) for value in latencies)} ms until the engine stopped")
    assert max(latencies) < OWN_END_MS, "it went on to its own end"
    wait_idle(crew, *CREW)


def wait_idle(crew: ScriptedCluster, *names: str) -> None:
    for name in names:
        until(lambda name=name: crew.running(name) == 0, f"{name} is idle")


def cancel_latency(crew: ScriptedCluster, what: str, job_id: str) -> float:
    """Milliseconds from the call to the worker's line that the attempt has stopped."""
    if what == "generation":
        crew.generate(job_id)
        crew.until_event(job_id, "text.delta")
    else:
        crew.producer.submit("tts.synthesize", {"tenant": "t", "voice": "v", "text": LONG_TEXT}, job_id=job_id)
        crew.until_event(job_id, "started")
    owner = crew.owner(job_id)
    began = time.time()
    assert crew.producer.cancel(job_id)
    stopped = crew.logged(owner, f"stopped job={job_id} ")
    assert terminals(crew.events(job_id)) == ["cancelled"]
    return (stopped - began) * 1000


def test_a_job_past_its_deadline_stops_and_says_so(crew: ScriptedCluster) -> None:
    crew.generate("late", deadline_s=1.0)
    last = crew.events("late")[-1]
    assert isinstance(last, Failed) and isinstance(error_of(last.fault), DeadlineExceeded)
    wait_idle(crew, "llm-1", "llm-2")


def test_a_job_whose_caller_is_gone_stops_and_says_so(crew: ScriptedCluster) -> None:
    crew.generate("attended", presence=True, max_tokens=60)
    crew.producer.keep_alive("attended")
    crew.generate("abandoned", presence=True)
    last = crew.events("abandoned")[-1]
    assert isinstance(last, Failed) and isinstance(error_of(last.fault), CallerGone)
    assert terminals(crew.events("attended")) == ["done"]


# --- floods ---


def frozen(crew: ScriptedCluster, *names: str) -> list[str]:
    """Stop workers while jobs are handed in; each of them may already hold one message."""
    for name in names:
        crew.workers[name].signal(signal.SIGSTOP)
    return list(names)


def thaw(crew: ScriptedCluster, names: list[str]) -> None:
    for name in names:
        crew.workers[name].signal(signal.SIGCONT)


def test_one_job_of_a_tenant_does_not_wait_behind_a_thousand_of_another(crew: ScriptedCluster) -> None:
    names = frozen(crew, "rag-1", "rag-2")
    many = [crew.embed(f"many-{number}", tenant="a") for number in range(1000)]
    crew.embed("one", tenant="b")
    thaw(crew, names)
    crew.wait_ended("one")
    mine = crew.started_ms("one")[0]
    earlier = sum(at < mine for at in crew.started_ms(*many))
    figure(f"{earlier} of another tenant's 1,000 jobs were served before the one")
    assert earlier < FEW
    for job_id in reversed(many):
        crew.producer.cancel(job_id)
    wait_idle(crew, *names)


def test_interactive_jobs_are_served_before_batch_jobs(crew: ScriptedCluster) -> None:
    names = frozen(crew, "rag-1", "rag-2")
    slow = [crew.embed(f"slow-{number}", tenant=f"s{number}", priority="batch") for number in range(60)]
    fast = [crew.embed(f"fast-{number}", tenant=f"f{number}") for number in range(20)]
    # One of them alone: what two do at the same time is up to the machine.
    thaw(crew, names[:1])
    crew.wait_ended(*fast)
    thaw(crew, names[1:])
    crew.wait_ended(*slow)
    # Workers are threads on busy cores, so single jobs may overtake; the halves may not.
    assert statistics.median(crew.started_ms(*fast)) <= statistics.median(crew.started_ms(*slow))


def flood(crew: ScriptedCluster, count: int) -> None:
    """Hand in jobs of as many tenants to a queue that nobody serves."""
    for number in range(count):
        crew.producer.submit("stt.transcribe", {"tenant": f"t{number}", "audio": {"key": f"t{number}/audio/x.wav"}})


def test_a_full_queue_refuses_with_an_estimate_of_when_to_come_back(crew: ScriptedCluster) -> None:
    jobs: Jobs = crew.producer.jobs
    hints = []
    try:
        for limit in (20, 40):
            jobs.client.hset(jobs.keys.config, "queue_limit", limit)
            with pytest.raises(QueueFull) as refused:
                flood(crew, limit + 1)
            hints.append(refused.value.retry_after_s)
    finally:
        jobs.client.hset(jobs.keys.config, "queue_limit", 10_000)
    assert 0 < hints[0] < hints[1] <= 60


def test_a_job_that_is_sent_and_delivered_many_times_runs_once(crew: ScriptedCluster) -> None:
    crew.generate("again", max_tokens=5)
    assert not crew.producer.submit(
        "llm.generate", {"messages": [{"role": "user", "content": "x"}]}, job_id="again"
    ).created
    message = crew.producer.jobs.client.hget(crew.producer.jobs.keys.job("again"), "env")
    for _ in range(10):
        crew.producer.jobs.client.lpush("llm", message)
    crew.wait_ended("again")
    until(lambda: not crew.producer.jobs.client.llen("llm"), "all copies were taken")
    crew.assert_ran_once("again")


# --- workers that leave ---


def running_on(crew: ScriptedCluster, names: list[str], prefix: str) -> str:
    """A generation that takes longer than a worker may drain, on one of these workers."""
    for number in range(20):
        job_id = crew.generate(f"{prefix}-{number}", tenant=f"t{number}", max_tokens=LONG_TOKENS)
        crew.until_event(job_id, "started")
        if crew.owner(job_id) in names:
            return job_id
        crew.producer.cancel(job_id)
    raise AssertionError(f"{names} took none of 20 jobs")


def test_a_rolling_restart_under_load_loses_and_repeats_nothing(crew: ScriptedCluster) -> None:
    short: list[str] = []
    long: list[str] = []
    over = threading.Event()

    def load() -> None:
        while not over.wait(0.15):
            number = len(short)
            options = {"tenant": f"t{number % 3}"}
            job_id = f"rolling-{number}"
            short.append(
                crew.embed(job_id, **options) if number % 2 else crew.generate(job_id, max_tokens=10, **options)
            )

    loader = threading.Thread(target=load)
    loader.start()
    try:
        for half in "12":
            names = [name for name in CREW if name.endswith(half)]
            long.append(running_on(crew, names, f"long-{half}"))
            for name in names:
                crew.workers[name].signal(signal.SIGTERM)
            assert [crew.workers[name].wait() for name in names] == [0] * len(names)
            crew.restart(*names)
    finally:
        over.set()
        loader.join()
    crew.wait_ended(*short, *long)
    figure(f"{len(short)} jobs during a rolling restart of {len(CREW)} workers, {len(long)} of them handed back")
    assert len(short) > 10
    crew.assert_ran_once(*short)
    for job_id in long:
        starts = [event.attempt for event in crew.starts(job_id)]
        assert len(starts) > 1, "handed back"  # twice, where it still runs when the other half restarts
        assert set(starts) == {1}, "it was no attempt's fault"
        assert terminals(crew.events(job_id)) == ["done"]


# --- workers that die ---


def swallowed(crew: ScriptedCluster, name: str, prefix: str) -> str:
    """Freeze a worker and hand in jobs until one is popped into its dead connection: for a second it starts nowhere.

    A frozen worker's wait for messages ends within a second, unrenewed; so each job finds it frozen anew.
    """
    for number in range(20):
        crew.workers[name].signal(signal.SIGSTOP)
        job_id = f"{prefix}-{number}"
        if name.startswith("conductor"):
            request = crew.turn_request(job_id, f"t{number}") | {"speech": False, "sampling": {"max_tokens": 5}}
            crew.producer.submit("turns.start", request, job_id=job_id)
        else:
            crew.embed(job_id, tenant=f"t{number}")
        try:
            until(lambda job_id=job_id: crew.view(job_id).attempts, f"{job_id} starts", timeout_s=1.0)
        except AssertionError:
            return job_id
        crew.workers[name].signal(signal.SIGCONT)
        time.sleep(0.1)
    raise AssertionError(f"{name} took none of 20 messages")


def test_what_a_killed_worker_had_goes_on_elsewhere(crew: ScriptedCluster) -> None:
    handed_in = crew.producer.jobs.now_ms()
    popped = {role: swallowed(crew, f"{role}-1", f"killed-{role}") for role in ("rag", "conductor")}
    crew.generate("killed-llm", max_tokens=100)
    crew.until_event("killed-llm", "text.delta")
    crew.producer.submit("tts.synthesize", {"tenant": "t", "voice": "v", "text": LONG_TEXT}, job_id="killed-tts")
    crew.until_event("killed-tts", "started")
    victims = [*(f"{role}-1" for role in popped), crew.owner("killed-llm"), crew.owner("killed-tts")]
    killed = crew.producer.jobs.now_ms()
    for name in victims:
        crew.workers[name].kill()
    for job_id in (*popped.values(), "killed-llm", "killed-tts"):
        crew.wait_ended(job_id)
        assert terminals(crew.events(job_id)) == ["done"]
    for job_id in popped.values():
        began = crew.starts(job_id)[0].at - handed_in
        figure(f"{job_id}, popped into a dead connection, began at most {began} ms after it was handed in")
    for job_id in ("killed-llm", "killed-tts"):
        assert crew.starts(job_id)[-1].attempt > 1
        figure(f"recovery of {job_id} after kill -9: {crew.starts(job_id)[-1].at - killed} ms")
    crew.restart(*victims)


def test_the_settings_leave_a_recovery_its_ten_seconds() -> None:
    """The clock of a busy machine proves nothing; how these times are kept is in `test_jobs.py` and `test_job_model.py`."""
    chosen = Settings()
    assert max(chosen.lease_s, chosen.redeliver_after_s) + 2 * chosen.reconcile_every_s < RECOVERY_S


def test_a_job_that_kills_its_process_is_dead_after_its_attempts_and_can_be_replayed(small: ScriptedCluster) -> None:
    small.add("llm-1", "llm-2", "llm-3", scripted_crash_on="죽어라")
    small.generate("poison", "죽어라", max_tokens=5)
    for name in ("llm-1", "llm-2", "llm-3"):
        assert small.workers[name].wait() == -signal.SIGKILL
    small.add("llm-4")
    with pytest.raises(AttemptsExhausted):
        small.producer.result("poison", timeout_s=90)
    assert len(small.starts("poison")) == 3
    (letter,) = [letter for letter in small.producer.dead() if letter.job_id == "poison"]
    assert small.producer.replay(letter.entry) == "poison"
    assert small.producer.result("poison", timeout_s=90)["text"]
    assert small.workers["llm-4"].drain() == 0


def test_a_worker_whose_engine_is_dead_ends_and_others_take_over(small: ScriptedCluster) -> None:
    small.add("llm-5", scripted_dead_on="고장")
    small.generate("bystander")
    small.until_event("bystander", "text.delta")
    small.generate("fatal", "고장", max_tokens=5)
    assert small.workers["llm-5"].wait() == 70
    until(lambda: all(worker.name != "llm-5@test" for worker in small.producer.workers()), "llm-5 is no more")
    small.add("llm-6")
    for job_id in ("bystander", "fatal"):
        assert small.producer.result(job_id, timeout_s=90)["text"]
        assert small.starts(job_id)[-1].attempt > 1
    assert small.workers["llm-6"].drain() == 0
