"""What job records should be, in a few lines: the model that the scripts are held against."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from shared import jobs as jobs_module
from shared.claims import Claim
from shared.contracts.base import Fault
from shared.contracts.catalog import QUEUES
from shared.jobs import Jobs
from shared.keys import BATCH, CELERY_RESULT

CLOCK = """local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)"""
FROZEN = "local NOW = tonumber(redis.call('GET', 'test:now'))"
START = 1_700_000_000_000
LEASE, REDELIVER, DEADLINE, LIMIT = 6_000, 5_000, 900_000, 5
TERMINAL = ("done", "failed", "cancelled")
FAULT = Fault(code="engine_failed", message="The engine failed on this job.", stage="x", retryable=True)


class ClockedJobs(Jobs):
    """Scripts that read the time from a key."""

    def _script(self, name: str) -> Any:
        if name not in self._scripts:
            source = jobs_module._source(name)
            assert source.count(CLOCK) == 1
            self._scripts[name] = self.client.register_script(source.replace(CLOCK, FROZEN))
        return self._scripts[name]


@dataclass
class Record:
    """What a record should be."""

    id: str
    task: str
    tenant: str
    priority: int
    root: str
    deadline: int
    presence: bool = False
    state: str = "queued"
    fence: int = 0
    attempts: int = 0
    lease: int = 0


@dataclass
class Worker:
    """A claim, and what its holder has said."""

    claim: Claim
    owner: str
    reports: int = 0
    stages: int = 0


@dataclass
class World:
    """All records, the messages in flight and the claims that workers believe in."""

    now: int = START
    records: dict[str, Record] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)

    def obstacle(self, record: Record) -> str | None:
        root = self.records[record.root]
        if root is not record and root.state in TERMINAL:
            return "ended"
        if record.deadline <= self.now:
            return "deadline"
        return "gone" if root.presence and root.id in self.absent else None

    def drop(self, record: Record, why: str) -> None:
        if record.root != record.id:
            record.state = "cancelled"
        if why != "ended":
            self.records[record.root].state = "failed"

    def fail(self, record: Record) -> None:
        record.state = "failed"
        self.records[record.root].state = "failed"

    def roots(self) -> list[Record]:
        return [record for record in self.records.values() if record.id == record.root]

    def open_stages(self, root: str) -> list[Record]:
        return [r for r in self.records.values() if r.root == root != r.id and r.state not in TERMINAL]

    def begin_last(self, root: Record) -> None:
        if root.state == "waiting" and not self.open_stages(root.id):
            self.add_stage(root, f"{root.id}/finish", "turns.finish")

    def add_stage(self, root: Record, stage: str, task: str) -> None:
        if stage not in self.records:
            self.records[stage] = Record(stage, task, root.tenant, root.priority, root.id, root.deadline)


@dataclass
class Snapshot:
    """All that Redis holds, read in one round trip."""

    records: dict[str, dict[str, str]]
    open: set[str]
    shares: dict[str, dict[str, str]]
    parked: dict[tuple[str, int, str], list[str]]
    events: dict[str, list[tuple[str, dict[str, str]]]]
    metas: dict[str, str | None]

    @classmethod
    def of(cls, jobs: Jobs, world: World) -> Snapshot:
        keys, pipe = jobs.keys, jobs.client.pipeline(transaction=False)
        roots = [record.id for record in world.roots()]
        places = list(itertools.product(QUEUES, (0, BATCH), "ab"))
        for command, names in (
            (pipe.hgetall, [keys.job(job) for job in world.records]),
            (pipe.hgetall, [keys.shares(queue) for queue in QUEUES]),
            (lambda name: pipe.lrange(name, 0, -1), [keys.parked(*place) for place in places]),
            (pipe.xrange, [keys.events(root) for root in roots]),
            (pipe.get, [CELERY_RESULT + root for root in roots]),
        ):
            for name in names:
                command(name)
        pipe.zrange(keys.open, 0, -1)
        answers = iter(pipe.execute())
        found: list[dict[Any, Any]] = [
            dict(zip(names, answers, strict=False)) for names in (list(world.records), QUEUES, places, roots, roots)
        ]
        return cls(found[0], set(next(answers)), *found[1:])
