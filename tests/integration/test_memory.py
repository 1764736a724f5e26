"""What jobs leave in Redis: nothing after their time to live, and a bounded amount when nobody ever reads them.

`python -m tests.integration.test_memory 100000` runs that many jobs.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import memory
from shared.claims import Claim, Refused
from shared.contracts.base import Fault
from shared.contracts.catalog import CATALOG
from shared.jobs import Entry, Jobs, Report, Stage
from shared.keys import BATCH, PERMANENT, Keys, queue_list
from tests.support.figures import figure
from tests.support.servers import IN_MEMORY, RedisServer
from tests.support.waiting import until

FAULT = Fault(code="engine_failed", message="The engine failed on this job.", stage="x", retryable=False)
TURN = {"tenant": "t", "pack": "artist", "session": "s", "text": "안녕하세요, 오늘 기분이 어때요?"}
SLACK = 200_000
"""Bytes that Redis itself may have grown by: script cache, client buffers, its tables."""
SHORT_LIVED = {"job_ttl_s": 1, "events_ttl_s": 1, "presence_ttl_s": 1, "dead_limit": 100}
EVENT_BYTES = 100
"""Bytes that a short event may cost in a stream."""


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    server = RedisServer(tmp_path, *IN_MEMORY)
    yield Jobs(server.client, Keys("maeari:"))
    server.close()


class Mill:
    """Runs jobs of every kind to every end, as workers would, in one thread."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.jobs.client.hset(jobs.keys.config, mapping=SHORT_LIVED)
        self._numbers = itertools.count()

    def run(self, count: int) -> None:
        """`count` jobs, in bursts that wait for each other."""
        left = count
        while left:
            burst = min(left, 50)
            for _ in range(burst):
                self._hand_in(next(self._numbers))
            left -= burst
            while self._step():
                pass

    def _hand_in(self, number: int) -> None:
        tenant = f"t{number % 7}"
        options: dict[str, Any] = {
            "tenant": tenant,
            "priority": BATCH if number % 5 == 0 else 0,
            "presence": number % 3 == 0,
        }
        if number % 2:
            self.jobs.enqueue(
                Entry(f"j{number}", "turns.start", TURN | {"tenant": tenant, "session": f"s{number}"}, **options)
            )
        else:
            self.jobs.enqueue(Entry(f"j{number}", "rag.embed", {"tenant": tenant, "texts": ["안녕"]}, **options))
        if number % 11 == 0:
            self.jobs.cancel(f"j{number}")

    def _step(self) -> bool:
        """Take one message, if there is any, and run it."""
        for queue, priority in itertools.product(("turns", "llm", "tts", "rag"), (0, BATCH)):
            raw = self.jobs.client.rpop(queue_list(queue, priority))
            if raw:
                self._attempt(json.loads(raw)["headers"]["id"])
                return True
        return False

    def _attempt(self, job_id: str) -> None:
        claim = self.jobs.claim(job_id, "w")
        if isinstance(claim, Refused):
            return
        number = int(claim.root[1:])
        if number % 13 == 0 and claim.in_turn:
            self.jobs.fail(claim, FAULT, retry_ms=None)
        elif number % 17 == 0:
            self.jobs.fail(claim, FAULT, retry_ms=10**9)  # beyond its deadline: a dead letter
        else:
            self.jobs.report(claim, Report(events=[("progress", {"done": 1})], number=1))
            self.jobs.report(claim, self._ending(claim))

    def _ending(self, claim: Claim) -> Report:
        if not claim.in_turn:
            if self.jobs.client.hget(self.jobs.keys.job(claim.id), "task") == "rag.embed":
                return Report(ending="done", result={"vectors": [[0.1] * 64]}, ends_job=True, number=2)
            stages = [Stage(f"{claim.id}/llm", "llm.generate", {})]
            return Report(ending="wait", stages=stages, last=Stage(f"{claim.id}/finish", "turns.finish", {}), number=2)
        if claim.id.endswith("/llm"):
            sentences = [Stage(f"{claim.root}/tts/{seq}", "tts.synthesize", {"text": "안녕"}) for seq in range(3)]
            return Report(ending="done", stages=sentences, result={"text": "안녕" * 50}, number=2)
        if claim.id.endswith("/finish"):
            told = memory.turn(self.jobs, claim.tenant, "artist", claim.root, user="안녕", assistant="반가워")
            return Report(
                ending="done", result={"reply": "반가워"}, ends_job=True, appends=[told._replace(ttl_s=1)], number=2
            )
        return Report(ending="done", result={"duration_s": 1.0}, number=2)


