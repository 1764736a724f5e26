"""Fakes that only keep time: the same protocols as the engines, for tests of timing and faults. They know nothing.

Chosen by `MAEARI_ENGINES=scripted`; how long a token and a sentence take comes from the settings.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence

from shared.contracts.base import EngineInfo
from shared.contracts.llm import GenerateRequest, Generation, Usage
from shared.contracts.rag import (
    KnowledgeAddRequest,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
    KnowledgeReembedRequest,
    KnowledgeReport,
    RetrieveRequest,
    Source,
)
from shared.contracts.speech import EnrolRequest, SynthesizeRequest, TranscribeRequest, Transcript, VoiceProfile
from shared.errors import JobCancelled
from shared.protocols import OnProgress, OnText, Stop, Waveform
from shared.settings import settings

RATE = 24_000
_TOKEN = re.compile(r"\s*\S{1,3}")


def _wait(seconds: float, stop: Stop) -> None:
    if stop.wait(seconds):
        raise JobCancelled


class _Scripted:
    """What all fakes share."""

    @property
    def info(self) -> EngineInfo:
        """Says that it is a fake."""
        return EngineInfo(name="scripted", model=type(self).__name__, version="0")

    def warm_up(self) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Nothing to free."""


class ScriptedGenerator(_Scripted):
    """Says `scripted_reply`, one token of up to three characters every `scripted_token_ms`."""

    def generate(
        self, request: GenerateRequest, *, request_id: str, stop: Stop, timeout_s: float, on_text: OnText | None = None
    ) -> Generation:
        """The rest of the script behind the prefix. Every caller has the machine to himself."""
        began = time.perf_counter()
        tokens = _TOKEN.findall(settings().scripted_reply.removeprefix(request.prefix))[: request.sampling.max_tokens]
        first_ms = 0.0
        for token in tokens:
            _wait(settings().scripted_token_ms / 1000, stop)
            first_ms = first_ms or (time.perf_counter() - began) * 1000
            if on_text:
                on_text(token)
        return Generation(
            text="".join(tokens),
            finish_reason="stop",
            usage=Usage(prompt_tokens=0, completion_tokens=len(tokens)),
            adapter=request.adapter,
            ttft_ms=first_ms,
            engine_ms=(time.perf_counter() - began) * 1000,
            engine=self.info,
        )


class ScriptedTranscriber(_Scripted):
    """Hears the same sentence whatever is said."""

    def transcribe(self, audio: bytes, request: TranscribeRequest, *, stop: Stop) -> Transcript:
        """A fixed transcript after the time of five tokens."""
        _wait(5 * settings().scripted_token_ms / 1000, stop)
        return Transcript(
            text="안녕하세요",
            language=request.language or "ko",
            language_probability=1.0,
            duration_s=1.0,
            segments=(),
            engine_ms=5 * settings().scripted_token_ms,
            engine=self.info,
        )


class ScriptedSynthesizer(_Scripted):
    """Silence, a tenth of a second per character, after a time in proportion."""

    def synthesize(self, request: SynthesizeRequest, text: str, *, stop: Stop) -> tuple[Waveform, EngineInfo]:
        """Twenty characters take `scripted_sentence_ms`."""
        _wait(settings().scripted_sentence_ms / 1000 * len(text) / 20, stop)
        return Waveform(bytes(2 * RATE * len(text) // 10), RATE), self.info

    def enrol(self, request: EnrolRequest, recordings: Sequence[bytes], *, stop: Stop) -> VoiceProfile:
        """Accepts anything."""
        digest = hashlib.sha256(b"".join(recordings)).hexdigest()
        return VoiceProfile(
            voice=request.voice, digest=digest, duration_s=6.0, cached=False, engine_ms=0.0, engine=self.info
        )


class ScriptedEmbedder(_Scripted):
    """The same vector for every text."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One dimension."""
        return [[1.0]] * len(texts)


class ScriptedRetriever(_Scripted):
    """Finds the same chunk for every question and keeps nothing."""

    def retrieve(self, request: RetrieveRequest) -> tuple[Source, ...]:
        """One made-up source."""
        return (Source(id="0", collection="scripted", document="scripted", text="각본", score=1.0),)

    def add(
        self, request: KnowledgeAddRequest, texts: Sequence[str], *, stop: Stop, on_progress: OnProgress
    ) -> KnowledgeReport:
        """Counts documents."""
        return KnowledgeReport(collection=request.collection, chunks=len(texts))

    def list(self, request: KnowledgeListRequest) -> KnowledgeReport:
        """Nothing."""
        return KnowledgeReport(collection=request.collection)

    def delete(self, request: KnowledgeDeleteRequest) -> KnowledgeReport:
        """Nothing."""
        return KnowledgeReport(collection=request.collection)

    def reembed(self, request: KnowledgeReembedRequest, *, stop: Stop, on_progress: OnProgress) -> KnowledgeReport:
        """Nothing."""
        return KnowledgeReport(collection=request.collection)
