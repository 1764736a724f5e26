"""Role to queues, pool, concurrency and engines. Engines are imported when a role loads them, and only its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from shared.contracts.catalog import QUEUES
from shared.runtime import Engines
from shared.settings import settings


def _conductor(_: Engines) -> None:
    """Needs none: it validates, gathers and keeps the books."""


def _llm(engines: Engines) -> None:
    from .engines.generator import BatchingGenerator

    engines.generator = BatchingGenerator()


def _stt(engines: Engines) -> None:
    from .engines.transcriber import WhisperTranscriber

    engines.transcriber = WhisperTranscriber()


def _tts(engines: Engines) -> None:
    from .engines.voices import Voices

    engines.synthesizer = Voices()


def _rag(engines: Engines) -> None:
    from .engines.embedder import SentenceEmbedder
    from .engines.retriever import HybridRetriever

    embedder = SentenceEmbedder()
    engines.embedder = embedder
    engines.retriever = HybridRetriever(embedder)


def _trainer(engines: Engines) -> None:
    from .engines.trainer import ProcessTrainer

    engines.trainer = ProcessTrainer()


def _scripted(role: str) -> Callable[[Engines], None]:
    def load(engines: Engines) -> None:
        from .engines import scripted

        scripted.load(role, engines)

    return load


@dataclass(frozen=True)
class Role:
    """A kind of worker."""

    name: str
    queues: tuple[str, ...]
    pool: Literal["threads", "solo"]
    concurrency: int
    load: Callable[[Engines], None]
    keeps_house: bool = False
    """Runs the reconciler; any number of workers may."""

    def __post_init__(self) -> None:
        """Refuse contradictions at import."""
        unknown = set(self.queues) - set(QUEUES)
        if unknown:
            raise ValueError(f"role {self.name}: no task is routed to {sorted(unknown)}")
        if self.pool == "solo" and self.concurrency != 1:
            raise ValueError(f"role {self.name}: a solo pool runs one task at a time")


def roles() -> dict[str, Role]:
    """Every role; the engine's batch sizes decide the concurrency."""
    chosen = settings()
    every: tuple[Role, ...] = (
        Role("conductor", ("turns",), "threads", 16, _conductor, keeps_house=True),
        Role("llm", ("llm",), "threads", chosen.llm_max_num_seqs, _llm),
        Role("stt", ("stt",), "threads", 2 * chosen.stt_batch, _stt),
        Role("tts", ("tts",), "solo", 1, _tts),
        Role("rag", ("rag", "knowledge"), "threads", 16, _rag),
        Role("trainer", ("training",), "threads", 1, _trainer),
    )
    if chosen.engines == "scripted":
        every = tuple(replace(role, load=_scripted(role.name)) if role.name != "trainer" else role for role in every)
    return {role.name: role for role in every}
