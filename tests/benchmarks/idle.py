"""The idle cluster under the laptop profile: memory and CPU of everything that `maeari up` starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from shared.settings import ROOT
from tests.support.servers import free_port

from .measures import Section

SECONDS = 10


def _family(home: Path) -> list[psutil.Process]:
    """The supervisor of this home and everything under it, engine cores included."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if "supervisord" in line and str(home) in line:
                found += [process, *process.children(recursive=True)]
    return found


def measure(folder: Path) -> Section:
    """Proportional set sizes, so that shared libraries count once; CPU seconds over `SECONDS`."""
    environment = os.environ | {
        "MAEARI_HOME": str(folder),
        "MAEARI_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "MAEARI_CHROMA_PORT": str(free_port()),
        "MAEARI_FLOWER_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "shared.cli"]
    subprocess.run([*command, "up", "--json"], cwd=ROOT, env=environment, check=True, capture_output=True)
    try:
        time.sleep(5)  # let the last warm-up settle; this is a measurement, not a test
        family = _family(folder)
        before = {process.pid: sum(process.cpu_times()[:2]) for process in family}
        time.sleep(SECONDS)
        used = {process.pid: sum(process.cpu_times()[:2]) - before[process.pid] for process in family}
        memory = [process.memory_full_info() for process in family]
        found = {
            "processes": len(family),
            "resident_gb": round(sum(info.rss for info in memory) / 1e9, 2),
            "proportional_gb": round(sum(info.pss for info in memory) / 1e9, 2),
            "cpu_percent_of_one_core": round(100 * sum(used.values()) / SECONDS, 1),
        }
        section = Section(figures=found)
        section.at_most("resident memory of the idle laptop cluster", found["resident_gb"], 6, " GB")
        return section
    finally:
        subprocess.run([*command, "down"], cwd=ROOT, env=environment, check=True, capture_output=True)
