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
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from shared.settings import ROOT
from tests.support.servers import RedisServer, free_port
from tests.support.waiting import until

from .child import Child, Group, base_environment
from .measures import Section, Table, median, number, quantile, ratios, spread
from .peers.environment import Peers, ensure


class Batch(NamedTuple):
    """What is measured together."""

    jobs: int
    tokens: int
    """Of every reply, neither more nor less."""
    streamed: bool


LEVELS = (1, 8, 16, 64)
ROUNDS, SINGLES = (
    int(os.environ.get(f"BENCH_GENERATION_{name}", default)) for name, default in {"ROUNDS": 4, "SINGLES": 8}.items()
)
"""Rounds of what has a target, others have fewer (`_plan`); jobs one after another in a round of single ones."""
SWEEP = tuple(Batch(level, 64, streamed=True) for level in LEVELS)
LENGTHS = tuple(Batch(LEVELS[-1], tokens, streamed=False) for tokens in (64, 128, 256))
AIMED = LENGTHS[1]
"""What targets speak of: a full batch of replies as long as vLLM's own benchmark has them by default."""
WARM, WARM_TOKENS = 32, 16
"""Jobs that run before a batch is measured, as many as it has up to this: what was frozen has to come back to its caches."""
ROOM_GIB = 2.5
"""Memory that must be free before a further engine is started."""
START_LIMIT_S = 90
OURS = "this cluster"
RAW, RAW_ASYNC, NAIVE = "raw LLM.generate", "raw AsyncLLM", "one generate per Celery task"
OPENAI, LITSERVE, RAY = "vLLM's OpenAI server", "LitServe", "Ray Serve"
SERVERS = (OPENAI, LITSERVE, RAY)
PLUGIN = " with the plugin"
"""Behind the name of a server that is given this cluster's plugin."""
GIVEN = os.environ.get("BENCH_GENERATION_GIVEN", "openai").split()
"""Servers that run with the plugins as well, of openai, litserve and ray."""


def has_plugin(name: str) -> bool:
    """Whether adapters are computed as in this cluster."""
    return name in (OURS, RAW, RAW_ASYNC) or name.endswith(PLUGIN)


