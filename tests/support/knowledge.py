"""A small diary to keep and search, and the calls that tests of it need."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from shared.contracts.rag import (
    ChunkProfile,
    CollectionQuery,
    Document,
    KnowledgeAddRequest,
    KnowledgeReembedRequest,
    KnowledgeReport,
    RetrieveRequest,
    Source,
)
from tests.support.chroma import ChromaServer
from workers.engines.embedder import SentenceEmbedder
from workers.engines.retriever import HybridRetriever
from workers.engines.vector_store import ChromaStore

DIARY = {
    "spring": "봄에는 할머니와 쑥을 캤다. 쑥떡을 만들어 이웃과 나누어 먹었다.",
    "summer": "여름 바다에서 조개 목걸이를 주웠다. 파도가 높아 수영은 하지 못했다.",
    "autumn": "가을 운동회에서 이어달리기를 했다. 우리 반이 이겼다.",
    "winter": "겨울에는 눈사람을 만들고 고구마를 구웠다. 고양이 조약이도 나왔다.",
}
YEARS = {"spring": 2019, "summer": 2020, "autumn": 2021, "winter": 2022}


def over(chroma: ChromaServer, embedder: Any) -> HybridRetriever:
    """A retriever on that server."""
    return HybridRetriever(embedder, ChromaStore(chroma.host, chroma.port))


def add(
    engine: HybridRetriever,
    tenant: str,
    collection: str,
    documents: Sequence[Document],
    *,
    profile: ChunkProfile = "tokens-512-64",
    stop: threading.Event | None = None,
    progress: list[tuple[int, int]] | None = None,
) -> KnowledgeReport:
    """Add documents; every step of progress is appended to `progress`."""
    request = KnowledgeAddRequest(tenant=tenant, collection=collection, documents=tuple(documents), profile=profile)
    steps = progress if progress is not None else []
    return engine.add(
        request,
        [document.text or "" for document in documents],
        stop=stop or threading.Event(),
        on_progress=lambda done, total: steps.append((done, total)),
    )


def diary() -> list[Document]:
    """Four documents, one a season."""
    return [
        Document(id=id_, text=text, metadata={"season": id_, "year": YEARS[id_], "warm": id_ in {"spring", "summer"}})
        for id_, text in DIARY.items()
    ]


def ask(
    engine: HybridRetriever, tenant: str, query: str, *collections: str | tuple[str, float], **more: Any
) -> tuple[Source, ...]:
    """Search collections, by name or by name and weight."""
    asked = [(c, 1.0) if isinstance(c, str) else c for c in collections]
    queries = tuple(CollectionQuery(name=name, weight=weight) for name, weight in asked)
    return engine.retrieve(RetrieveRequest(tenant=tenant, query=query, collections=queries, **more))


def documents_of(sources: Sequence[Source]) -> list[str]:
    """Which documents were found, best first."""
    return [source.document for source in sources]


def nested(levels: int) -> dict[str, Any]:
    """A filter under so many levels of `$and`."""
    return {"$and": [nested(levels - 1)]} if levels else {"year": 2020}


def pack_state(chroma: ChromaServer, pack_id: str) -> list[tuple[str, str]]:
    """Text and revision of everything that is stored for a pack."""
    store = ChromaStore(chroma.host, chroma.port)
    found = [c for c in store.every() if (c.metadata["scope"], c.metadata["owner"]) == ("pack", pack_id)]
    state = sorted((entry.text, str(c.metadata["revision"])) for c in found for entry in c.read())
    store.close()
    return state


class Counting:
    """An embedder that counts passages, and can be slow."""

    def __init__(self, inner: SentenceEmbedder, gate: threading.Event | None = None) -> None:
        self._inner = inner
        self._gate = gate
        self.dimension = inner.dimension
        self.info = inner.info
        self.embed_query = inner.embed_query
        self.token_ends = inner.token_ends
        self.count = 0

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self._gate is not None and self.count:
            assert self._gate.wait(120)
        self.count += len(texts)
        return self._inner.embed(texts)


def reembed(engine: HybridRetriever, tenant: str, collection: str) -> KnowledgeReport:
    """Embed a collection anew."""
    request = KnowledgeReembedRequest(tenant=tenant, collection=collection)
    return engine.reembed(request, stop=threading.Event(), on_progress=lambda *_: None)
