"""A contender's process: asked by JSON lines on its stdin, frozen while another one is measured.

A frozen process takes no core, whatever it would do with it: idle engines and idle pollers do not disturb a round.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from shared.settings import ROOT
from tests.support.processes import lives
from tests.support.waiting import until

LOOK_S = 1.0
"""Seconds between two looks whether an answer can still come."""

Handlers = dict[str, Callable[[Any], Any]]


def base_environment(**variables: str) -> dict[str, str]:
    """This process's environment for a contender: one thread per process, nothing written beside the code."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "MAEARI_LOG_LEVEL": "WARNING"} | variables


class Group:
    """A process with its whole session: frozen, thawed and ended together."""

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str], *, pipes: bool = False) -> None:
        """`pipes`: stdin and stdout are for questions and answers; else stdout goes to the log too."""
        self.name = log.stem
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else out,
                stderr=out,
                text=True,
                start_new_session=True,
            )

    def family(self) -> list[psutil.Process]:
        """It and everything under it."""
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        return []

    def cpu_s(self) -> float:
        """CPU seconds of all of it so far."""
        total = 0.0
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:2])
        return total

    def freeze(self) -> None:
        """It takes no core until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End all of it, and wait until it is gone: an engine's memory takes its time."""
        self._signal(signal.SIGCONT)
        ended = self._signal(signal.SIGKILL)
        self.process.wait()
        until(lambda: not any(map(lives, ended)), f"{self.name} is gone", every_s=0.02)

    def _signal(self, number: int) -> list[psutil.Process]:
        family = self.family()
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        return family

    def check(self) -> None:
        """Raise with the end of the log if it has ended."""
        if self.process.poll() is not None:
            raise ChildEndedError(self.name, self.log)


class ChildEndedError(RuntimeError):
    """A contender ended before its time."""

    def __init__(self, name: str, log: Path) -> None:
        """With the last lines that it wrote."""
        last = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()][-3:]
        super().__init__(f"{name} ended: {' / '.join(last)[-400:]}")


class Child(Group):
    """A `Group` that answers questions; see `serve`."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: dict[str, str], needs: Sequence[Group] = ()
    ) -> None:
        """Start; the first answer comes when it is ready. `needs`: without them there will be no answer."""
        super().__init__(command, log, environment, pipes=True)
        self._needs = needs

    def ask(self, what: str, about: Any = None) -> Any:
        """The answer. Raises `ChildEndedError`, and `RuntimeError` with the error it answered."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps([what, about]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ChildEndedError(self.name, self.log) from None
        while not select.select([self.process.stdout], [], [], LOOK_S)[0]:
            for group in self._needs:
                group.check()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise ChildEndedError(self.name, self.log)
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer["ok"]


def serve(handlers: Handlers) -> None:
    """In the child: answer questions until stdin ends. Whatever libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        what, about = json.loads(line)
        try:
            answer = {"ok": handlers[what](about)}
        except Exception as error:  # noqa: BLE001 - the parent decides what it means
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
