"""Spoken sentences for the small Whisper: what is said, by which voice, and what lies behind it.

Utterances are spoken once by espeak-ng and kept as 16 kHz waveforms on disk; loudness, noise, silence and the joining
of several sentences are added anew each time one is drawn, so that no two epochs are alike.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from shared.errors import ConfigurationInvalid

from .corpus.values import common_syllables
from .progress import say

RATE = 16_000
"""Samples per second of every waveform here."""

_SPOKEN_RATE = 22_050
"""Samples per second of espeak-ng's Korean voices."""
_HEADER = 44
"""Bytes before the samples in what espeak-ng writes."""

Wave = npt.NDArray[np.float32]
"""A mono waveform at `RATE`, about -1 to 1."""


@dataclass(frozen=True)
class Utterance:
    """One sentence and how espeak-ng says it."""

    text: str
    variant: str = ""
    """espeak-ng voice variant, e.g. `+f2`; empty for the plain Korean voice."""
    speed: int = 175
    """Words per minute."""
    pitch: int = 50
    """0 to 99."""


@dataclass(frozen=True)
class Manner:
    """The ways of speaking that utterances are drawn from."""

    variants: tuple[str, ...]
    speeds: tuple[int, ...]
    pitches: tuple[int, ...]

    def draw(self, text: str, rng: random.Random) -> Utterance:
        """`text` in one of these ways."""
        return Utterance(text, rng.choice(self.variants), rng.choice(self.speeds), rng.choice(self.pitches))


def speak(utterance: Utterance) -> Wave:
    """The utterance as espeak-ng says it. Raises `ConfigurationInvalid` where espeak-ng is missing."""
    if shutil.which("espeak-ng") is None:
        raise ConfigurationInvalid("espeak-ng is needed to make the training speech; install it first.")
    command = ["espeak-ng", "-v", f"ko{utterance.variant}", "-s", str(utterance.speed), "-p", str(utterance.pitch)]
    spoken = subprocess.run([*command, "--stdout", utterance.text], capture_output=True, check=True, timeout=60)
    samples = np.frombuffer(spoken.stdout[_HEADER:], dtype=np.int16).astype(np.float32) / 32768.0
    wave: Wave = soxr.resample(samples, _SPOKEN_RATE, RATE)
    return wave


def shuffled_sentence(words: Sequence[str], rng: random.Random) -> str:
    """A few words in no order, now and then one that is none: sound must be heard, for memory does not help."""
    chosen = [rng.choice(words) for _ in range(rng.randint(2, 5))]
    if rng.random() < 0.3:
        syllables = common_syllables()
        chosen[rng.randrange(len(chosen))] = "".join(rng.choice(syllables) for _ in range(rng.randint(2, 3)))
    return " ".join(chosen)


@dataclass(frozen=True)
class Pool:
    """Sentences that are spoken in the same ways."""

    sentences: Sequence[str]
    manner: Manner
    weight: float = 1.0
    """How often one of them is drawn, against the other pools."""


def plan_utterances(pools: Sequence[Pool], count: int, shuffled: float, seed: int) -> list[Utterance]:
    """`count` utterances: the sentences of a pool about equally often, and a share `shuffled` of words in no order."""
    rng = random.Random(seed)
    words = sorted({word for pool in pools for sentence in pool.sentences for word in sentence.split()})
    weights = [pool.weight for pool in pools]
    queues: list[list[str]] = [[] for _ in pools]
    plan = []
    for _ in range(count):
        (index,) = rng.choices(range(len(pools)), weights)
        pool, queue = pools[index], queues[index]
        if rng.random() < shuffled:
            plan.append(pool.manner.draw(shuffled_sentence(words, rng), rng))
            continue
        if not queue:
            queue += rng.sample(pool.sentences, len(pool.sentences))
        plan.append(pool.manner.draw(queue.pop(), rng))
    return plan


class Recordings:
    """The waveforms of a plan, spoken once and kept on disk.

    `texts[i]` is what `wave(i)` says.
    """

    def __init__(self, plan: Sequence[Utterance], folder: Path) -> None:
        """Speak what `folder` does not hold yet; a changed plan gets a file of its own."""
        self.texts = [utterance.text for utterance in plan]
        digest = hashlib.sha256(json.dumps([astuple(utterance) for utterance in plan]).encode()).hexdigest()[:16]
        path, index = folder / f"{digest}.pcm", folder / f"{digest}.json"
        if not index.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _record(plan, path, index)
        self._ends = np.array(json.loads(index.read_text(encoding="utf-8")), dtype=np.int64)
        self._samples = np.memmap(path, dtype=np.int16, mode="r")

    def __len__(self) -> int:
        return len(self.texts)

    def seconds(self, index: int) -> float:
        """Length of recording `index`."""
        start, end = self._bounds(index)
        return (end - start) / RATE

    def wave(self, index: int) -> Wave:
        """Recording `index`."""
        start, end = self._bounds(index)
        return self._samples[start:end].astype(np.float32) / 32768.0

    def _bounds(self, index: int) -> tuple[int, int]:
        return (int(self._ends[index - 1]) if index else 0), int(self._ends[index])


def _record(plan: Sequence[Utterance], path: Path, index: Path) -> None:
    ends: list[int] = []
    total = 0
    with path.open("wb") as file:
        for number, utterance in enumerate(plan):
            samples = (np.clip(speak(utterance), -1.0, 1.0) * 32767).astype(np.int16)
            file.write(samples.tobytes())
            total += len(samples)
            ends.append(total)
            if (number + 1) % 500 == 0:
                say(f"spoken {number + 1} of {len(plan)}")
    index.write_text(json.dumps(ends), encoding="utf-8")


def noise(length: int, rng: np.random.Generator) -> Wave:
    """`length` samples of background of unit power: white, coloured or with a mains hum."""
    size = 1 << max(10, (length - 1).bit_length())  # of other sizes some take fifty times as long to transform
    slope = rng.choice([0.0, 0.5, 1.0])
    spectrum = np.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    spectrum *= np.maximum(np.arange(len(spectrum)), size * 30 / RATE) ** -slope
    background = np.fft.irfft(spectrum)[:length]
    if rng.random() < 0.3:
        hum = np.sin(2 * np.pi * rng.uniform(45, 130) * np.arange(length) / RATE + rng.uniform(0, 6))
        background = background / background.std() + hum * rng.uniform(0.5, 3.0)
    result: Wave = (background / (background.std() + 1e-9)).astype(np.float32)
    return result


def add_noise(wave: Wave, decibels: float, rng: np.random.Generator, background: Wave | None = None) -> Wave:
    """`wave` with a background (`noise` when None) that lies `decibels` under the speech's mean power."""
    background = noise(len(wave), rng) if background is None else background
    loud = wave[np.abs(wave) > 1e-3]
    power = float(np.mean(loud**2)) if len(loud) else 1e-4
    return wave + background * np.float32(np.sqrt(power * 10 ** (-decibels / 10)))


def join(waves: Sequence[Wave], gaps_s: Sequence[float]) -> Wave:
    """The waves one after another; `gaps_s`, one longer than `waves`, are the silences around and between them."""
    parts: list[Wave] = [np.zeros(int(gaps_s[0] * RATE), dtype=np.float32)]
    for wave, gap in zip(waves, gaps_s[1:], strict=True):
        parts += [wave, np.zeros(int(gap * RATE), dtype=np.float32)]
    return np.concatenate(parts)
