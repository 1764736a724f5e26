"""Speech to text with faster-whisper: voices are found first, so that silence and noise give nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.contracts.base import EngineInfo, cleaned
from shared.contracts.speech import Segment, TranscribeRequest, Transcript, Word
from shared.errors import ConfigurationInvalid, EngineFailed, InvalidRequest, JobCancelled, NoSpeech, OutOfMemory
from shared.protocols import Stop
from shared.settings import settings
from workers import audio as sound

RATE = 16_000
LANGUAGES = ("ko", "en")
_DEFAULTS: dict[str, Any] = {"beam_size": 5, "temperature": 0.0, "condition_on_previous_text": False}
_VAD = {"min_silence_duration_ms": 300, "speech_pad_ms": 200}


class WhisperTranscriber:
    """The transcriber of a worker. Many threads may call it; the model serves them one after another."""

    def __init__(self) -> None:
        """Load the model that the settings name. Raises `ConfigurationInvalid` when there is none."""
        import faster_whisper

        config = settings()
        source = config.model(config.stt_model)
        threads = 1 if config.stt_device == "cpu" else 0
        try:
            self._model = faster_whisper.WhisperModel(
                source,
                device=config.stt_device,
                compute_type=config.stt_compute_type,
                cpu_threads=threads,
                local_files_only=Path(source).is_dir(),
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigurationInvalid(f"No speech model can be read from '{source}': {error}") from error
        self._options, self._vad = _decode_options(Path(source))
        self._info = EngineInfo(
            name="faster-whisper", model=Path(source).name, version=faster_whisper.__version__, device=config.stt_device
        )

    @property
    def info(self) -> EngineInfo:
        """Name, model, version, device."""
        return self._info

    def warm_up(self) -> None:
        """Transcribe a second of silence, past the search for voices."""
        import numpy as np

        segments, _ = self._model.transcribe(np.zeros(RATE, np.float32), language="ko", vad_filter=False, beam_size=1)
        list(segments)

    def close(self) -> None:
        """Free the model."""
        del self._model

    def transcribe(self, audio: bytes, request: TranscribeRequest, *, stop: Stop) -> Transcript:
        """What is said in a file in any container. Raises `InvalidAudio`, `AudioTooLong`, `NoSpeech`."""
        began = time.perf_counter()
        samples = sound.decode(audio, RATE, max_s=settings().audio_max_s)
        try:
            found, about = self._model.transcribe(
                samples,
                language=request.language,
                word_timestamps=request.word_timestamps,
                hotwords=request.hint or None,
                vad_filter=True,
                vad_parameters=self._vad,
                **self._options,
            )
            segments = _segments(found, stop)
        except (RuntimeError, ValueError) as error:
            if "out of memory" in str(error).lower():
                raise OutOfMemory from error
            if _is_about_language(error):
                raise NoSpeech("Nobody speaks in it.", field="audio") from error
            raise EngineFailed(f"({type(error).__name__})") from error
        if not segments:
            raise NoSpeech("Nobody speaks in it.", field="audio")
        if about.language not in LANGUAGES:
            spoken = f"It sounds like '{about.language}'; {' and '.join(LANGUAGES)} are understood."
            raise InvalidRequest(f"{spoken} Name the language if that is wrong.", field="language")
        return Transcript(
            text=" ".join(segment.text for segment in segments),
            language=about.language,
            language_probability=round(about.language_probability, 3),
            duration_s=round(about.duration, 3),
            segments=segments,
            engine_ms=round((time.perf_counter() - began) * 1000, 2),
            engine=self._info,
        )


def _is_about_language(error: Exception) -> bool:
    """faster-whisper fails so when the search for voices has left nothing to detect a language in."""
    return "max() arg is an empty sequence" in str(error) or "max() iterable argument is empty" in str(error)


def _decode_options(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What works best with this model, from `decode.json` beside it: {"options": {...}, "vad": {...}}."""
    file = folder / "decode.json"
    told = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return _DEFAULTS | told.get("options", {}), _VAD | told.get("vad", {})


def _segments(found: Iterable[Any], stop: Stop) -> tuple[Segment, ...]:
    """The engine works as this is read, so a cancelled job ends between two segments."""
    segments = []
    for segment in found:
        if stop.is_set():
            raise JobCancelled
        if text := cleaned(segment.text).strip():
            words = tuple(
                Word(text=word.word.strip(), start=word.start, end=word.end, probability=round(word.probability, 3))
                for word in segment.words or ()
            )
            segments.append(Segment(text=text, start=round(segment.start, 3), end=round(segment.end, 3), words=words))
    return tuple(segments)
