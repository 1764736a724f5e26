"""A seeded driver of faults over a cluster under load, in the manner of docket's and Jepsen's.

Engines are scripted (they only keep time), or vLLM with the laptop model for generation (`real_llm`), whose engine cores
are killed as well. Everything else is real: Redis with an append-only file, worker processes, the transport, the records.
Afterwards the invariants are counted, not sampled.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis

from shared.contracts.catalog import QUEUES
from shared.contracts.events import AudioReady, Done, Event, Started, TextDelta
from shared.errors import BrokerUnavailable
from shared.keys import BATCH, PERMANENT, queue_list
from shared.producer import Producer
from tests.support.servers import RedisServer
from tests.support.waiting import until
from tests.support.workers import WorkerProcess

CREW = ("conductor", "conductor", "llm", "llm", "tts", "tts", "rag", "rag", "stt")
FAULTS = ("kill", "kill", "kill", "freeze", "freeze", "redis-kill", "reset", "redis-freeze")
CORE_FAULTS = ("core-kill", "core-kill", "core-freeze")
"""Thrown as well where generation is real."""
SETTLE_S = 300.0


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    jobs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    broken_streams: list[str] = field(default_factory=list)
    leaked_keys: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    """Processes that outlived the cluster."""
    reruns: int = 0
    recovery_ms: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Every invariant held."""
        return not (
            self.lost or self.doubled or self.broken_streams or self.leaked_keys or self.leftovers or self.orphans
        )


