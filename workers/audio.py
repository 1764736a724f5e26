"""Sound in and out of any container, in memory: no temporary file, no network, no program started.

Inside the workers sound is mono float32 between -1 and 1; on the way out it is a `Waveform`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from shared.errors import AudioTooLong, InvalidAudio
from shared.protocols import Waveform

Samples = NDArray[np.float32]
"""Mono sound between -1 and 1."""

SPEECH_RATE = 24_000
"""Samples a second of all synthesized speech: XTTS's own rate, so that sentences of either engine can be joined."""
MIN_SECONDS = 0.1
"""Shorter sound is refused: nobody can have said anything."""

_DEMUXERS = "wav,w64,aiff,au,caf,mp3,aac,flac,ogg,mov,matroska,webm,amr,asf"
"""Containers of sound. Playlists and the like, which name other files or addresses, are not among them."""
_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
_UNKNOWN_SIZE = 0x7FFF0000
"""Sizes from here on stand in the header of a WAV that was written to a pipe."""
_MISSING_BYTES = 1024
"""A WAV may lack so many of the bytes that its header promises: some recorders count wrongly."""
_FRAME_MS = 20


def decode(data: bytes, rate: int, *, max_s: float) -> Samples:
    """The sound of a file in any common container, mixed to mono, at `rate` samples a second.

    Raises `AudioTooLong` as soon as `max_s` seconds are exceeded, whatever the header says, and `InvalidAudio` with
    the reason.
    """
    if not data:
        raise _unusable("The file is empty.")
    _refuse_cut_off_wav(data)
    try:
        with av.open(io.BytesIO(data), mode="r", options=_OPTIONS) as container:
            pieces = list(_decoded(container, rate, max_s))
    except (av.FFmpegError, ValueError, EOFError, MemoryError) as error:
        raise _unusable("It is not sound in a container that can be read.") from error
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if len(samples) < MIN_SECONDS * rate:
        raise _unusable(f"It lasts {len(samples) / rate:.2f} s; at least {MIN_SECONDS} s are needed.")
    return cast(Samples, np.clip(np.nan_to_num(samples), -1.0, 1.0))


def _decoded(container: InputContainer, rate: int, max_s: float) -> Iterator[Samples]:
    if not container.streams.audio:
        raise _unusable("The file holds no sound.")
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    seconds = 0.0
    good = bad = 0
    for packet in container.demux(container.streams.audio[0]):
        try:
            frames = packet.decode()
            good += 1
        except av.InvalidDataError:
            bad += 1  # a damaged packet in the midst of good ones is skipped, as players do
            continue
        for frame in frames:
            seconds += frame.samples / frame.sample_rate
            if seconds > max_s:
                raise AudioTooLong(f"The limit is {max_s:g} s.", field="audio")
            yield from (piece.to_ndarray()[0] for piece in resampler.resample(frame))
    if bad > good:
        raise _unusable("Most of the file is damaged.")
    if seconds:
        yield from (piece.to_ndarray()[0] for piece in resampler.resample(None))


def _refuse_cut_off_wav(data: bytes) -> None:
    """A WAV whose header promises more than there is was not uploaded whole; what it says would be half a question."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        held = len(data) - at - 8
        if data[at : at + 4] == b"data" and size < _UNKNOWN_SIZE and held + _MISSING_BYTES < size:
            raise _unusable(f"The file is cut off: its header promises {size} bytes of sound, it holds {held}.")
        at += 8 + size + size % 2


def _unusable(reason: str) -> InvalidAudio:
    return InvalidAudio(reason, field="audio")


def resample(samples: Samples, rate: int, to: int) -> Samples:
    """`samples` of `rate` at the rate `to`."""
    if rate == to or not len(samples):
        return samples
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=to)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    return cast(Samples, np.concatenate([piece.to_ndarray()[0] for piece in pieces]))


def to_waveform(samples: Samples, rate: int) -> Waveform:
    """16-bit sound of `samples`; what lies beyond -1 and 1 is clipped."""
    scaled = np.clip(np.nan_to_num(samples), -1.0, 1.0) * 32767.0
    return Waveform(np.round(scaled).astype("<i2").tobytes(), rate)


def from_pcm(pcm: bytes) -> Samples:
    """Samples of 16-bit mono PCM; an odd last byte is dropped."""
    whole = pcm[: len(pcm) // 2 * 2]
    return cast(Samples, np.frombuffer(whole, "<i2").astype(np.float32) / 32768.0)


def silence(seconds: float, rate: int) -> Waveform:
    """So many seconds of nothing."""
    return Waveform(bytes(2 * round(seconds * rate)), rate)


def trim(samples: Samples, rate: int) -> Samples:
    """`samples` without the silence at both ends: what is 40 dB below the loudest 20 ms, or all but inaudible."""
    step = rate * _FRAME_MS // 1000
    count = len(samples) // step
    if not count:
        return samples[:0]
    power = np.mean(samples[: count * step].reshape(count, step) ** 2, axis=1)
    loud = np.flatnonzero(power > max(float(power.max()) * 1e-4, 1e-7))
    if not len(loud):
        return samples[:0]
    return samples[loud[0] * step : (loud[-1] + 1) * step]
