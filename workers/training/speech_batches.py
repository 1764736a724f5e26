"""Batches of speech, drawn by the number of the step alone: a resumed run goes on as if it had never stopped."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from .speech_data import RATE, Recordings, Wave, add_noise, join, noise
from .speech_model import log_mel, pad_features
from .speech_tokens import END, KOREAN, NO_SPEECH, NO_TIMESTAMPS, START, TRANSCRIBE, letters_of, token_id

IGNORED = -100
"""Label of positions without a loss."""

_NEIGHBOURS = 0.08
"""Share of the recordings, of similar length, that one batch draws from."""


@dataclass(frozen=True)
class Batch:
    """One batch of `n` windows."""

    features: Tensor
    """(n, mels, frames)."""
    tokens: Tensor
    """(n, length): the tokens so far."""
    labels: Tensor
    """(n, length): the next ones, `IGNORED` after the end."""
    letters: Tensor
    """The sounding letters of all windows, one after another."""
    letter_counts: Tensor
    """(n): letters of each window."""


@dataclass(frozen=True)
class Mixture:
    """What happens to the recordings of a batch."""

    seconds: float
    """Speech in one batch."""
    joined: float
    """Share of the batches whose windows hold two or three sentences."""
    noisy: float
    """Share of the windows with a background."""
    quiet: float
    """Share of the windows without any speech."""
    decibels: tuple[float, float]
    """Lowest and highest ratio of speech to background."""
    gain_db: tuple[float, float]
    """Lowest and highest change of loudness."""


class SpeechBatches:
    """`batches.draw(step)` is the batch of that step, for ever the same."""

    def __init__(self, recordings: Recordings, tokenizer: Tokenizer, mixture: Mixture, seed: int) -> None:
        """`seed` decides all that is drawn."""
        self._recordings = recordings
        self._tokenizer = tokenizer
        self._mixture = mixture
        self._seed = seed
        self._by_length = sorted(range(len(recordings)), key=recordings.seconds)
        self._encode = lru_cache(maxsize=None)(self._token_ids)

    def draw(self, step: int) -> Batch:
        """The batch of `step`."""
        rng = random.Random(f"{self._seed}:{step}")
        sounds = np.random.default_rng((self._seed, step))
        groups = self._groups(rng)
        features, sequences, letters = [], [], []
        for group in groups:
            wave, text = self._window(group, rng, sounds)
            features.append(log_mel(torch.from_numpy(wave)))
            sequences.append(self._sequence(text))
            letters.append(letters_of(text))
        return _collate(features, sequences, letters)

    def _groups(self, rng: random.Random) -> list[list[int]]:
        """Indices of the recordings of each window, of similar length in all windows."""
        total = len(self._by_length)
        span = max(4, int(total * _NEIGHBOURS))
        start = rng.randrange(max(1, total - span))
        near = self._by_length[start : start + span]
        size = rng.choice((2, 3)) if rng.random() < self._mixture.joined else 1
        longest = self._recordings.seconds(near[-1]) * size
        windows = max(2, int(self._mixture.seconds / max(longest, 1.0)))
        return [[rng.choice(near) for _ in range(size)] for _ in range(windows)]

    def _window(self, group: list[int], rng: random.Random, sounds: np.random.Generator) -> tuple[Wave, str]:
        if rng.random() < self._mixture.quiet:
            return self._background(rng, sounds), ""
        waves = [self._recordings.wave(index) for index in group]
        gaps = [rng.uniform(0.0, 0.7), *(rng.uniform(0.05, 0.8) for _ in group)]
        wave = join(waves, gaps)
        if rng.random() < self._mixture.noisy:
            wave = add_noise(wave, rng.uniform(*self._mixture.decibels), sounds)
        text = " ".join(self._recordings.texts[index] for index in group)
        return _louder(wave, rng.uniform(*self._mixture.gain_db)), text

    def _background(self, rng: random.Random, sounds: np.random.Generator) -> Wave:
        length = int(rng.uniform(0.3, 3.0) * RATE)
        if rng.random() < 0.3:
            return np.zeros(length, dtype=np.float32)
        return _louder(noise(length, sounds), rng.uniform(-70.0, -20.0))

    def _sequence(self, text: str) -> list[int]:
        if not text:
            return [token_id(self._tokenizer, token) for token in (START, NO_SPEECH)]
        prompt = [token_id(self._tokenizer, token) for token in (START, KOREAN, TRANSCRIBE, NO_TIMESTAMPS)]
        return [*prompt, *self._encode(text), token_id(self._tokenizer, END)]

    def _token_ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _louder(wave: Wave, decibels: float) -> Wave:
    return np.clip(wave * np.float32(10 ** (decibels / 20)), -1.0, 1.0)


def _collate(features: list[Tensor], sequences: list[list[int]], letters: list[list[int]]) -> Batch:
    length = max(map(len, sequences)) - 1
    tokens = torch.zeros(len(sequences), length, dtype=torch.long)
    labels = torch.full((len(sequences), length), IGNORED)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence) - 1] = torch.tensor(sequence[:-1])
        labels[row, : len(sequence) - 1] = torch.tensor(sequence[1:])
    joined = [letter for row in letters for letter in row]
    counts = torch.tensor([len(row) for row in letters])
    return Batch(pad_features(features), tokens, labels, torch.tensor(joined), counts)
