"""Recordings become transcripts: with the real faster-whisper and its voice activity detection.

How well the laptop model understands is not asked here; any model that loads will do.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared import wav
from shared.contracts.base import BlobRef
from shared.contracts.speech import TranscribeRequest, Transcript
from shared.errors import (
    AudioTooLong,
    ConfigurationInvalid,
    EngineDead,
    EngineFailed,
    InvalidAudio,
    InvalidRequest,
    JobCancelled,
    NoSpeech,
    OutOfMemory,
)
from shared.protocols import Stop
from shared.settings import Settings, settings
from workers import audio
from workers.engines import transcriber as module
from workers.engines.transcriber import WhisperTranscriber

MODEL = settings().models_path / "speech"
QUESTION = "오늘 저녁에는 뭐 먹고 싶어?"
OPTIONS = {"beam_size": 1, "max_new_tokens": 12, "join": False, "min_silence_ms": 300}


def spoken(text: str = QUESTION, *options: str) -> bytes:
    command = ["espeak-ng", "-v", "ko+f2", *options, "--stdin", "--stdout"]
    return subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout


def converted(container: str, *options: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", *options, "-f", container, "pipe:1"]
    return subprocess.run(command, input=spoken(), capture_output=True, check=True).stdout


def sentences(count: int) -> bytes:
    """So many times the question, each followed by a second of silence."""
    once = audio.decode(spoken(), 16_000, max_s=60)
    return wav.encode(audio.to_waveform(np.tile(np.concatenate([once, np.zeros(16_000, np.float32)]), count), 16_000))


def request(**more: Any) -> TranscribeRequest:
    return TranscribeRequest.model_validate({"audio": BlobRef(key="acme/audio/q.wav"), "language": "ko"} | more)


def hear(engine: WhisperTranscriber, data: bytes, **more: Any) -> Transcript:
    return engine.transcribe(data, request(**more), stop=Stop())


def model_with(folder: Path, **options: Any) -> str:
    """The laptop model with other decoding options."""
    shutil.copytree(MODEL, folder)
    (folder / "decode.json").write_text(json.dumps(OPTIONS | options))
    return str(folder)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperTranscriber]:
    engine = WhisperTranscriber(model_with(tmp_path_factory.mktemp("model") / "speech"))
    yield engine
    engine.close()


class Recorder:
    """Stands in for the model: what it hears is how long the window is. Remembers its batches; can be held busy."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.hotwords: list[str | None] = []
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()
        self.error: Exception | None = None

    def forward(self, features: Any, tokenizer: Any, metadata: list[dict[str, float]], options: Any) -> Any:
        assert features.shape == (len(metadata), 80, 3000)
        self.batches.append([window["duration"] for window in metadata])
        self.hotwords.append(options.hotwords)
        self.busy.set()
        assert self.go.wait(120)
        if self.error:
            raise self.error
        return [[self._segment(window)] for window in metadata]

    def _segment(self, window: dict[str, float]) -> dict[str, Any]:
        return {
            "text": f" {window['duration']:.3f}",
            "start": window["offset"],
            "end": window["offset"] + window["duration"],
            "no_speech_prob": 0.0,
            "avg_logprob": -0.1,
            "words": [],
        }


