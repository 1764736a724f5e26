"""Task name to request, result, queue and limits. Routes, schemas and documentation derive from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .base import Request, Wire
from .llm import GenerateRequest, Generation
from .rag import (
    Embeddings,
    EmbedRequest,
    KnowledgeAddRequest,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
    KnowledgeReembedRequest,
    KnowledgeReport,
    Retrieval,
    RetrieveRequest,
)
from .speech import EnrolRequest, Speech, SynthesizeRequest, TranscribeRequest, Transcript, VoiceProfile
from .training import TrainRequest, TrainResult
from .turn import FinishRequest, TurnRequest, TurnResult

Priority = Literal["interactive", "batch"]
"""Two classes: an interactive job is served before any batch job of its queue."""


@dataclass(frozen=True)
class TaskSpec:
    """What is fixed about a task."""

    name: str
    queue: str
    request: type[Request]
    result: type[Wire]
    max_attempts: int = 3
    """Claims after which the job is dead."""
    timeout_s: float = 120.0
    """Seconds that one attempt may take."""
    public: bool = True
    """A producer may submit it; else only the cluster itself."""

    def __post_init__(self) -> None:
        """Refuse contradictions at import."""
        if self.max_attempts < 1 or self.timeout_s <= 0:
            raise ValueError(f"{self.name}: needs at least one attempt and a positive timeout")


_SPECS = (
    TaskSpec("turns.start", "turns", TurnRequest, TurnResult, timeout_s=30),
    TaskSpec("turns.finish", "turns", FinishRequest, TurnResult, timeout_s=30, public=False),
    TaskSpec("stt.transcribe", "stt", TranscribeRequest, Transcript),
    TaskSpec("llm.generate", "llm", GenerateRequest, Generation, timeout_s=300),
    TaskSpec("tts.synthesize", "tts", SynthesizeRequest, Speech, timeout_s=300),
    TaskSpec("tts.enrol", "tts", EnrolRequest, VoiceProfile),
    TaskSpec("rag.embed", "rag", EmbedRequest, Embeddings),
    TaskSpec("rag.retrieve", "rag", RetrieveRequest, Retrieval, timeout_s=30),
    TaskSpec("knowledge.add", "knowledge", KnowledgeAddRequest, KnowledgeReport, timeout_s=600),
    TaskSpec("knowledge.list", "knowledge", KnowledgeListRequest, KnowledgeReport),
    TaskSpec("knowledge.delete", "knowledge", KnowledgeDeleteRequest, KnowledgeReport),
    TaskSpec("knowledge.reembed", "knowledge", KnowledgeReembedRequest, KnowledgeReport, timeout_s=3600),
    TaskSpec("training.run", "training", TrainRequest, TrainResult, max_attempts=5, timeout_s=86_400),
)

CATALOG: dict[str, TaskSpec] = {spec.name: spec for spec in _SPECS}
"""Every task."""

QUEUES: tuple[str, ...] = tuple(dict.fromkeys(spec.queue for spec in _SPECS))
"""Every queue, in the order of the flow."""
