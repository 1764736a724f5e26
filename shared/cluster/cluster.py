"""Start, watch and stop a cluster on this machine. Nothing here prints: callers step and show what they see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import BrokerUnavailable, ConfigurationInvalid
from shared.settings import Settings

from . import services
from .environment import fingerprints
from .layout import layout_of
from .plan import Plan, Program, make_plan, node_name, worker_programs
from .probes import RedisAnswer, ask_redis, chroma_answers, flower_answers, port_free
from .state import State, exclusive, load_state, save_state
from .supervisor import Process, Supervisor, render

_DEATHS = 2
"""Deaths before readiness after which a start has failed; the supervisor goes on trying."""

_GONE_S = 20.0
"""Seconds that the services of a killed supervisor have to end."""

LOG_LINES = 25
"""Lines of its log that a failed process is shown with."""


class WorkerSeen(Protocol):
    """What a worker says of itself."""

    @property
    def name(self) -> str:
        """Its program's name and its host: `llm-0@host`."""
        ...

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    @property
    def state(self) -> str:
        """`loading`, `ready` or `draining`."""
        ...


Workers = Callable[[], Sequence[WorkerSeen]]
"""Asks Redis which workers there are."""


@dataclass(frozen=True)
class Row:
    """One process in the eyes of somebody who waits for it."""

    name: str
    role: str
    state: str
    """waiting, starting, loading, ready, draining, stopping, stopped, failed."""
    seconds: float
    """Since its start; once ready, how long that took."""
    note: str = ""

    @property
    def settled(self) -> bool:
        """Nothing more to wait for."""
        return self.state in ("ready", "failed")


@dataclass
class _Watch:
    starts: set[float] = field(default_factory=set)
    took_s: float | None = None


