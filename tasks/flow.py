"""The flow of a turn: which stage follows which, and with what request.

    turns.start -> [stt.transcribe] -> [rag.retrieve] -> llm.generate => tts.synthesize per sentence -> turns.finish

Each step runs in the worker that has just finished the stage before, so that a turn pays no extra hop.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared import memory
from shared.attempt import Attempt
from shared.contracts.llm import GenerateRequest, Speak
from shared.contracts.rag import RetrieveRequest, Source
from shared.contracts.speech import SynthesizeRequest, TranscribeRequest
from shared.contracts.turn import TurnRequest
from shared.jobs import Stage
from shared.packs import load_pack
from shared.prompting import build_messages


def turn_of(attempt: Attempt) -> TurnRequest:
    """The turn that this stage belongs to."""
    return TurnRequest.model_validate(attempt.root_request)


def hear(attempt: Attempt, turn: TurnRequest) -> None:
    """A spoken question is transcribed first."""
    assert turn.audio is not None
    language = turn.language or load_pack(turn.pack).language
    request = TranscribeRequest(tenant=turn.tenant, audio=turn.audio, language=language)
    attempt.then(attempt.stage("stt", "stt.transcribe", request))


def look_up(attempt: Attempt, turn: TurnRequest, question: str) -> None:
    """The question is known: retrieve what the reply needs, or reply at once."""
    retrieval = load_pack(turn.pack).retrieval
    top_k = retrieval.top_k if turn.top_k is None else turn.top_k
    if top_k == 0:
        reply(attempt, turn, question, ())
        return
    request = RetrieveRequest(
        tenant=turn.tenant, query=question, pack=turn.pack, top_k=top_k, min_score=retrieval.min_score
    )
    attempt.then(attempt.stage("rag", "rag.retrieve", request))


def reply(attempt: Attempt, turn: TurnRequest, question: str, sources: Sequence[Source]) -> None:
    """Everything is known: write the reply."""
    pack = load_pack(turn.pack)
    history = memory.recent(attempt.jobs, turn.tenant, turn.pack, turn.session)
    voice = turn.voice or pack.voice
    request = GenerateRequest(
        tenant=turn.tenant,
        messages=build_messages(pack, sources, history, question),
        adapter=turn.adapter or pack.adapter,
        sampling=turn.sampling or pack.sampling,
        stream=True,
        speak=Speak(voice=voice, language=pack.language) if turn.speech else None,
    )
    attempt.then(attempt.stage("llm", "llm.generate", request))


def sentence(attempt: Attempt, speak: Speak, seq: int, text: str) -> Stage:
    """A finished sentence of the reply is spoken while the text goes on."""
    turn = turn_of(attempt)
    request = SynthesizeRequest(
        tenant=attempt.tenant, text=text, voice=speak.voice, language=speak.language, engine=turn.voice_engine, seq=seq
    )
    return attempt.stage(f"tts/{seq}", "tts.synthesize", request)
