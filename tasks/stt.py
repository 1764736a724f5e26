"""Speech to text."""

from __future__ import annotations

from shared import runtime
from shared.app import task
from shared.attempt import Attempt
from shared.contracts.speech import TranscribeRequest, Transcript

from . import flow


@task("stt.transcribe")
def transcribe(attempt: Attempt, request: TranscribeRequest) -> Transcript:
    """What was said in a recording."""
    audio = attempt.blobs.get(request.audio, tenant=attempt.tenant)
    transcript = runtime.transcriber().transcribe(audio, request, stop=attempt.stop)
    attempt.conclude("transcript", text=transcript.text, language=transcript.language)
    if attempt.claim.in_turn:
        flow.look_up(attempt, flow.turn_of(attempt), transcript.text)
    return transcript
