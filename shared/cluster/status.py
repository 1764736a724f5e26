"""What a cluster is doing now: services, workers, queues, and what every process costs."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from shared.contracts.status import QueueDepth, WorkerStatus
from shared.settings import Settings

from . import probes, services
from .layout import layout_of
from .plan import SERVICES, node_name
from .state import load_state
from .supervisor import Process, Supervisor

SAMPLE_S = 0.4
"""Seconds over which processor use is measured."""


@dataclass
class ProcessStatus:
    """One process of the cluster, here or on another machine."""

    name: str
    role: str
    state: str
    """ready, loading, draining, starting, stopping, stopped, failed, external, unreachable."""
    pid: int = 0
    host: str = ""
    gpu: str = ""
    uptime_s: float = 0.0
    cpu_percent: float = 0.0
    """Of one core, with its children, over the last moment."""
    rss_mb: float = 0.0
    """Resident memory with its children, in MiB."""
    running: int = 0
    """Attempts under way."""
    detail: str = ""
    """Address or version of a service."""
    engines: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Report:
    """The whole."""

    ready: bool
    """Redis, Chroma and at least one worker of every role are ready, and no process has failed."""
    profile: str
    home: str
    supervised: bool
    """`maeari up` runs it on this machine."""
    services: list[ProcessStatus]
    workers: list[ProcessStatus]
    queues: dict[str, dict[str, float]]
    oldest_waiting_s: float
    dead_letters: int
    rss_mb: float
    cpu_percent: float

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def report(
    config: Settings, workers: Sequence[WorkerStatus], queues: Mapping[str, QueueDepth], dead: int, roles: Sequence[str]
) -> Report:
    """Join what the supervisor, Redis and the operating system know. `roles`: that must be there."""
    layout = layout_of(config.home)
    known = Supervisor(layout).processes()
    said = {worker.name: worker for worker in workers}
    rows = [
        _worker(process, said.pop(node_name(process.name), None)) for process in known.values() if "-" in process.name
    ]
    rows += [_elsewhere(worker) for worker in said.values()]
    around = _services(config, known)
    measure([*around, *rows])
    ready = all(row.state in ("ready", "external") for row in around) and all(
        any(row.role == role and row.state == "ready" for row in rows) for role in roles
    )
    return Report(
        ready=ready and not any(row.state == "failed" for row in rows),
        profile=config.profile,
        home=str(layout.home),
        supervised=bool(known),
        services=around,
        workers=rows,
        queues={name: depth.model_dump() for name, depth in queues.items()},
        oldest_waiting_s=max((depth.oldest_wait_s for depth in queues.values()), default=0.0),
        dead_letters=dead,
        rss_mb=round(sum(row.rss_mb for row in (*around, *rows)), 1),
        cpu_percent=round(sum(row.cpu_percent for row in (*around, *rows)), 1),
    )


def wanted_roles(config: Settings, roles: Sequence[str]) -> list[str]:
    """Roles that this machine's cluster was told to run; all of them where it is run by other means."""
    layout = layout_of(config.home)
    state = load_state(layout) if Supervisor(layout).running() else None
    return [role for role in roles if state is None or state.plan.replicas.get(role, 0) > 0]


def _worker(process: Process, said: WorkerStatus | None) -> ProcessStatus:
    row = _base(process, process.name.rpartition("-")[0])
    row.host = socket.gethostname()
    if said is not None and said.pid == process.pid and row.state == "running":
        row.state, row.running, row.gpu = said.state, said.running, said.gpu
        row.engines = [engine.model_dump() for engine in said.engines]
    elif row.state == "running":
        row.state = "starting"
    return row


def _base(process: Process, role: str) -> ProcessStatus:
    names = {
        "RUNNING": "running",
        "STARTING": "starting",
        "BACKOFF": "starting",
        "STOPPING": "stopping",
        "STOPPED": "stopped",
    }
    state = names.get(process.state, "failed")
    uptime = max(0.0, time.time() - process.started_at) if process.pid else 0.0
    return ProcessStatus(process.name, role, state, process.pid, uptime_s=round(uptime, 1))


def _elsewhere(said: WorkerStatus) -> ProcessStatus:
    """A worker that somebody else started: on this machine or on another."""
    here = said.host == socket.gethostname()
    return ProcessStatus(
        name=said.name,
        role=said.role,
        state=said.state,
        pid=said.pid if here else 0,
        host=said.host,
        gpu=said.gpu,
        uptime_s=round(max(0.0, time.time() - said.started_ms / 1000), 1),
        running=said.running,
        engines=[engine.model_dump() for engine in said.engines],
    )


def _services(config: Settings, known: Mapping[str, Process]) -> list[ProcessStatus]:
    rows = []
    for name in SERVICES:
        row = _base(known[name], name) if name in known else ProcessStatus(name, name, "external")
        answers, row.detail = _answer(name, config)
        if answers and row.state == "running":
            row.state = "ready"
        elif not answers and row.state in ("running", "external"):
            row.state = "starting" if row.state == "running" else "unreachable"
        rows.append(row)
    return [row for row in rows if row.name != "flower" or row.state != "unreachable"]


def _answer(name: str, config: Settings) -> tuple[bool, str]:
    if name == "redis":
        answer = probes.ask_redis(config.redis_url)
        return answer.state == "ready", f"{services.shown_url(config.redis_url)} {answer.version}".strip()
    if name == "chroma":
        there = probes.chroma_answers(config.chroma_host, config.chroma_port)
        return there, f"http://{config.chroma_host}:{config.chroma_port}"
    return probes.flower_answers(config.flower_port), f"http://127.0.0.1:{config.flower_port}"


def measure(rows: Sequence[ProcessStatus]) -> None:
    """Fill in memory and processor use of the processes that run here, children included."""
    families = {id(row): _family(row.pid) for row in rows if row.pid}
    before = {key: _cpu_s(family) for key, family in families.items()}
    began = time.monotonic()
    if families:
        time.sleep(SAMPLE_S)
    passed = max(time.monotonic() - began, 1e-3)
    for row in rows:
        if family := families.get(id(row)):
            row.cpu_percent = round(max(0.0, 100 * (_cpu_s(family) - before[id(row)]) / passed), 1)
            row.rss_mb = round(sum(_rss(process) for process in family) / 2**20, 1)


def _family(pid: int) -> list[psutil.Process]:
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.Error:
        return []


def _cpu_s(family: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in family:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
