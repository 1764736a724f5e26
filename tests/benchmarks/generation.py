"""Tokens per second and time to the first token, mixed adapters: this cluster beside raw vLLM and what serves it elsewhere.

Every contender has an engine of its own with the very same arguments. This cluster stays; the others come beside it in small
groups, for many engines at a time push each other's pages out of memory. While one is measured, the rest of its group is
frozen, and what is compared was measured within seconds. Servers run twice: as they come, and with this cluster's plugins for
vLLM (`workers.engines.generator_plugins`), so that what the plugins gain is not mistaken for what the queue costs. The raw
engines always compute adapters with them; to give way to others is for engine cores in processes of their own.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from shared.settings import ROOT
from tests.support.servers import RedisServer, free_port
from tests.support.waiting import until

from .child import Child, Group, base_environment
from .measures import Section, Table, median, number, quantile, ratios, spread
from .peers.environment import Peers, ensure
from .peers.workload import TOKENS

LEVELS = (1, 8, 16, 64)
ROUNDS, SINGLES = (
    int(os.environ.get(f"BENCH_GENERATION_{name}", default)) for name, default in {"ROUNDS": 4, "SINGLES": 8}.items()
)
"""Rounds of what has a target, others have half as many; jobs one after another in a round of single ones."""
WARM = 32
"""Jobs, at most, that run before a batch is measured: what was frozen has to come back to its caches first."""
TOP = int(os.environ.get("BENCH_GENERATION_TOP", LEVELS[-1]))
"""Jobs of the largest batch."""
ROOM_GIB = 2.5
"""Memory that must be free before a further engine is started."""
START_LIMIT_S = 90
THAW_S = 0.1
"""Seconds that a server has to close what it finds too old, before its client asks."""
OURS = "this cluster"
RAW, RAW_ASYNC, NAIVE = "raw LLM.generate", "raw AsyncLLM", "one generate per Celery task"
OPENAI, LITSERVE, RAY = "vLLM's OpenAI server", "LitServe", "Ray Serve"
SERVERS = (OPENAI, LITSERVE, RAY)
PLUGIN = " with the plugin"
"""Behind the name of a server that is given this cluster's plugin."""


def has_plugin(name: str) -> bool:
    """Whether adapters are computed as in this cluster."""
    return name in (OURS, RAW, RAW_ASYNC) or name.endswith(PLUGIN)


