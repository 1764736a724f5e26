"""Who takes part in the generation benchmark: raw engines, this cluster, servers, the naive worker; how each is asked."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from shared.settings import ROOT
from tests.support.servers import RedisServer, free_port
from tests.support.waiting import until

from .child import Child, Group, base_environment
from .measures import median


class Batch(NamedTuple):
    """What is measured together."""

    jobs: int
    tokens: int
    """Of every reply, neither more nor less."""
    streamed: bool


LEVELS = (1, 8, 16, 64)
SINGLES = int(os.environ.get("BENCH_GENERATION_SINGLES", "6"))
"""Jobs one after another in a round of single ones."""
SWEEP = tuple(Batch(level, 64, streamed=True) for level in LEVELS)
AIMED = Batch(LEVELS[-1], 128, streamed=False)
"""What decides where adapters are computed alike: a full batch of replies as long as vLLM's own benchmark has them by default."""
WARM, WARM_TOKENS = 32, 16
"""Jobs that run before a batch is measured, as many as it has up to this: what was frozen has to come back to its caches."""
START_LIMIT_S = 90
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

    rates: dict[Batch, list[float]] = field(default_factory=dict)
    """Tokens per second of each round."""
    firsts: dict[int, list[float]] = field(default_factory=dict)
    """Milliseconds to the first token of each streamed job."""
    first_medians: dict[int, list[float]] = field(default_factory=dict)
    """Their median of each round."""

    def add(self, batch: Batch, answers: list[dict[str, Any]]) -> None:
        """A round."""
        rate = sum(one["tokens"] for one in answers) / sum(one["seconds"] for one in answers)
        self.rates.setdefault(batch, []).append(rate)
        firsts = [first for one in answers for first in one["ttft_ms"]]
        if batch.streamed and firsts:
            self.firsts.setdefault(batch.jobs, []).extend(firsts)
            self.first_medians.setdefault(batch.jobs, []).append(median(firsts))

    def take(self, other: Found) -> None:
        """What it found too."""
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            for key, values in theirs.items():
                mine.setdefault(key, []).extend(values)


class Contender:
    """A server with its client, or an engine in the client itself."""

    streams = True
    slow = False
    """One job warms it up, and one is its round of single ones: it takes as long as all others together."""

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

    def turn(self, batch: Batch) -> None:
        """A batch, warm; single jobs one after another. Then it is frozen again."""
        self.thaw()
        self.run(Batch(1 if self.slow else min(batch.jobs, WARM), WARM_TOKENS, batch.streamed))
        runs = SINGLES if batch.jobs == 1 and not self.slow else 1
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
