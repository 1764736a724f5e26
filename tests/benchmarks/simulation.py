"""A discrete-event simulation of the cluster: roles on GPUs behind one Redis, or several.

Everything that takes time holds a server: a slot of an engine, a Redis (a single thread), a worker's interpreter, a core of
the machine. A job is a generator of steps `(servers, seconds)`; it waits in line for each server in turn and then holds them
together for that long. Times come from measurements; see `scale`.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial

Step = tuple[tuple["Server", ...], "float | Callable[[], float]"]
"""Servers to hold together, and for how many seconds (or what says so once they are held); no servers: merely wait."""
Job = Generator[Step, None, None]


@dataclass(eq=False)
class Server:
    """`slots` holders at a time; the others wait in order of arrival."""

    name: str
    slots: int = 1
    held: int = 0
    busy_s: float = 0.0
    longest: int = 0
    """Longest line that was seen."""
    line: deque[_Run] = field(default_factory=deque)


@dataclass(eq=False)
class _Run:
    job: Job
    done: Callable[[], None]
    servers: tuple[Server, ...] = ()
    got: int = 0
    seconds: float | Callable[[], float] = 0.0


class Clock:
    """Runs jobs in simulated time."""

    def __init__(self) -> None:
        """At zero."""
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do `what` then."""
        heapq.heappush(self._events, (when, next(self._order), what))

    def start(self, job: Job, done: Callable[[], None] = lambda: None) -> None:
        """Begin a job now."""
        self._step(_Run(job, done))

    def run(self, until: float = float("inf")) -> None:
        """Until nothing is left to do, or that time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()

    def _step(self, run: _Run) -> None:
        try:
            run.servers, run.seconds = next(run.job)
        except StopIteration:
            run.done()
            return
        run.got = 0
        self._acquire(run)

    def _acquire(self, run: _Run) -> None:
        while run.got < len(run.servers):
            server = run.servers[run.got]
            if server.held >= server.slots:
                server.line.append(run)
                server.longest = max(server.longest, len(server.line))
                return
            server.held += 1
            run.got += 1
        seconds = run.seconds() if callable(run.seconds) else run.seconds
        self.at(self.now + seconds, lambda: self._release(run, seconds))

    def _release(self, run: _Run, seconds: float) -> None:
        for server in run.servers:
            server.busy_s += seconds
            if server.line:  # the place goes to the next in line without becoming free
                following = server.line.popleft()
                following.got += 1
                self._acquire(following)
            else:
                server.held -= 1
        self._step(run)


# --- one kind of job on one machine: what can be measured here ---


@dataclass(frozen=True)
class Costs:
    """Measured CPU seconds of one job on this machine."""

    client_s: float
    worker_s: float
    redis_s: float


def burst(costs: Costs, *, workers: int, slots: int, engine_s: float, jobs: int, cores: int) -> float:
    """Jobs per second of a burst: a client hands in all jobs, workers with `slots` run them, the client collects."""
    clock = Clock()
    machine, client, redis = Server("cores", cores), Server("client"), Server("redis")
    interpreters = [Server("interpreter") for _ in range(workers)]
    engines = [Server("slots", slots) for _ in range(workers)]
    free = dict.fromkeys(range(workers), slots)
    waiting: deque[int] = deque()
    ended = [0.0]

    def pull() -> None:
        """Workers take what waits, as long as they have a slot; the emptiest one is served first."""
        while waiting and any(free.values()):
            place = max(free, key=lambda worker: free[worker])
            free[place] -= 1
            waiting.popleft()
            clock.start(work(place), lambda place=place: finished(place))  # type: ignore[misc]

    def finished(place: int) -> None:
        free[place] += 1
        ended[0] = clock.now
        pull()

    def work(place: int) -> Job:
        yield (redis, machine), costs.redis_s / 2
        yield (interpreters[place], machine), costs.worker_s / 2
        yield (engines[place],), engine_s
        yield (interpreters[place], machine), costs.worker_s / 2
        yield (redis, machine), costs.redis_s / 4

    def submit() -> Job:
        for number in range(jobs):
            yield (client, machine), costs.client_s / 2
            yield (redis, machine), costs.redis_s / 4
            waiting.append(number)
            pull()
        for _ in range(jobs):
            yield (client, machine), costs.client_s / 2

    clock.start(submit())
    clock.run()
    return jobs / max(clock.now, ended[0])


# --- voice turns on many GPUs ---


@dataclass(frozen=True)
class Engines:
    """Seconds of work and slots of the engines on one GPU."""

    transcribe_s: float = 0.075
    transcribe_slots: int = 16
    token_s: float = 0.015
    tokens: int = 60
    generate_slots: int = 64
    sentence_s: float = 0.35
    sentences: int = 5

    def gpu_s(self) -> dict[str, float]:
        """GPU seconds that a turn takes of each role."""
        return {
            "stt": self.transcribe_s / self.transcribe_slots,
            "llm": self.tokens * self.token_s / self.generate_slots,
            "tts": self.sentences * self.sentence_s,
        }

    def split(self, gpus: int) -> dict[str, int]:
        """GPUs per role: as many as the work asks for, rounded up, and the rest for synthesis, which asks for most."""
        need = self.gpu_s()
        total = sum(need.values())
        found = {role: math.ceil(gpus * need[role] / total) for role in ("stt", "llm")}
        return found | {"tts": max(1, gpus - sum(found.values()))}

    def capacity(self, split: dict[str, int]) -> float:
        """Turns per second that the GPUs alone could do."""
        return min(split[role] / seconds for role, seconds in self.gpu_s().items())


SETTLED = 0.4
"""Share of a simulation that is not counted: lines are still growing."""


@dataclass(frozen=True)
class Outcome:
    """What a cluster of that size did."""

    gpus: int
    shards: int
    offered: float
    """Turns per second that were handed in."""
    achieved: float
    redis: float
    """Share of the time that the busiest Redis worked."""
    first_audio_s: float
    """Median."""
    longest: str
    """The longest line at the end: where work piles up first."""


class _Cluster:
    """GPUs by role behind their Redis servers, and what became of the turns."""

    def __init__(self, engines: Engines, split: dict[str, int], redis_turn_s: float, shards: int) -> None:
        self.clock = Clock()
        self.stores = [Server("redis") for _ in range(shards)]
        slots = {"stt": engines.transcribe_slots, "llm": engines.generate_slots, "tts": 1}
        self.pools = {role: Server(role, count * slots[role]) for role, count in split.items()}
        self.firsts: list[float] = []
        self.ended: list[float] = []
        self._engines = engines
        self._hop = redis_turn_s / (5 + engines.sentences)

    def turn(self, store: Server) -> Job:
        """Start, transcribe, retrieve (on CPUs), and hand over to the writer."""
        began, open_sentences = self.clock.now, [self._engines.sentences]
        yield (store,), 2 * self._hop
        yield (self.pools["stt"],), self._engines.transcribe_s
        yield (store,), 2 * self._hop
        yield (self.pools["llm"],), lambda: self._write(store, began, open_sentences)

    def _write(self, store: Server, began: float, open_sentences: list[int]) -> float:
        """The slot is held for the whole text; every sentence starts on its own when its part is written."""
        whole, sentences = self._engines.tokens * self._engines.token_s, self._engines.sentences
        for number in range(sentences):
            done = partial(self._spoken, store, began if number == 0 else None, open_sentences)
            self.clock.at(
                self.clock.now + whole * (number + 1) / sentences, partial(self.clock.start, self._speak(store), done)
            )
        return whole

    def _speak(self, store: Server) -> Job:
        yield (store,), self._hop / 2
        yield (self.pools["tts"],), self._engines.sentence_s
        yield (store,), self._hop / 2

    def _spoken(self, store: Server, began: float | None, open_sentences: list[int]) -> None:
        if began is not None:
            self.firsts.append(self.clock.now - began)
        open_sentences[0] -= 1
        if open_sentences[0] == 0:
            self.clock.start(self._finish(store), lambda: self.ended.append(self.clock.now))

    def _finish(self, store: Server) -> Job:
        yield (store,), self._hop

    def longest(self) -> str:
        """Where most wait now."""
        lines = {server.name: len(server.line) for server in (*self.stores, *self.pools.values())}
        name = max(lines, key=lambda one: lines[one])
        return name if lines[name] else "none"


def turns(
    engines: Engines, redis_turn_s: float, *, gpus: int, shards: int = 1, load: float = 0.8, seconds: float = 8.0,
    most: int = 4000, seed: int = 7,
) -> Outcome:  # fmt: skip
    """Poisson arrivals at `load` of what the GPUs could do, `redis_turn_s` of a Redis for each turn."""
    split = engines.split(gpus)
    offered = load * engines.capacity(split)
    cluster, draw = _Cluster(engines, split, redis_turn_s, shards), random.Random(seed)
    count = min(most, max(400, int(offered * seconds)))
    for when in _arrivals(draw, offered, count):
        begin = partial(cluster.turn, draw.choice(cluster.stores))
        cluster.clock.at(when, lambda begin=begin: cluster.clock.start(begin()))  # type: ignore[misc]
    horizon = count / offered
    cluster.clock.run(horizon)
    settled = horizon * SETTLED
    return Outcome(
        gpus=gpus,
        shards=shards,
        offered=offered,
        achieved=sum(when > settled for when in cluster.ended) / (horizon - settled),
        redis=min(1.0, max(store.busy_s for store in cluster.stores) / horizon),
        first_audio_s=statistics.median(cluster.firsts) if cluster.firsts else float("inf"),
        longest=cluster.longest(),
    )


def _arrivals(draw: random.Random, rate: float, count: int) -> Iterator[float]:
    at = 0.0
    for _ in range(count):
        at += draw.expovariate(rate)
        yield at