class Chaos:
    """One run: a cluster, a load, faults, a reckoning."""

    def __init__(self, seed: int, folder: Path, *, real_llm: bool = False) -> None:
        """`real_llm`: generation by vLLM, with faults of its engine cores."""
        self.random = random.Random(seed)
        self.outcome = Outcome(seed)
        self._folder = folder
        self._kinds = FAULTS + (CORE_FAULTS if real_llm else ())
        self.server = RedisServer(folder / "redis")
        environment = {
            "MAEARI_REDIS_URL": self.server.url,
            "MAEARI_HOME": str(folder),
            "MAEARI_ENGINES": "scripted",
            "MAEARI_SCRIPTED_TOKEN_MS": "25",
            "MAEARI_SCRIPTED_SENTENCE_MS": "250",
            "MAEARI_LEASE_S": "3",
            "MAEARI_REDELIVER_AFTER_S": "2",
        }
        self.producer = Producer(self.server.url)
        real = environment | {"MAEARI_ENGINES": "real", "OMP_NUM_THREADS": "1"}
        self.workers = [
            WorkerProcess(
                role, folder, real if real_llm and role == "llm" else environment, name=f"{role}-{number}@chaos"
            )
            for number, role in enumerate(CREW)
        ]
        self.submitted: list[str] = []
        self._thrown: list[tuple[int, str]] = []
        """When (ms) which fault was thrown."""
        self._calm = threading.Lock()
        """Held while Redis is being broken: two such faults at once prove nothing more."""

    def run(self, jobs: int, faults: int, seconds: float) -> Outcome:
        """`jobs` handed in and `faults` thrown over about `seconds`."""
        began = time.monotonic()
        for worker in self.workers:
            worker.wait_ready(self.producer)
        loader = threading.Thread(target=self._load, args=(jobs, seconds))
        loader.start()
        for _ in range(faults):
            time.sleep(self.random.uniform(0.5, 1.5) * seconds / max(1, faults))
            self._revive()
            self._throw(self.random.choice(self._kinds))
        loader.join()
        self._heal()
        with contextlib.suppress(AssertionError):
            until(self._settled, "all jobs have ended", timeout_s=SETTLE_S, every_s=0.3)
        self._reckon()
        self.outcome.seconds = round(time.monotonic() - began, 1)
        return self.outcome

    def close(self) -> None:
        """Leave nothing running."""
        for worker in self.workers:
            worker.close()
        self.server.close()
        with contextlib.suppress(AssertionError):
            until(lambda: not self._survivors(), "every process has ended", timeout_s=60)
        self.outcome.orphans = self._survivors()

    def _survivors(self) -> list[str]:
        """Processes with this run's folder in their environment, engine cores among them."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get("MAEARI_HOME") == str(self._folder):
                    found.append(f"{process.pid} {process.name()}")
        return found

    # --- load ---

    def _load(self, jobs: int, seconds: float) -> None:
        dice = random.Random(self.outcome.seed + 1)
        for number in range(jobs):
            task, request = self._job(dice, number)
            self._submit(f"c{self.outcome.seed}-{number}", task, request, batch=dice.random() < 0.3)
            time.sleep(dice.uniform(0.0, 2.0) * seconds / jobs)

    def _job(self, dice: random.Random, number: int) -> tuple[str, dict[str, Any]]:
        tenant = f"t{dice.randrange(4)}"
        if dice.random() < 0.75:
            request = {
                "tenant": tenant,
                "pack": dice.choice(("artist", "parent")),
                "session": f"s{number}",
                "text": "안녕",
            }
            return "turns.start", request
        return "rag.embed", {"tenant": tenant, "texts": [f"문장 {number}"]}

    def _submit(self, job_id: str, task: str, request: dict[str, Any], *, batch: bool) -> None:
        while True:
            with contextlib.suppress(BrokerUnavailable):
                self.producer.submit(
                    task, request, job_id=job_id, priority="batch" if batch else "interactive", deadline_s=600
                )
                self.submitted.append(job_id)
                return
            time.sleep(0.2)

    # --- faults ---

    def _throw(self, fault: str) -> None:
        self.outcome.faults[fault] += 1
        self._thrown.append((int(time.time() * 1000), fault))
        worker = self.random.choice(self.workers)
        pause = self.random.uniform(0.5, 6.0)
        if fault.startswith("core"):
            self._break_core(fault, pause)
        elif fault == "kill":
            worker.kill()
            worker.start()
        elif fault == "freeze":
            worker.signal(signal.SIGSTOP)
            threading.Timer(pause, worker.signal, (signal.SIGCONT,)).start()
        else:
            with self._calm:
                self._break_redis(fault)

    def _break_redis(self, fault: str) -> None:
        if fault == "redis-kill":
            self.server.kill()
            time.sleep(0.3)
            self.server.start()
        elif fault == "redis-freeze":
            self.server.freeze()
            time.sleep(self.random.uniform(0.5, 2.0))
            self.server.thaw()
        else:
            with contextlib.suppress(redis.RedisError):
                self.server.client.client_kill_filter(_type="normal", skipme=True)

    def _break_core(self, fault: str, pause: float) -> None:
        """Kill or freeze an engine core that has come up, if there is one."""
        pids = [worker.process.pid for worker in self.workers if worker.process and "llm" in worker.name]
        children = [child for pid in pids if psutil.pid_exists(pid) for child in psutil.Process(pid).children()]
        cores = [child for child in children if "Engine" in child.name()]
        if cores:
            core = self.random.choice(cores)
            core.send_signal(signal.SIGKILL if fault == "core-kill" else signal.SIGSTOP)
            if fault == "core-freeze":
                threading.Timer(pause, _resume, (core,)).start()

    def _heal(self) -> None:
        for worker in self.workers:
            worker.signal(signal.SIGCONT)
        self._revive()

    def _revive(self) -> None:
        """Start workers anew that have ended by themselves, as a supervisor does."""
        for worker in self.workers:
            assert worker.process is not None
            if worker.process.poll() is not None:
                worker.start()

    # --- reckoning ---

    def _settled(self) -> bool:
        client, keys = self.producer.jobs.client, self.producer.jobs.keys
        if client.zcard(keys.open):
            return False
        return not any(client.llen(queue_list(queue, priority)) for queue in QUEUES for priority in (0, BATCH))

    def _reckon(self) -> None:
        self.outcome.jobs = len(self.submitted)
        for job_id in self.submitted:
            self._reckon_job(job_id)
        client, keys = self.producer.jobs.client, self.producer.jobs.keys
        permanent = {f"{keys.prefix}{name}" for name in PERMANENT}
        for key in client.scan_iter("*", count=1000):
            if client.ttl(key) == -1 and key not in permanent and not key.startswith("_kombu.binding"):
                self.outcome.leaked_keys.append(key)
        self.outcome.leftovers = list(client.zrange(keys.open, 0, -1))

    def _reckon_job(self, job_id: str) -> None:
        view = self.producer.job(job_id)
        if view is None or view.state not in ("done", "failed", "cancelled"):
            self.outcome.lost.append(f"{job_id}: {view.state if view else 'no record'}")
            return
        code = view.fault.code if view.fault else ""
        self.outcome.ends[f"{view.state} {code}".strip()] += 1
        events = list(self.producer.follow(job_id, timeout_s=60))
        self._check_stream(job_id, events)
        self._check_recovery(events)
        if view.task == "turns.start" and view.state == "done":
            self._check_turn(job_id, events)

    def _check_stream(self, job_id: str, events: list[Event]) -> None:
        terminal = [event.type for event in events if event.type in ("done", "failed", "cancelled")]
        numbers = [event.seq for event in events]
        rest = self.producer.jobs.client.xlen(self.producer.jobs.keys.events(job_id))
        if len(terminal) != 1 or numbers != list(range(1, len(events) + 1)) or rest != len(events):
            self.outcome.broken_streams.append(f"{job_id}: ends {terminal}, numbers {numbers}, entries {rest}")

    def _check_recovery(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Started) and event.attempt > 1:
                self.outcome.reruns += 1
                at, fault = max((thrown for thrown in self._thrown if thrown[0] <= event.at), default=(0, ""))
                if fault == "kill":  # else another fault came between, and the time says nothing of either
                    self.outcome.recovery_ms.append(event.at - at)

    def _check_turn(self, job_id: str, events: list[Event]) -> None:
        result = next(event.result for event in events if isinstance(event, Done))
        reply = ""
        for event in events:
            if isinstance(event, TextDelta):
                reply = reply[: event.offset] + event.text
        spoken = sorted(event.sentence for event in events if isinstance(event, AudioReady))
        sentences = [sentence["seq"] for sentence in result["sentences"]]
        said = "".join(sentence["text"] for sentence in result["sentences"])
        tenant_sessions = self.producer.jobs.client.keys(
            f"{self.producer.jobs.keys.prefix}session:*:s{job_id.split('-')[1]}"
        )
        remembered = sum(self.producer.jobs.client.llen(key) for key in tenant_sessions)
        if spoken != sentences or sentences != list(range(len(sentences))) or remembered != 1:
            self.outcome.doubled.append(f"{job_id}: spoke {spoken}, result {sentences}, remembered {remembered} times")
        if reply != result["reply"] or _letters(said) != _letters(reply):
            self.outcome.doubled.append(f"{job_id}: streamed {reply!r}, result {result['reply']!r}, spoken {said!r}")


def _letters(text: str) -> str:
    """What of a reply can be spoken; a model may say control characters too."""
    return "".join(char for char in text if char.isprintable() and not char.isspace())


def _resume(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def percentile(values: list[int], share: float) -> int | None:
    """The value at `share` of the sorted values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else None
