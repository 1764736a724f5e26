"""A cluster of real worker processes whose engines only keep time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from shared.contracts.events import TERMINAL, Event, Started
from shared.contracts.status import JobView
from shared.producer import Producer

from .servers import RedisServer
from .waiting import until
from .workers import WorkerProcess


def _environment(settings: dict[str, str | float]) -> dict[str, str]:
    return {f"MAEARI_{name.upper()}": str(value) for name, value in settings.items()}


def terminals(events: Sequence[Event]) -> list[str]:
    """The types that end a stream; exactly one of them should."""
    return [event.type for event in events if event.type in TERMINAL]


class ScriptedCluster:
    """Workers by name (`llm-1`: the first of role llm) at one Redis, or at a proxy before it."""

    def __init__(
        self,
        folder: Path,
        *names: str,
        server: RedisServer,
        url: str | None = None,
        urls: Mapping[str, str] | None = None,
        **settings: str | float,
    ) -> None:
        """`url`: where the workers find Redis, if not at the `server` itself; `urls`: the same by role.

        `settings`: as in `shared.settings`.
        """
        self.folder = folder
        self.server = server
        self.producer = Producer(self.server.url)
        self._environment = {
            "MAEARI_REDIS_URL": url or self.server.url,
            "MAEARI_HOME": str(folder),
            "MAEARI_ENGINES": "scripted",
            "MAEARI_LOG_LEVEL": "INFO",
        } | _environment(settings)
        self._urls = urls or {}
        self.workers: dict[str, WorkerProcess] = {}
        self.add(*names)

    def add(self, *names: str, **settings: str | float) -> None:
        """Start workers, with settings of their own, and wait until all of them are ready."""
        environment = self._environment | _environment(settings)
        for name in names:
            role = name.split("-")[0]
            own = {"MAEARI_REDIS_URL": self._urls[role]} if role in self._urls else {}
            self.workers[name] = WorkerProcess(role, self.folder, environment | own, name=f"{name}@test")
        self._wait_ready(names)

    def restart(self, *names: str) -> None:
        """Start workers that have ended, and wait until all of them are ready."""
        for name in names:
            self.workers[name].start()
        self._wait_ready(names)

    def _wait_ready(self, names: Sequence[str]) -> None:
        for name in names:
            self.workers[name].wait_ready(self.producer)

    def close(self) -> None:
        """Leave nothing running."""
        for worker in self.workers.values():
            worker.close()
        self.server.close()

    # --- jobs ---

    def generate(
        self, job_id: str, question: str = "안녕", *, tenant: str = "t", max_tokens: int = 512, **options: Any
    ) -> str:
        """Ask for a streamed reply."""
        messages = [{"role": "user", "content": question}]
        request = {"tenant": tenant, "messages": messages, "stream": True, "sampling": {"max_tokens": max_tokens}}
        return self.producer.submit("llm.generate", request, job_id=job_id, **options).job_id

    def embed(self, job_id: str, *, tenant: str = "t", **options: Any) -> str:
        """The shortest job."""
        return self.producer.submit("rag.embed", {"tenant": tenant, "texts": ["안녕"]}, job_id=job_id, **options).job_id

    def turn(self, job_id: str, *, tenant: str = "t", **options: Any) -> str:
        """A whole turn."""
        return self.producer.submit("turns.start", self.turn_request(job_id, tenant), job_id=job_id, **options).job_id

    @staticmethod
    def turn_request(session: str, tenant: str = "t") -> dict[str, Any]:
        """What a turn asks for."""
        return {"tenant": tenant, "pack": "artist", "session": session, "text": "안녕"}

    # --- what became of them ---

    def view(self, job_id: str) -> JobView:
        """The job's record."""
        view = self.producer.job(job_id)
        assert view is not None
        return view

    def events(self, job_id: str, timeout_s: float = 120.0) -> list[Event]:
        """The whole stream."""
        return list(self.producer.follow(job_id, timeout_s=timeout_s))

    def owner(self, job_id: str) -> str:
        """The worker that runs, or ran, the last attempt."""
        owner = str(self.producer.jobs.client.hget(self.producer.jobs.keys.job(job_id), "owner"))
        pid = int(owner.split(":")[1])
        return next(name for name, worker in self.workers.items() if worker.process and worker.process.pid == pid)

    def until_event(self, job_id: str, kind: str, timeout_s: float = 120.0) -> Event:
        """The first event of that type."""
        for event in self.producer.follow(job_id, timeout_s=timeout_s):
            if event.type == kind:
                return event
        raise AssertionError(f"the stream of {job_id} ended without {kind}")

    def wait_ended(self, *job_ids: str, timeout_s: float = 120.0) -> None:
        """Until all of them have ended, in whatever way."""
        deadline = time.monotonic() + timeout_s
        for job_id in job_ids:
            left = max(0.0, deadline - time.monotonic())
            until(lambda job_id=job_id: self._ended(job_id), f"{job_id} has ended", timeout_s=left, every_s=0.05)

    def _ended(self, job_id: str) -> bool:
        return self._field("state", [job_id])[0] in TERMINAL

    def started_ms(self, *job_ids: str) -> list[int]:
        """When the last attempt at each that has begun began, Redis time."""
        return [int(at) for at in self._field("started", job_ids) if at]

    def _field(self, name: str, job_ids: Sequence[str]) -> list[str]:
        pipe = self.producer.jobs.client.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hget(self.producer.jobs.keys.job(job_id), name)
        return list(pipe.execute())

    def starts(self, job_id: str, stage: str | None = None) -> list[Started]:
        """The attempts at a job, or at one stage of it."""
        return [event for event in self.events(job_id) if isinstance(event, Started) and stage in (None, event.stage)]

    def assert_ran_once(self, *job_ids: str) -> None:
        """Each ended well, once, at the first attempt of every stage, and nothing was told twice."""
        for job_id in job_ids:
            events = self.events(job_id)
            assert terminals(events) == ["done"], job_id
            assert [event.seq for event in events] == list(range(1, len(events) + 1)), job_id
            started = [event for event in events if isinstance(event, Started)]
            assert [event.attempt for event in started] == [1] * (1 + len(self.view(job_id).stages)), job_id
            told = [event.model_dump_json(exclude={"seq", "at"}) for event in events if event.type != "started"]
            assert len(told) == len(set(told)), job_id

    # --- what the workers say ---

    def running(self, name: str) -> int:
        """Attempts under way in that worker, as it says itself; -1 while it says nothing."""
        return next((w.running for w in self.producer.workers() if w.name == f"{name}@test"), -1)

    def logged(self, name: str, pattern: str, timeout_s: float = 90.0) -> float:
        """When (Unix time) the worker first wrote a line with `pattern`, waited for."""
        return until(lambda: next(self._lines(name, pattern), None), f"{name} writes {pattern!r}", timeout_s=timeout_s)

    def _lines(self, name: str, pattern: str) -> Iterator[float]:
        for line in self.workers[name].log().splitlines():
            if re.search(pattern, line) and (stamp := re.match(r"[\d-]+ [\d:]+,\d+", line)):
                yield datetime.strptime(stamp[0], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
