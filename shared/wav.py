"""16-bit mono WAV, by the standard library alone: what travels between synthesis and the merged reply."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence

from .protocols import Waveform


def encode(waveform: Waveform) -> bytes:
    """A WAV file of `waveform`."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(waveform.sample_rate)
        file.writeframes(waveform.pcm)
    return buffer.getvalue()


def decode(data: bytes) -> Waveform:
    """The waveform of a WAV file that `encode` wrote."""
    with wave.open(io.BytesIO(data), "rb") as file:
        return Waveform(file.readframes(file.getnframes()), file.getframerate())


def join(waveforms: Sequence[Waveform], *, gap_ms: int = 0) -> Waveform:
    """One after the other with silence between; all of one sample rate."""
    rates = {waveform.sample_rate for waveform in waveforms}
    if len(rates) != 1:
        raise ValueError(f"cannot join waveforms of the sample rates {sorted(rates)}")
    rate = rates.pop()
    silence = bytes(2 * (rate * gap_ms // 1000))
    return Waveform(silence.join(waveform.pcm for waveform in waveforms), rate)
