"""The process in which the real engine computes ends with its host, and its end is noticed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from shared.errors import EngineDead, MaeariError
from shared.settings import ROOT
from tests.integration.conftest import configuration
from tests.support.generation import ENDLESS, ask, cores_of
from tests.support.processes import command, lives
from tests.support.servers import RedisServer
from tests.support.training import Workshop
from tests.support.waiting import until
from tests.support.workers import WorkerProcess
from workers.engines.generator import BatchingGenerator

pytestmark = [
    pytest.mark.timeout(900),
    # What the engine's own libraries deprecate among themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_when_the_core_dies_everyone_is_told(studio: Workshop) -> None:
    before = cores_of(os.getpid())
    engine = BatchingGenerator(configuration(studio))
    (core,) = cores_of(os.getpid()) - before
    errors: list[MaeariError] = []
    begun = threading.Event()

    def run() -> None:
        with pytest.raises(EngineDead) as caught:
            ask(engine, sampling=ENDLESS, on_text=lambda _: begun.set())
        errors.append(caught.value)

    jobs = [threading.Thread(target=run) for _ in range(4)]
    for job in jobs:
        job.start()
    assert begun.wait(300)
    core.kill()
    assert engine.dead.wait(120)
    for job in jobs:
        job.join(120)
    assert len(errors) == 4
    with pytest.raises(EngineDead):
        ask(engine)
    engine.close()


HOST = """
import sys
from shared.settings import Settings
from workers.engines.generator import BatchingGenerator

if __name__ == "__main__":
    engine = BatchingGenerator(Settings.model_validate_json(sys.argv[1]))
    engine.warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        engine.warm_up()
        print("still here", flush=True)
"""


def test_the_core_ends_with_a_killed_host(studio: Workshop, tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(HOST)
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT), "MAEARI_LOG_LEVEL": "ERROR"}
    host = subprocess.Popen(
        [sys.executable, str(tmp_path / "host.py"), configuration(studio).model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
        start_new_session=True,
    )
    assert host.stdin and host.stdout
    try:
        assert any(line.strip() == "ready" for line in host.stdout)
        (core,) = cores_of(host.pid)
        assert os.getpgid(core.pid) != os.getpgid(host.pid)
        host.stdin.write("go on\n")
        host.stdin.flush()
        assert host.stdout.readline().strip() == "still here"
        os.kill(host.pid, signal.SIGKILL)
        until(lambda: not lives(core), "the core is gone")
    finally:
        host.kill()
        host.wait()
        host.stdin.close()
        host.stdout.close()


def test_the_core_ends_with_a_worker_that_is_killed_while_loading(
    studio: Workshop, tmp_path: Path, redis_server: RedisServer
) -> None:
    environment = {"MAEARI_REDIS_URL": redis_server.url, "MAEARI_HOME": str(tmp_path)}
    models = {"MAEARI_MODELS_PATH": str(studio.folder / "models"), "MAEARI_LLM_MODEL": "tiny"}
    worker = WorkerProcess("llm", tmp_path, environment | models)
    try:
        assert worker.process is not None
        host = psutil.Process(worker.process.pid)
        spawned = until(
            lambda: [c for c in host.children() if "spawn_main" in command(c)],
            "a core is spawned",
            timeout_s=600,
        )
        worker.kill()
        until(lambda: not any(lives(core) for core in spawned), "the core is gone")
    finally:
        worker.close()
