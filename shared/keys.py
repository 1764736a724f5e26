"""Every Redis key and stream: its pattern, type and how long it lives. No literal key stands anywhere else.

The scripts in `lua/` build the same names from the prefix; `tests/integration` holds both lists together.
"""

from __future__ import annotations

from dataclasses import dataclass

CELERY_RESULT = "celery-task-meta-"
"""In front of a job id: string and channel where Celery clients look for a result. Lives `job_ttl_s`."""

BATCH = 9
"""Kombu's priority of the batch class; 0 is the interactive class and is served first."""

SEPARATOR = ":"
"""Between a queue's name and its priority."""


def queue_list(queue: str, priority: int = 0) -> str:
    """List that Celery pops messages from; empty lists do not exist in Redis."""
    return f"{queue}{SEPARATOR}{priority}" if priority else queue


@dataclass(frozen=True)
class Keys:
    """Names under one prefix."""

    prefix: str

    def job(self, job_id: str) -> str:
        """Hash: the record of a job or of one of its stages. Unfinished: `open_ttl_s`; finished: `job_ttl_s`."""
        return f"{self.prefix}job:{job_id}"

    def events(self, job_id: str) -> str:
        """Stream: what a job tells its caller. Unfinished: `open_ttl_s`; finished: `events_ttl_s`."""
        return f"{self.prefix}events:{job_id}"

    def stages(self, job_id: str) -> str:
        """List: ids of a job's stages. Lives as long as the record."""
        return f"{self.prefix}stages:{job_id}"

    def presence(self, job_id: str) -> str:
        """String: the caller is there. Refreshed by the caller; `presence_ttl_s`."""
        return f"{self.prefix}presence:{job_id}"

    def session(self, tenant: str, pack: str, session: str) -> str:
        """List: the last turns of a conversation, oldest first. `session_ttl_s` after the last turn."""
        return f"{self.prefix}session:{tenant}:{pack}:{session}"

    def worker(self, name: str) -> str:
        """String: what a worker says of itself (JSON). Refreshed; 15 s."""
        return f"{self.prefix}worker:{name}"

    @property
    def open(self) -> str:
        """Sorted set: unfinished records by the time (ms) at which the reconciler must look at them. Permanent."""
        return f"{self.prefix}open"

    @property
    def dead(self) -> str:
        """Stream: dead letters, at most `dead_limit`. Permanent."""
        return f"{self.prefix}dead"

    @property
    def config(self) -> str:
        """Hash: the limits that the scripts apply. Permanent; written by every worker at its start."""
        return f"{self.prefix}config"

    @property
    def cancel_channel(self) -> str:
        """Channel: ids of cancelled jobs, a doorbell for workers that run them."""
        return f"{self.prefix}cancel"

    def parked(self, queue: str, priority: int, tenant: str) -> str:
        """List: ids that wait behind their tenant's share of a queue. Gone when empty."""
        return f"{self.prefix}parked:{queue}:{priority}:{tenant}"

    def shares(self, queue: str) -> str:
        """Hash: messages per `priority:tenant` in the shared list, and ids parked (`parked`). Gone when empty."""
        return f"{self.prefix}shares:{queue}"

    def pace(self, queue: str) -> str:
        """Hash: time of the last claim and smoothed milliseconds between claims, for retry hints. One hour."""
        return f"{self.prefix}pace:{queue}"


PERMANENT = ("open", "dead", "config")
"""Keys of the prefix that never expire (`maeari:open` ...); Kombu's `_kombu.binding.*` sets are the only others."""
