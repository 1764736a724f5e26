"""The named tasks, thin: read a request, call one engine method, tell the caller, give the result.

Importing the package registers all of them.
"""

from . import knowledge, llm, rag, stt, training, tts, turns

__all__ = ["knowledge", "llm", "rag", "stt", "training", "tts", "turns"]
