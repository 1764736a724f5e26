"""How long each role takes from its start to `ready`, with its files in the page cache and with them thrown out of it."""

from __future__ import annotations

import os
import sysconfig
import time
from pathlib import Path

from shared.producer import Producer
from shared.settings import ROOT, settings
from tests.support.chroma import ChromaServer
from tests.support.servers import RedisServer
from tests.support.workers import WorkerProcess

from .measures import Section, Table, median, number

ROLES = tuple(os.environ.get("BENCH_START_ROLES", "conductor stt tts rag llm").split())
WARM = int(os.environ.get("BENCH_START_WARM", "1"))


def measure(folder: Path) -> Section:
    """Each role alone: cold, then warm."""
    server = RedisServer(folder / "redis", "--appendfsync", "everysec")
    chroma = ChromaServer(folder / "chroma")
    environment = {
        "MAEARI_REDIS_URL": server.url,
        "MAEARI_HOME": str(folder),
        "MAEARI_CHROMA_PORT": str(chroma.port),
        "OMP_NUM_THREADS": "1",
    }
    section = Section()
    rows = []
    try:
        for role in ROLES:
            forget_files()
            cold = _start(role, folder, environment, server)
            warm = median([_start(role, folder, environment, server) for _ in range(WARM)])
            rows.append([role, number(cold), number(warm)])
            section.figures |= {f"{role}_cold_s": round(cold, 1), f"{role}_warm_s": round(warm, 1)}
    finally:
        chroma.close()
        server.close()
    section.tables.append(Table("From start to ready, seconds", ["role", "cold", "warm"], rows))
    section.notes.append(
        "Cold: the kernel was told to forget the files of the Python environment, the checkout and the models; "
        "pages that another running process has mapped stay, so a freshly booted machine is slower."
    )
    return section


def _start(role: str, folder: Path, environment: dict[str, str], server: RedisServer) -> float:
    began = time.perf_counter()
    worker = WorkerProcess(role, folder, environment, name=f"{role}-{time.monotonic_ns()}@bench")
    try:
        worker.wait_ready(Producer(server.url), timeout_s=300)
        return time.perf_counter() - began
    finally:
        worker.close()


def forget_files() -> None:
    """Ask the kernel to drop what it has cached of the files that a worker reads."""
    os.sync()
    for folder in (Path(sysconfig.get_paths()["purelib"]), ROOT, settings().models_path):
        for path in folder.rglob("*"):
            if path.is_file():
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(handle)