@pytest.fixture
def recorder(whisper: WhisperTranscriber, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    made = Recorder()
    monkeypatch.setattr(whisper._pipeline, "forward", made.forward)
    yield made
    made.go.set()


class TestRealModel:
    def test_a_question_becomes_a_transcript(self, whisper: WhisperTranscriber) -> None:
        transcript = hear(whisper, spoken())
        assert transcript.text == " ".join(segment.text for segment in transcript.segments)
        assert transcript.text
        assert (transcript.language, transcript.language_probability) == ("ko", 1.0)
        assert 1 < transcript.duration_s < 5
        assert all(0 <= part.start < part.end <= transcript.duration_s for part in transcript.segments)
        assert (transcript.engine.name, transcript.engine.model) == ("whisper", "speech")

    @pytest.mark.parametrize(
        ("container", "options"),
        [
            ("mp3", ()),
            ("ogg", ("-c:a", "libopus")),
            ("webm", ("-c:a", "libopus")),
            ("ipod", ("-movflags", "frag_keyframe+empty_moov")),
            ("wav", ("-ac", "2", "-ar", "44100")),
        ],
    )
    def test_what_a_browser_or_a_phone_records_is_heard(
        self, whisper: WhisperTranscriber, container: str, options: tuple[str, ...]
    ) -> None:
        assert hear(whisper, converted(container, *options)).duration_s == pytest.approx(
            hear(whisper, spoken()).duration_s, abs=0.15
        )

    def test_words_are_timed_in_order_and_inside_the_recording(self, whisper: WhisperTranscriber) -> None:
        transcript = hear(whisper, sentences(2), word_timestamps=True)
        words = [word for segment in transcript.segments for word in segment.words]
        assert words
        assert all(0 <= word.start <= word.end <= transcript.duration_s for word in words)
        assert [word.start for word in words] == sorted(word.start for word in words)
        assert all(0 <= word.probability <= 1 for word in words)

    def test_an_unnamed_language_is_one_of_those_served(self, whisper: WhisperTranscriber) -> None:
        transcript = hear(whisper, spoken(), language=None)
        assert transcript.language in {"ko", "en"}
        assert 0 < transcript.language_probability <= 1

    def test_many_at_once_are_heard_each_for_itself(self, whisper: WhisperTranscriber) -> None:
        texts = [QUESTION + " 나는 국수가 좋아." * n for n in range(4)]
        alone = [hear(whisper, spoken(text)).duration_s for text in texts]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda text: hear(whisper, spoken(text)).duration_s, texts * 2))
        assert together == alone * 2

    def test_a_hint_is_taken(self, whisper: WhisperTranscriber) -> None:
        assert hear(whisper, spoken(), hint="하린, 모래별").text

    def test_it_warms_up(self, whisper: WhisperTranscriber) -> None:
        whisper.warm_up()
        assert not whisper.dead.is_set()


class TestNothingToHear:
    @pytest.mark.parametrize("seconds", [0.1, 2, 20])
    def test_silence(self, whisper: WhisperTranscriber, seconds: float) -> None:
        with pytest.raises(NoSpeech) as refused:
            hear(whisper, wav.encode(audio.silence(seconds, 16_000)))
        assert refused.value.field == "audio"

    @pytest.mark.parametrize("level", [0.001, 0.02, 0.3])
    def test_noise(self, whisper: WhisperTranscriber, level: float) -> None:
        noise = np.random.default_rng(1).normal(0, level, 3 * 16_000).astype(np.float32)
        with pytest.raises(NoSpeech):
            hear(whisper, wav.encode(audio.to_waveform(noise, 16_000)))

    @pytest.mark.parametrize("segment", [{"text": "  "}, {"no_speech_prob": 0.9, "avg_logprob": -1.5}])
    def test_words_that_the_model_does_not_believe_in(
        self, whisper: WhisperTranscriber, monkeypatch: pytest.MonkeyPatch, segment: dict[str, Any]
    ) -> None:
        doubtful = {"text": "어", "start": 0, "end": 1, "no_speech_prob": 0.1, "avg_logprob": -0.2} | segment
        monkeypatch.setattr(whisper._pipeline, "forward", lambda features, *_: [[doubtful]] * len(features))
        with pytest.raises(NoSpeech):
            hear(whisper, spoken())


class TestBadInput:
    @pytest.mark.parametrize(
        "data", [b"", b"A text file.\n" * 99, sentences(1)[:20_000]], ids=["empty", "text", "truncated"]
    )
    def test_what_is_no_sound_is_refused_and_the_next_is_heard(self, whisper: WhisperTranscriber, data: bytes) -> None:
        with pytest.raises(InvalidAudio) as refused:
            hear(whisper, data)
        assert (refused.value.code, refused.value.field) == ("invalid_audio", "audio")
        assert hear(whisper, spoken()).text

    def test_too_long(self, whisper: WhisperTranscriber, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "settings", lambda: Settings(audio_max_s=1.0))
        with pytest.raises(AudioTooLong, match=r"limit is 1 s"):
            hear(whisper, spoken())


