"""Finds knowledge: vector search and keyword search over several collections, joined by rank."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from shared.contracts.base import EngineInfo, Metadata
from shared.contracts.rag import (
    KnowledgeAddRequest,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
    KnowledgeReembedRequest,
    KnowledgeReport,
    RetrieveRequest,
    Source,
)
from shared.errors import InvalidRequest, MaeariError, PackInvalid, StoreUnavailable
from shared.packs import load_pack, pack_ids
from shared.protocols import OnProgress, Stop

from .filters import Where, where_of
from .fusion import Candidate, fuse
from .keeper import DOCUMENT, HEADING, TERMS, Keeper, KnowledgeEmbedder, own_metadata
from .keyword_index import KeywordIndices, terms
from .library import Embedding, Library, Shelf
from .vector_store import ChromaStore, Collection, CollectionGone, Entry, Vector, VectorStore

log = logging.getLogger("maeari.retriever")

DEPTH = 32
"""Candidates of each kind of search and collection, at least."""
STORE_WAIT_S = 30.0
"""Seconds that a starting worker waits for the store."""

T = TypeVar("T")


class BeingReplaced(StoreUnavailable):
    """The collection is being replaced; try again."""

    rest_ms = MaeariError.rest_ms  # a matter of moments: the store itself is there


@dataclass(frozen=True)
class _Question:
    vector: Vector
    terms: Sequence[str]
    where: Where | None
    depth: int


class HybridRetriever:
    """Implements `shared.protocols.Retriever` over a vector store, a keyword index and the embedding engine."""

    def __init__(self, embedder: KnowledgeEmbedder, store: VectorStore | None = None) -> None:
        """`store`: by default the configured Chroma server. Nothing is contacted yet."""
        self._embedder = embedder
        self._store = store or ChromaStore()
        info = embedder.info
        self._library = Library(self._store, Embedding(info.model, info.version, embedder.dimension))
        self._keeper = Keeper(self._library, embedder)
        self._indices = KeywordIndices()

    @property
    def info(self) -> EngineInfo:
        """The embedding model decides what is found."""
        own = self._embedder.info
        return EngineInfo(name="hybrid-search", model=own.model, version=own.version, device=own.device)

    def warm_up(self) -> None:
        """Load the morphemes, wait for the store, bring packs' knowledge into it and search each once."""
        terms("안녕하세요")
        self._wait_for_store()
        for pack_id in pack_ids():
            try:
                self._keeper.sync_pack(pack_id)
            except PackInvalid as error:  # one broken pack must not keep the others from working
                log.error("the knowledge of pack %s is left out: %s", pack_id, error.message)
            else:
                self.retrieve(RetrieveRequest(query="안녕하세요", pack=pack_id))

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    # --- finding ---

    def retrieve(self, request: RetrieveRequest) -> tuple[Source, ...]:
        """Best first. Raises `UnknownCollection`, `UnknownPack`, `InvalidRequest` (filters, other vectors)."""
        question = _Question(
            vector=self._embedder.embed_query(request.query),
            terms=terms(request.query),
            where=where_of(request.filters),
            depth=max(DEPTH, 4 * request.top_k),
        )
        _refuse_doubles(request)
        found = self._again(lambda: list(self._candidates(request, question)))
        kept = (candidate for candidate in fuse(found) if candidate.cosine >= request.min_score)
        return tuple(_source(candidate) for candidate, _ in zip(kept, range(request.top_k), strict=False))

    def _candidates(self, request: RetrieveRequest, question: _Question) -> Iterator[Candidate]:
        if request.pack is not None:
            collection = self._of_pack(request.pack)
            yield from self._search(collection, question, 1.0)
        for place, asked in enumerate(request.collections):
            shelf = Shelf("tenant", request.tenant, asked.name)
            collection = self._library.get(shelf, f"collections.{place}.name")
            yield from self._search(collection, question, asked.weight)

    def _of_pack(self, pack_id: str) -> Collection:
        pack = load_pack(pack_id)
        shelf = Shelf("pack", pack.id, pack.retrieval.collection)
        found = self._library.find(shelf)
        if found is None:  # a pack that came, or a store that was emptied, since this worker started
            found = self._library.get(self._keeper.sync_pack(pack_id), "pack")
        return found

    def _search(self, collection: Collection, question: _Question, weight: float) -> Iterator[Candidate]:
        name = str(collection.metadata["collection"])
        near = {match.entry.id: match for match in collection.query(question.vector, question.depth, question.where)}
        scores, worded = self._by_keywords(collection, question, set(near))
        for match in near.values():
            yield Candidate(name, match.entry, match.score, scores.get(match.entry.id, 0.0), weight)
        for entry in worded:
            cosine = _cosine(question.vector, entry.vector or ())
            yield Candidate(name, entry, cosine, scores[entry.id], weight, near=False)

    def _by_keywords(
        self, collection: Collection, question: _Question, near: set[str]
    ) -> tuple[dict[str, float], list[Entry]]:
        """The best `depth` chunks by shared words that pass the filter: their scores, and those not among `near`."""
        index = self._indices.get(
            (collection.metadata["owner"], collection.name),
            collection.metadata["revision"],
            lambda: _stored_terms(collection),
        )
        ranked = index.search(question.terms)
        scores: dict[str, float] = {}
        others: list[Entry] = []
        size = question.depth
        while ranked and len(scores) < question.depth:
            page, ranked = ranked[:size], ranked[size:]
            unseen = [id_ for id_, _ in page if id_ not in near]
            read = collection.read(ids=unseen, where=question.where, vectors=True) if unseen else []
            passed = {entry.id: entry for entry in read}
            kept = [(id_, score) for id_, score in page if id_ in near or id_ in passed][: question.depth - len(scores)]
            scores.update(kept)
            others += [passed[id_] for id_, _ in kept if id_ in passed]
            size *= 4  # a filter that lets little through is met with ever longer lists
        return scores, others

    # --- keeping ---

    def add(
        self, request: KnowledgeAddRequest, texts: Sequence[str], *, stop: Stop, on_progress: OnProgress
    ) -> KnowledgeReport:
        """Chunk, embed and store; `texts` are the documents' contents in order."""
        return self._again(lambda: self._keeper.add(request, texts, stop, on_progress))

    def list(self, request: KnowledgeListRequest) -> KnowledgeReport:
        """Collections, or the documents of one."""
        return self._again(lambda: self._keeper.list(request))

    def delete(self, request: KnowledgeDeleteRequest) -> KnowledgeReport:
        """Documents or a whole collection."""
        return self._again(lambda: self._keeper.delete(request))

    def reembed(self, request: KnowledgeReembedRequest, *, stop: Stop, on_progress: OnProgress) -> KnowledgeReport:
        """New vectors for all chunks of a collection."""
        return self._again(lambda: self._keeper.reembed(request, stop, on_progress))

    def _again(self, work: Callable[[], T]) -> T:
        """Do it once more when a collection was replaced under our hands."""
        try:
            return work()
        except CollectionGone:
            pass
        try:
            return work()
        except CollectionGone as error:
            raise BeingReplaced from error

    def _wait_for_store(self) -> None:
        until = time.monotonic() + STORE_WAIT_S
        while True:
            try:
                return self._store.ping()
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)


def _refuse_doubles(request: RetrieveRequest) -> None:
    names: set[str] = set()
    for place, asked in enumerate(request.collections):
        if asked.name in names:
            raise InvalidRequest(f"The collection {asked.name} is named twice.", field=f"collections.{place}.name")
        names.add(asked.name)


def _stored_terms(collection: Collection) -> Iterator[tuple[str, Sequence[str]]]:
    for entry in collection.read():
        yield entry.id, str(entry.metadata.get(TERMS, "")).split()


def _cosine(one: Vector, other: Vector) -> float:
    first, second = np.asarray(one, dtype=np.float32), np.asarray(other, dtype=np.float32)
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths else 0.0


def _source(candidate: Candidate) -> Source:
    entry = candidate.entry
    metadata: Metadata = own_metadata(entry)
    if entry.metadata[HEADING]:
        metadata.setdefault("heading", entry.metadata[HEADING])
    return Source(
        id=entry.id,
        collection=candidate.collection,
        document=str(entry.metadata[DOCUMENT]),
        text=entry.text,
        score=max(-1.0, min(1.0, candidate.cosine)),
        metadata=metadata,
    )
