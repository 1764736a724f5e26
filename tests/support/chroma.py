"""A real Chroma server for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

from .servers import free_port
from .waiting import until


class ChromaServer:
    """A Chroma server on a port and folder of its own, to be killed, frozen and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        script = Path(sys.executable).parent / "chroma"
        command = [sys.executable, str(script), "run", "--path", str(self.folder / "data")]
        command += ["--host", self.host, "--port", str(self.port)]
        with (self.folder / "chroma.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=os.environ | {"ANONYMIZED_TELEMETRY": "False"}
            )
        until(self._answers, "Chroma answers", timeout_s=180)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.host}:{self.port}/api/v2/heartbeat", timeout=1).is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """As a power cut."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Stop answering without closing anything."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        # The signal is on its way when the call returns; the server may answer once more until it has arrived.
        server = psutil.Process(self._process.pid)
        until(lambda: server.status() == psutil.STATUS_STOPPED, "Chroma has stopped")

    def thaw(self) -> None:
        """Go on answering."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.kill()
