"""Transcription, embedding and retrieval: jobs per second through the cluster against the library in its best batch mode."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.blobs import open_store
from shared.producer import Producer
from tests.support.chroma import ChromaServer

from .child import Child, base_environment
from .measures import Section, Table, median, number, ratios, spread
from .stage import spoken_question, stage

ROUNDS, RECORDINGS, QUERIES = (
    int(os.environ.get(f"BENCH_THROUGHPUT_{name}", default))
    for name, default in {"ROUNDS": 5, "RECORDINGS": 48, "QUERIES": 200}.items()
)
TEXTS, PER_JOB = 1024, 64
"""Texts of the embedding comparison, and how many a job brings."""
BATCHES = (64, 256)
"""Batch sizes that the library is tried with; the faster one of a round counts."""


def _through(producer: Producer, task: str, requests: Sequence[dict[str, Any]]) -> float:
    """Seconds from the first submission to the last result seen."""
    began = time.perf_counter()
    jobs = [producer.submit(task, request).job_id for request in requests]
    for job_id in jobs:
        producer.result(job_id, timeout_s=300)
    return time.perf_counter() - began


def measure(folder: Path) -> Section:
    """Alternating rounds; the idle side is frozen."""
    path = spoken_question(folder)
    audio = open_store((folder / "blobs").as_uri()).put("default", "audio", "q.wav", path.read_bytes(), "audio/wav")
    texts = [f"{number_}번째 글: 바닷가를 천천히 걷다가 친구를 만나 국수를 먹었다." for number_ in range(TEXTS)]
    chroma = ChromaServer(folder / "chroma")
    environment = {"MAEARI_CHROMA_PORT": str(chroma.port), "MAEARI_TENANT_SHARE": "32", "MAEARI_TASK_EVENTS": "false"}
    mine = base_environment(MAEARI_HOME=str(folder), MAEARI_CHROMA_PORT=str(chroma.port))
    direct = Child([sys.executable, "-m", "tests.benchmarks.direct", "stt", "rag"], folder / "direct.log", mine)
    hears = [{"audio": audio.model_dump(exclude_none=True), "language": "ko"}] * RECORDINGS
    embeds = [{"texts": texts[at : at + PER_JOB]} for at in range(0, TEXTS, PER_JOB)]
    rates: dict[str, list[float]] = {name: [] for name in _NAMES}
    try:
        with stage(folder, ["stt", "rag"], **environment) as on:
            for round_ in range(ROUNDS + 1):
                queries = [f"{round_}-{number_} 좋아하는 색이 뭐야?" for number_ in range(QUERIES)]
                looks = [{"query": query, "pack": "artist"} for query in queries]
                found = {
                    "transcribe_cluster": RECORDINGS / _through(on.producer, "stt.transcribe", hears),
                    "transcribe_pooled": RECORDINGS / direct.ask("transcribe_pooled", [str(path), RECORDINGS]),
                    "transcribe_batched": RECORDINGS / direct.ask("transcribe_batched", [str(path), RECORDINGS]),
                    "embed_cluster": TEXTS / _through(on.producer, "rag.embed", embeds),
                    "embed_direct": max(TEXTS / direct.ask("embed", [texts, batch]) for batch in BATCHES),
                    "retrieve_cluster": QUERIES / _through(on.producer, "rag.retrieve", looks),
                    "retrieve_direct": QUERIES / direct.ask("retrieve", [f"{query}?" for query in queries]),
                }
                for name, rate in found.items() if round_ else ():
                    rates[name].append(rate)
    finally:
        direct.close()
        chroma.close()
    return _report(rates)


_NAMES = (
    "transcribe_cluster", "transcribe_pooled", "transcribe_batched", "embed_cluster", "embed_direct",
    "retrieve_cluster", "retrieve_direct",
)  # fmt: skip


def _report(rates: dict[str, list[float]]) -> Section:
    section = Section()
    batch = max(("transcribe_pooled", "transcribe_batched"), key=lambda name: median(rates[name]))
    rows = []
    for what, unit, ours, theirs in (
        ("transcription", "recordings/s", "transcribe_cluster", "transcribe_batched"),
        (
            "transcription, this cluster's engine without the queue",
            "recordings/s",
            "transcribe_cluster",
            "transcribe_pooled",
        ),
        (f"embedding, {PER_JOB} texts a job", "texts/s", "embed_cluster", "embed_direct"),
        ("retrieval", "queries/s", "retrieve_cluster", "retrieve_direct"),
    ):
        shares = ratios(rates[ours], rates[theirs])
        cells = [number(median(rates[ours])), number(median(rates[theirs])), f"{median(shares):.2f} ({spread(shares)})"]
        rows.append([f"{what}, {unit}", *cells])
    section.tables.append(Table("Throughput", ["", "cluster", "direct, best batch", "ratio (rounds)"], rows))
    section.figures = {
        "transcription_over_direct": median(ratios(rates["transcribe_cluster"], rates[batch])),
        "embedding_over_direct": median(ratios(rates["embed_cluster"], rates["embed_direct"])),
        "retrieval_over_direct": median(ratios(rates["retrieve_cluster"], rates["retrieve_direct"])),
    }
    section.at_least("transcription / best direct batch", section.figures["transcription_over_direct"], 0.9)
    section.at_least("embedding / best direct batch", section.figures["embedding_over_direct"], 0.9)
    return section
