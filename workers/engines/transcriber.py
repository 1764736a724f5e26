"""Speech recognition by faster-whisper: voice activity first, then windows of speech decoded in batches.

Silence and noise never reach the model, which would invent words for them. The windows of concurrent jobs share
batches; a lone job waits for nobody.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import faster_whisper
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import TranscriptionOptions, get_suppressed_tokens
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.contracts.base import EngineInfo, first_problem
from shared.contracts.speech import Language, Segment, TranscribeRequest, Transcript, Word
from shared.errors import (
    ConfigurationInvalid,
    EngineDead,
    EngineFailed,
    InvalidRequest,
    JobCancelled,
    NoSpeech,
    OutOfMemory,
)
from shared.protocols import Stop
from shared.settings import settings
from workers import audio as sound
from workers.audio import Samples

from .batching import MicroBatcher
from .fingerprint import fingerprint

RATE = 16_000
"""Samples a second that Whisper hears."""
DECODE_FILE = "decode.json"
"""Beside a model: how it is best decoded. Without it the values of `DecodeOptions` hold, which suit Whisper."""
_NO_SPEECH = 0.6
_UNLIKELY = -1.0
"""A window is dropped when the model says "no speech" with more than the one and its words fall below the other."""
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"


class DecodeOptions(BaseModel):
    """`decode.json`: what is particular to a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    languages: tuple[Language, ...] = ("ko", "en")
    """Languages that the model was trained on; detection chooses among them."""
    window_s: float = Field(default=30.0, gt=0, le=30)
    """Longest stretch that is decoded at once."""
    join: bool = True
    """Stretches of speech share a window while they fit; off for a model that has only met single sentences."""
    min_silence_ms: int = Field(default=160, ge=0)
    """Silence that parts two stretches of speech."""
    speech_pad_ms: int = Field(default=400, ge=0)
    """Kept on both sides of a stretch."""
    beam_size: int = Field(default=5, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one window; empty: what the model allows."""
    hints: bool = True
    """The model was trained with a prompt before the speech; off: a request's hint is not shown to it."""

    @classmethod
    def beside(cls, folder: Path) -> DecodeOptions:
        """Those of the model in `folder`. Raises `ConfigurationInvalid`."""
        path = folder / DECODE_FILE
        if not path.is_file():
            return cls()
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            field, problem = first_problem(error.errors())
            raise ConfigurationInvalid(f"{DECODE_FILE} of the speech model: {problem}", field=field) from error


@dataclass(frozen=True)
class _Manner:
    """Windows that are decoded in the same manner may share a batch."""

    language: str
    hint: str
    job: int
    """Set when words are timed, for the library carries state from window to window then; else 0: shared by all."""


@dataclass(frozen=True)
class _Window:
    features: NDArray[np.float32]
    start_s: float
    length_s: float
    manner: _Manner


Heard = list[dict[str, Any]]
"""Segments of one window, as the library gives them."""


class WhisperTranscriber:
    """The `Transcriber` of a worker; any number of threads may call it."""

    def __init__(self, model: str | None = None) -> None:
        """`model`: a folder in CTranslate2's form or a hub name; that of the settings unless given.

        Raises `ConfigurationInvalid` where it cannot be loaded.
        """
        chosen = settings()
        name = model or chosen.model(chosen.stt_model)
        folder = Path(name)
        self._options = DecodeOptions.beside(folder) if folder.is_dir() else DecodeOptions()
        self._model = _loaded(name, chosen.stt_device, chosen.stt_compute_type)
        self._pipeline = BatchedInferencePipeline(self._model)
        self._batch = chosen.stt_batch
        self._batcher: MicroBatcher[_Window, Heard] = MicroBatcher(self._decode, self._batch, "transcriber")
        self.dead = threading.Event()
        """Set when the device has failed for good."""
        self.info = EngineInfo(
            name="whisper",
            model=folder.name,
            version=fingerprint(folder) if folder.is_dir() else faster_whisper.__version__,
            device=chosen.stt_device,
        )

    def warm_up(self) -> None:
        """Look for speech once and decode a window of silence."""
        silence = np.zeros(RATE, np.float32)
        self._stretches(silence)
        manner = _Manner(self._languages[0], "", 0)
        self._batcher.submit(_Window(self._features(silence), 0.0, 1.0, manner))

    def close(self) -> None:
        """Finish what is being decoded."""
        self._batcher.close()

    def transcribe(self, audio: bytes, request: TranscribeRequest, *, stop: Stop) -> Transcript:
        """What is said in a file in any container. Raises `InvalidAudio`, `AudioTooLong`, `NoSpeech`."""
        began = time.perf_counter()
        samples = sound.decode(audio, RATE, max_s=settings().audio_max_s)
        stretches = self._stretches(samples)
        if not stretches:
            raise NoSpeech(field="audio")
        if stop.is_set():
            raise JobCancelled
        language, probability = self._language(request.language, samples, stretches)
        hint = request.hint.strip() if self._options.hints else ""
        manner = _Manner(language, hint, id(request) if request.word_timestamps else 0)
        segments = tuple(self._segments(samples, stretches, manner, stop))
        if not segments:
            raise NoSpeech(field="audio")
        return Transcript(
            text=" ".join(segment.text for segment in segments),
            language=language,
            language_probability=round(probability, 4),
            duration_s=round(len(samples) / RATE, 3),
            segments=segments,
            engine_ms=round((time.perf_counter() - began) * 1000, 2),
            engine=self.info,
        )

    # --- where there is speech ---

    def _stretches(self, samples: Samples) -> list[tuple[int, int]]:
        """Begin and end of what is decoded at once, in samples."""
        longest = self._options.window_s
        found = get_speech_timestamps(
            samples,
            VadOptions(
                max_speech_duration_s=longest,
                min_silence_duration_ms=self._options.min_silence_ms,
                speech_pad_ms=self._options.speech_pad_ms,
            ),
        )
        stretches: list[tuple[int, int]] = []
        for span in found:
            begin, end = int(span["start"]), int(span["end"])
            if self._options.join and stretches and end - stretches[-1][0] <= longest * RATE:
                stretches[-1] = (stretches[-1][0], end)
            else:
                stretches.append((begin, end))
        return stretches

    def _features(self, samples: Samples) -> NDArray[np.float32]:
        features = self._model.feature_extractor(samples)[..., :-1]
        return cast(NDArray[np.float32], pad_or_trim(features))

    # --- which language ---

    @cached_property
    def _languages(self) -> list[str]:
        known: list[str] = [
            language for language in self._options.languages if language in self._model.supported_languages
        ]
        if not known:
            raise ConfigurationInvalid("The speech model knows neither Korean nor English.", field="stt_model")
        return known

    def _language(self, asked: str | None, samples: Samples, stretches: Sequence[tuple[int, int]]) -> tuple[str, float]:
        """The language asked for, else the likeliest of those that are served, and how sure that is."""
        if asked is not None:
            if asked not in self._languages:
                raise InvalidRequest(f"The speech model knows {', '.join(self._languages)} only.", field="language")
            return asked, 1.0
        if len(self._languages) == 1:
            return self._languages[0], 1.0
        begin, end = stretches[0]
        with self._guarded():
            _, _, every = self._model.detect_language(features=self._features(samples[begin:end]))
        likely = {language: probability for language, probability in every if language in self._languages}
        language = max(likely, key=lambda known: likely[known])
        return language, likely[language] / (sum(likely.values()) or 1.0)

    # --- what is said ---

    def _segments(
        self, samples: Samples, stretches: Sequence[tuple[int, int]], manner: _Manner, stop: Stop
    ) -> Iterator[Segment]:
        """Decodes as many windows at a time as one batch takes, so that a long recording lets others in between."""
        for first in range(0, len(stretches), self._batch):
            windows = [
                _Window(self._features(samples[begin:end]), begin / RATE, (end - begin) / RATE, manner)
                for begin, end in stretches[first : first + self._batch]
            ]
            for window, heard in zip(windows, self._batcher.submit_all(windows, stop=stop), strict=True):
                for segment in heard:
                    if _is_speech(segment):
                        yield _segment(segment, window)

    def _decode(self, windows: list[_Window]) -> list[Heard]:
        """One call of the model per manner; runs on the batcher's thread alone."""
        by_manner: defaultdict[_Manner, list[int]] = defaultdict(list)
        for place, window in enumerate(windows):
            by_manner[window.manner].append(place)
        heard: dict[int, Heard] = {}
        for manner, places in by_manner.items():
            heard.update(zip(places, self._decode_alike([windows[place] for place in places], manner), strict=True))
        return [heard[place] for place in range(len(windows))]

    def _decode_alike(self, windows: list[_Window], manner: _Manner) -> list[Heard]:
        tokenizer = Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language=manner.language
        )
        self._pipeline.last_speech_timestamp = 0.0
        with self._guarded():
            return cast(
                list[Heard],
                self._pipeline.forward(
                    np.stack([window.features for window in windows]),
                    tokenizer,
                    [{"offset": window.start_s, "duration": window.length_s} for window in windows],
                    self._transcription_options(tokenizer, manner),
                ),
            )

    def _transcription_options(self, tokenizer: Tokenizer, manner: _Manner) -> TranscriptionOptions:
        return TranscriptionOptions(
            beam_size=self._options.beam_size,
            best_of=1,
            patience=1,
            length_penalty=1,
            repetition_penalty=1,
            no_repeat_ngram_size=0,
            log_prob_threshold=None,
            no_speech_threshold=None,
            compression_ratio_threshold=None,
            condition_on_previous_text=False,
            prompt_reset_on_temperature=0.5,
            temperatures=[0.0],
            initial_prompt=None,
            prefix=None,
            suppress_blank=True,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            # In batches the library loses what follows the last timestamp token; words are timed without them.
            without_timestamps=True,
            max_initial_timestamp=0.0,
            word_timestamps=bool(manner.job),
            prepend_punctuations=_PREPENDED,
            append_punctuations=_APPENDED,
            multilingual=False,
            max_new_tokens=self._options.max_new_tokens,
            clip_timestamps=[],
            hallucination_silence_threshold=None,
            hotwords=manner.hint or None,
        )

    def _guarded(self) -> _Guard:
        return _Guard(self.dead)


