"""`MAEARI_ENGINES=scripted`: workers with fakes that only keep time, for tests of timing and faults.

How long a token and a sentence take, and what is said, comes from the settings.
"""

from __future__ import annotations

import os
import signal

from shared.contracts.llm import GenerateRequest
from shared.contracts.rag import Source
from shared.errors import EngineDead
from shared.runtime import Engines
from shared.settings import settings

from .scripted_generator import ScriptedGenerator
from .scripted_retriever import ScriptedEmbedder, ScriptedRetriever
from .scripted_speech import ScriptedSynthesizer, ScriptedTranscriber

SENTENCE_CHARS = 20
"""Characters of the sentence that `scripted_sentence_ms` is the time of; others take theirs in proportion."""


def load(role: str, engines: Engines) -> None:
    """Fill the slots of a role."""
    chosen = settings()
    token_ms = chosen.scripted_token_ms
    if role == "llm":
        engines.generator = generator = ScriptedGenerator(
            lambda request: _reply(request, generator), token_ms=token_ms, first_token_ms=token_ms
        )
    elif role == "stt":
        engines.transcriber = ScriptedTranscriber(("안녕하세요",), seconds=5 * token_ms / 1000)
    elif role == "tts":
        per_char = chosen.scripted_sentence_ms / 1000 / SENTENCE_CHARS
        engines.synthesizer = ScriptedSynthesizer(seconds_per_char=per_char)
    elif role == "rag":
        source = Source(id="0", collection="scripted", document="scripted", text="각본", score=1.0)
        engines.embedder, engines.retriever = ScriptedEmbedder(), ScriptedRetriever((source,))


def _reply(request: GenerateRequest, generator: ScriptedGenerator) -> str:
    """The script, unless the question does to the worker what bad questions do to real engines."""
    chosen, question = settings(), request.messages[-1].content
    if chosen.scripted_crash_on and chosen.scripted_crash_on in question:
        os.kill(os.getpid(), signal.SIGKILL)
    if chosen.scripted_dead_on and chosen.scripted_dead_on in question:
        generator.dead.set()
        raise EngineDead
    return chosen.scripted_reply
