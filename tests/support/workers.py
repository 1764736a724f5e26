"""Real worker processes for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from shared.producer import Producer

from .waiting import until

ROOT = Path(__file__).resolve().parents[2]


class WorkerProcess:
    """`python -m workers <role>` with a log of its own, to be drained, killed or frozen."""

    def __init__(self, role: str, folder: Path, environment: dict[str, str], *, name: str = "") -> None:
        self.role = role
        self.name = name or f"{role}@test"
        self.log_file = folder / f"{self.name}.log"
        self._environment = os.environ | environment
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start (again)."""
        command = [sys.executable, "-m", "workers", self.role, "--name", self.name]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait_ready(self, producer: Producer, timeout_s: float = 240.0) -> None:
        """Until it says that it is ready."""
        until(lambda: self._ready(producer), f"worker {self.name} is ready", timeout_s=timeout_s, every_s=0.1)

    def _ready(self, producer: Producer) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"worker {self.name} ended with {self.process.returncode}:\n{self.log()[-4000:]}")
        mine = [worker for worker in producer.workers() if worker.name == self.name and worker.pid == self.process.pid]
        return bool(mine) and mine[0].state == "ready"

    def log(self) -> str:
        """What it has written."""
        return self.log_file.read_text("utf-8", "replace")

    def signal(self, number: int) -> None:
        """Send a signal to the process itself; one that has ended gets none, for its id may be another's by now."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As the kernel's out-of-memory killer."""
        self.signal(signal.SIGKILL)
        self.wait()

    def drain(self, timeout_s: float = 120.0) -> int:
        """SIGTERM; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 120.0) -> int:
        """Its exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """Leave nothing of it behind, children included."""
        assert self.process is not None
        if self.process.poll() is None:  # else its group's id may be another's by now
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