class Cluster:
    """The cluster that the settings describe."""

    def __init__(self, config: Settings, workers: Workers) -> None:
        """`workers`: asked while roles load; `BrokerUnavailable` counts as none."""
        self.config = config
        self.layout = layout_of(config.home)
        self.supervisor = Supervisor(self.layout)
        self.programs: tuple[Program, ...] = ()
        self._workers = workers
        self._watches: dict[str, _Watch] = {}
        self._started: set[str] = set()

    # --- up ---

    def prepare(
        self, replicas: Mapping[str, int], gpus: Sequence[str] | None = None, throw_away: bool = False
    ) -> list[str]:
        """Decide, write every configuration and have the supervisor ready; returns the names that do not run yet.

        `throw_away`: accept a Redis that may lose jobs. Raises `ConfigurationInvalid` with the remedy.
        """
        self.layout.make()
        with exclusive(self.layout):
            running = self.supervisor.running()
            before = load_state(self.layout) if running else None
            self._same_settings(before)
            plan = make_plan(replicas, gpus, before.plan if before else None)
            redis = before.redis if before else self._redis(throw_away)
            self.programs = self._programs(plan, redis)
            self._ports(self._missing())
            self._write(redis)
            if running:
                self.supervisor.reload()
            else:
                self.supervisor.launch(self.config)
            save_state(self.layout, State(plan, redis, fingerprints(self.config)))
            return self._missing()

    def _same_settings(self, before: State | None) -> None:
        now = fingerprints(self.config)
        if before is None or before.settings == now:
            return
        names = sorted(name for name in {*now, *before.settings} if now.get(name) != before.settings.get(name))
        raise ConfigurationInvalid(
            f"The cluster runs with other settings ({', '.join(names)} changed). Run `maeari down`, then `maeari up`."
        )

    def _redis(self, throw_away: bool) -> services.RedisHost:
        answer = ask_redis(self.config.redis_url)
        deadline = time.monotonic() + _GONE_S
        while answer.folder == self.layout.redis:
            # Our own, of a supervisor that was killed: it is on its way out.
            if time.monotonic() > deadline:
                raise ConfigurationInvalid(
                    f"A Redis still runs on {self.layout.redis} though no supervisor does; end it."
                )
            time.sleep(0.1)
            answer = ask_redis(self.config.redis_url)
        host = services.choose_redis(self.config, self.layout, answer)
        if host == "external" and not throw_away and (why := services.forgetful(answer)):
            shown = services.shown_url(self.config.redis_url)
            raise ConfigurationInvalid(f"The Redis at {shown} is not fit for jobs. {why} For a trial: --throw-away.")
        return host

    def _programs(self, plan: Plan, redis: services.RedisHost) -> tuple[Program, ...]:
        found = [services.redis_program(self.layout)] if redis == "embedded" else []
        if services.chroma_is_embedded(self.config):
            found.append(services.chroma_program(self.config, self.layout))
        return (*found, services.flower_program(self.layout), *worker_programs(plan))

    def _missing(self) -> list[str]:
        known = self.supervisor.processes()
        return [p.name for p in self.programs if p.name not in known or not known[p.name].alive]

    def _ports(self, missing: Sequence[str]) -> None:
        if "chroma" in missing and not port_free(self.config.chroma_port):
            raise services.port_taken("Chroma", self.config.chroma_port, "MAEARI_CHROMA_PORT")
        if "flower" in missing and not port_free(self.config.flower_port):
            raise services.port_taken("Flower", self.config.flower_port, "MAEARI_FLOWER_PORT")

    def _write(self, redis: services.RedisHost) -> None:
        write = self.layout.write_private
        if redis == "embedded":
            write(self.layout.redis_conf, services.redis_config(self.config, self.layout))
        write(self.layout.flower_conf, services.flower_config(self.config, self.layout))
        write(self.layout.supervisor_conf, render(self.programs, self.config, self.layout))

    def advance(self) -> list[Row]:
        """Start whatever may start now, and say how far everything is: Redis first, then Chroma, then the rest."""
        rows = self._rows()
        by_name = {row.name: row for row in rows}
        for gate in (["redis"], ["chroma"], [p.name for p in self.programs]):
            here = [name for name in gate if name in by_name]
            for name in here:
                if by_name[name].state == "waiting" and name not in self._started:
                    self.supervisor.start(name)
                    self._started.add(name)
            if any(by_name[name].state != "ready" for name in here):
                break
        return rows

    # --- watch ---

    def _rows(self) -> list[Row]:
        known = self.supervisor.processes()
        if not known:
            raise ConfigurationInvalid(f"The supervisor has gone; see {self.layout.log('supervisord')}.")
        states = self._worker_states()
        return [self._row(program, known[program.name], states) for program in self.programs if program.name in known]

    def _worker_states(self) -> dict[tuple[str, int], str]:
        try:
            return {(worker.name, worker.pid): worker.state for worker in self._workers()}
        except BrokerUnavailable:
            return {}

    def _row(self, program: Program, process: Process, states: Mapping[tuple[str, int], str]) -> Row:
        watch = self._watches.setdefault(program.name, _Watch())
        if process.started_at:
            watch.starts.add(process.started_at)
        since = max(0.0, time.time() - process.started_at) if process.started_at else 0.0
        state = self._state(program, process, states)
        deaths = max(0, len(watch.starts) - 1)
        note = f"restarted {deaths} time{'s' if deaths > 1 else ''}" if deaths else ""
        if state == "ready":
            watch.took_s = watch.took_s if watch.took_s is not None else since
            return Row(program.name, program.role, state, watch.took_s, note)
        watch.took_s = None
        if state == "failed" or deaths >= _DEATHS:
            return Row(program.name, program.role, "failed", since, process.why or "it keeps ending before it is ready")
        return Row(program.name, program.role, state, since, note)

    def _state(self, program: Program, process: Process, states: Mapping[tuple[str, int], str]) -> str:
        if _gone(process):
            ended = process.state == "FATAL" and program.name in self._started
            return "failed" if ended else "waiting"
        if process.state not in ("RUNNING", "STARTING"):
            return "stopping" if process.state == "STOPPING" else "starting"
        if program.is_worker:
            return states.get((node_name(program.name), process.pid), "starting")
        return "ready" if self._service_ready(program.role) else "starting"

    def _service_ready(self, role: str) -> bool:
        if role == "redis":
            return self.redis_answer().state == "ready"
        if role == "chroma":
            return chroma_answers("127.0.0.1", self.config.chroma_port)
        return flower_answers(self.config.flower_port)

    def redis_answer(self) -> RedisAnswer:
        """What the configured Redis answers now."""
        return ask_redis(self.config.redis_url)

    def last_lines(self, name: str) -> list[str]:
        """The end of a process's log."""
        try:
            text = self.layout.log(name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return text.splitlines()[-LOG_LINES:]

    # --- down ---

    def stop(self) -> Iterator[list[Row]]:
        """Drain the workers side by side, then stop the services, then the supervisor; yields how far it is."""
        self.layout.make()
        with exclusive(self.layout):
            if self.supervisor.running():
                yield from self._stop_in_order()
                self.supervisor.shutdown()
            self.layout.state.unlink(missing_ok=True)

    def _stop_in_order(self) -> Iterator[list[Row]]:
        names = list(self.supervisor.processes())
        workers = [name for name in names if "-" in name]
        for group in (workers, ["flower"], ["chroma"], ["redis"]):
            here = [name for name in group if name in names]
            for name in here:
                self.supervisor.stop(name)
            while any(not _gone(self.supervisor.processes().get(name)) for name in here):
                yield self._stopping()
                time.sleep(0.1)

    def _stopping(self) -> list[Row]:
        rows = []
        for name, process in self.supervisor.processes().items():
            state = "stopped" if _gone(process) else "stopping" if process.state == "STOPPING" else "running"
            rows.append(Row(name, name.rpartition("-")[0] or name, state, 0.0))
        return rows


def _gone(process: Process | None) -> bool:
    return process is None or process.state in ("STOPPED", "EXITED", "FATAL")
