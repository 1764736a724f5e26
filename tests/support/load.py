"""A steady load of turns and short jobs, handed in the way that producers should."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from shared.errors import BrokerUnavailable

from .scripted import ScriptedCluster
from .waiting import until


class SteadyLoad:
    """While the block runs, a turn and a short job by turns; at its end all of them have ended."""

    def __init__(
        self, cluster: ScriptedCluster, prefix: str, *, every_s: float = 0.2, timeout_s: float = 180.0
    ) -> None:
        """`every_s`: between two jobs; `timeout_s`: for the last of them to end."""
        self.jobs: list[str] = []
        self.refused = 0
        """Calls that were answered with an error, and repeated under the same id."""
        self._cluster = cluster
        self._prefix = prefix
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hand_in)

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if kind is None:
            jobs = self._cluster.producer.jobs
            until(lambda: not jobs.client.zcard(jobs.keys.open), "no job is open", timeout_s=self._timeout_s)

    def _hand_in(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            number = len(self.jobs)
            self._submit(f"{self._prefix}-{number}", f"t{number % 3}", turn=number % 2 == 0)
            due = max(due + self._every_s, time.monotonic() - 1.0)
            self._over.wait(max(0.0, due - time.monotonic()))

    def _submit(self, job_id: str, tenant: str, *, turn: bool) -> None:
        while True:
            try:
                self.jobs.append((self._cluster.turn if turn else self._cluster.embed)(job_id, tenant=tenant))
                return
            except BrokerUnavailable:
                self.refused += 1
                time.sleep(0.2)
