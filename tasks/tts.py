"""Text to speech."""

from __future__ import annotations

from shared import runtime, text, wav
from shared.app import task
from shared.attempt import Attempt
from shared.contracts.base import BlobRef, EngineInfo
from shared.contracts.speech import EnrolRequest, Speech, SpokenSentence, SynthesizeRequest, VoiceProfile
from shared.protocols import Waveform
from shared.settings import settings

from .clock import Stopwatch
from .limits import check_length


@task("tts.synthesize")
def synthesize(attempt: Attempt, request: SynthesizeRequest) -> Speech:
    """A text in a voice; every sentence is told of as soon as it can be played."""
    check_length(request.text)
    pieces = [request.text] if request.seq is not None else text.split(request.text, settings().tts_max_chars)
    waveforms: list[Waveform] = []
    sentences: list[SpokenSentence] = []
    engine_ms = 0.0
    for seq, piece in enumerate(pieces, start=request.seq or 0):
        watch = Stopwatch()
        waveform, info = runtime.synthesizer().synthesize(request, piece, stop=attempt.stop)
        engine_ms += watch.ms
        sentences.append(_stored(attempt, seq, piece, waveform))
        waveforms.append(waveform)
        tell = attempt.emit if len(sentences) < len(pieces) else attempt.conclude
        spoken = sentences[-1].model_dump(mode="json", exclude={"seq"})
        tell("audio", sentence=seq, **spoken)
    return _speech(attempt, request, waveforms, sentences, engine_ms, info)


def _stored(attempt: Attempt, seq: int, piece: str, waveform: Waveform) -> SpokenSentence:
    ref = _put(attempt, f"{attempt.claim.root}.{seq}.wav", waveform)
    return SpokenSentence(seq=seq, text=piece, audio=ref, duration_s=round(waveform.duration_s, 3))


def _put(attempt: Attempt, name: str, waveform: Waveform) -> BlobRef:
    return attempt.blobs.put(attempt.tenant, "reply", name, wav.encode(waveform), "audio/wav")


def _speech(
    attempt: Attempt,
    request: SynthesizeRequest,
    waveforms: list[Waveform],
    sentences: list[SpokenSentence],
    engine_ms: float,
    info: EngineInfo,
) -> Speech:
    merged = waveforms[0] if len(waveforms) == 1 else wav.join(waveforms)
    audio = sentences[0].audio if len(waveforms) == 1 else _put(attempt, f"{attempt.claim.root}.wav", merged)
    return Speech(
        audio=audio,
        duration_s=round(merged.duration_s, 3),
        sample_rate=merged.sample_rate,
        sentences=tuple(sentences),
        voice=request.voice,
        engine_ms=round(engine_ms, 2),
        engine=info,
    )


@task("tts.enrol")
def enrol(attempt: Attempt, request: EnrolRequest) -> VoiceProfile:
    """A voice from recordings of a speaker."""
    recordings = [attempt.blobs.get(ref, tenant=attempt.tenant) for ref in request.audio]
    return runtime.synthesizer().enrol(request, recordings, stop=attempt.stop)
