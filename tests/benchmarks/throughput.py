"""Transcription, embedding and retrieval: jobs per second through the cluster against the library in its best batch mode."""

from __future__ import annotations

import base64
import os
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from shared.blobs import open_store
from shared.producer import Producer
from tests.support.chroma import ChromaServer

from .child import Child, base_environment
from .measures import Section, Table, median, number, ratios, spread
from .stage import spoken_question, stage

ROUNDS, EMBEDDINGS, RECORDINGS, QUERIES = (
    int(os.environ.get(f"BENCH_THROUGHPUT_{name}", default))
    for name, default in {"ROUNDS": 2, "EMBEDDINGS": 2, "RECORDINGS": 16, "QUERIES": 100}.items()
)
"""`EMBEDDINGS`: that often in each round, for they take a second where others take five."""
SENTENCE = "바닷가를 천천히 걷다가 친구를 만나 국수를 먹었다."
EMBEDDED = {"sentences": (1, 16_384, 256), "passages": (17, 2048, 64)}
"""What is embedded: sentences in each text (17 are a chunk of knowledge), texts, and how many a job brings."""
BATCHES = (64, 256)
"""Batch sizes that the library is tried with; the faster one of a round counts."""


def _through(producer: Producer, task: str, requests: Sequence[dict[str, Any]]) -> float:
    """Seconds from the first submission to the last result seen; of vectors, to the last one in numpy's form."""
    began = time.perf_counter()
    jobs = [producer.submit(task, request).job_id for request in requests]
    for job_id in jobs:
        result = producer.result(job_id, timeout_s=300)
        if packed := result.get("packed"):
            np.frombuffer(base64.b64decode(packed), "<f4").reshape(-1, result["dimension"])
    return time.perf_counter() - began


def _texts(kind: str) -> list[str]:
    sentences, count, _ = EMBEDDED[kind]
    return [f"{number_}번째 글: {' '.join([SENTENCE] * sentences)}" for number_ in range(count)]


def _embeds(kind: str) -> list[dict[str, Any]]:
    _, count, per_job = EMBEDDED[kind]
    texts = _texts(kind)
    return [{"texts": texts[at : at + per_job], "encoding": "base64"} for at in range(0, count, per_job)]


def _embedded(producer: Producer, direct: Child) -> dict[str, float]:
    """Texts per second of each kind, through the cluster and without."""
    found = {}
    for kind, (_, count, _) in EMBEDDED.items():
        found[f"{kind}_cluster"] = count / _through(producer, "rag.embed", _embeds(kind))
        for name, all_cores in (("direct", False), ("spread", True)):
            found[f"{kind}_{name}"] = max(count / direct.ask("embed", [_texts(kind), b, all_cores]) for b in BATCHES)
    return found


def measure(folder: Path) -> Section:
    """Alternating rounds; the idle side is frozen."""
    path = spoken_question(folder)
    audio = open_store((folder / "blobs").as_uri()).put("default", "audio", "q.wav", path.read_bytes(), "audio/wav")
    chroma = ChromaServer(folder / "chroma")
    environment = {"MAEARI_CHROMA_PORT": str(chroma.port), "MAEARI_TENANT_SHARE": "32", "MAEARI_TASK_EVENTS": "false"}
    mine = base_environment(MAEARI_HOME=str(folder), MAEARI_CHROMA_PORT=str(chroma.port))
    direct = Child([sys.executable, "-m", "tests.benchmarks.direct", "stt", "rag"], folder / "direct.log", mine)
    hears = [{"audio": audio.model_dump(exclude_none=True), "language": "ko"}] * RECORDINGS
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
                    "retrieve_cluster": QUERIES / _through(on.producer, "rag.retrieve", looks),
                    "retrieve_direct": QUERIES / direct.ask("retrieve", [f"{query}?" for query in queries]),
                }
                several = [found, *(_embedded(on.producer, direct) for _ in range(EMBEDDINGS if round_ else 1))]
                for name, rate in chain.from_iterable(one.items() for one in several) if round_ else ():
                    rates[name].append(rate)
    finally:
        direct.close()
        chroma.close()
    return _report(rates)


_NAMES = (
    "transcribe_cluster", "transcribe_pooled", "transcribe_batched", "sentences_cluster", "sentences_direct",
    "sentences_spread", "passages_cluster", "passages_direct", "passages_spread", "retrieve_cluster", "retrieve_direct",
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
        *(
            (f"embedding {kind}, {per_job} a job; direct {how}", "texts/s", f"{kind}_cluster", f"{kind}_{name}")
            for kind, (_, _, per_job) in EMBEDDED.items()
            for name, how in (("direct", "on one thread, as the worker"), ("spread", "with its tokenizer on all cores"))
        ),
        ("retrieval", "queries/s", "retrieve_cluster", "retrieve_direct"),
    ):
        shares = ratios(rates[ours], rates[theirs])
        cells = [number(median(rates[ours])), number(median(rates[theirs])), f"{median(shares):.2f} ({spread(shares)})"]
        rows.append([f"{what}, {unit}", *cells])
    section.tables.append(Table("Throughput", ["", "cluster", "direct, best batch", "ratio (rounds)"], rows))
    section.figures = {
        "transcription_over_direct": median(ratios(rates["transcribe_cluster"], rates[batch])),
        **{
            f"embedding_{kind}_over_{name}": median(ratios(rates[f"{kind}_cluster"], rates[f"{kind}_{name}"]))
            for kind in EMBEDDED
            for name in ("direct", "spread")
        },
        "retrieval_over_direct": median(ratios(rates["retrieve_cluster"], rates["retrieve_direct"])),
    }
    section.at_least("transcription / best direct batch", section.figures["transcription_over_direct"], 0.9)
    for kind in EMBEDDED:
        figure = min(section.figures[f"embedding_{kind}_over_{name}"] for name in ("direct", "spread"))
        section.at_least(f"embedding {kind} / best direct batch", figure, 0.9)
    section.notes.append(
        "Vectors come as base64 and end as numpy arrays on both sides. The laptop's embedding model is a table: nearly all of the "
        "work is the tokenizer's, 20 µs for a sentence. A job of 256 sentences also moves 350 kB of vectors through Redis, into the "
        "job's last event and its result; on two cores that and the caller take time from the tokenizer, which the library has alone."
    )
    return section
