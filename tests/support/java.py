"""The Java client, compiled with plain javac and driven over its standard input and output."""

from __future__ import annotations

import base64
import itertools
import json
import os
import queue
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMPILE = ROOT / "deploy" / "producers" / "spring" / "compile"
JVM = ("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
ANSWER_S = 320.0
"""Seconds that a command of a test may take; commands have deadlines of their own."""


@cache
def class_path() -> str:
    """Of the core, its tests and the driver. Fails with what is missing, for example a package of Debian's."""
    done = subprocess.run([COMPILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class JavaError(Exception):
    """What the client threw: its class, code, field ..."""

    def __init__(self, described: dict[str, Any]) -> None:
        """As the driver describes it."""
        super().__init__(str(described))
        self.described = described
        self.kind: str = described["class"]
        self.code: str = described.get("code", "")
        self.field: str | None = described.get("field")


class JavaClient:
    """One process of the driver; may be used from several threads."""

    def __init__(self, url: str, blobs: Path, *, application: str = "java", secret: str = "", log: Path) -> None:
        """`url`: of Redis; `blobs`: the cluster's folder; `application`: its ids begin with it; `secret`: to sign with.

        `log`: where its stderr goes.
        """
        command = [*JVM, "-cp", class_path(), "io.maeari.interop.Driver", url, str(blobs), application, secret]
        self._log = log.open("ab")
        environment = os.environ | {"LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment
        )
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._threads = ThreadPoolExecutor(8)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self._answers[answer["id"]].put(answer)

    def do(self, what: str, **fields: Any) -> Any:
        """Run a command of the driver. Raises `JavaError`."""
        number = next(self._numbers)
        mine = self._answers[number] = queue.Queue()
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(fields | {"do": what, "id": number}) + "\n").encode())
        self._process.stdin.flush()
        answer = mine.get(timeout=ANSWER_S)
        if "error" in answer:
            raise JavaError(answer["error"])
        return answer["ok"]

    def begin(self, what: str, **fields: Any) -> Future[Any]:
        """`do` in the background."""
        return self._threads.submit(self.do, what, **fields)

    def submit(self, task: str, request: dict[str, Any], **options: Any) -> str:
        """Hand a job in; its id."""
        job_id: str = self.do("submit", task=task, request=request, **options)["job_id"]
        return job_id

    def upload(self, data: bytes, mime: str = "audio/wav") -> dict[str, Any]:
        """Put a recording into the blob store."""
        reference: dict[str, Any] = self.do("upload", data=base64.b64encode(data).decode(), mime=mime)
        return reference

    def fetch(self, reference: dict[str, Any]) -> bytes:
        """Bytes from the blob store."""
        return base64.b64decode(self.do("fetch", ref=reference))

    def close(self) -> None:
        """End it; it must end well."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(120) == 0
        finally:
            self._process.kill()
            self._reader.join()
            self._process.stdout.close()
            self._threads.shutdown()
            self._log.close()
