"""Tokens per second of 64 concurrent jobs of 64 tokens, mixed adapters: through the cluster against raw `LLM.generate`.

The raw engine runs in a process of its own with the very same engine arguments; rounds alternate.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from shared.contracts.llm import GenerateRequest, Message, Sampling
from shared.settings import ROOT, settings

from .stage import Stage, median, spread, stage

JOBS, TOKENS, ROUNDS = 64, 64, 5


def requests() -> list[GenerateRequest]:
    """The batch, the same for both."""
    adapters = [None, *sorted(path.name for path in settings().adapters_path.iterdir() if path.is_dir())]
    sampling = Sampling(temperature=0.0, max_tokens=TOKENS, min_tokens=TOKENS)
    return [
        GenerateRequest(
            messages=(Message(role="user", content=f"{number}번째 질문이야. 좋아하는 게 뭐야?"),),
            adapter=adapters[number % len(adapters)],
            sampling=sampling,
        )
        for number in range(JOBS)
    ]


class Raw:
    """`LLM.generate` in a child process that answers each line with its tokens and seconds."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.raw_generation"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.round()

    def round(self) -> float:
        """Tokens per second of one batch."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write("go\n")
        self._child.stdin.flush()
        for line in self._child.stdout:
            if line.startswith("{"):
                found = json.loads(line)
                return float(found["tokens"] / found["seconds"])
        raise RuntimeError("the raw engine ended")

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()


def cluster_round(on: Stage, batch: list[GenerateRequest], *, stream: bool) -> float:
    """Tokens per second from the first submission to the last result seen by the caller."""
    tokens: list[int] = []
    began = time.perf_counter()
    jobs = [on.producer.submit("llm.generate", request.model_copy(update={"stream": stream})) for request in batch]

    def wait(job_id: str) -> None:
        tokens.append(on.producer.result(job_id, timeout_s=300)["usage"]["completion_tokens"])

    threads = [threading.Thread(target=wait, args=(job.job_id,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(tokens) / (time.perf_counter() - began)


def measure(folder: Path) -> dict[str, Any]:
    """Alternating rounds of raw, cluster, cluster streamed."""
    batch = requests()
    raw = Raw()
    rates: dict[str, list[float]] = {"raw": [], "cluster": [], "streamed": []}
    try:
        # One tenant hands in all jobs: its share is raised so that the batch fills at once.
        with stage(folder, ["llm"], MAEARI_TENANT_SHARE=str(JOBS)) as on:
            cluster_round(on, batch, stream=False)
            for _ in range(ROUNDS):
                rates["raw"].append(raw.round())
                rates["cluster"].append(cluster_round(on, batch, stream=False))
                rates["streamed"].append(cluster_round(on, batch, stream=True))
    finally:
        raw.close()
    ratios = [cluster / alone for cluster, alone in zip(rates["cluster"], rates["raw"], strict=True)]
    streamed = [cluster / alone for cluster, alone in zip(rates["streamed"], rates["raw"], strict=True)]
    return {
        "raw_tokens_per_s": spread(rates["raw"]),
        "cluster_tokens_per_s": spread(rates["cluster"]),
        "cluster_over_raw": median(ratios),
        "cluster_streamed_over_raw": median(streamed),
        "cluster_over_raw_spread": spread(ratios),
    }
