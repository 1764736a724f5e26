"""The job record on a real Redis: every promise of `shared.jobs`, one at a time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from shared import envelope, streams
from shared.claims import Claim, Refused
from shared.errors import JobNotFound, QueueFull
from shared.jobs import Append, Entry, Jobs, Report, Stage
from shared.lane import OwnConnections
from tests.support.records import FAULT, REQUEST, claim, enqueue, expire_lease, kinds, overdue, pop, state
from tests.support.waiting import until


def test_a_job_runs_once_and_its_result_stands_where_celery_looks(jobs: Jobs) -> None:
    assert enqueue(jobs)
    assert pop(jobs) == "j1"
    held = claim(jobs)
    assert jobs.report(held, Report(ending="done", result={"n": 1}, ends_job=True)) == "ok"
    assert state(jobs) == "done"
    assert kinds(jobs) == ["accepted", "started", "done"]
    meta = json.loads(jobs.client.get("celery-task-meta-j1"))
    assert (meta["status"], meta["result"], meta["task_id"]) == ("SUCCESS", {"n": 1}, "j1")
    assert jobs.claim("j1", "w2") == Refused("ended:done")
    assert jobs.client.zcard(jobs.keys.open) == 0


def test_the_same_id_twice_is_one_job(jobs: Jobs) -> None:
    assert enqueue(jobs)
    assert not enqueue(jobs)
    assert jobs.client.llen("rag") == 1


def test_two_workers_cannot_hold_one_record(jobs: Jobs) -> None:
    enqueue(jobs)
    claim(jobs)
    assert jobs.claim("j1", "w2") == Refused("busy")


def test_only_the_message_that_a_record_was_made_with_begins_it(jobs: Jobs) -> None:
    enqueue(jobs)
    raw = str(jobs.client.lindex("rag", 0))
    forged = raw.replace("안녕", "다른")
    digests = [hashlib.sha1(message.encode()).hexdigest() for message in (forged, raw)]
    assert forged != raw
    assert jobs.claim("j1", "w1", digests[0]) == Refused("foreign")
    assert state(jobs) == "queued"
    assert isinstance(jobs.claim("j1", "w1", digests[1]), Claim)
    assert jobs.claim("j1", "w2", digests[0]) == Refused("foreign"), "also while the job runs"
    assert jobs.claim("j1", "w2", digests[1]) == Refused("busy")


def test_a_worker_whose_lease_ran_out_can_do_nothing_more(jobs: Jobs) -> None:
    enqueue(jobs)
    pop(jobs)
    late = claim(jobs)
    expire_lease(jobs, "j1")
    assert jobs.reconcile() == (0, 1, 0)
    assert pop(jobs) == "j1"
    fresh = claim(jobs)
    assert fresh.fence == late.fence + 1
    assert jobs.report(late, Report(events=[("progress", {})])) == "lost"
    assert jobs.report(late, Report(ending="done", result={"n": 1}, ends_job=True)) == "lost"
    assert jobs.fail(late, FAULT, retry_ms=None) == "lost"
    assert jobs.report(fresh, Report(ending="done", result={"n": 2}, ends_job=True)) == "ok"
    assert json.loads(jobs.client.get("celery-task-meta-j1"))["result"] == {"n": 2}


def test_a_repeated_finish_is_the_same_finish(jobs: Jobs) -> None:
    enqueue(jobs)
    held = claim(jobs)
    done = Report(ending="done", result={}, ends_job=True)
    assert [jobs.report(held, done), jobs.report(held, done)] == ["ok", "ok"]
    assert kinds(jobs).count("done") == 1


def test_a_message_lost_between_redis_and_worker_is_delivered_again(jobs: Jobs) -> None:
    enqueue(jobs)
    pop(jobs)  # and the worker dies before it claims
    assert jobs.reconcile() == (0, 0, 0), "not before its time"
    overdue(jobs, "j1")
    assert jobs.reconcile() == (1, 0, 0)
    assert pop(jobs) == "j1"


def test_a_message_that_waits_in_its_queue_is_not_delivered_again(jobs: Jobs) -> None:
    for tenant in "abc":
        enqueue(jobs, f"j-{tenant}", tenant=tenant)
        overdue(jobs, f"j-{tenant}")
    assert jobs.reconcile() == (0, 0, 0)
    assert jobs.client.llen("rag") == 3


def test_a_lost_message_is_noticed_while_younger_ones_wait(jobs: Jobs) -> None:
    enqueue(jobs, "old", tenant="a")
    pop(jobs)
    jobs.client.hincrby(jobs.keys.job("old"), "pushed", -1000)
    enqueue(jobs, "young", tenant="b")
    overdue(jobs, "old")
    assert jobs.reconcile() == (1, 0, 0)
    assert pop(jobs) == "old"


def test_a_fault_of_the_caller_fails_at_once(jobs: Jobs) -> None:
    enqueue(jobs)
    assert jobs.fail(claim(jobs), FAULT, retry_ms=None) == "failed"
    assert jobs.dead() == []


def test_a_cancelled_job_never_starts(jobs: Jobs) -> None:
    enqueue(jobs)
    assert jobs.cancel("j1") == "cancelled"
    assert jobs.cancel("j1") == "cancelled", "the state in which it ended"
    assert jobs.claim("j1", "w") == Refused("ended:cancelled")
    assert kinds(jobs) == ["accepted", "cancelled"]
    assert json.loads(jobs.client.get("celery-task-meta-j1"))["status"] == "REVOKED"
    with pytest.raises(JobNotFound):
        jobs.cancel("nobody")


def test_a_running_job_learns_that_it_was_cancelled(jobs: Jobs) -> None:
    enqueue(jobs)
    held = claim(jobs)
    jobs.cancel("j1")
    assert jobs.report(held, Report()) == "ended"
    assert jobs.report(held, Report(ending="done", result={}, ends_job=True)) == "ended"
    assert kinds(jobs) == ["accepted", "started", "cancelled"]


def test_a_job_past_its_deadline_is_dropped_and_says_so(jobs: Jobs) -> None:
    enqueue(jobs, deadline_ms=1)
    until(lambda: jobs.now_ms() > int(jobs.client.hget(jobs.keys.job("j1"), "deadline")), "the deadline has passed")
    assert jobs.claim("j1", "w") == Refused("dropped:deadline")
    assert json.loads(jobs.client.hget(jobs.keys.job("j1"), "fault"))["code"] == "deadline_exceeded"


def test_a_job_whose_caller_is_gone_is_dropped(jobs: Jobs) -> None:
    enqueue(jobs, presence=True)
    held = claim(jobs)
    assert jobs.report(held, Report()) == "ok"
    jobs.client.delete(jobs.keys.presence("j1"))
    assert jobs.report(held, Report()) == "gone"
    assert json.loads(jobs.client.hget(jobs.keys.job("j1"), "fault"))["code"] == "caller_gone"


def test_a_turn_ends_after_its_last_stage_exactly_once(jobs: Jobs) -> None:
    jobs.enqueue(Entry("j1", "turns.start", {}, tenant="t"))
    top = claim(jobs)
    last = Stage("j1/finish", "turns.finish", {})
    jobs.report(top, Report(ending="wait", stages=[Stage("j1/llm", "llm.generate", {})], last=last))
    assert state(jobs) == "waiting"
    writer = claim(jobs, "j1/llm")
    for seq in range(3):
        stage = Stage(f"j1/tts/{seq}", "tts.synthesize", {})
        assert jobs.report(writer, Report(stages=[stage])) == "ok"
        assert jobs.report(writer, Report(stages=[stage])) == "ok", "the same sentence again is the same stage"
    jobs.report(claim(jobs, "j1/tts/1"), Report(ending="done", result={}))
    jobs.report(writer, Report(ending="done", result={}))
    jobs.report(claim(jobs, "j1/tts/0"), Report(ending="done", result={}))
    assert state(jobs, "j1/finish") is None
    jobs.report(claim(jobs, "j1/tts/2"), Report(ending="done", result={}))
    finisher = claim(jobs, "j1/finish")
    append = Append("maeari:session:t:p:s", "x", 2, 60)
    assert (
        jobs.report(finisher, Report(ending="done", result={"reply": "안녕"}, ends_job=True, appends=[append])) == "ok"
    )
    assert (state(jobs), kinds(jobs)[-1]) == ("done", "done")
    assert jobs.client.lrange("maeari:session:t:p:s", 0, -1) == ["x"]


def test_the_stage_that_ends_a_job_is_told_what_the_others_left_in_the_order_of_their_making(jobs: Jobs) -> None:
    jobs.enqueue(Entry("j1", "turns.start", {}, tenant="t"))
    stages = [Stage("j1/llm", "llm.generate", {}), Stage("j1/tts/0", "tts.synthesize", {})]
    start = claim(jobs)
    jobs.report(start, Report(ending="wait", stages=stages, last=Stage("j1/finish", "turns.finish", {})))
    spoken = claim(jobs, "j1/tts/0")
    assert jobs.report(spoken, Report(ending="done")) == "ok"
    writer = claim(jobs, "j1/llm")
    jobs.report(writer, Report(ending="done", result='{"text": "안녕 🌊"}'))
    finish = claim(jobs, "j1/finish")
    assert [list(held.left) for held in (start, spoken, writer)] == [[], [], []], "they go on without"
    first, second = finish.left
    assert [first["task"], second["task"]] == ["llm.generate", "tts.synthesize"]
    assert json.loads(first["result"]) == {"text": "안녕 🌊"}
    assert int(first["created"]) <= int(first["started"]) <= int(first["finished"]) <= finish.granted_ms
    assert finish.granted_ms <= finish.clock_ms()
    assert finish.granted_ms <= jobs.now_ms()


def test_a_job_reads_its_claims_and_reports_apart_however_many_share_a_trip(jobs: Jobs) -> None:
    ids = [f"many-{number}" for number in range(64)]
    for job_id in ids:
        enqueue(jobs, job_id, tenant=job_id)

    def whole(job_id: str) -> tuple[str, str]:
        held = claim(jobs, job_id)
        return held.id, jobs.report(held, Report(ending="done", result={"id": job_id}, ends_job=True, number=1))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(whole, ids)) == [(job_id, "ok") for job_id in ids]
    results = [json.loads(jobs.client.get(f"celery-task-meta-{job_id}"))["result"] for job_id in ids]
    assert results == [{"id": job_id} for job_id in ids]


def test_events_that_are_there_are_read_even_when_no_time_is_left(jobs: Jobs) -> None:
    enqueue(jobs)
    events = streams.follow(jobs, "j1", timeout_s=0)
    assert next(events).type == "accepted"
    with pytest.raises(TimeoutError):
        next(events)


def test_a_trip_over_a_connection_that_was_cut_is_made_again_over_another(jobs: Jobs) -> None:
    enqueue(jobs)
    held = claim(jobs)
    assert jobs.report(held, Report(events=[("progress", {})], number=1)) == "ok"
    cut = jobs.client.client_kill_filter(_type="normal", skipme=True)
    assert cut >= 1, "the connection of the claim and the report"
    assert jobs.report(held, Report(ending="done", result={}, ends_job=True, number=2)) == "ok"
    assert kinds(jobs) == ["accepted", "started", "progress", "done"]


def test_many_threads_share_the_answers_of_a_trip_and_its_failure(jobs: Jobs) -> None:
    own = OwnConnections(jobs.client)
    assert own.send([("ECHO", "nobody is idle")]) is None
    own.ask([("PING",)])
    with ThreadPoolExecutor(16) as pool:
        trip = own.send([("ECHO", "안녕"), ("ECHO", "echo")])
        assert trip is not None
        assert list(pool.map(lambda _: trip.answers(), range(16))) == [["안녕", "echo"]] * 16
        assert len(own._idle) == 1
        cut = own.send([("ECHO", "안녕")])
        assert cut is not None
        cut._connection.disconnect()
        failures = list(pool.map(lambda _: _failure(cut.answers), range(16)))
    assert all(isinstance(failure, redis.ConnectionError) for failure in failures)
    assert own._idle == []


def _failure(step: Callable[[], Any]) -> Exception | None:
    try:
        step()
    except redis.RedisError as error:
        return error
    return None


def test_a_forked_process_speaks_over_connections_of_its_own(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    own = OwnConnections(jobs.client)
    (parents,) = own.ask([("CLIENT", "ID")])
    assert own.ask([("CLIENT", "ID"), ("ECHO", "안녕")]) == [parents, "안녕"]
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert own.ask([("CLIENT", "ID")]) != [parents]


def test_a_failed_stage_ends_the_turn_and_its_other_stages(jobs: Jobs) -> None:
    jobs.enqueue(Entry("j1", "turns.start", {}, tenant="t"))
    stages = [Stage(f"j1/tts/{seq}", "tts.synthesize", {}) for seq in range(3)]
    jobs.report(claim(jobs), Report(ending="wait", stages=stages, last=Stage("j1/finish", "turns.finish", {})))
    held = claim(jobs, "j1/tts/0")
    assert jobs.fail(claim(jobs, "j1/tts/1"), FAULT, retry_ms=None) == "failed"
    assert state(jobs) == "failed"
    assert jobs.report(held, Report(ending="done", result={})) == "ended"
    assert jobs.claim("j1/tts/2", "w") == Refused("dropped:ended")
    assert kinds(jobs).count("failed") == 1
    assert jobs.client.zcard(jobs.keys.open) == 0


def test_a_later_attempt_knows_the_checkpoint_of_an_earlier_one(jobs: Jobs) -> None:
    enqueue(jobs)
    jobs.report(claim(jobs), Report(checkpoint="up to here"))
    expire_lease(jobs, "j1")
    jobs.reconcile()
    assert claim(jobs).checkpoint == "up to here"


def test_tenants_take_turns_in_a_queue(jobs: Jobs) -> None:
    for number in range(5):
        enqueue(jobs, f"a{number}", tenant="a")
    enqueue(jobs, "b0", tenant="b")
    served = []
    while job_id := pop(jobs):
        claim(jobs, job_id)
        served.append(job_id)
    assert served == ["a0", "b0", "a1", "a2", "a3", "a4"]
    assert not jobs.client.exists(jobs.keys.shares("rag"))


def test_interactive_jobs_and_batch_jobs_wait_in_lists_of_their_own(jobs: Jobs) -> None:
    enqueue(jobs, "slow", priority=9)
    enqueue(jobs, "fast")
    assert pop(jobs, "rag:9") == "slow"
    assert pop(jobs, "rag") == "fast"


def test_a_cancelled_job_gives_its_place_to_its_tenants_next(jobs: Jobs) -> None:
    for number in range(3):
        enqueue(jobs, f"a{number}")
    jobs.cancel("a1")
    jobs.cancel("a0")
    assert [pop(jobs), pop(jobs), pop(jobs)] == ["a0", "a2", None]


def test_a_full_queue_says_when_to_come_back(jobs: Jobs) -> None:
    jobs.client.hset(jobs.keys.config, mapping={"queue_limit": 3, "tenant_limit": 2})
    for number in range(3):
        enqueue(jobs, f"a{number}", tenant="a")
    with pytest.raises(QueueFull) as refused:
        enqueue(jobs, "b0", tenant="b")
    assert refused.value.retry_after_s > 0
    assert not jobs.client.exists(jobs.keys.job("b0"))
    jobs.client.delete(jobs.keys.config)


def test_what_was_popped_but_not_begun_goes_back_to_the_front(jobs: Jobs) -> None:
    enqueue(jobs, "j1", tenant="a")
    enqueue(jobs, "j2", tenant="b")
    pop(jobs)
    assert jobs.hand_back("j1")
    assert pop(jobs) == "j1"
    claim(jobs)
    assert not jobs.hand_back("j1")


def test_many_reports_travel_together_and_survive_a_forgotten_script(jobs: Jobs) -> None:
    claims = []
    for number in range(3):
        enqueue(jobs, f"j{number}", tenant=f"t{number}")
        claims.append(claim(jobs, f"j{number}"))
    jobs.client.script_flush()
    assert jobs.report_all([(held, Report(events=[("progress", {})])) for held in claims]) == ["ok"] * 3
    assert [kinds(jobs, f"j{n}").count("progress") for n in range(3)] == [1, 1, 1]


def test_handing_in_again_after_a_lost_answer_is_the_same_handing_in(jobs: Jobs) -> None:
    message = envelope.build("rag.embed", "j1", REQUEST)
    call = ("j1", "rag.embed", "rag", 0, "t", 0, 0, 3, message)
    assert [jobs.run("enqueue", *call), jobs.run("enqueue", *call)] == [["ok"], ["ok"]]
    assert jobs.client.llen("rag") == 1
    assert jobs.run("enqueue", *call[:-1], envelope.build("rag.embed", "j1", REQUEST)) == ["dup", "queued"]
    assert jobs.run("enqueue", "j2", *call[1:]) == ["mismatch"], "a message says which job it carries"


def test_asking_again_after_a_lost_answer_gives_the_same_claim(jobs: Jobs) -> None:
    enqueue(jobs)
    first = jobs.claim("j1", "w1:a")
    assert jobs.claim("j1", "w1:a") == first
    assert jobs.claim("j1", "w1:b") == Refused("busy")
    assert kinds(jobs) == ["accepted", "started"]


def test_a_report_that_is_sent_again_changes_nothing_more(jobs: Jobs) -> None:
    enqueue(jobs)
    held = claim(jobs)
    report = Report(events=[("progress", {})], number=1)
    assert [jobs.report(held, report), jobs.report(held, report)] == ["ok", "ok"]
    assert jobs.report(held, Report(events=[("progress", {})], number=2)) == "ok"
    assert kinds(jobs).count("progress") == 2


def test_an_attempt_that_is_given_up_does_not_count_and_is_served_next(jobs: Jobs) -> None:
    enqueue(jobs, "j1", tenant="a")
    pop(jobs)
    held = claim(jobs)
    enqueue(jobs, "j2", tenant="b")
    assert jobs.release(held)
    assert not jobs.release(held)
    assert jobs.report(held, Report(events=[("progress", {})])) == "lost"
    assert pop(jobs) == "j1"
    assert claim(jobs).attempt == 1


def test_take_overs_do_not_widen_a_tenants_share(jobs: Jobs) -> None:
    for number in range(5):
        enqueue(jobs, f"a{number}", tenant="a")
    for _ in range(2):
        taken = pop(jobs)
        claim(jobs, str(taken))
        expire_lease(jobs, str(taken))
        jobs.reconcile()
        assert pop(jobs) == taken
        claim(jobs, str(taken))
        assert jobs.client.llen("rag") == 1


def test_a_turn_whose_stages_end_before_it_waits_ends_all_the_same(jobs: Jobs) -> None:
    jobs.enqueue(Entry("j1", "turns.start", {}, tenant="t"))
    top = claim(jobs)
    jobs.report(top, Report(stages=[Stage("j1/llm", "llm.generate", {})]))
    jobs.report(claim(jobs, "j1/llm"), Report(ending="done", result={}))
    jobs.report(top, Report(ending="wait", last=Stage("j1/finish", "turns.finish", {})))
    assert jobs.report(claim(jobs, "j1/finish"), Report(ending="done", result={}, ends_job=True)) == "ok"
    assert state(jobs) == "done"