@dataclass
class Found:
    """What the batches of a contender took."""

    rates: dict[Batch, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Tokens per second of each round."""
    firsts: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Milliseconds to the first token of each streamed job."""
    first_medians: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Their median of each round."""

    def add(self, batch: Batch, answers: list[dict[str, Any]]) -> None:
        """A round."""
        rate = sum(one["tokens"] for one in answers) / sum(one["seconds"] for one in answers)
        self.rates[batch].append(rate)
        firsts = [first for one in answers for first in one["ttft_ms"]]
        if batch.streamed and firsts:
            self.firsts[batch.jobs] += firsts
            self.first_medians[batch.jobs].append(median(firsts))

    def take(self, other: Found) -> None:
        """What it found too."""
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            for key, values in theirs.items():
                mine[key] += values


class Contender:
    """A server with its client, or an engine in the client itself."""

    streams = True
    slow = False
    """Takes as long as all others together: one round, after one job."""

    def __init__(self, name: str, folder: Path, python: str = sys.executable) -> None:
        """Nothing runs yet."""
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
            self.environment["MAEARI_LLM_GPU_MEMORY"] = f"{0.85 / 3:.3f}"
        self.found = Found()

    def begin(self) -> None:
        """Start what there is to start, and try it."""
        self.client = self.start()
        self.run(Batch(8, WARM_TOKENS, streamed=True))
        self.freeze()

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

    def run(self, batch: Batch) -> dict[str, Any]:
        """A batch."""
        question = batch._replace(streamed=batch.streamed and self.streams)
        answer: dict[str, Any] = self.client.ask("run", question._asdict())
        if answer["tokens"] != batch.jobs * batch.tokens:
            raise RuntimeError(f"{self.name} gave {answer['tokens']} tokens instead of {batch.jobs * batch.tokens}")
        return answer

    def takes(self, batch: Batch) -> bool:
        """Whether it is measured with it: what says little and costs much is left out."""
        if self.slow:
            return batch == AIMED or batch in SWEEP[:-1]
        if self.name == RAW_ASYNC:
            return batch == AIMED or batch in SWEEP
        return batch.jobs == LEVELS[-1] or not self.name.endswith(PLUGIN)

    def turn(self, batch: Batch) -> None:
        """A batch, warm; single jobs one after another. Then it is frozen again."""
        self.thaw()
        self.run(Batch(1 if self.slow else min(batch.jobs, WARM), WARM_TOKENS, batch.streamed))
        runs = SINGLES if batch.jobs == 1 else 1
        self.found.add(batch, [self.run(batch) for _ in range(runs)])
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
        self.environment |= {"MAEARI_TENANT_SHARE": str(LEVELS[-1]), "MAEARI_TASK_EVENTS": "false"}
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

    def over(self, batch: Batch) -> list[float]:
        """This cluster's tokens per second over the contender's, round by round."""
        return ratios(self.ours.rates.get(batch, ()), self.found.rates.get(batch, ()))


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
            try:
                found = list(pool.map(self._entered, group[:room]))
            except BaseException:  # an interrupted run waits for no start, and leaves nothing behind
                self.leave(tuple(self.here))
                raise
        found += [f"an engine needs {ROOM_GIB} GiB of memory, which are not free"] * len(group[room:])
        for (name, _, _), contender in zip(group, found, strict=True):
            if isinstance(contender, str):
                self.section.notes.append(f"{name} was not run: {contender}")
        return [contender for contender in found if isinstance(contender, Contender)]

    def _entered(self, entry: Entry) -> Contender | str:
        name, kind, needs = entry
        return self.peers.missing.get(needs) or self._start(name, kind, self.peers.python if needs else sys.executable)

    def _start(self, name: str, kind: type[Contender], python: str) -> Contender | str:
        contender = kind(name, self.folder / _slug(name), python)
        self.here.append(contender)
        try:
            contender.begin()
        except RuntimeError as error:
            self.leave([contender])
            return str(error)
        return contender

    def leave(self, contenders: Sequence[Contender]) -> None:
        """They end."""
        for contender in contenders:
            contender.close()
            if contender in self.here:
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
        for group in _groups():
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
    for batch, rounds in _plan(others):
        here = [contender for contender in (ours, *others) if contender.takes(batch)]
        for _ in range(rounds if len(here) > 1 else 0):
            for contender in here:
                contender.turn(batch)
    field_.leave(others)
    return {contender.name: Comparison(contender.found, ours.found) for contender in others}


def _plan(others: Sequence[Contender]) -> list[tuple[Batch, int]]:
    """Batches and their rounds: all for what has a target, half for the rest, one between a single job and a full batch."""
    names = {contender.name for contender in others}
    if any(contender.slow for contender in others):
        return [(batch, 1) for batch in (*SWEEP, AIMED)]
    aimed = (AIMED, SWEEP[0]) if RAW_ASYNC in names else (AIMED,)
    full = LENGTHS if RAW in names else (AIMED,)
    seldom = SWEEP[1:-1]
    return [
        (batch, ROUNDS if batch in aimed else 1 if batch in seldom else max(1, ROUNDS // 2))
        for batch in (*SWEEP, *full)
    ]


_NEEDS = {OPENAI: "", LITSERVE: "litserve", RAY: "ray"}
"""Which peer a server comes with."""
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


def _groups() -> tuple[tuple[Entry, ...], ...]:
    """Who is there at a time: the raw engines, servers in pairs, the slow one."""
    servers: list[Entry] = []
    for name, needs in _NEEDS.items():
        suffixes = ("", PLUGIN) if _SLUGS[name] in GIVEN else ("",)
        servers += [(f"{name}{suffix}", Served, needs) for suffix in suffixes]
    pairs = (tuple(servers[place : place + 2]) for place in range(0, len(servers), 2))
    return (((RAW, InClient, ""), (RAW_ASYNC, InClient, "")), *pairs, ((NAIVE, Naive, ""),))


_AIMS = {RAW: 0.97, NAIVE: 8.0} | {
    f"{name}{suffix}": aim for name, aim in zip(SERVERS, (1.0, 1.1, 1.5), strict=True) for suffix in ("", PLUGIN)
}


def _report(section: Section, compared: dict[str, Comparison]) -> None:
    here = _all_rounds(compared)
    section.tables += [_rates(here, compared), _firsts(here)]
    if raw := compared.get(RAW):
        section.tables.append(_lengths(raw))
        section.figures |= {f"tokens_over_raw_{batch.tokens}": median(raw.over(batch)) for batch in LENGTHS}
    for name, comparison in compared.items():
        rates = comparison.over(AIMED)
        section.figures[f"tokens_over_{_slug(name)}"] = median(rates)
        if streamed := comparison.over(SWEEP[-1]):
            section.figures[f"streamed_tokens_over_{_slug(name)}"] = median(streamed)
        if name in _AIMS:
            section.at_least(f"tokens/s of {AIMED.jobs} jobs / {name}", median(rates), _AIMS[name])
    if direct := compared.get(RAW_ASYNC):
        added = [a - b for a, b in zip(direct.ours.first_medians[1], direct.found.first_medians[1], strict=True)]
        section.figures["added_ttft_ms_over_async"] = median(added)
        section.at_most("added time to first token at concurrency 1, p50", median(added), 3.0, " ms")
    section.notes.append(
        "On a CPU, vLLM copies an adapter's weights for every token, which took two thirds of a step of the laptop's model (py-spy, "
        "once); this cluster's plugins multiply with the adapters of a batch at once, and let the processes that bring jobs go "
        "before the engine's core. A server that a user would install has not got them: measured as it comes, it says what the "
        'cluster gains; with the plugins, what the queue costs beside a server\'s way over HTTP (`BENCH_GENERATION_GIVEN="openai litserve ray"` '
        "gives them to more; LitServe had 1.03 then and Ray Serve 1.13, of replies of 64 tokens). Targets compare answers that are not "
        "streamed, of 128 tokens, the length that vLLM's own benchmark has by default; the sweep over concurrency has 64."
    )
    section.notes.append(
        "What keeps the cluster from the raw engine's figure is the same for replies of every length: a batch of 64 costs some 100 ms "
        "more (laptop's model, measured with replies of 8 tokens). Until a job reaches the engine, the caller, Redis, claim, prompt "
        "and vLLM's own front end take 1.2 ms of the one core that the engine leaves, so the last of 64 is there 80 to 90 ms after "
        "they were handed in; 20 ms go by between the last token and the last result. Holding the first ones back until the others "
        "had come gained nothing. At 128 tokens seven runs gave 0.94 to 0.99: instances of one engine differ by some percent here."
    )
    section.notes.append(
        "A batch is handed in as one list where a contender takes lists: `LLM.generate`, and this cluster (`Producer.submit_all`). "
        "Streamed, the cluster writes what each job says every 30 ms or more into its record, from which a caller can read on after "
        "any interruption. Everybody is handed text: the cluster messages, to which it applies the chat template, the others prompts "
        "with the template applied."
    )
    levels = [str(level) for level in LEVELS]
    shown = {name: found for name, found in here.items() if not name.endswith(PLUGIN)}
    series = {n: [median(c.rates[batch]) for batch in SWEEP if batch in c.rates] for n, c in shown.items()}
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
        cells = [number(median(found.rates[batch])) if batch in found.rates else "" for batch in (*SWEEP, AIMED)]
        shares = [compared[name].over(batch) if name in compared else [] for batch in (AIMED, SWEEP[-1])]
        cells += [f"{median(rounds):.2f} ({spread(rounds)})" if rounds else "" for rounds in shares]
        rows.append([name, "the plugins" if has_plugin(name) else "vLLM", *cells])
    columns = [f"{batch.jobs} at a time" for batch in SWEEP]
    columns += [f"{AIMED.jobs}, not streamed, {AIMED.tokens} tokens", "cluster / this (rounds)", "of those streamed"]
    title = f"Throughput, replies of {SWEEP[0].tokens} tokens, streamed where a contender can"
    return Table(title, ["tokens/s", "adapters computed by", *columns], rows)


def _lengths(raw: Comparison) -> Table:
    """What a job costs does not grow with its reply."""
    rows = []
    for batch in LENGTHS:
        both = [number(median(found.rates[batch])) for found in (raw.ours, raw.found)]
        rows.append([f"{batch.tokens} tokens", *both, f"{median(raw.over(batch)):.2f} ({spread(raw.over(batch))})"])
    title = f"{AIMED.jobs} jobs by the length of a reply, not streamed, tokens/s"
    return Table(title, ["", OURS, RAW, "ratio (rounds)"], rows)


def _firsts(here: dict[str, Found]) -> Table:
    rows = [
        [name, *(_middle_and_late(c.firsts[level]) if level in c.firsts else "" for level in LEVELS)]
        for name, c in here.items()
        if c.firsts
    ]
    return Table("Time to first token, p50 / p95 in ms", ["", *(f"{level} at a time" for level in LEVELS)], rows)


def _middle_and_late(times: list[float]) -> str:
    return f"{number(median(times))} / {number(quantile(times, 0.95))}"
