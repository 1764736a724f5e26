"""An engine breaks under a running cluster: its jobs go on or fail clearly, the worker comes back, the others go on."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from shared.contracts.events import Started
from shared.contracts.status import WorkerStatus
from shared.errors import MaeariError
from tests.support.waiting import until

from .conftest import Cluster

RESTART_S = 400.0
"""That an engine may take to load again on a busy machine."""


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> Iterator[None]:
    """Every test leaves the cluster as it found it."""
    yield
    for role in ("conductor", "llm", "stt", "tts", "rag"):
        until(lambda role=role: _worker(cluster, role), f"{role} is ready", timeout_s=RESTART_S, every_s=0.2)


def _worker(cluster: Cluster, role: str) -> WorkerStatus | None:
    found = [worker for worker in cluster.producer.workers() if worker.role == role and worker.state == "ready"]
    return next((worker for worker in found if psutil.pid_exists(worker.pid)), None)


def _core(worker: WorkerStatus) -> psutil.Process:
    (core,) = (child for child in psutil.Process(worker.pid).children() if "Engine" in child.name())
    return core


def _say(cluster: Cluster, text: str = "안녕하세요.") -> dict[str, Any]:
    job = cluster.producer.submit("tts.synthesize", {"text": text, "voice": "artist"})
    return cluster.producer.result(job.job_id, timeout_s=RESTART_S)


def test_a_killed_engine_core_loses_no_job_and_no_other_worker(cluster: Cluster) -> None:
    llm = until(lambda: _worker(cluster, "llm"), "the llm worker is ready")
    core = _core(llm)
    core.send_signal(signal.SIGSTOP)  # so that the jobs are surely under way when it dies
    requests = [{"pack": pack, "session": f"core-{pack}", "text": "이름이 뭐야?"} for pack in ("artist", "parent")]
    jobs = [cluster.producer.submit("turns.start", request, deadline_s=1200).job_id for request in requests]
    for job in jobs:
        stages = (event for event in cluster.producer.follow(job, timeout_s=RESTART_S) if isinstance(event, Started))
        assert any(event.stage == "llm.generate" for event in stages)
    core.kill()
    assert _say(cluster)["audio"], "synthesis goes on meanwhile"
    for job in jobs:
        assert cluster.producer.result(job, timeout_s=RESTART_S)["reply"]
        events = list(cluster.producer.follow(job, timeout_s=60))
        tried = [event.attempt for event in events if isinstance(event, Started) and event.stage == "llm.generate"]
        assert max(tried) > 1
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
    fresh = until(lambda: _worker(cluster, "llm"), "another llm worker is ready")
    assert fresh.pid != llm.pid
    assert not core.is_running() and not psutil.pid_exists(llm.pid), "nothing of the old worker is left"


def test_a_corrupted_adapter_fails_its_own_jobs_alone(cluster: Cluster) -> None:
    good, bad = cluster.home / "adapters" / "artist", cluster.home / "adapters" / "broken"
    shutil.copytree(good, bad)
    weights = bad / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    messages = [{"role": "user", "content": "안녕"}]
    before = until(lambda: _worker(cluster, "llm"), "the llm worker is ready")
    jobs = {
        adapter: cluster.producer.submit("llm.generate", {"messages": messages, "adapter": adapter}).job_id
        for adapter in ("broken", "artist", "parent")
    }
    with pytest.raises(MaeariError) as failed:
        cluster.producer.result(jobs["broken"], timeout_s=RESTART_S)
    assert failed.value.code == "invalid_adapter", failed.value
    for adapter in ("artist", "parent"):
        assert cluster.producer.result(jobs[adapter], timeout_s=RESTART_S)["text"]
    after = until(lambda: _worker(cluster, "llm"), "the llm worker is ready")
    assert before.pid == after.pid, "the worker did not even notice"
    shutil.rmtree(bad)


def test_a_killed_vector_store_delays_questions_and_loses_none(cluster: Cluster) -> None:
    port = cluster.environment["MAEARI_CHROMA_PORT"]
    servers = [p for p in psutil.process_iter(["cmdline"]) if {"chroma", port} <= _words(p)]
    assert servers
    for server in servers:
        server.kill()
    job = cluster.producer.submit("rag.retrieve", {"pack": "artist", "query": "좋아하는 색이 뭐야?"}, deadline_s=800)
    assert _say(cluster)["audio"]
    assert cluster.producer.result(job.job_id, timeout_s=RESTART_S)["sources"]


def _words(process: psutil.Process) -> set[str]:
    return {word.rpartition("/")[2] for word in process.info["cmdline"] or ()}


def test_an_unreachable_blob_store_is_waited_for(cluster: Cluster) -> None:
    blobs, away = cluster.home / "blobs", cluster.home / "blobs-away"
    blobs.rename(away)
    blobs.write_text("a file where a folder should be")
    try:
        request = {"text": "안녕하세요.", "voice": "artist"}
        job = cluster.producer.submit("tts.synthesize", request)
        events = cluster.producer.follow(job.job_id, timeout_s=RESTART_S)
        told = next(event for event in events if event.type in ("retrying", "failed", "done"))
        assert told.type == "retrying" and told.fault.code == "store_unavailable", told
    finally:
        blobs.unlink()
        away.rename(blobs)
    assert cluster.producer.result(job.job_id, timeout_s=RESTART_S)["audio"]