@dataclass
class Found:
    """What the batches of a contender took."""

    rates: dict[tuple[int, bool], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Tokens per second of each round; by level, and whether it was streamed."""
    firsts: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Milliseconds to the first token of each streamed job."""
    first_medians: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Their median of each round."""

    def add(self, level: int, streamed: bool, answers: list[dict[str, Any]]) -> None:
        """A round."""
        rate = sum(one["tokens"] for one in answers) / sum(one["seconds"] for one in answers)
        self.rates[level, streamed].append(rate)
        firsts = [first for one in answers for first in one["ttft_ms"]]
        if streamed and firsts:
            self.firsts[level] += firsts
            self.first_medians[level].append(median(firsts))

    def take(self, other: Found) -> None:
        """What it found too."""
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            for key, values in theirs.items():
                mine[key] += values


class Contender:
    """A server with its client, or an engine in the client itself."""

    streams = True
    slow = False
    """Takes as long as all others together, and streams nothing: one round of a level, after one job."""

    def __init__(self, name: str, folder: Path, python: str = sys.executable) -> None:
        """Start what there is to start."""
        self.redis: RedisServer | None = None
        self.groups: list[Group] = []
        self.name = name
        self.python = python
        self.folder = folder
        folder.mkdir(parents=True)
        self.environment = base_environment(PYTHONPATH=str(ROOT), MAEARI_HOME=str(folder))
        if not has_plugin(name):
            self.environment["VLLM_PLUGINS"] = "none"
        if shutil.which("nvidia-smi"):  # they lie on the same card, though only one computes at a time
            self.environment["MAEARI_LLM_GPU_MEMORY"] = f"{0.85 / (1 + max(map(len, _GROUPS))):.3f}"
        self.found = Found()
        self.client = self.start()

    def start(self) -> Child:
        """Everything; gives the client."""
        raise NotImplementedError

    def driver(self, *arguments: str) -> Child:
        """The client."""
        command = [sys.executable, "-m", "tests.benchmarks.peers.drivers", *arguments]
        return Child(command, self.folder / "client.log", self.environment, needs=self.groups)

    def with_redis(self) -> None:
        """A Redis of its own."""
        self.redis = RedisServer(self.folder / "redis", "--appendfsync", "everysec")
        self.environment |= {"BENCH_REDIS": self.redis.url, "MAEARI_REDIS_URL": self.redis.url}

    def group(self, name: str, *command: str) -> Group:
        """A server process."""
        self.groups.append(Group([self.python, *command], self.folder / f"{name}.log", self.environment))
        return self.groups[-1]

    def run(self, count: int, *, streamed: bool) -> dict[str, Any]:
        """A batch."""
        answer: dict[str, Any] = self.client.ask("run", {"count": count, "streamed": streamed and self.streams})
        if answer["tokens"] != count * TOKENS:
            raise RuntimeError(f"{self.name} gave {answer['tokens']} tokens instead of {count * TOKENS}")
        return answer

    def turn(self, level: int, *, streamed: bool) -> None:
        """Jobs of a level, warm; single ones one after another. Then it is frozen again."""
        if self.slow and (level, streamed) in self.found.rates:
            return
        self.thaw()
        self.run(1 if self.slow else min(level, WARM), streamed=streamed)
        runs = SINGLES if level == 1 else 1
        answers = [self.run(min(level, TOP), streamed=streamed) for _ in range(runs)]
        for either in (True, False) if self.slow else (streamed,):
            self.found.add(level, either, answers)
        self.freeze()

    def freeze(self) -> None:
        """Take no core."""
        for group in (self.client, *self.groups):
            group.freeze()
        if self.redis:
            self.redis.freeze()

    def thaw(self) -> None:
        """Go on."""
        if self.redis:
            self.redis.thaw()
        for group in self.groups:
            group.thaw()
        time.sleep(THAW_S)
        self.client.thaw()

    def close(self) -> None:
        """Leave nothing."""
        for group in (getattr(self, "client", None), *self.groups):
            if group is not None:
                group.close()
        if self.redis:
            self.redis.close()


class InClient(Contender):
    """The engine lies in the client."""

    def start(self) -> Child:
        """Nothing else."""
        self.streams = self.name == RAW_ASYNC
        return self.driver("async" if self.streams else "batch")


class Cluster(Contender):
    """This cluster: Redis and an llm worker. One tenant hands in all jobs, so its share is raised."""

    def start(self) -> Child:
        """The worker is ready when the first job comes back."""
        self.with_redis()
        self.environment |= {"MAEARI_TENANT_SHARE": str(TOP), "MAEARI_TASK_EVENTS": "false"}
        self.group("llm", "-m", "workers", "llm", "--name", "llm@bench")
        return self.driver("cluster")


class Naive(Contender):
    """A task per reply."""

    streams = False
    slow = True

    def start(self) -> Child:
        """A solo worker."""
        self.with_redis()
        command = ["-m", "celery", "-A", "tests.benchmarks.peers.naive_celery", "worker", "--pool", "solo"]
        self.group("worker", *command, "--loglevel", "ERROR", "--without-gossip", "--without-mingle")
        return self.driver("celery")


class Served(Contender):
    """A server over HTTP."""

    def start(self) -> Child:
        """The server must listen before its client asks."""
        port = free_port()
        maker = self.name.removesuffix(PLUGIN)
        module, path, health = {
            OPENAI: ("openai_server", "v1/completions", "health"),
            LITSERVE: ("lit_server", "predict", "health"),
            RAY: ("ray_server", "predict", "-/routes"),
        }[maker]
        url = f"http://127.0.0.1:{port}/{health}"
        server = self.group("server", "-m", f"tests.benchmarks.peers.{module}", str(port))
        try:
            until(lambda: self._listens(server, url), f"{self.name} listens", timeout_s=START_LIMIT_S, every_s=0.5)
        except AssertionError as error:
            raise RuntimeError(str(error)) from None
        kind = "openai" if maker == OPENAI else "plain"
        return self.driver("http", kind, f"http://127.0.0.1:{port}/{path}")

    def _listens(self, server: Group, url: str) -> bool:
        import httpx

        server.check()
        try:
            answer = httpx.get(url, timeout=2)
        except httpx.HTTPError:
            return False
        return answer.is_success and (not self.name.startswith(RAY) or "predict" in answer.text)


Entry = tuple[str, type[Contender], str]
"""Name, kind, and the peer that must be installed."""


@dataclass
class Comparison:
    """A contender beside this cluster."""

    found: Found
    ours: Found
    """This cluster's rounds, each seconds away from one of the contender's."""

    def over(self, level: int, *, streamed: bool) -> list[float]:
        """This cluster's tokens per second over the contender's, round by round."""
        return ratios(self.ours.rates[level, streamed], self.found.rates[level, streamed])


@dataclass
class Field:
    """Who is there at a time."""

    folder: Path
    section: Section
    peers: Peers
    here: list[Contender] = field(default_factory=list)

    def enter(self, group: Sequence[Entry]) -> list[Contender]:
        """Start all of a group at a time, try them, freeze them; of one that is not there, say why."""
        room = int(psutil.virtual_memory().available / 2**30 / ROOM_GIB)
        with ThreadPoolExecutor(len(group)) as pool:
            found = list(pool.map(self._entered, group[:room]))
        found += [f"an engine needs {ROOM_GIB} GiB of memory, which are not free"] * len(group[room:])
        for (name, _, _), contender in zip(group, found, strict=True):
            if isinstance(contender, str):
                self.section.notes.append(f"{name} was not run: {contender}")
        return [contender for contender in found if isinstance(contender, Contender)]

    def _entered(self, entry: Entry) -> Contender | str:
        name, kind, needs = entry
        return self.peers.missing.get(needs) or self._start(name, kind, self.peers.python if needs else sys.executable)

    def _start(self, name: str, kind: type[Contender], python: str) -> Contender | str:
        contender = kind.__new__(kind)  # known before it starts, so that half a start can be closed
        try:
            contender.__init__(name, self.folder / _slug(name), python)  # type: ignore[misc]
            contender.run(min(8, TOP), streamed=True)
            contender.freeze()
        except RuntimeError as error:
            contender.close()
            return str(error)
        except BaseException:  # an interrupted run leaves nothing behind
            contender.close()
            raise
        self.here.append(contender)
        return contender

    def leave(self, contenders: Sequence[Contender]) -> None:
        """They end."""
        for contender in contenders:
            contender.close()
            self.here.remove(contender)


def measure(folder: Path) -> Section:
    """Group by group, level by level, everybody in turn."""
    section = Section()
    field_ = Field(folder, section, ensure())
    compared: dict[str, Comparison] = {}
    try:
        ours = field_.enter([(OURS, Cluster, "")])
        if not ours:
            raise RuntimeError(section.notes[-1])
        for group in _GROUPS:
            compared |= _beside(field_, ours[0], group)
    finally:
        field_.leave(tuple(field_.here))
    _report(section, compared)
    return section


def _beside(field_: Field, ours: Contender, group: Sequence[Entry]) -> dict[str, Comparison]:
    """A group comes, is measured beside this cluster, and leaves."""
    others = field_.enter(group)
    if not others:
        return {}
    ours.found = Found()
    aimed_at = {(LEVELS[-1], False)} | {(1, True) for contender in others if contender.name == RAW_ASYNC}
    for level, streamed in [(level, True) for level in LEVELS] + [(LEVELS[-1], False)]:
        rounds = ROUNDS if (level, streamed) in aimed_at else max(1, ROUNDS // 2)
        for _ in range(1 if any(contender.slow for contender in others) else rounds):
            for contender in (ours, *others):
                contender.turn(level, streamed=streamed)
    field_.leave(others)
    return {contender.name: Comparison(contender.found, ours.found) for contender in others}


_NEEDS = {OPENAI: "", LITSERVE: "litserve", RAY: "ray"}
"""Which peer a server comes with."""
_GROUPS: tuple[tuple[Entry, ...], ...] = (
    ((RAW, InClient, ""), (RAW_ASYNC, InClient, "")),
    *(tuple((f"{name}{suffix}", Served, needs) for suffix in ("", PLUGIN)) for name, needs in _NEEDS.items()),
    ((NAIVE, Naive, ""),),
)
_AIMS = {RAW: 0.97, NAIVE: 8.0} | {
    f"{name}{suffix}": aim for name, aim in zip(SERVERS, (1.0, 1.1, 1.5), strict=True) for suffix in ("", PLUGIN)
}
_SLUGS = {
    OURS: "ours",
    RAW: "raw",
    RAW_ASYNC: "async",
    OPENAI: "openai",
    LITSERVE: "litserve",
    RAY: "ray",
    NAIVE: "naive",
}


def _slug(name: str) -> str:
    return _SLUGS[name.removesuffix(PLUGIN)] + ("_with_plugin" if name.endswith(PLUGIN) else "")


def _report(section: Section, compared: dict[str, Comparison]) -> None:
    here = _all_rounds(compared)
    section.tables += [_rates(here, compared), _firsts(here)]
    for name, comparison in compared.items():
        rates = comparison.over(LEVELS[-1], streamed=False)
        section.figures[f"tokens_over_{_slug(name)}"] = median(rates)
        section.figures[f"streamed_tokens_over_{_slug(name)}"] = median(comparison.over(LEVELS[-1], streamed=True))
        if name in _AIMS:
            section.at_least(f"tokens/s of {TOP} jobs / {name}", median(rates), _AIMS[name])
    if raw := compared.get(RAW_ASYNC):
        added = [a - b for a, b in zip(raw.ours.first_medians[1], raw.found.first_medians[1], strict=True)]
        section.figures["added_ttft_ms_over_async"] = median(added)
        section.at_most("added time to first token at concurrency 1, p50", median(added), 3.0, " ms")
    section.notes.append(
        "On a CPU, vLLM copies an adapter's weights for every token, which took two thirds of a step of the laptop's model (py-spy, "
        "once); this cluster's plugins multiply with the adapters of a batch at once, and let the processes that bring jobs go "
        "before the engine's core. A server that a user would install has not got them: measured as it comes, it says what the "
        "cluster gains; with the plugins, what the queue costs beside a server's way over HTTP. The targets compare answers that "
        "are not streamed."
    )
    section.notes.append(
        "What keeps the cluster from the raw engine's figure (batches of 64 followed through the laptop's worker, once): the engine "
        "computes on one core and leaves one to the rest, where a job takes some 1.5 ms until it reaches the engine: the caller, "
        "Redis, claim, prompt and vLLM's own front end. So the last of 64 jobs is there 105 ms after they were handed in; by then "
        "the engine has begun with 1, 4 and 10 of them, the prompts of the others are computed at 220 ms, and what began first ends "
        "up to 60 ms before the rest. The last result is seen 10 ms after it is there. That makes 1.3 s, the raw engine's batch "
        "1.15. Holding jobs back until more had come gained nothing."
    )
    section.notes.append(
        "A batch is handed in as one list where a contender takes lists: `LLM.generate`, and this cluster (`Producer.submit_all`). "
        "Streamed, the cluster writes what each job says every 30 ms or more into its record, from which a caller can read on after "
        "any interruption. Raw engines and HTTP servers are given token ids, which spares them the tokenizing that the cluster does."
    )
    levels = [str(level) for level in LEVELS]
    shown = {name: found for name, found in here.items() if not name.endswith(PLUGIN)}
    series = {n: [median(c.rates[level, True]) for level in LEVELS] for n, c in shown.items()}
    caption = "Tokens per second against jobs at a time, streamed where a contender can; servers as they come."
    section.pictures.append(
        {"kind": "lines", "file": "bench-generation.svg", "caption": caption, "x": levels, "series": series}
        | {"unit": "tokens/s", "x_label": "jobs at a time"}
    )
    caption = "Time to the first token of 16 jobs that come at once: share of jobs that have theirs."
    series_of_firsts = {name: sorted(c.firsts[16]) for name, c in shown.items() if c.firsts.get(16)}
    section.pictures.append(
        {"kind": "distribution", "file": "bench-ttft.svg", "caption": caption, "unit": "ms", "series": series_of_firsts}
    )


def _all_rounds(compared: dict[str, Comparison]) -> dict[str, Found]:
    """Everybody's rounds; this cluster's of all groups, each once, behind the raw engines."""
    ours = Found()
    for rounds in {id(comparison.ours): comparison.ours for comparison in compared.values()}.values():
        ours.take(rounds)
    found = {name: comparison.found for name, comparison in compared.items()}
    return {name: found.pop(name) for name in (RAW, RAW_ASYNC) if name in found} | {OURS: ours} | found


def _rates(here: dict[str, Found], compared: dict[str, Comparison]) -> Table:
    rows = []
    for name, found in here.items():
        cells = [number(median(found.rates[level, True])) for level in LEVELS]
        cells.append(number(median(found.rates[LEVELS[-1], False])))
        if name in compared:
            shares = compared[name].over(LEVELS[-1], streamed=False)
            cells.append(f"{median(shares):.2f} ({spread(shares)})")
            cells.append(number(median(compared[name].over(LEVELS[-1], streamed=True))))
        else:
            cells += ["", ""]
        rows.append([name, "the plugins" if has_plugin(name) else "vLLM", *cells])
    columns = ["tokens/s", "adapters computed by", *(f"{level} at a time" for level in LEVELS), f"{TOP}, not streamed"]
    return Table("Throughput", [*columns, "cluster / this, not streamed (rounds)", "streamed"], rows)


def _firsts(here: dict[str, Found]) -> Table:
    rows = [
        [name, *(f"{number(median(c.firsts[v]))} / {number(quantile(c.firsts[v], 0.95))}" for v in LEVELS)]
        for name, c in here.items()
        if c.firsts
    ]
    return Table("Time to first token, p50 / p95 in ms", ["", *(f"{level} at a time" for level in LEVELS)], rows)
