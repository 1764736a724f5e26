"""How well an exported speech model understands, measured through the transcriber that the workers run."""

from __future__ import annotations

import io
import random
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from shared.contracts.base import BlobRef
from shared.contracts.speech import TranscribeRequest
from shared.errors import NoSpeech
from workers.engines.transcriber import WhisperTranscriber

from .speech_data import RATE, Manner, Utterance, Wave, add_noise, join, speak

_REQUEST = TranscribeRequest(audio=BlobRef(key="examination/speech/wave"), language="ko")
_MARKS = re.compile(r"[^\w]+")


def transcribe(transcriber: WhisperTranscriber, wave: Wave) -> str:
    """What is said in a 16 kHz waveform; empty without speech."""
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="WAV", subtype="PCM_16")
    try:
        return transcriber.transcribe(file.getvalue(), _REQUEST, stop=threading.Event()).text
    except NoSpeech:
        return ""


def plain(text: str) -> str:
    """`text` without spaces and punctuation, composed: what a recogniser of meaning would compare."""
    return _MARKS.sub("", unicodedata.normalize("NFC", text))


def edits(first: str, second: str) -> int:
    """Levenshtein distance in characters."""
    row = list(range(len(second) + 1))
    for number, left in enumerate(first, start=1):
        previous, row[0] = row[0], number
        for column, right in enumerate(second, start=1):
            previous, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, previous + (left != right))
    return row[-1]


@dataclass
class Score:
    """Character errors over utterances."""

    errors: int = 0
    characters: int = 0
    plain_errors: int = 0
    plain_characters: int = 0
    exact: int = 0
    count: int = 0
    confusions: list[tuple[str, str]] = field(default_factory=list)
    """Said and heard, where they differ."""

    def add(self, said: str, heard: str) -> None:
        """Count one utterance."""
        self.errors += edits(said, heard)
        self.characters += len(said)
        self.plain_errors += edits(plain(said), plain(heard))
        self.plain_characters += len(plain(said))
        self.count += 1
        self.exact += said == heard
        if said != heard:
            self.confusions.append((said, heard))

    def figures(self, examples: int = 4) -> dict[str, Any]:
        """The error rates (with all characters; without spaces and punctuation) and a few confusions."""
        return {
            "cer": round(self.errors / max(1, self.characters), 4),
            "cer_plain": round(self.plain_errors / max(1, self.plain_characters), 4),
            "exact": round(self.exact / max(1, self.count), 3),
            "count": self.count,
            "confusions": [f"{said} -> {heard}" for said, heard in self.confusions[:examples]],
        }


@dataclass(frozen=True)
class Cases:
    """Held-out sentences by kind, and the ways in which they are spoken."""

    combinations: Sequence[str]
    """Parts trained, never together."""
    paraphrases: Sequence[str]
    """Wordings never trained."""
    replies: Sequence[str]
    """What the personas say."""
    trained: Sequence[str]
    unseen: Manner
    """Speeds and pitches never trained."""
    packs: Sequence[Utterance]
    """The packs' own voices; their text is replaced."""


def examine(folder: Path, cases: Cases, count: int, seed: int) -> dict[str, Any]:
    """Error rates of the model in `folder` over `count` utterances each."""
    transcriber = WhisperTranscriber(str(folder))
    rng, sounds = random.Random(f"examination {seed}"), np.random.default_rng(seed)
    figures = {}
    for name, pairs in _suites(cases, count, rng, sounds):
        score = Score()
        for said, wave in pairs:
            score.add(said, transcribe(transcriber, wave))
        figures[name] = score.figures()
    transcriber.close()
    return figures


def _suites(
    cases: Cases, count: int, rng: random.Random, sounds: np.random.Generator
) -> Iterator[tuple[str, Iterator[tuple[str, Wave]]]]:
    """Every figure's name with its utterances: what is said, and the sound."""

    def drawn(sentences: Sequence[str]) -> list[str]:
        return rng.sample(sentences, min(count, len(sentences)))

    def spoken(sentences: Sequence[str]) -> Iterator[tuple[str, Wave]]:
        return ((text, speak(cases.unseen.draw(text, rng))) for text in drawn(sentences))

    def noisy(sentences: Sequence[str], decibels: float) -> Iterator[tuple[str, Wave]]:
        around = ((text, join([wave], (0.5, 0.5))) for text, wave in spoken(sentences))
        return ((text, add_noise(wave, decibels, sounds)) for text, wave in around)

    def several(sentences: Sequence[str]) -> Iterator[tuple[str, Wave]]:
        for first, second in zip(drawn(sentences)[::2], drawn(sentences)[1::2], strict=False):
            manner = cases.unseen.draw("", rng)
            waves = [speak(Utterance(text, manner.variant, manner.speed, manner.pitch)) for text in (first, second)]
            yield f"{first} {second}", join(waves, (0.3, rng.uniform(0.2, 1.0), 0.3))

    def own(sentences: Sequence[str]) -> Iterator[tuple[str, Wave]]:
        for text in drawn(sentences):
            voice = rng.choice(cases.packs)
            yield text, speak(Utterance(text, voice.variant, voice.speed, voice.pitch))

    yield "trained_sentences", spoken(cases.trained)
    yield "combinations", spoken(cases.combinations)
    yield "combinations_20db", noisy(cases.combinations, 20.0)
    yield "combinations_15db", noisy(cases.combinations, 15.0)
    yield "paraphrases", spoken(cases.paraphrases)
    yield "two_sentences", several(cases.combinations)
    yield "replies_in_pack_voices", own(cases.replies)
