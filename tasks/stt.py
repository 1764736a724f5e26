"""Speech to text."""

from __future__ import annotations

from shared import runtime
from shared.app import task
from shared.attempt import Attempt
from shared.contracts.base import cleaned
from shared.contracts.speech import TranscribeRequest, Transcript
from shared.errors import NoSpeech

from . import flow


@task("stt.transcribe")
def transcribe(attempt: Attempt, request: TranscribeRequest) -> Transcript:
    """What was said in a recording."""
    audio = attempt.blobs.get(request.audio, tenant=attempt.tenant)
    transcript = runtime.transcriber().transcribe(audio, request, stop=attempt.stop)
    attempt.conclude("transcript", text=transcript.text, language=transcript.language)
    if attempt.claim.in_turn:
        question = cleaned(transcript.text).strip()
        if not question:
            raise NoSpeech(field="audio")
        flow.look_up(attempt, flow.turn_of(attempt), question)
    return transcript
