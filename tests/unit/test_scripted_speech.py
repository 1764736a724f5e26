"""The fakes keep the protocols' promises: they take their time, give it up when told, and say what they are."""

from __future__ import annotations

import time

import pytest

from shared.contracts.base import BlobRef
from shared.contracts.speech import EnrolRequest, SynthesizeRequest, TranscribeRequest
from shared.errors import JobCancelled, NoSpeech
from shared.protocols import Stop, Synthesizer, Transcriber
from workers.engines.scripted_speech import ScriptedSynthesizer, ScriptedTranscriber

AUDIO = BlobRef(key="acme/audio/q.wav")


def test_the_transcriber_hears_its_script_over_and_over() -> None:
    engine: Transcriber = ScriptedTranscriber(["안녕?", ""])
    request = TranscribeRequest(audio=AUDIO)
    first = engine.transcribe(b"", request, stop=Stop())
    assert (first.text, first.language, first.segments[0].end) == ("안녕?", "ko", first.duration_s)
    with pytest.raises(NoSpeech):
        engine.transcribe(b"", request, stop=Stop())
    assert engine.transcribe(b"", request, stop=Stop()).text == "안녕?"
    assert engine.info.name.startswith("scripted")


def test_the_synthesizer_hums_as_long_as_the_text() -> None:
    engine: Synthesizer = ScriptedSynthesizer()
    request = SynthesizeRequest(text="안녕", voice="any", speed=2.0)
    short, info = engine.synthesize(request, "안녕", stop=Stop())
    longer, _ = engine.synthesize(request, "안녕하세요", stop=Stop())
    assert longer.duration_s == pytest.approx(2.5 * short.duration_s)
    assert any(short.pcm)
    assert info.name.startswith("scripted")
    assert engine.enrol(EnrolRequest(voice="mother", audio=(AUDIO,)), [b""], stop=Stop()).voice == "mother"


def test_they_take_their_time_and_stop_when_told() -> None:
    hearing, speaking = ScriptedTranscriber(["음"], seconds=0.05), ScriptedSynthesizer(seconds=3600)
    began = time.perf_counter()
    hearing.transcribe(b"", TranscribeRequest(audio=AUDIO), stop=Stop())
    assert time.perf_counter() - began >= 0.05
    stop = Stop()
    stop.set()
    with pytest.raises(JobCancelled):
        speaking.synthesize(SynthesizeRequest(text="음", voice="any"), "음", stop=stop)
