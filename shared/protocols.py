"""What a task may ask of an engine. Engines implement these in `workers/engines/`; scripted fakes stand beside them.

All methods block the calling thread, may be called from many threads at once unless a worker's pool says otherwise, and
raise errors of `shared.errors` alone. `stop` is set when the job was cancelled or its deadline has passed: an engine
looks at it at least every 100 ms and then raises `JobCancelled`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .contracts.base import BlobRef, EngineInfo
from .contracts.llm import GenerateRequest, Generation
from .contracts.rag import (
    KnowledgeAddRequest,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
    KnowledgeReembedRequest,
    KnowledgeReport,
    RetrieveRequest,
    Source,
)
from .contracts.speech import EnrolRequest, SynthesizeRequest, TranscribeRequest, Transcript, VoiceProfile
from .contracts.training import TrainRequest, TrainResult

Stop = threading.Event
OnText = Callable[[str], None]
"""Receives new text as it is generated; called from one thread at a time, must return fast."""
OnProgress = Callable[[int, int], None]
"""Receives units done and units in all."""


@dataclass(frozen=True)
class Waveform:
    """16-bit mono PCM, little-endian."""

    pcm: bytes
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Seconds of audio."""
        return len(self.pcm) / 2 / self.sample_rate


class Engine(Protocol):
    """What every engine can do."""

    @property
    def info(self) -> EngineInfo:
        """Name, model, version and device."""
        ...

    def warm_up(self) -> None:
        """Run once on a small input, so that the first job pays nothing."""
        ...

    def close(self) -> None:
        """Free what is held; end child processes."""
        ...


class Generator(Engine, Protocol):
    """Writes text."""

    def generate(
        self, request: GenerateRequest, *, request_id: str, stop: Stop, timeout_s: float, on_text: OnText | None = None
    ) -> Generation:
        """The reply to `request.messages` (without `request.prefix`, which is taken as its beginning)."""
        ...


class Transcriber(Engine, Protocol):
    """Hears."""

    def transcribe(self, audio: bytes, request: TranscribeRequest, *, stop: Stop) -> Transcript:
        """`audio`: the bytes of a file in any container. Raises `InvalidAudio`, `AudioTooLong`, `NoSpeech`."""
        ...


class Synthesizer(Engine, Protocol):
    """Speaks."""

    def synthesize(self, request: SynthesizeRequest, text: str, *, stop: Stop) -> tuple[Waveform, EngineInfo]:
        """One sentence in the request's voice. Raises `UnknownVoice`."""
        ...

    def enrol(self, request: EnrolRequest, recordings: Sequence[bytes], *, stop: Stop) -> VoiceProfile:
        """Compute and keep a voice of the tenant from recordings (files in any container)."""
        ...


class Embedder(Engine, Protocol):
    """Turns text into vectors."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length per text, in order."""
        ...

    def pack(self, texts: Sequence[str]) -> bytes:
        """The same vectors one after another, as 32-bit floats, little-endian."""
        ...


class Retriever(Engine, Protocol):
    """Finds and keeps knowledge."""

    def retrieve(self, request: RetrieveRequest) -> tuple[Source, ...]:
        """Best first. Raises `UnknownCollection`."""
        ...

    def add(
        self, request: KnowledgeAddRequest, texts: Sequence[str], *, stop: Stop, on_progress: OnProgress
    ) -> KnowledgeReport:
        """Chunk, embed and store; `texts` are the documents' contents in order."""
        ...

    def list(self, request: KnowledgeListRequest) -> KnowledgeReport:
        """Collections, or the documents of one."""
        ...

    def delete(self, request: KnowledgeDeleteRequest) -> KnowledgeReport:
        """Documents or a whole collection."""
        ...

    def reembed(self, request: KnowledgeReembedRequest, *, stop: Stop, on_progress: OnProgress) -> KnowledgeReport:
        """New vectors for all chunks of a collection."""
        ...


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands."""

    note: str
    """What is trained now, e.g. `stage 2`."""
    step: int
    steps: int
    loss: float
    rate: float
    """Learning rate."""
    eta_s: float
    """Seconds that the rest of what is trained now will take."""


class Trainer(Engine, Protocol):
    """Runs recipes."""

    def train(
        self, request: TrainRequest, *, stop: Stop, timeout_s: float, on_progress: Callable[[TrainingProgress], None]
    ) -> TrainResult:
        """Run one to its end, or on from the checkpoint that an earlier attempt has left.

        Stops after the step that is being made, with its checkpoint kept. Raises `UnknownRecipe`,
        `ConfigurationInvalid`, `TrainingFailed`, `JobCancelled`, `AttemptTimeout`, `EngineFailed`.
        """
        ...


class BlobStore(Protocol):
    """Keeps bytes by key; a file folder or an S3-compatible store."""

    def put(self, tenant: str, kind: str, name: str, data: bytes, mime: str) -> BlobRef:
        """Store under `<tenant>/<kind>/<name>`; an existing blob of that key is replaced."""
        ...

    def get(self, ref: BlobRef, *, tenant: str, field: str = "audio") -> bytes:
        """The bytes; raises `InvalidBlob`, `BlobMissing` (naming `field`), `StoreUnavailable`."""
        ...

    def sweep(self, older_than_s: float) -> int:
        """Delete what jobs brought and made before so many seconds; how many blobs went."""
        ...
