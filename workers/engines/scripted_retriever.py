"""Stand-ins for embedding and retrieval with a script instead of a model: known answers, chosen timing, no server."""

from __future__ import annotations

import hashlib
import math
import random
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

from shared.contracts.base import EngineInfo
from shared.contracts.rag import (
    CollectionInfo,
    Document,
    DocumentInfo,
    KnowledgeAddRequest,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
    KnowledgeReembedRequest,
    KnowledgeReport,
    RetrieveRequest,
    Source,
)
from shared.errors import JobCancelled, UnknownCollection
from shared.protocols import OnProgress, Stop


class ScriptedEmbedder:
    """Gives each text the same vector at all times; different texts lie nearly at right angles."""

    def __init__(self, dimension: int = 32, *, batch_s: float = 0.0) -> None:
        """`batch_s`: seconds that every call takes, whatever its size, as on a GPU."""
        self.dimension = dimension
        self._batch_s = batch_s

    @property
    def info(self) -> EngineInfo:
        """Says that it is scripted."""
        return EngineInfo(name="scripted-embedder", model="none", version="1")

    def warm_up(self) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to free."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length per text, in order."""
        time.sleep(self._batch_s)
        return [_vector(text, self.dimension) for text in texts]

    def pack(self, texts: Sequence[str]) -> bytes:
        """The same vectors as 32-bit floats."""
        return b"".join(struct.pack(f"<{self.dimension}f", *vector) for vector in self.embed(texts))

    def embed_query(self, text: str) -> list[float]:
        """As a passage."""
        return self.embed([text])[0]

    def token_ends(self, text: str) -> list[int]:
        """Every character is a token."""
        return list(range(1, len(text) + 1))


@lru_cache(256)
def _vector(text: str, dimension: int) -> list[float]:
    rng = random.Random(hashlib.sha256(text.encode()).digest())
    raw = [rng.gauss(0.0, 1.0) for _ in range(dimension)]
    length = math.sqrt(sum(value * value for value in raw))
    return [value / length for value in raw]


class ScriptedRetriever:
    """Finds what it was told to find; keeps added documents as one chunk each, in memory."""

    def __init__(self, sources: Sequence[Source] = (), *, retrieve_s: float = 0.0, document_s: float = 0.0) -> None:
        """`sources`: the answer to every question, cut to its `top_k`. Seconds per retrieval and per added document."""
        self._sources = tuple(sources)
        self._retrieve_s = retrieve_s
        self._document_s = document_s
        self._kept: defaultdict[tuple[str, str], dict[str, Document]] = defaultdict(dict)
        self._lock = threading.Lock()
        self.asked: list[RetrieveRequest] = []
        """Every retrieval so far."""

    @property
    def info(self) -> EngineInfo:
        """Says that it is scripted."""
        return EngineInfo(name="scripted-retriever", model="none", version="1")

    def warm_up(self) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to free."""

    def retrieve(self, request: RetrieveRequest) -> tuple[Source, ...]:
        """The script's sources. Raises `UnknownCollection` for a collection that nothing was added to."""
        with self._lock:
            self.asked.append(request)
        for place, asked in enumerate(request.collections):
            self._documents(request.tenant, asked.name, f"collections.{place}.name")
        time.sleep(self._retrieve_s)
        return self._sources[: request.top_k]

    def add(
        self, request: KnowledgeAddRequest, texts: Sequence[str], *, stop: Stop, on_progress: OnProgress
    ) -> KnowledgeReport:
        """Keep the documents; looks at `stop` before each."""
        for done, document in enumerate(request.documents):
            if stop.wait(self._document_s):
                raise JobCancelled
            with self._lock:
                self._kept[request.tenant, request.collection][document.id] = document
            on_progress(done + 1, len(texts))
        return KnowledgeReport(
            collection=request.collection, documents=_infos(request.documents), chunks=len(request.documents)
        )

    def list(self, request: KnowledgeListRequest) -> KnowledgeReport:
        """Collections, or the documents of one."""
        if request.collection is not None:
            documents = self._documents(request.tenant, request.collection, "collection")
            return KnowledgeReport(collection=request.collection, documents=_infos(documents), chunks=len(documents))
        with self._lock:
            found = [(name, len(kept)) for (tenant, name), kept in self._kept.items() if tenant == request.tenant]
        infos = tuple(_collection(name, size) for name, size in sorted(found))
        return KnowledgeReport(collections=infos, chunks=sum(info.chunks for info in infos))

    def delete(self, request: KnowledgeDeleteRequest) -> KnowledgeReport:
        """Documents or a whole collection."""
        documents = self._documents(request.tenant, request.collection, "collection")
        gone = [document for document in documents if not request.documents or document.id in request.documents]
        with self._lock:
            kept = self._kept[request.tenant, request.collection]
            for document in gone:
                kept.pop(document.id, None)
            if not request.documents:
                del self._kept[request.tenant, request.collection]
        return KnowledgeReport(collection=request.collection, documents=_infos(gone), chunks=len(gone))

    def reembed(self, request: KnowledgeReembedRequest, *, stop: Stop, on_progress: OnProgress) -> KnowledgeReport:
        """Takes its time, changes nothing."""
        documents = self._documents(request.tenant, request.collection, "collection")
        for done in range(len(documents)):
            if stop.wait(self._document_s):
                raise JobCancelled
            on_progress(done + 1, len(documents))
        return KnowledgeReport(
            collection=request.collection,
            collections=(_collection(request.collection, len(documents)),),
            chunks=len(documents),
        )

    def _documents(self, tenant: str, collection: str, field: str) -> Sequence[Document]:
        with self._lock:
            if (tenant, collection) not in self._kept:
                raise UnknownCollection(f"{collection} is not a collection of this tenant.", field=field)
            kept = self._kept[tenant, collection]
            return [kept[id_] for id_ in sorted(kept)]


def _infos(documents: Sequence[Document]) -> tuple[DocumentInfo, ...]:
    return tuple(DocumentInfo(id=document.id, chunks=1, metadata=dict(document.metadata)) for document in documents)


def _collection(name: str, size: int) -> CollectionInfo:
    return CollectionInfo(name=name, chunks=size, profile="tokens-512-64", embedding="scripted")
