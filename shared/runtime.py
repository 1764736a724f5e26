"""The slot that a worker fills with engines and a task reads. Tasks never import `workers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from .errors import ConfigurationInvalid
from .protocols import Embedder, Generator, Retriever, Synthesizer, Trainer, Transcriber


@dataclass
class Engines:
    """The engines of this process; a role fills only its own."""

    generator: Generator | None = None
    transcriber: Transcriber | None = None
    synthesizer: Synthesizer | None = None
    embedder: Embedder | None = None
    retriever: Retriever | None = None
    trainer: Trainer | None = None


engines = Engines()
"""Filled by `workers.lifecycle` before the worker consumes."""


T = TypeVar("T")


def _needed(engine: T | None, name: str) -> T:
    if engine is None:
        raise ConfigurationInvalid(f"This worker has no {name}; its role does not serve this task.")
    return engine


def generator() -> Generator:
    """The loaded generator."""
    return _needed(engines.generator, "generator")


def transcriber() -> Transcriber:
    """The loaded transcriber."""
    return _needed(engines.transcriber, "transcriber")


def synthesizer() -> Synthesizer:
    """The loaded synthesizer."""
    return _needed(engines.synthesizer, "synthesizer")


def embedder() -> Embedder:
    """The loaded embedder."""
    return _needed(engines.embedder, "embedder")


def retriever() -> Retriever:
    """The loaded retriever."""
    return _needed(engines.retriever, "retriever")


def trainer() -> Trainer:
    """The loaded trainer."""
    return _needed(engines.trainer, "trainer")
