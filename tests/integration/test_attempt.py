"""One attempt in a worker process: what it has to tell is told once, whatever happens to the connection in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import redis
from celery.exceptions import Ignore

from shared import attempt as attempt_module
from shared import connection, pulse
from shared.attempt import Attempt
from shared.claims import Claim
from shared.contracts.catalog import CATALOG
from shared.contracts.rag import Embeddings, EmbedRequest
from shared.errors import AttemptTimeout, DeadlineExceeded, EngineFailed, MaeariError, StoreUnavailable
from shared.jobs import Entry, Jobs, Report
from shared.keys import Keys
from shared.settings import settings
from tests.support.servers import RedisServer
from tests.support.waiting import until

SPEC = CATALOG["rag.embed"]
REQUEST = EmbedRequest(tenant="t", texts=("안녕",))
PAYLOAD = REQUEST.model_dump(mode="json")
RESULT = Embeddings.model_validate(
    {"vectors": [[1.0]], "dimension": 1, "engine_ms": 0.0, "engine": {"name": "x", "model": "x", "version": "0"}}
)


class FlakyJobs(Jobs):
    """Loses the answers, or the calls, of the next reports."""

    lose: list[str]

    def report_all(self, reports: Sequence[tuple[Claim, Report]]) -> Any:
        what = self.lose.pop(0) if self.lose else ""
        answers = [] if what == "call" else super().report_all(reports)
        if what:
            raise redis.ConnectionError("lost")
        return answers


@pytest.fixture
def jobs(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyJobs]:
    """This process is a worker at the test's Redis."""
    client = redis_server.client
    client.flushall()
    made = FlakyJobs(client, Keys("maeari:"))
    made.lose = []
    monkeypatch.setenv("MAEARI_REDIS_URL", redis_server.url)
    settings.cache_clear()
    monkeypatch.setattr(pulse, "jobs", lambda: made)
    monkeypatch.setattr(pulse, "AGAIN_S", 0.01)
    monkeypatch.setattr(pulse, "keeper", cache(pulse.Keeper))  # one that has heard of no other test's cancellations
    made.enqueue(Entry("j1", "rag.embed", PAYLOAD, tenant="t"))
    yield made
    settings.cache_clear()


def run(jobs: Jobs, body: Callable[[Attempt, Any], Any]) -> None:
    """Run the job as a worker does."""
    attempt_module.run(SPEC, body, attempt_module.Call("j1", PAYLOAD), jobs)


def told(jobs: Jobs, job_id: str = "j1", kind: str = "progress") -> list[str]:
    entries = jobs.client.xrange(jobs.keys.events(job_id))
    return [fields["data"] for _, fields in entries if fields["type"] == kind]


def words(jobs: Jobs) -> str:
    """What was said of the reply."""
    return "".join(json.loads(data)["text"] for data in told(jobs, kind="text.delta"))


def attempted(jobs: Jobs, owner: str = "w", job_id: str = "j1") -> Attempt:
    claim = jobs.claim(job_id, owner)
    assert isinstance(claim, Claim)
    return Attempt(claim, SPEC, jobs)


@pytest.mark.parametrize("lost", ["call", "answer"])
def test_what_could_not_be_sent_is_sent_again_and_told_once(jobs: FlakyJobs, lost: str) -> None:
    jobs.lose = [lost, lost]

    def body(attempt: Attempt, _: EmbedRequest) -> Embeddings:
        attempt.emit("progress", done=1)
        until(lambda: not jobs.lose, "both losses have happened")
        attempt.emit("progress", done=2)
        until(lambda: len(told(jobs)) == 2, "both were told")
        return RESULT

    run(jobs, body)
    assert told(jobs) == ['{"done":1}', '{"done":2}']
    assert jobs.client.hget(jobs.keys.job("j1"), "state") == "done"


@pytest.mark.parametrize("lost", ["call", "answer"])
def test_the_end_brings_along_what_could_not_be_sent_before(jobs: FlakyJobs, lost: str) -> None:
    made = attempted(jobs)
    made.conclude("progress", done=1)
    report = made.drain()
    assert report is not None
    if lost == "answer":
        assert jobs.report(made.claim, report) == "ok"
    assert made.drain() is report, "it was not answered"
    made.conclude("progress", done=2)
    made.finish(RESULT)
    assert told(jobs) == ['{"done":1}', '{"done":2}']


def test_two_attempts_at_one_record_in_one_process_are_kept_apart(jobs: FlakyJobs) -> None:
    early = attempted(jobs)
    jobs.client.hset(jobs.keys.job("j1"), "lease", 1)
    late = attempted(jobs, "again")
    keeper = pulse.Keeper()
    with keeper.watching(late):
        with keeper.watching(early):
            assert keeper.running() == 2
        assert keeper.running() == 1
        keeper.stop_all("drained")
    assert (early.verdict, late.verdict) == ("ok", "drained")


def test_an_attempt_that_ignores_the_end_of_its_time_loses_its_record(jobs: FlakyJobs) -> None:
    made = attempted(jobs)
    keeper = pulse.Keeper()
    lease = settings().lease_s
    made.beat_at = time.monotonic() - lease
    assert keeper._keeps(made, time.monotonic())
    made.timeout_at = time.monotonic() - 1
    assert keeper._keeps(made, time.monotonic()), "it may still end by itself"
    made.timeout_at = time.monotonic() - lease - 1
    assert not keeper._keeps(made, time.monotonic())


