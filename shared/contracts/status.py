"""What operators see: jobs, queues, workers."""

from __future__ import annotations

from typing import Literal

from .base import EngineInfo, Fault, Wire


class StageView(Wire):
    """A record; times in milliseconds since the epoch, Redis time."""

    id: str
    task: str
    queue: str
    state: str
    attempts: int
    created_ms: int
    started_ms: int | None = None
    finished_ms: int | None = None


class JobView(Wire):
    """A job's record with its stages."""

    job_id: str
    task: str
    queue: str
    tenant: str
    priority: str
    state: str
    attempts: int
    deadline_ms: int
    created_ms: int
    started_ms: int | None = None
    finished_ms: int | None = None
    fault: Fault | None = None
    stages: tuple[StageView, ...] = ()


class QueueDepth(Wire):
    """What waits in a queue."""

    waiting: int
    """Messages in the shared list."""
    parked: int
    """Jobs behind their tenant's share."""
    oldest_wait_s: float
    """Seconds since the job that is served next was accepted."""


class WorkerStatus(Wire):
    """What a worker says of itself, every few seconds."""

    name: str
    role: str
    host: str
    pid: int
    state: Literal["loading", "ready", "draining"]
    started_ms: int
    running: int = 0
    """Attempts under way."""
    gpu: str = ""
    """`CUDA_VISIBLE_DEVICES` of the process."""
    engines: tuple[EngineInfo, ...] = ()
