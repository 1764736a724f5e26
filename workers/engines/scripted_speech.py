"""Fakes of speech recognition and synthesis: no model, a script and a clock.

They implement the protocols and take the time that they are told to take, so that a cluster without models, or the
timing of a large one, can be tried on any machine. Nothing that they say was heard, and nothing that they play is
speech.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Sequence

from shared.contracts.base import EngineInfo
from shared.contracts.speech import (
    EnrolRequest,
    Segment,
    SynthesizeRequest,
    TranscribeRequest,
    Transcript,
    VoiceProfile,
)
from shared.errors import JobCancelled, NoSpeech
from shared.protocols import Stop, Waveform

RATE = 24_000
_SECONDS_PER_CHAR = 0.12
_HUM = struct.pack(f"<{RATE}h", *(round(8000 * math.sin(2 * math.pi * 220 * n / RATE)) for n in range(RATE)))
"""A second of it: whole periods, so that it can be strung together."""


def _take(seconds: float, stop: Stop) -> None:
    if stop.wait(seconds):
        raise JobCancelled


class ScriptedTranscriber:
    """Hears the next line of its script, whatever was said; an empty line is silence."""

    info = EngineInfo(name="scripted-transcriber", model="script", version="1")

    def __init__(self, script: Sequence[str], *, seconds: float = 0.0) -> None:
        """`script`: what is heard, over and over; `seconds`: how long hearing takes."""
        self._script = tuple(script)
        self._seconds = seconds
        self._heard = 0
        self._lock = threading.Lock()

    def transcribe(
        self,
        audio: bytes,  # noqa: ARG002 - whatever was said
        request: TranscribeRequest,
        *,
        stop: Stop,
    ) -> Transcript:
        """The next line, said to have lasted as long as its text."""
        _take(self._seconds, stop)
        with self._lock:
            text = self._script[self._heard % len(self._script)]
            self._heard += 1
        if not text:
            raise NoSpeech(field="audio")
        length = round(len(text) * _SECONDS_PER_CHAR, 2)
        return Transcript(
            text=text,
            language=request.language or "ko",
            language_probability=1.0,
            duration_s=length,
            segments=(Segment(text=text, start=0.0, end=length),),
            engine_ms=self._seconds * 1000,
            engine=self.info,
        )

    def warm_up(self) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Nothing to free."""


class ScriptedSynthesizer:
    """Hums for as long as the text would take to say; knows every voice."""

    info = EngineInfo(name="scripted-synthesizer", model="script", version="1")

    def __init__(self, *, seconds: float = 0.0, seconds_per_char: float = 0.0) -> None:
        """How long one sentence takes to make: `seconds`, and `seconds_per_char` for each character on top."""
        self._seconds = seconds
        self._per_char = seconds_per_char

    def synthesize(self, request: SynthesizeRequest, text: str, *, stop: Stop) -> tuple[Waveform, EngineInfo]:
        """A hum of 220 Hz."""
        _take(self._seconds + self._per_char * len(text), stop)
        count = round(len(text) * _SECONDS_PER_CHAR / request.speed * RATE)
        seconds, rest = divmod(count, RATE)
        return Waveform(_HUM * seconds + _HUM[: 2 * rest], RATE), self.info

    def enrol(
        self,
        request: EnrolRequest,
        recordings: Sequence[bytes],  # noqa: ARG002 - whoever spoke
        *,
        stop: Stop,
    ) -> VoiceProfile:
        """Says yes; keeps nothing."""
        _take(self._seconds, stop)
        return VoiceProfile(
            voice=request.voice,
            digest="0" * 64,
            duration_s=6.0,
            cached=False,
            engine_ms=self._seconds * 1000,
            engine=self.info,
        )

    def warm_up(self) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Nothing to free."""
