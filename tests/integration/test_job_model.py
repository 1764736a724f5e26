"""The job record's scripts against a small model of what they promise, on a real Redis with a clock of its own.

`python -m tests.integration.test_job_model 2000` tries that many histories.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shared.claims import Claim, Refused
from shared.contracts.catalog import CATALOG, QUEUES
from shared.errors import JobNotFound, QueueFull
from shared.jobs import Entry, Report, Stage
from shared.keys import BATCH, PERMANENT, Keys, queue_list
from tests.support.job_model import (
    DEADLINE,
    FAULT,
    LEASE,
    LIMIT,
    REDELIVER,
    TERMINAL,
    ClockedJobs,
    Record,
    Snapshot,
    Worker,
    World,
)
from tests.support.servers import IN_MEMORY, RedisServer

IDS = [f"j{number}" for number in range(6)]
LISTS = [(queue, priority) for queue in ("rag", "turns", "llm", "tts") for priority in (0, BATCH)]
REQUESTS: dict[str, dict[str, Any]] = {
    "rag.embed": {"texts": ["안녕"]},
    "turns.start": {"pack": "artist", "session": "s", "text": "안녕"},
}


class JobMachine(RuleBasedStateMachine):
    """Producers, workers, faults and the reconciler in any order."""

    jobs: ClockedJobs
    """The same for all histories: each would keep connections of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.client: Any = self.jobs.client
        self.client.flushall()
        self.world = World()
        self.numbers = itertools.count(1)
        limits = {"lease_ms": LEASE, "redeliver_ms": REDELIVER, "deadline_ms": DEADLINE, "presence_ttl_s": 3600}
        self.client.hset(self.jobs.keys.config, mapping=limits | {"queue_limit": LIMIT})
        self._tick(0)

    def _tick(self, ms: int) -> None:
        self.world.now += ms
        self.client.set("test:now", self.world.now)

    # --- producers ---

    @rule(
        job_id=st.sampled_from(IDS),
        task=st.sampled_from(sorted(REQUESTS)),
        tenant=st.sampled_from("aaab"),
        priority=st.sampled_from((0, 0, 0, BATCH)),
        deadline=st.sampled_from((0, 0, 0, 3_000, 20_000)),
        presence=st.sampled_from((False, False, True)),
    )
    def enqueue(self, job_id: str, task: str, tenant: str, priority: int, deadline: int, presence: bool) -> None:
        options: dict[str, Any] = {"priority": priority, "deadline_ms": deadline, "presence": presence}
        queue = CATALOG[task].queue
        depth = sum(self.client.llen(queue_list(queue, p)) for p in (0, BATCH))
        depth += int(self.client.hget(self.jobs.keys.shares(queue), "parked") or 0)
        request = REQUESTS[task] | {"tenant": tenant}
        fresh = job_id not in self.world.records
        if fresh and depth >= LIMIT:
            with pytest.raises(QueueFull):
                self.jobs.enqueue(Entry(job_id, task, request, tenant=tenant, **options))
            return
        assert self.jobs.enqueue(Entry(job_id, task, request, tenant=tenant, **options)) == fresh
        if fresh:
            until = self.world.now + (deadline or DEADLINE)
            self.world.records[job_id] = Record(job_id, task, tenant, priority, job_id, until, presence)
            self.world.absent.discard(job_id)

    @rule(job_id=st.sampled_from(IDS))
    def cancel(self, job_id: str) -> None:
        record = self.world.records.get(job_id)
        if record is None:
            with pytest.raises(JobNotFound):
                self.jobs.cancel(job_id)
            return
        expected = record.state if record.state in TERMINAL else "cancelled"
        assert self.jobs.cancel(job_id) == expected
        record.state = expected

    @rule(job_id=st.sampled_from(IDS))
    def leave(self, job_id: str) -> None:
        """The caller goes away."""
        self.client.delete(self.jobs.keys.presence(job_id))
        self.world.absent.add(job_id)

    @precondition(lambda self: self.client.xlen("maeari:dead"))
    @rule()
    def replay(self) -> None:
        letter = self.jobs.dead(1)[0]
        record = self.world.records[letter.job_id]
        if record.state not in TERMINAL:
            return
        assert self.jobs.replay(letter.entry) == record.id
        for stage in [r.id for r in self.world.records.values() if r.root == record.id]:
            del self.world.records[stage]
        self.world.records[record.id] = Record(
            record.id, record.task, record.tenant, record.priority, record.id, self.world.now + DEADLINE
        )

    # --- messages ---

    @rule(data=st.data())
    def pop(self, data: st.DataObject) -> None:
        if job_id := self._popped(data):
            self.world.held.append(job_id)

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        if job_id := self._popped(data):
            self._claim(job_id)

    def _popped(self, data: st.DataObject) -> str | None:
        filled = [name for name in itertools.starmap(queue_list, LISTS) if self.client.llen(name)]
        if not filled:
            return None
        return str(json.loads(self.client.rpop(data.draw(st.sampled_from(filled))))["headers"]["id"])

    @precondition(lambda self: self.world.held)
    @rule(data=st.data(), what=st.sampled_from(("lose", "double", "hand back")))
    def mistreat(self, data: st.DataObject, what: str) -> None:
        job_id = data.draw(st.sampled_from(self.world.held))
        if what == "double":
            self.world.held.append(job_id)
            return
        self.world.held.remove(job_id)
        if what == "hand back":
            record = self.world.records.get(job_id)
            assert self.jobs.hand_back(job_id) == (record is not None and record.state == "queued")

    @precondition(lambda self: self.world.held)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.world.held))
        self.world.held.remove(job_id)
        self._claim(job_id)

    def _claim(self, job_id: str) -> None:
        owner = f"w{next(self.numbers)}"
        expected = self._expect_claim(job_id)
        answer = self.jobs.claim(job_id, owner)
        if expected != "ok":
            assert answer == Refused(expected)
            return
        assert isinstance(answer, Claim), answer
        record = self.world.records[job_id]
        record.attempts += 1
        assert (answer.attempt, answer.root, answer.tenant) == (record.attempts, record.root, record.tenant)
        assert answer.fence > record.fence
        record.state, record.fence, record.lease = "running", answer.fence, self.world.now + LEASE
        self.world.workers.append(Worker(answer, owner))

    def _expect_claim(self, job_id: str) -> str:
        record = self.world.records.get(job_id)
        if record is None:
            return "ended:forgotten"
        if record.state in (*TERMINAL, "waiting"):
            return f"ended:{record.state}"
        if record.state == "running" and record.lease > self.world.now:
            return "busy"
        if why := self.world.obstacle(record):
            self.world.drop(record, why)
            return f"dropped:{why}"
        if record.attempts >= 3:
            self.world.fail(record)
            return "dropped:dead"
        return "ok"

    # --- workers ---

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data(), twice=st.booleans())
    def report(self, data: st.DataObject, twice: bool) -> None:
        """Tell something; in a turn's reply, open a further stage. Twice: the first answer was lost."""
        worker = data.draw(st.sampled_from(self.world.workers))
        worker.reports += 1
        stages = self._stages(worker)
        report = Report(events=[self._progress()], stages=stages, number=worker.reports)
        expected = self._expect_report(worker.claim)
        for _ in range(1 + (twice and expected == "ok")):
            assert self.jobs.report(worker.claim, report) == expected
        if expected == "ok":
            root = self.world.records[worker.claim.root]
            for stage in stages:
                self.world.add_stage(root, stage.id, stage.task)

    def _progress(self) -> tuple[str, dict[str, Any]]:
        return "progress", {"done": next(self.numbers)}

    def _stages(self, worker: Worker) -> list[Stage]:
        if not worker.claim.id.endswith("/llm"):
            return []
        worker.stages += 1
        return [Stage(f"{worker.claim.root}/tts/{worker.stages}", "tts.synthesize", {})]

    def _expect_report(self, claim: Claim, ending: bool = False) -> str:
        record = self.world.records.get(claim.id)
        if record is None or record.fence != claim.fence:
            return "lost"
        if record.state != "running":
            if ending and record.state in ("done", "waiting"):
                return "ok"
            return "ended" if record.state == "cancelled" else "lost"
        if why := self.world.obstacle(record):
            self.world.drop(record, why)
            return why
        record.lease = self.world.now + LEASE
        return "ok"

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data())
    def asks_again(self, data: st.DataObject) -> None:
        """The answer to a claim was lost."""
        worker = data.draw(st.sampled_from(self.world.workers))
        record = self.world.records.get(worker.claim.id)
        if (
            record
            and record.fence == worker.claim.fence
            and record.state == "running"
            and record.lease > self.world.now
        ):
            again = self.jobs.claim(worker.claim.id, worker.owner)
            assert isinstance(again, Claim)
            assert (again.fence, again.attempt) == (worker.claim.fence, worker.claim.attempt)

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data(), twice=st.booleans())
    def finish(self, data: st.DataObject, twice: bool) -> None:
        worker = data.draw(st.sampled_from(self.world.workers))
        record = self.world.records.get(worker.claim.id)
        before = record.state if record else ""
        expected = self._expect_report(worker.claim, ending=True)
        report = self._ending(worker)
        for _ in range(1 + (twice and expected == "ok")):
            assert self.jobs.report(worker.claim, report) == expected
        if expected == "ok" and before == "running" and record:
            self._finished(record)

    def _ending(self, worker: Worker) -> Report:
        claim, number = worker.claim, worker.reports + 1
        task = "turns.finish" if claim.id.endswith("/finish") else ""
        if not claim.in_turn and self._is_turn(claim.id):
            stages = [Stage(f"{claim.id}/llm", "llm.generate", {})]
            last = Stage(f"{claim.id}/finish", "turns.finish", {})
            return Report(ending="wait", stages=stages, last=last, number=number)
        ends = not claim.in_turn or task == "turns.finish"
        return Report(events=[self._progress()], ending="done", result={}, ends_job=ends, number=number)

    def _is_turn(self, job_id: str) -> bool:
        record = self.world.records.get(job_id)
        return record is not None and record.task == "turns.start"

    def _finished(self, record: Record) -> None:
        root = self.world.records[record.root]
        if record.task == "turns.start":
            record.state = "waiting"
            self.world.add_stage(root, f"{root.id}/llm", "llm.generate")
            return
        record.state = "done"
        if record.task == "turns.finish":
            root.state = "done"
        elif record is not root:
            self.world.begin_last(root)

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data(), delay=st.sampled_from((None, 0, 2_000, 10 * DEADLINE)))
    def fail(self, data: st.DataObject, delay: int | None) -> None:
        claim = data.draw(st.sampled_from(self.world.workers)).claim
        assert self.jobs.fail(claim, FAULT, retry_ms=delay) == self._expect_fail(claim, delay)

    def _expect_fail(self, claim: Claim, delay: int | None) -> str:
        record = self.world.records.get(claim.id)
        if record is None or record.fence != claim.fence or record.state != "running":
            return "lost"
        if record.id != record.root and self.world.records[record.root].state in TERMINAL:
            record.state = "cancelled"
            return "lost"
        if delay is not None and record.attempts < 3 and self.world.now + delay < record.deadline:
            record.state = "delayed"
            return "retry"
        self.world.fail(record)
        return "failed"

    @precondition(lambda self: self.world.workers)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A draining worker gives up an attempt."""
        claim = data.draw(st.sampled_from(self.world.workers)).claim
        record = self.world.records.get(claim.id)
        mine = record is not None and record.fence == claim.fence and record.state == "running"
        mine = mine and not (claim.in_turn and self.world.records[claim.root].state in TERMINAL)
        assert self.jobs.release(claim) == mine
        if mine and record:
            record.state, record.attempts = "queued", record.attempts - 1

    # --- time and the reconciler ---

    @rule(ms=st.sampled_from((1, 1_000, REDELIVER, LEASE, 20_000)))
    def wait(self, ms: int) -> None:
        self._tick(ms)

    @rule()
    def reconcile(self) -> None:
        for job_id in self.client.zrangebyscore(self.jobs.keys.open, "-inf", self.world.now):
            record = self.world.records[job_id]
            running = record.state == "running" and record.lease > self.world.now
            why = self.world.obstacle(record)
            if record.state in TERMINAL or running:
                continue
            if why:
                self.world.drop(record, why)
            elif record.state in ("running", "delayed"):
                record.state = "queued"
        self.jobs.reconcile()

    # --- what holds at every moment ---

    @invariant()
    def promises_hold(self) -> None:
        now = Snapshot.of(self.jobs, self.world)
        self._check_records(now)
        for queue in QUEUES:
            self._check_places(now, queue)
        for record in self.world.roots():
            self._check_stream(now, record)

    def _check_records(self, now: Snapshot) -> None:
        assert {job: fields["state"] for job, fields in now.records.items()} == {
            job: record.state for job, record in self.world.records.items()
        }
        assert now.open == {job for job, record in self.world.records.items() if record.state not in TERMINAL}
        for root in self.world.roots():
            if root.state == "waiting":
                assert int(now.records[root.id]["pending"]) == len(self.world.open_stages(root.id)) >= 1

    def _check_places(self, now: Snapshot, queue: str) -> None:
        """Shares count what is listed, parked ids stand in their lists, and somebody in front makes room for them."""
        shares = {place: int(count) for place, count in now.shares[queue].items()}
        mine = {job: fields for job, fields in now.records.items() if fields["queue"] == queue}
        assert shares.pop("parked", 0) == sum(fields["parked"] == "1" for fields in mine.values())
        assert not any(fields["parked"] == fields["listed"] == "1" for fields in mine.values())
        for place in itertools.product((0, BATCH), "ab"):
            here = {j: f for j, f in mine.items() if (int(f["priority"]), f["tenant"]) == place}
            listed = [fields for fields in here.values() if fields["listed"] == "1"]
            parked = now.parked[(queue, *place)]
            assert shares.pop(f"{place[0]}:{place[1]}", 0) == len(listed)
            assert sorted(parked) == sorted(job for job, fields in here.items() if fields["parked"] == "1")
            assert listed or not parked
            assert sum("started" not in fields for fields in listed) <= 1, (
                "only what was taken over may exceed the share"
            )
        assert shares == {}

    def _check_stream(self, now: Snapshot, record: Record) -> None:
        """It ends once, and nothing is told twice."""
        entries = now.events[record.id]
        kinds = [fields["type"] for _, fields in entries]
        assert [entry for entry, _ in entries] == [f"{n}-0" for n in range(1, len(entries) + 1)]
        assert [kind for kind in kinds if kind in TERMINAL] == ([record.state] if record.state in TERMINAL else [])
        assert record.state not in TERMINAL or kinds[-1] == record.state
        said = [fields["data"] for _, fields in entries if fields["type"] == "progress"]
        assert len(said) == len(set(said))
        meta = now.metas[record.id]
        statuses = {"done": "SUCCESS", "failed": "FAILURE", "cancelled": "REVOKED"}
        assert (json.loads(meta)["status"] if meta else None) == statuses.get(record.state)

    # --- and in the end ---

    def teardown(self) -> None:
        """All workers die. Everything that was accepted is still reachable: it ends long before its default deadline."""
        for _ in range(60):
            self._tick(LEASE + 1_000)
            self.jobs.reconcile()
            while job_id := self._next():
                answer = self.jobs.claim(job_id, f"w{next(self.numbers)}")
                if isinstance(answer, Claim):
                    self.jobs.report(answer, self._ending(Worker(answer, "")))
            if not self.client.zcard(self.jobs.keys.open):
                break
        self._check_nothing_is_left()
        super().teardown()

    def _next(self) -> str | None:
        for place in LISTS:
            raw = self.client.rpop(queue_list(*place))
            if raw:
                return str(json.loads(raw)["headers"]["id"])
        return None

    def _check_nothing_is_left(self) -> None:
        assert self.client.zrange(self.jobs.keys.open, 0, -1) == []
        stored = {key: self.client.hget(key, "state") for key in self.client.scan_iter("maeari:job:*")}
        assert set(stored.values()) <= set(TERMINAL), stored
        permanent = {f"maeari:{name}" for name in PERMANENT} | {"test:now"}
        assert {key for key in self.client.scan_iter("*") if self.client.ttl(key) == -1} <= permanent


def run(folder: Path, examples: int, **options: Any) -> None:
    """Try `examples` histories, without an append-only file: nothing is restarted here, and every step would wait for it."""
    server = RedisServer(folder, *IN_MEMORY)
    JobMachine.jobs = ClockedJobs(server.client, Keys("maeari:"))
    chosen = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), **options
    )
    try:
        run_state_machine_as_test(JobMachine, settings=chosen)
    finally:
        server.close()


def test_the_scripts_keep_what_the_model_promises(tmp_path: Path) -> None:
    run(tmp_path, 40)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        run(Path(name), int(sys.argv[1]))
