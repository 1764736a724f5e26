"""Speech in and speech out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import BlobRef, EngineInfo, Name, NonBlank, Request, Text, Wire

Language = Literal["ko", "en"]


class TranscribeRequest(Request):
    """`stt.transcribe`: speech to text. Any container that ffmpeg reads; any rate; mono or stereo."""

    audio: BlobRef
    language: Language | None = None
    """Empty: detected."""
    word_timestamps: bool = False
    hint: Text = ""
    """Names and terms that are likely to be spoken."""


class Word(Wire):
    """A timed word; seconds from the beginning."""

    text: str
    start: float
    end: float
    probability: float


class Segment(Wire):
    """A timed piece of a transcript; seconds from the beginning."""

    text: str
    start: float
    end: float
    words: tuple[Word, ...] = ()


class Transcript(Wire):
    """Result of `stt.transcribe`."""

    text: str
    language: str
    language_probability: float
    duration_s: float
    segments: tuple[Segment, ...]
    engine_ms: float
    engine: EngineInfo


VoiceEngine = Literal["formant", "neural"]
"""`formant`: espeak-ng, intelligible on any CPU. `neural`: XTTS v2 (its published weights forbid commercial use)."""


class SynthesizeRequest(Request):
    """`tts.synthesize`: text to speech; a long text is split into sentences, each an `audio` event."""

    text: NonBlank
    voice: Name
    """A pack's voice or one that the tenant has enrolled."""
    language: Language = "ko"
    engine: VoiceEngine | None = None
    """Empty: the voice's own, else the cluster's default."""
    speed: Annotated[float, Field(ge=0.5, le=2.0)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    seq: Annotated[int, Field(ge=0)] | None = None
    """Set by a turn: the sentence's place in the reply. Then the text is one sentence and is not split."""


class SpokenSentence(Wire):
    """One synthesized sentence; the caller plays them in the order of `seq`."""

    seq: int
    text: str
    audio: BlobRef
    duration_s: float


class Speech(Wire):
    """Result of `tts.synthesize`."""

    audio: BlobRef
    """All sentences in one WAV."""
    duration_s: float
    sample_rate: int
    sentences: tuple[SpokenSentence, ...]
    voice: str
    engine_ms: float
    engine: EngineInfo


class EnrolRequest(Request):
    """`tts.enrol`: recordings of a speaker (6 s or more in all) to a voice of the tenant."""

    voice: Name
    audio: Annotated[tuple[BlobRef, ...], Field(strict=False, min_length=1, max_length=16)]
    language: Language = "ko"


class VoiceProfile(Wire):
    """Result of `tts.enrol`: the voice can be named from now on."""

    voice: str
    digest: str
    """SHA-256 over the recordings; with the model's version it is the key of the latents' cache."""
    duration_s: float
    cached: bool
    """The latents had been computed before."""
    engine_ms: float
    engine: EngineInfo
