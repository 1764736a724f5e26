"""`MAEARI_ENGINES=scripted`: workers with fakes that only keep time, for tests of timing and faults.

How long a token and a sentence take, and what is said, comes from the settings.
"""

from __future__ import annotations

from shared.contracts.rag import Source
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
        engines.generator = ScriptedGenerator(chosen.scripted_reply, token_ms=token_ms, first_token_ms=token_ms)
    elif role == "stt":
        engines.transcriber = ScriptedTranscriber(("안녕하세요",), seconds=5 * token_ms / 1000)
    elif role == "tts":
        per_char = chosen.scripted_sentence_ms / 1000 / SENTENCE_CHARS
        engines.synthesizer = ScriptedSynthesizer(seconds_per_char=per_char)
    elif role == "rag":
        source = Source(id="0", collection="scripted", document="scripted", text="각본", score=1.0)
        engines.embedder, engines.retriever = ScriptedEmbedder(), ScriptedRetriever((source,))
