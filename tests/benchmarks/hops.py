"""A no-op job of 1 kB from caller to caller: this cluster with every promise kept, beside what else carries jobs on Redis.

Each system has a Redis, a worker and a client of its own; while one is measured, the others are frozen.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.servers import RedisServer

from .child import Child, Group, base_environment
from .measures import Section, Table, median, number, quantile, ratios, spread
from .peers.environment import Peers, ensure

ROUNDS, TRIPS, BURST, CHAIN, WARM_UP = (
    int(os.environ.get(f"BENCH_HOPS_{name}", default))
    for name, default in {"ROUNDS": 3, "TRIPS": 200, "BURST": 5000, "CHAIN": 100, "WARM_UP": 50}.items()
)
OURS = "this cluster"
FOLLOWED = f"{OURS}, every event followed"
ONCE = ("Celery, prefork",)
"""Slow, and without a target: one round is enough."""
CELERY = ["-m", "celery", "-A", "tests.benchmarks.peers.stock_celery", "worker", "--loglevel", "ERROR"]
CELERY += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
STAGES = ("first", "second", "third")


@dataclass
class Figures:
    """What the rounds gave: milliseconds, jobs per second, CPU seconds per 1,000 jobs, Redis commands per job."""

    trips: list[float] = field(default_factory=list)
    trip_medians: list[float] = field(default_factory=list)
    followed: list[float] = field(default_factory=list)
    burst: list[float] = field(default_factory=list)
    worker_cpu: list[float] = field(default_factory=list)
    client_cpu: list[float] = field(default_factory=list)
    redis_cpu: list[float] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)


class System:
    """Redis, workers and a client of one contender."""

    def __init__(
        self, name: str, folder: Path, *, client: Sequence[str], workers: dict[str, Sequence[str]], **variables: str
    ) -> None:
        """`client`, `workers`: commands; the client's answers begin when its first job has come back."""
        self.name = name
        self.figures = Figures()
        folder.mkdir(parents=True)
        self.server = RedisServer(folder / "redis", "--appendfsync", "everysec")
        environment = base_environment(BENCH_REDIS=self.server.url, MAEARI_REDIS_URL=self.server.url, **variables)
        environment["MAEARI_HOME"] = str(folder)
        self.workers = [Group(command, folder / f"{label}.log", environment) for label, command in workers.items()]
        self.client = Child(client, folder / "client.log", environment, needs=self.workers)

    @contextlib.contextmanager
    def awake(self, what: str = "trips") -> Iterator[None]:
        """Thawed and warm for the block, frozen behind it."""
        self.server.thaw()
        for group in (*self.workers, self.client):
            group.thaw()
        self.client.ask(what, WARM_UP)
        try:
            yield
        finally:
            self.freeze()

    def freeze(self) -> None:
        """Take no core."""
        for group in (self.client, *self.workers):
            group.freeze()
        self.server.freeze()

    def round(self) -> None:
        """Single trips, then a burst."""
        with self.awake():
            trips = self._trips("trips", TRIPS)
            before, asked = self._cpu(), self._commands()
            seconds = self.client.ask("burst", BURST)
            after = self._cpu()
            self.figures.commands.append((self._commands() - asked) / BURST)
        self.figures.trip_medians.append(median(trips))
        self.figures.burst.append(BURST / seconds)
        columns = (self.figures.worker_cpu, self.figures.client_cpu, self.figures.redis_cpu)
        for column, start, end in zip(columns, before, after, strict=True):
            column.append((end - start) / BURST * 1000)

    def _cpu(self) -> tuple[float, float, float]:
        redis = self.server.client.info("cpu")
        return (
            sum(worker.cpu_s() for worker in self.workers),
            self.client.cpu_s(),
            float(redis["used_cpu_sys"]) + float(redis["used_cpu_user"]),
        )

    def _commands(self) -> int:
        """Those inside scripts among them."""
        return sum(int(one["calls"]) for one in self.server.client.info("commandstats").values())

    def chain(self) -> None:
        """Chains of three."""
        with self.awake("chain"):
            self._trips("chain", CHAIN)

    def _trips(self, what: str, count: int) -> list[float]:
        """Milliseconds of trips; this cluster's that are followed come between two halves, neither warmer nor colder."""
        trips: list[float] = self.client.ask(what, count // 2)
        if self.name == OURS:
            self.figures.followed += self.client.ask(f"{what}_followed", count)
        trips += self.client.ask(what, count - count // 2)
        self.figures.trips += trips
        return trips

    def close(self) -> None:
        """Leave nothing."""
        for group in (self.client, *self.workers):
            group.close()
        self.server.close()


Make = Callable[[Path], System]


def _module(name: str, *arguments: str, python: str = sys.executable) -> list[str]:
    return [python, "-m", f"tests.benchmarks.{name}", *arguments]


def _cluster(folder: Path, *roles: str) -> System:
    """The cluster as it is deployed, with engines that take no time; one tenant hands in all jobs."""
    zero = {"MAEARI_SCRIPTED_TOKEN_MS": "0", "MAEARI_SCRIPTED_SENTENCE_MS": "0", "MAEARI_SCRIPTED_REPLY": "네."}
    return System(
        OURS,
        folder,
        client=_module("cluster_client"),
        workers={
            f"{role}-{place}": [sys.executable, "-m", "workers", role, "--name", f"{role}-{place}@bench"]
            for place, role in enumerate(roles)
        },
        MAEARI_ENGINES="scripted",
        MAEARI_TASK_EVENTS="false",
        MAEARI_TENANT_SHARE="16",
        MAEARI_TENANT_LIMIT="10000",
        **zero,
    )


def _celery(name: str, *options: str) -> Make:
    return lambda folder: System(
        name,
        folder,
        client=_module("peers.stock_celery"),
        workers={"worker": [sys.executable, *CELERY, "--queues", "jobs", *options]},
    )


def _raw(folder: Path) -> System:
    client = _module("peers.raw_redis", "client")
    return System("raw Redis", folder, client=client, workers={"worker": _module("peers.raw_redis", "worker", "jobs")})


def _taskiq(python: str) -> Make:
    command = [python, "-m", "taskiq", "worker", "tests.benchmarks.peers.taskiq_app:broker"]
    command += ["--workers", "1", "--log-level", "ERROR", "--max-async-tasks", "64"]
    client = _module("peers.taskiq_app", python=python)
    return lambda folder: System("Taskiq", folder, client=client, workers={"worker": command})


def _dramatiq(python: str) -> Make:
    command = [python, "-m", "dramatiq", "tests.benchmarks.peers.dramatiq_app", "--processes", "1", "--threads", "8"]
    client = _module("peers.dramatiq_app", python=python)
    return lambda folder: System("Dramatiq", folder, client=client, workers={"worker": command})


def _systems(peers: Peers) -> dict[str, Make]:
    found: dict[str, Make] = {
        "raw Redis": _raw,
        OURS: lambda folder: _cluster(folder, "rag"),
        "Celery, threads": _celery("Celery, threads", "--pool", "threads", "--concurrency", "8"),
        "Celery, prefork": _celery("Celery, prefork", "--pool", "prefork", "--concurrency", "2"),
    }
    if "taskiq" not in peers.missing:
        found["Taskiq"] = _taskiq(peers.python)
    if "dramatiq" not in peers.missing:
        found["Dramatiq"] = _dramatiq(peers.python)
    return found


def _chains() -> dict[str, Make]:
    def celery(folder: Path) -> System:
        threads = ["--pool", "threads", "--concurrency", "8"]
        workers = {
            stage: [sys.executable, *CELERY, "--hostname", f"{stage}@bench", "--queues", stage, *threads]
            for stage in STAGES
        }
        return System("Celery, threads", folder, client=_module("peers.stock_celery"), workers=workers)

    def raw(folder: Path) -> System:
        workers = {
            stage: _module("peers.raw_redis", "worker", stage, *further)
            for stage, *further in (("first", "second"), ("second", "third"), ("third",))
        }
        return System("raw Redis", folder, client=_module("peers.raw_redis", "client"), workers=workers)

    return {
        "raw Redis": raw,
        OURS: lambda folder: _cluster(folder, "conductor", "llm", "conductor"),
        "Celery, threads": celery,
    }


@contextlib.contextmanager
def _all(folder: Path, makers: dict[str, Make], section: Section, first: str = "trips") -> Iterator[list[System]]:
    """Every contender that comes up, frozen; of one that does not, the section says why."""
    systems: list[System] = []
    try:
        for place, (name, make) in enumerate(makers.items()):
            system = make(folder / str(place))
            systems.append(system)
            try:
                system.client.ask(first, 3)
                system.freeze()
            except RuntimeError as error:
                section.notes.append(f"{name} was not run: {error}")
                systems.remove(system)
                system.close()
        yield systems
    finally:
        for system in systems:
            system.close()


def measure(folder: Path) -> Section:
    """Interleaved rounds of single trips and bursts; then chains of three stages."""
    section = Section()
    peers = ensure()
    section.notes += [f"{name} was not run: {reason}" for name, reason in peers.missing.items() if name in _HERE]
    with _all(folder / "single", _systems(peers), section) as systems:
        _rounds(systems, section, System.round)
        _report(section, systems)
    with _all(folder / "chain", _chains(), section, "chain") as systems:
        _rounds(systems, section, System.chain)
        _report_chains(section, systems)
    return section


def _rounds(systems: list[System], section: Section, take: Callable[[System], None]) -> None:
    """Interleaved; a contender that loses a job on the way (stock Celery may, when it is frozen) is left out with a word."""
    for round_ in range(ROUNDS):
        for system in [system for system in systems if not (round_ and system.name in ONCE)]:
            try:
                take(system)
            except RuntimeError as error:
                if system.name == OURS:
                    raise
                section.notes.append(f"{system.name} did not come through: {error}")
                systems.remove(system)
                system.close()


_HERE = ("taskiq", "dramatiq")


def _report(section: Section, systems: list[System]) -> None:
    ours = next(system for system in systems if system.name == OURS).figures
    rows = []
    for system in systems:
        found = system.figures
        trips = [number(quantile(found.trips, share)) for share in (0.5, 0.95, 0.99)]
        cpu = [number(median(column)) for column in (found.worker_cpu, found.client_cpu, found.redis_cpu)]
        burst = [number(median(found.burst)), spread(found.burst)]
        rows.append([system.name, *trips, *burst, *cpu, f"{median(found.commands):.0f}"])
        if system.name != OURS:
            rate = ratios(ours.burst, found.burst)
            section.figures[f"burst_over_{_slug(system.name)}"] = median(rate)
            section.figures[f"round_trip_over_{_slug(system.name)}"] = median(
                ratios(ours.trip_medians, found.trip_medians)
            )
            section.figures[f"worker_cpu_over_{_slug(system.name)}"] = median(ratios(ours.worker_cpu, found.worker_cpu))
    followed = [number(quantile(ours.followed, share)) for share in (0.5, 0.95, 0.99)]
    rows.append([FOLLOWED, *followed, *[""] * 6])
    columns = ["system", "round trip p50, ms", "p95", "p99", f"burst of {BURST:,}, jobs/s", "rounds"]
    columns += ["worker CPU, s per 1,000", "client CPU", "Redis CPU", "Redis commands a job"]
    section.tables.append(Table("A no-op job of 1 kB", columns, rows))
    section.figures["round_trip_ms_p50"] = quantile(ours.trips, 0.5)
    section.figures["round_trip_ms_p95"] = quantile(ours.trips, 0.95)
    section.figures["round_trip_ms_p99"] = quantile(ours.trips, 0.99)
    section.figures["followed_ms_p50"] = quantile(ours.followed, 0.5)
    section.figures["burst_jobs_per_s"] = round(median(ours.burst))
    section.at_most("one hop, every promise kept, p50", section.figures["round_trip_ms_p50"], 2.0, " ms")
    for name, aim in (("Celery, threads", 1.5), ("Taskiq", 1.0), ("Dramatiq", 1.0)):
        if (figure := section.figures.get(f"burst_over_{_slug(name)}")) is not None:
            section.at_least(f"burst of {BURST:,} / {name}", figure, aim)
    section.notes.append(
        "One tenant hands in all jobs, so the cluster's share of a tenant in the line (`MAEARI_TENANT_SHARE`, 1 by default) is "
        "raised to 16, the threads of a worker; the peers know no tenants. Everybody waits for the result, which is what the peers have "
        "to offer; a row of its own says what it takes here to hear every event of the job as it comes. Up to 22 November 2026, "
        "09:00, this page had the round trips and three stages of those who follow."
    )
    section.notes.append(
        "What a burst is made of here: the trip that ends a job brings its thread the next message. Of the time in which a worker's "
        "interpreter is held, some 20% goes to taking it (the guard 9%, Celery's request 6%), 17% to Celery's own tracing of a task, "
        "55% to claim, run and finish (py-spy, once). Redis runs three scripts a job: the record, its lease, three events, the "
        "tenant's place in line and the result. "
        "Up to three trips of shared calls are under way at a time: with one, Redis and the worker take turns, and interleaved bursts "
        "were slower by 15 to 20%. The ratio to Dramatiq, which keeps none of these promises, was 1.2 to 1.3 in four interleaved runs."
    )
    section.pictures.append(
        {
            "kind": "distribution",
            "file": "bench-hops.svg",
            "caption": "Round trips of a no-op job: share of jobs that are back within that time.",
            "unit": "ms",
            "series": {system.name: sorted(system.figures.trips) for system in systems},
        }
    )


def _report_chains(section: Section, systems: list[System]) -> None:
    ours = next(system for system in systems if system.name == OURS).figures
    chains = {system.name: system.figures.trips for system in systems} | {FOLLOWED: ours.followed}
    rows = [[name, *(number(quantile(trips, share)) for share in (0.5, 0.95, 0.99))] for name, trips in chains.items()]
    section.tables.append(Table("Three stages on three workers", ["system", "p50, ms", "p95", "p99"], rows))
    section.figures["three_stages_ms_p50"] = median(ours.trips)
    section.figures["three_stages_followed_ms_p50"] = median(ours.followed)
    for system in systems:
        if system.name != OURS:
            over = round(median(ours.trips) / median(system.figures.trips), 3)
            section.figures[f"three_stages_over_{_slug(system.name)}"] = over
    section.at_most("three stages on three workers, p50", median(ours.trips), 5.0, " ms")
    section.notes.append(
        "The cluster's three stages are a written turn without context or speech (start, generate, finish: two conductors "
        "and an llm worker) with an engine that takes no time: prompt, memory and events are real. The peers' stages are no-ops."
    )
    section.notes.append(
        "What three stages were made of (followed once with Redis's MONITOR, which slows it: medians of 47 turns of 7.3 ms, the machine "
        "in a slow hour): three times 0.5 to 1.0 ms from a message's push to its claim, through Celery's loop of a process that "
        "slept; 0.4, 1.0 and 1.3 ms of Python in the three bodies and their reports; eight scripts, 1.0 ms in all without MONITOR, most of "
        "it Lua itself, cold: what all scripts begin with takes 12 µs at once and 71 after 10 ms of rest; the rest are trips and the caller. Since then "
        "threads wait for messages themselves, not Celery's loop: 0.84 of the time, and 0.83 of a hop's, in eight interleaved rounds. All "
        "of it is processor time, one piece after another, so a host that is busy with other guests shows whole, though a fixed loop runs as "
        "fast as ever: the same code took 8.2 and 4.6 ms within half an hour, and Celery's own chain 9.8 and 14 ms."
    )


def _slug(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")
