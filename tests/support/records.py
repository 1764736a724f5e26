"""Job records by hand: what tests do to them as producers, workers and time do."""

from __future__ import annotations

import json
from typing import Any

from shared.claims import Claim
from shared.contracts.base import Fault
from shared.jobs import Entry, Jobs
from tests.support.waiting import until

FAULT = Fault(code="engine_failed", message="The engine failed on this job.", stage="rag.embed", retryable=True)
REQUEST = {"texts": ["안녕"]}


def enqueue(jobs: Jobs, job_id: str = "j1", **options: Any) -> bool:
    """A job of one text."""
    return jobs.enqueue(Entry(job_id, "rag.embed", REQUEST, tenant=options.pop("tenant", "t"), **options))


def claim(jobs: Jobs, job_id: str = "j1") -> Claim:
    """The right to run it."""
    claimed = jobs.claim(job_id, "w1")
    assert isinstance(claimed, Claim), claimed
    return claimed


def pop(jobs: Jobs, queue: str = "rag") -> str | None:
    """Take a message as a worker does; its job's id."""
    raw = jobs.client.rpop(queue)
    return json.loads(raw)["headers"]["id"] if raw else None


def kinds(jobs: Jobs, job_id: str = "j1") -> list[str]:
    """The types of the job's events."""
    return [fields["type"] for _, fields in jobs.client.xrange(jobs.keys.events(job_id))]


def state(jobs: Jobs, job_id: str = "j1") -> str | None:
    """Of its record."""
    found: str | None = jobs.client.hget(jobs.keys.job(job_id), "state")
    return found


def expire_lease(jobs: Jobs, job_id: str) -> None:
    """As if the worker had been silent for longer than its lease."""
    jobs.client.hset(jobs.keys.job(job_id), "lease", 1)
    jobs.client.zadd(jobs.keys.open, {job_id: 1})


def overdue(jobs: Jobs, job_id: str) -> None:
    """The reconciler is to look at it now, a moment after it was pushed."""
    pushed = int(jobs.client.hget(jobs.keys.job(job_id), "pushed") or 0)
    until(lambda: jobs.now_ms() > pushed, "a millisecond has passed", every_s=0.001)
    jobs.client.zadd(jobs.keys.open, {job_id: 1})
