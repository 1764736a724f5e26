"""The slot that a worker fills with engines and a task reads. Tasks never import `workers`."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigurationInvalid
from .protocols import Embedder, Generator, Retriever, Synthesizer, Transcriber


@dataclass
class Engines:
    """The engines of this process; a role fills only its own."""

    generator: Generator | None = None
    transcriber: Transcriber | None = None
    synthesizer: Synthesizer | None = None
    embedder: Embedder | None = None
    retriever: Retriever | None = None


engines = Engines()
"""Filled by `workers.lifecycle` before the worker consumes."""


def _needed(engine: object | None, name: str) -> None:
    if engine is None:
        raise ConfigurationInvalid(f"This worker has no {name}; its role does not serve this task.")


def generator() -> Generator:
    """The loaded generator."""
    _needed(engines.generator, "generator")
    assert engines.generator is not None
    return engines.generator


def transcriber() -> Transcriber:
    """The loaded transcriber."""
    _needed(engines.transcriber, "transcriber")
    assert engines.transcriber is not None
    return engines.transcriber


def synthesizer() -> Synthesizer:
    """The loaded synthesizer."""
    _needed(engines.synthesizer, "synthesizer")
    assert engines.synthesizer is not None
    return engines.synthesizer


def embedder() -> Embedder:
    """The loaded embedder."""
    _needed(engines.embedder, "embedder")
    assert engines.embedder is not None
    return engines.embedder


def retriever() -> Retriever:
    """The loaded retriever."""
    _needed(engines.retriever, "retriever")
    assert engines.retriever is not None
    return engines.retriever
