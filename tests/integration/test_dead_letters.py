"""What cannot be run, or has spent its attempts: kept with its reason, replayed when somebody asks for it."""

from __future__ import annotations

import json

import pytest

from shared.claims import Refused
from shared.errors import InvalidRequest, JobNotFound
from shared.jobs import Entry, Jobs, Report, Stage
from tests.support.records import FAULT, claim, enqueue, expire_lease, kinds, overdue, pop, state


@pytest.mark.parametrize(("field", "value"), [("queue", "maeari:stages:j2"), ("queue", ""), ("priority", "x:y")])
def test_a_record_that_names_no_queue_pushes_nowhere_and_is_reported(jobs: Jobs, field: str, value: str) -> None:
    enqueue(jobs)
    pop(jobs)
    jobs.client.hset(jobs.keys.job("j1"), field, value)
    overdue(jobs, "j1")
    before = set(jobs.client.keys())
    jobs.reconcile()
    assert set(jobs.client.keys()) - before == {"maeari:dead"}
    assert "no queue of that name" in jobs.dead()[0].reason
    jobs.client.delete(jobs.keys.job("j1"))


def test_a_job_that_kills_its_workers_ends_in_the_dead_letters(jobs: Jobs) -> None:
    enqueue(jobs)
    for _ in range(3):
        assert pop(jobs) == "j1"
        claim(jobs)
        expire_lease(jobs, "j1")
        assert jobs.reconcile() == (0, 1, 0)
    pop(jobs)
    assert jobs.claim("j1", "w") == Refused("dropped:dead")
    assert state(jobs) == "failed"
    assert json.loads(jobs.client.get("celery-task-meta-j1"))["result"]["exc_type"] == "attempts_exhausted"
    assert kinds(jobs)[-1] == "failed"
    assert [letter.job_id for letter in jobs.dead()] == ["j1"]


def test_a_dead_letter_is_replayed_once_and_validated_again(jobs: Jobs) -> None:
    test_a_job_that_kills_its_workers_ends_in_the_dead_letters(jobs)
    (letter,) = jobs.dead()
    assert jobs.replay(letter.entry) == "j1"
    assert pop(jobs) == "j1"
    claim(jobs)
    with pytest.raises(JobNotFound):
        jobs.replay(letter.entry)
    entry = jobs.bury("rag", "{", FAULT)
    with pytest.raises(InvalidRequest):
        jobs.replay(entry)
    assert [letter.entry for letter in jobs.dead()] == [entry], "what cannot be read stays"


def test_a_retryable_failure_comes_again_later_and_then_dies(jobs: Jobs) -> None:
    enqueue(jobs)
    for attempt in range(3):
        assert pop(jobs) == "j1"
        assert jobs.fail(claim(jobs), FAULT, retry_ms=10) == ("retry" if attempt < 2 else "failed")
        overdue(jobs, "j1")
        jobs.reconcile()
    assert kinds(jobs) == ["accepted", "started", "retrying"] * 1 + ["started", "retrying", "started", "failed"]
    assert [letter.job_id for letter in jobs.dead()] == ["j1"]


def test_a_replay_leaves_no_stage_of_the_former_life_behind(jobs: Jobs) -> None:
    jobs.enqueue(
        Entry("j1", "turns.start", {"tenant": "t", "pack": "artist", "session": "s", "text": "안녕"}, tenant="t")
    )
    pop(jobs, "turns")
    stages = [Stage(f"j1/tts/{seq}", "tts.synthesize", {}) for seq in range(3)]
    jobs.report(claim(jobs), Report(ending="wait", stages=stages, last=Stage("j1/finish", "turns.finish", {})))
    pop(jobs, "tts")
    late = claim(jobs, "j1/tts/0")
    jobs.client.hset(jobs.keys.job("j1/tts/0"), "attempts", 3)
    assert jobs.fail(late, FAULT, retry_ms=10) == "failed"
    assert jobs.replay(jobs.dead()[0].entry) == "j1"
    assert not jobs.client.exists(jobs.keys.shares("tts"))
    assert jobs.claim("j1/tts/1", "w") == Refused("ended:forgotten")
    pop(jobs, "turns")
    jobs.report(claim(jobs), Report(ending="wait", stages=stages, last=Stage("j1/finish", "turns.finish", {})))
    assert claim(jobs, "j1/tts/0").fence != late.fence
    assert jobs.report(late, Report(ending="done", result={})) == "lost"


def test_a_broken_message_ends_only_the_job_that_was_recorded_with_it(jobs: Jobs) -> None:
    enqueue(jobs)
    jobs.bury("rag", b"\xff{", FAULT, "j1")
    assert state(jobs) == "queued"
    jobs.bury("rag", jobs.client.hget(jobs.keys.job("j1"), "env"), FAULT, "j1")
    assert state(jobs) == "failed"
    assert len(jobs.dead()) == 2


def test_a_damaged_record_is_buried_and_the_others_are_looked_at(jobs: Jobs) -> None:
    for number in range(2):
        enqueue(jobs, f"j{number}", tenant=f"t{number}")
        pop(jobs)
        overdue(jobs, f"j{number}")
    jobs.client.hdel(jobs.keys.job("j0"), "deadline")
    assert jobs.reconcile() == (1, 0, 0)
    assert pop(jobs) == "j1"
    assert [letter.job_id for letter in jobs.dead()] == ["j0"]


def test_a_message_that_nobody_ever_begins_is_not_delivered_for_ever(jobs: Jobs) -> None:
    enqueue(jobs)
    for _ in range(10):
        assert pop(jobs) == "j1"
        overdue(jobs, "j1")
        assert jobs.reconcile() == (1, 0, 0)
    pop(jobs)
    overdue(jobs, "j1")
    assert jobs.reconcile() == (0, 0, 1)
    assert (state(jobs), kinds(jobs)[-1]) == ("failed", "failed")
    assert [letter.job_id for letter in jobs.dead()] == ["j1"]
