"""Training as a worker runs it: every job in a process of its own, whose memory is gone with it."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from shared.cluster import child
from shared.cluster.environment import child_environment
from shared.contracts.base import EngineInfo, Fault
from shared.contracts.training import TrainRequest, TrainResult
from shared.errors import (
    AttemptTimeout,
    ConfigurationInvalid,
    EngineFailed,
    JobCancelled,
    MaeariError,
    by_code,
)
from shared.protocols import Stop, TrainingProgress
from shared.settings import ROOT, settings

LOOK_S = 0.1
"""Seconds between two looks at `stop`."""

STOP_S = 60.0
"""Seconds that a step may take until a stopped training is killed; it goes on from its checkpoint then."""


class ProcessTrainer:
    """Starts `python -m workers.training`, hands its progress on, stops it."""

    def __init__(self) -> None:
        """Raises `ConfigurationInvalid` where the libraries of training are missing."""
        for library in ("torch", "peft", "transformers"):
            if find_spec(library) is None:
                raise ConfigurationInvalid(f"Training needs {library}: install the extra `train`.")
        self._info = EngineInfo(name="training", model="recipes", version=version("peft"))
        self._running: set[subprocess.Popen[str]] = set()

    @property
    def info(self) -> EngineInfo:
        """Name and version of what trains."""
        return self._info

    def warm_up(self) -> None:
        """Nothing is loaded before a job is there."""

    def close(self) -> None:
        """Stop what runs; checkpoints are kept."""
        for process in tuple(self._running):
            _end(process)

    def train(
        self, request: TrainRequest, *, stop: Stop, timeout_s: float, on_progress: Callable[[TrainingProgress], None]
    ) -> TrainResult:
        """As `shared.protocols.Trainer` says."""
        until = time.monotonic() + timeout_s
        process = subprocess.Popen(
            _command(request),
            cwd=ROOT,
            env=child_environment(settings()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._running.add(process)
        try:
            return _follow(process, stop, until, on_progress)
        finally:
            _end(process)
            self._running.discard(process)


def _command(request: TrainRequest) -> list[str]:
    """Bound to this process's life: when it is killed, the training stops after its step."""
    bound = [sys.executable, "-I", "-S", str(Path(child.__file__)), str(int(signal.SIGTERM))]
    module = [sys.executable, "-m", "workers.training", request.recipe, "--named", "--keep", "--events"]
    return [*bound, *module, *(["--promote"] if request.promote else [])]


def _follow(
    process: subprocess.Popen[str], stop: Stop, until: float, on_progress: Callable[[TrainingProgress], None]
) -> TrainResult:
    assert process.stdout is not None
    told: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, told), name="training-reader", daemon=True).start()
    while True:
        if stop.is_set():
            _end(process)
            raise JobCancelled
        if time.monotonic() > until:
            _end(process)
            raise AttemptTimeout
        try:
            line = told.get(timeout=LOOK_S)
        except queue.Empty:
            continue
        if line is None:
            raise _died(process.wait())
        kind = line.pop("type")
        if kind == "progress":
            on_progress(_progress(line))
        elif kind == "done":
            return TrainResult.model_validate(line)
        else:
            raise _error(Fault.model_validate(line))


def _read(lines: IO[str], told: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with lines:
        for line in lines:
            told.put(json.loads(line))
    told.put(None)


def _progress(line: dict[str, Any]) -> TrainingProgress:
    return TrainingProgress(
        note=line["stage"],
        step=line["step"],
        steps=line["steps"],
        loss=round(line["loss"], 4),
        rate=line["rate"],
        eta_s=round(line["eta_s"], 1),
    )


def _error(fault: Fault) -> MaeariError:
    kind = by_code().get(fault.code)
    if kind is None:
        return MaeariError(fault.message, field=fault.field)
    if kind is JobCancelled:  # a signal from outside: another attempt goes on
        return EngineFailed("The training process was stopped.")
    return kind(fault.message, field=fault.field)


def _died(status: int) -> MaeariError:
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return EngineFailed(f"The training process ended with {how}; it goes on from its checkpoint.")


def _end(process: subprocess.Popen[str]) -> None:
    """After its step, or at once when the step takes too long."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