class TestBatches:
    def test_a_lone_job_is_decoded_at_once(self, whisper: WhisperTranscriber, recorder: Recorder) -> None:
        hear(whisper, spoken())
        assert [len(batch) for batch in recorder.batches] == [1]

    def test_jobs_that_come_together_are_decoded_together(
        self, whisper: WhisperTranscriber, recorder: Recorder
    ) -> None:
        texts = [QUESTION + " 나는 국수가 좋아." * n for n in range(5)]
        recorder.go.clear()
        with ThreadPoolExecutor(6) as pool:
            first = pool.submit(hear, whisper, spoken())
            assert recorder.busy.wait(120)
            later = [pool.submit(hear, whisper, spoken(text)) for text in texts]
            while whisper._batcher.waiting < len(texts):  # the deadline is pytest's timeout
                threading.Event().wait(0.002)
            recorder.go.set()
            assert first.result(120).text
            heard = [job.result(120) for job in later]
        assert [len(batch) for batch in recorder.batches] == [1, 5]
        for transcript in heard:  # each has heard its own recording
            assert float(transcript.text) <= transcript.duration_s < float(transcript.text) + 1

    def test_sentences_far_apart_are_windows_of_their_own(
        self, whisper: WhisperTranscriber, recorder: Recorder
    ) -> None:
        transcript = hear(whisper, sentences(3))
        assert len(transcript.segments) == 3
        starts = [segment.start for segment in transcript.segments]
        assert np.diff(starts) == pytest.approx([transcript.duration_s / 3] * 2, abs=0.5)

    def test_a_model_that_knows_long_speech_gets_them_in_one_window(self, tmp_path: Path) -> None:
        engine = WhisperTranscriber(model_with(tmp_path / "speech", join=True, window_s=30))
        assert len(engine._stretches(audio.decode(sentences(3), 16_000, max_s=60))) == 1
        engine.close()

    def test_a_long_recording_lets_others_in_between(self, whisper: WhisperTranscriber, recorder: Recorder) -> None:
        size = settings().stt_batch
        hear(whisper, sentences(size + 3))
        assert [len(batch) for batch in recorder.batches] == [size, 3]

    def test_a_cancelled_job_stops_waiting_for_the_model(self, whisper: WhisperTranscriber, recorder: Recorder) -> None:
        stop = Stop()
        recorder.go.clear()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(whisper.transcribe, spoken(), request(), stop=stop)
            assert recorder.busy.wait(120)
            stop.set()
            with pytest.raises(JobCancelled):
                running.result(120)

    def test_a_hint_reaches_its_own_job_alone(self, whisper: WhisperTranscriber, recorder: Recorder) -> None:
        hear(whisper, spoken(), hint=" 모래별 ")
        hear(whisper, spoken())
        assert recorder.hotwords == ["모래별", None]

    @pytest.mark.parametrize(
        ("error", "becomes"),
        [
            (RuntimeError("CUDA failed with error unspecified launch failure"), EngineDead),
            (RuntimeError("CUDA failed with error out of memory"), OutOfMemory),
            (RuntimeError("something else"), EngineFailed),
        ],
    )
    def test_the_librarys_errors_are_told_apart(
        self, whisper: WhisperTranscriber, recorder: Recorder, error: Exception, becomes: type[EngineFailed]
    ) -> None:
        recorder.error = error
        with pytest.raises(EngineFailed) as failed:
            hear(whisper, spoken())
        assert type(failed.value) is becomes
        assert whisper.dead.is_set() == (becomes is EngineDead)
        whisper.dead.clear()


class TestModels:
    def test_a_model_of_one_language_refuses_the_other_and_needs_no_detection(self, tmp_path: Path) -> None:
        engine = WhisperTranscriber(model_with(tmp_path / "speech", languages=["ko"], hints=False))
        with pytest.raises(InvalidRequest) as refused:
            hear(engine, spoken(), language="en")
        assert refused.value.field == "language"
        transcript = hear(engine, spoken(), language=None, hint="무시된다")
        assert (transcript.language, transcript.language_probability) == ("ko", 1.0)
        engine.close()

    def test_a_missing_model_is_named_with_what_builds_it(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationInvalid, match="no speech model nothing; `make models`"):
            WhisperTranscriber("nothing")
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigurationInvalid, match="empty cannot be loaded"):
            WhisperTranscriber(str(tmp_path / "empty"))

    def test_decoding_options_that_make_no_sense_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationInvalid, match=r"decode\.json.*window_s") as refused:
            WhisperTranscriber(model_with(tmp_path / "speech", window_s=90))
        assert refused.value.field == "window_s"

    def test_the_version_changes_with_the_model_files(self, tmp_path: Path) -> None:
        one = WhisperTranscriber(model_with(tmp_path / "speech"))
        two = WhisperTranscriber(model_with(tmp_path / "other", beam_size=2))
        assert one.info.version != two.info.version
        one.close()
        two.close()
