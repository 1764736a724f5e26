"""How high a voice is, and the settings of espeak-ng that are as high."""

from __future__ import annotations

import numpy as np

from shared.contracts.pack import FormantVoice
from workers.audio import Samples

LOWEST_HZ = 60
HIGHEST_HZ = 400
LISTENED_S = 30
"""Seconds of a recording that are enough to know its pitch."""
_VOICED = 0.6
"""Normalised autocorrelation from which a moment counts as voiced."""
_SPEED_WPM = 160
"""Speed of an enrolled voice; recordings do not tell how fast somebody talks to whom."""

_PITCHES = (0, 10, 20, 35, 50, 65, 80, 99)
_LOW_HZ = (71, 75, 78, 86, 99, 116, 136, 167)
"""Median pitch of espeak-ng 1.51, `ko`, at `_PITCHES`; measured with `median_pitch`."""
_HIGH_HZ = (126, 136, 145, 167, 190, 219, 254, 314)
"""The same of `ko+f2`."""
_HIGH_FROM_HZ = 150
"""From this median on the high variant sounds nearer."""


def median_pitch(samples: Samples, rate: int) -> float | None:
    """Median of the fundamental frequency in Hz over the voiced moments; None where hardly anything is voiced."""
    window, hop = rate // 25, rate // 100
    shortest, longest = rate // HIGHEST_HZ, rate // LOWEST_HZ
    samples = samples[: LISTENED_S * rate]
    loudness = float(np.max(np.abs(samples), initial=0.0))
    found = []
    for start in range(0, len(samples) - window - longest, hop):
        frame = samples[start : start + window + longest]
        if float(np.sqrt(np.mean(frame**2))) > 0.02 * loudness:
            found.append(_pitch(frame, rate, shortest, longest))
    voiced = [hz for hz in found if hz]
    return float(np.median(voiced)) if len(voiced) >= 25 else None


def _pitch(frame: Samples, rate: int, shortest: int, longest: int) -> float | None:
    """Pitch of a moment by autocorrelation: the first peak that is nearly as high as the highest."""
    centred = frame - frame.mean()
    spectrum = np.fft.rfft(centred, 2 * len(centred))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 1]
    if correlation[0] <= 0:
        return None
    correlation /= correlation[0] * (1 - np.arange(longest + 1) / len(centred))
    span = correlation[shortest : longest + 1]
    if span.max() < _VOICED:
        return None
    peaks = np.flatnonzero((span[1:-1] >= span[:-2]) & (span[1:-1] >= span[2:]) & (span[1:-1] > 0.9 * span.max())) + 1
    lag = shortest + int(peaks[0] if len(peaks) else span.argmax())
    return rate / lag


def formant_voice(hz: float, language: str) -> FormantVoice:
    """The settings whose median pitch is nearest to `hz`."""
    high = hz >= _HIGH_FROM_HZ
    pitch = round(float(np.interp(hz, _HIGH_HZ if high else _LOW_HZ, _PITCHES)))
    return FormantVoice(variant=f"{language}+f2" if high else language, speed_wpm=_SPEED_WPM, pitch=pitch)
