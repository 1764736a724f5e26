"""A turn: one input and its spoken reply."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import AdapterName, BlobRef, Name, NonBlank, Request, Wire
from .llm import Sampling, Usage
from .rag import Source
from .speech import SpokenSentence, VoiceEngine


class TurnRequest(Request):
    """`turns.start`: a question to a persona, spoken or written."""

    pack: Name
    session: Name
    """Conversation that the turn belongs to; its last turns are remembered."""
    text: NonBlank | None = None
    audio: BlobRef | None = None
    language: Literal["ko", "en"] | None = None
    """Of the question; empty: the pack's."""
    speech: bool = True
    """Speak the reply."""
    voice: Name | None = None
    """Empty: the pack's."""
    voice_engine: VoiceEngine | None = None
    adapter: AdapterName | None = None
    """Empty: the pack's."""
    sampling: Sampling | None = None
    """Empty: the pack's."""
    top_k: Annotated[int, Field(ge=0, le=20)] | None = None
    """Chunks of context; empty: the pack's; 0: none."""

    @model_validator(mode="after")
    def _one_input(self) -> TurnRequest:
        if (self.text is None) == (self.audio is None):
            raise ValueError("give either text or audio")
        return self


class FinishRequest(Request):
    """`turns.finish`: gather what the stages left; made by the cluster itself."""


class StageTiming(Wire):
    """One stage of a turn, in milliseconds from the job's acceptance."""

    stage: str
    queued_at: float
    started_at: float
    finished_at: float
    engine_ms: float = 0.0
    seq: int | None = None
    """Sentence, for synthesis."""


class TurnResult(Wire):
    """Result of a turn."""

    job_id: str
    pack: str
    session: str
    transcript: str
    """What was asked: recognised, or the text as given."""
    context: tuple[Source, ...]
    reply: str
    sentences: tuple[SpokenSentence, ...] = ()
    audio: BlobRef | None = None
    """All sentences in one WAV."""
    audio_duration_s: float = 0.0
    adapter: str | None = None
    adapter_version: str | None = None
    """Version of it that wrote the reply."""
    voice: str | None = None
    finish_reason: str
    usage: Usage
    ttft_ms: float
    """Milliseconds from acceptance to the first token."""
    ttfa_ms: float | None = None
    """Milliseconds from acceptance to the first audio."""
    total_ms: float
    overhead_ms: float
    """Part of `total_ms` in which no engine was at work for the turn."""
    timings: tuple[StageTiming, ...]
