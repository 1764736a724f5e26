"""Embedding and retrieval."""

from __future__ import annotations

import base64

from shared import runtime
from shared.app import task
from shared.attempt import Attempt
from shared.contracts.rag import Embeddings, EmbedRequest, Retrieval, RetrieveRequest

from . import flow
from .clock import Stopwatch

FLOAT_BYTES = 4
"""Of a packed number."""


@task("rag.embed")
def embed(_: Attempt, request: EmbedRequest) -> Embeddings:
    """Texts to vectors."""
    embedder, watch = runtime.embedder(), Stopwatch()
    if request.encoding == "base64":
        packed = embedder.pack(request.texts)
        return Embeddings(
            vectors=(),
            packed=base64.b64encode(packed).decode(),
            dimension=len(packed) // FLOAT_BYTES // len(request.texts),
            engine_ms=watch.ms,
            engine=embedder.info,
        )
    vectors = embedder.embed(request.texts)
    return Embeddings(
        vectors=tuple(tuple(vector) for vector in vectors),
        dimension=len(vectors[0]),
        engine_ms=watch.ms,
        engine=embedder.info,
    )


@task("rag.retrieve")
def retrieve(attempt: Attempt, request: RetrieveRequest) -> Retrieval:
    """What is known about a question."""
    watch = Stopwatch()
    sources = runtime.retriever().retrieve(request)
    retrieval = Retrieval(sources=sources, engine_ms=watch.ms, engine=runtime.retriever().info)
    attempt.conclude("context", sources=[source.model_dump(mode="json") for source in sources])
    if attempt.claim.in_turn:
        flow.reply(attempt, flow.turn_of(attempt), request.query, sources)
    return retrieval