def test_an_engine_that_was_given_what_the_job_had_left_met_the_deadline(jobs: FlakyJobs) -> None:
    def body(attempt: Attempt, _: EmbedRequest) -> Embeddings:
        raise AttemptTimeout

    with pytest.raises(DeadlineExceeded):
        run(jobs, body)
    assert "deadline_exceeded" in jobs.client.hget(jobs.keys.job("j1"), "fault")


@pytest.mark.parametrize(("error", "least", "most"), [(StoreUnavailable(), 3000, 6000), (EngineFailed(), 250, 500)])
def test_a_store_that_is_gone_is_given_longer_to_come_back(
    jobs: FlakyJobs, error: MaeariError, least: int, most: int
) -> None:
    def body(_: Attempt, __: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        run(jobs, body)
    (retrying,) = told(jobs, kind="retrying")
    assert least <= json.loads(retrying)["delay_ms"] <= most


def test_a_drained_attempt_is_given_up_and_does_not_count(jobs: FlakyJobs) -> None:
    def body(attempt: Attempt, _: EmbedRequest) -> Embeddings:
        attempt.heed("drained")
        raise EngineFailed

    with pytest.raises(Ignore):
        run(jobs, body)
    assert jobs.client.hmget(jobs.keys.job("j1"), "state", "attempts") == ["queued", "0"]
    assert jobs.client.llen("rag") == 2, "and is served next"


def test_finished_work_is_recorded_when_redis_takes_it_again(jobs: FlakyJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [
        redis.OutOfMemoryError("x"),
        redis.ReadOnlyError("x"),
        redis.ResponseError("MISCONF x"),
        redis.TimeoutError("x"),
    ]
    monkeypatch.setattr(connection.time, "sleep", lambda _: None)
    report = jobs.report

    def refuse(claim: Claim, what: Report) -> Any:
        if refusals:
            raise refusals.pop()
        return report(claim, what)

    monkeypatch.setattr(jobs, "report", refuse)
    run(jobs, lambda *_: RESULT)
    assert not refusals
    assert jobs.client.hget(jobs.keys.job("j1"), "state") == "done"


def test_a_message_of_a_job_that_nobody_recorded_is_a_dead_letter_and_can_be_replayed(jobs: FlakyJobs) -> None:
    with pytest.raises(Ignore):
        attempt_module.run(SPEC, lambda *_: RESULT, attempt_module.Call("stranger", PAYLOAD), jobs)
    (letter,) = jobs.dead()
    assert letter.reason == "no job of this id was recorded"
    assert jobs.replay(letter.entry) == "stranger"
    assert jobs.client.hget(jobs.keys.job("stranger"), "state") == "queued"


def test_a_cancellation_is_heard_by_the_attempts_of_the_job_alone(
    jobs: FlakyJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAEARI_LEASE_S", "3600")  # the next heartbeat, which would bring it too, is 20 minutes away
    settings.cache_clear()
    made = attempted(jobs)
    keeper = pulse.Keeper()
    with keeper.watching(made):
        until(lambda: jobs.client.publish(jobs.keys.cancel_channel, "another"), "the doorbell is listened to")
        jobs.client.publish(jobs.keys.cancel_channel, "j1")
        assert not made.stop.wait(0.3), "nobody cancelled it, whoever rings"
        jobs.cancel("j1")
        until(made.stop.is_set, "it was heard")
    assert made.verdict == "ended"


def test_a_cancellation_between_claim_and_start_is_heard(jobs: FlakyJobs) -> None:
    keeper = pulse.Keeper()
    jobs.enqueue(Entry("rung", "rag.embed", PAYLOAD, tenant="t"))
    attempt = attempted(jobs, job_id="rung")
    jobs.cancel("rung")
    until(lambda: jobs.client.publish(jobs.keys.cancel_channel, "rung") and keeper._rung, "the doorbell was heard")
    with keeper.watching(attempt):
        until(attempt.stop.is_set, "the record was asked")
    assert attempt.verdict == "ended"


def test_the_first_piece_of_one_job_does_not_wait_out_the_pause_of_another(
    jobs: FlakyJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAEARI_LLM_FLUSH_MS", "600000")
    settings.cache_clear()
    monkeypatch.setattr(pulse, "flusher", cache(pulse.Flusher))
    jobs.enqueue(Entry("other", "rag.embed", PAYLOAD, tenant="t"))
    first, other = attempted(jobs), attempted(jobs, job_id="other")
    first.emit("progress", done=1)
    until(lambda: told(jobs), "the first job was heard")
    other.emit("progress", done=1)
    until(lambda: told(jobs, "other"), "the other one was heard within the pause of ten minutes")
    first.emit("progress", done=2)
    assert len(told(jobs)) == 1, "what follows waits for its pause"


def test_the_first_word_has_left_when_the_thread_that_heard_it_goes_on(jobs: FlakyJobs) -> None:
    reply = attempted(jobs)
    reply.say("안")
    assert words(jobs) == "안"
    reply.say("녕")
    until(lambda: words(jobs) == "안녕", "what follows goes its usual way")


@pytest.mark.parametrize("lost", ["call", "answer"])
def test_a_first_word_that_was_lost_is_said_once(jobs: FlakyJobs, lost: str) -> None:
    jobs.lose = [lost]
    reply = attempted(jobs)
    reply.say("안녕")
    until(lambda: words(jobs) == "안녕", "it was sent again")
    reply.finish(RESULT)
    assert words(jobs) == "안녕"


def test_a_first_word_waits_for_nobody(jobs: FlakyJobs) -> None:
    reply = attempted(jobs)
    with pulse.flusher()._under_way:  # others' words are on their way
        reply.say("안녕")
        assert not words(jobs)
    until(lambda: words(jobs) == "안녕", "it followed them")