class _Guard:
    """The library's errors as this project's."""

    def __init__(self, dead: threading.Event) -> None:
        self._dead = dead

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, RuntimeError):
            if "out of memory" in str(error):
                raise OutOfMemory from error
            if "CUDA" in str(error):
                self._dead.set()
                raise EngineDead from error
        if isinstance(error, RuntimeError | ValueError | IndexError):
            raise EngineFailed(f"({type(error).__name__})") from error


def _loaded(name: str, device: str, compute_type: str) -> WhisperModel:
    folder = Path(name)
    if not folder.is_dir() and "/" not in name and name not in faster_whisper.available_models():
        raise ConfigurationInvalid(f"There is no speech model {name}; `make models` builds it.", field="stt_model")
    try:
        # cpu_threads=0: as many as OMP_NUM_THREADS says.
        return WhisperModel(
            name, device=device, compute_type=compute_type, cpu_threads=0, local_files_only=folder.is_dir()
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationInvalid(
            f"The speech model {folder.name} cannot be loaded: {error}", field="stt_model"
        ) from error


def _is_speech(segment: dict[str, Any]) -> bool:
    if not segment["text"].strip():
        return False
    return not (segment["no_speech_prob"] > _NO_SPEECH and segment["avg_logprob"] < _UNLIKELY)


def _segment(segment: dict[str, Any], window: _Window) -> Segment:
    """A segment with its times inside the window that it was heard in."""
    end = window.start_s + window.length_s

    def placed(seconds: float) -> float:
        return round(min(max(seconds, window.start_s), end), 3)

    words = tuple(
        Word(
            text=word["word"].strip(),
            start=placed(word["start"]),
            end=placed(word["end"]),
            probability=round(float(word["probability"]), 4),
        )
        for word in segment.get("words") or ()
        if word["word"].strip()
    )
    return Segment(
        text=segment["text"].strip(), start=placed(segment["start"]), end=placed(segment["end"]), words=words
    )