def grown(jobs: Jobs, count: int) -> int:
    """Bytes that Redis has grown by when `count` jobs have ended and their time is over."""
    mill = Mill(jobs)
    mill.run(200)  # whatever Redis allocates once
    until(lambda: leftovers(jobs) <= permanent(), "the first jobs have expired")
    before = used(jobs)
    mill.run(count)
    lasting = {key for key in jobs.client.scan_iter("*", count=1000) if jobs.client.ttl(key) == -1}
    assert lasting <= {f"maeari:{name}" for name in PERMANENT}, "whatever else there is will expire"
    assert jobs.client.zcard(jobs.keys.open) == 0
    peak = int(jobs.client.info("memory")["used_memory"])
    until(lambda: leftovers(jobs) <= permanent(), "all jobs have expired", timeout_s=180)
    after = used(jobs)
    figure(f"{count} jobs: {before:,} bytes before, {peak:,} when the last had ended, {after:,} when all had expired")
    return after - before


def leftovers(jobs: Jobs) -> set[str]:
    return set(jobs.client.scan_iter("*", count=1000))


def permanent() -> set[str]:
    """What may be there when no job is."""
    queues = {spec.queue for spec in CATALOG.values()}
    return {f"maeari:{name}" for name in PERMANENT} | {f"maeari:pace:{queue}" for queue in queues}


def used(jobs: Jobs) -> int:
    """Bytes, without the dead letters, which are meant to stay."""
    jobs.purge()
    return int(jobs.client.info("memory")["used_memory"])


def test_finished_jobs_leave_redis_where_it_was(jobs: Jobs) -> None:
    assert grown(jobs, 2_500) < SLACK


def test_a_reader_who_never_comes_costs_a_bounded_amount(jobs: Jobs) -> None:
    jobs.client.hset(jobs.keys.config, "events_limit", 2_000)
    jobs.enqueue(Entry("j1", "rag.embed", {"texts": ["안녕"]}, tenant="t"))
    claim = jobs.claim("j1", "w")
    assert isinstance(claim, Claim)
    for number in range(1, 101):
        events = [("text.delta", {"offset": 100 * number + part, "text": "안녕"}) for part in range(100)]
        assert jobs.report(claim, Report(events=events, number=number)) == "ok"
    size, length = jobs.client.memory_usage(jobs.keys.events("j1")), jobs.client.xlen(jobs.keys.events("j1"))
    figure(f"10,000 unread events: {length} are kept, {size:,} bytes")
    assert 2_000 <= length <= 2_200
    assert size < 2_200 * EVENT_BYTES
    jobs.report(claim, Report(ending="done", result={}, ends_job=True, number=101))
    newest = jobs.client.xrevrange(jobs.keys.events("j1"), count=1)[0]
    assert newest[1]["type"] == "done", "the end is never among what is dropped"


def test_dead_letters_are_kept_up_to_a_limit_and_a_size(jobs: Jobs) -> None:
    jobs.client.hset(jobs.keys.config, "dead_limit", 100)
    for number in range(500):
        jobs.bury("rag", f"{number} {{", FAULT)
    assert 100 <= len(jobs.dead(1_000)) <= 200
    assert jobs.dead(1)[0].raw == "499 {", "the newest stay"
    jobs.bury("rag", "x" * 20_000_000, FAULT)
    assert len(jobs.dead(1)[0].raw) == 1_000_000


def test_a_conversation_keeps_its_last_turns_and_expires(jobs: Jobs) -> None:
    key = jobs.keys.session("t", "artist", "s")
    for number in range(60):
        jobs.enqueue(Entry(f"j{number}", "rag.embed", {"texts": ["안녕"]}, tenant="t"))
        claim = jobs.claim(f"j{number}", "w")
        assert isinstance(claim, Claim)
        told = memory.turn(jobs, "t", "artist", "s", user=f"질문 {number}", assistant="답")
        jobs.report(claim, Report(ending="done", result={}, ends_job=True, appends=[told], number=1))
    turns = memory.recent(jobs, "t", "artist", "s")
    assert "질문 59" in str(turns[-1]) + str(turns[-2])
    assert jobs.client.llen(key) <= 20
    assert 0 < jobs.client.ttl(key) <= 1_800


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        own = RedisServer(Path(name), *IN_MEMORY)
        try:
            assert grown(Jobs(own.client, Keys("maeari:")), int(sys.argv[1])) < SLACK
        finally:
            own.close()
