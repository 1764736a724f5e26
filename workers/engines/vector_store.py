"""Chunks with their vectors on a Chroma server, behind a small protocol.

One client serves every tenant. It is made when first needed and survives a restart of the server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import chromadb
import chromadb.api
import chromadb.config
import httpx
from chromadb.errors import ChromaError, NotFoundError

from shared.contracts.base import Scalar
from shared.errors import StoreUnavailable
from shared.settings import settings

from .filters import Where

CONNECT_S = 2.0
"""Seconds to reach the server."""
ANSWER_S = 10.0
"""Seconds that the server may be silent."""
PAGE = 1000
"""Chunks or collections that are read at a time."""

T = TypeVar("T")
Vector = Sequence[float]


class CollectionGone(Exception):
    """The collection was deleted or replaced while it was in use; open it again."""


@dataclass(frozen=True)
class Entry:
    """A chunk as stored."""

    id: str
    text: str
    metadata: Mapping[str, Scalar]
    vector: Vector | None = None


@dataclass(frozen=True)
class Match:
    """A chunk near a query."""

    entry: Entry
    score: float
    """Cosine similarity."""


class Collection(Protocol):
    """A collection at the moment it was opened. Every method may raise `CollectionGone` and `StoreUnavailable`."""

    @property
    def name(self) -> str:
        """Unique in the store."""
        ...

    @property
    def metadata(self) -> Mapping[str, Scalar]:
        """What `describe` wrote last, as of opening."""
        ...

    def count(self) -> int:
        """Chunks stored."""
        ...

    def write(self, entries: Sequence[Entry], dropped: Mapping[str, Sequence[str]]) -> None:
        """Add or replace chunks with vectors; `dropped` names metadata keys, by chunk, that an older version had."""
        ...

    def erase(self, ids: Sequence[str]) -> None:
        """Delete chunks; unknown ids do no harm."""
        ...

    def query(self, vector: Vector, limit: int, where: Where | None) -> list[Match]:
        """The nearest chunks, best first."""
        ...

    def read(
        self, *, ids: Sequence[str] | None = None, where: Where | None = None, vectors: bool = False
    ) -> list[Entry]:
        """Every chunk that is named and passes the filter."""
        ...

    def describe(self, metadata: Mapping[str, Scalar], *, rename: str | None = None) -> None:
        """Replace the collection's metadata, and its name in the same step."""
        ...


class VectorStore(Protocol):
    """Keeps collections. Every method may raise `StoreUnavailable`."""

    def ping(self) -> None:
        """Return when the store answers."""
        ...

    def batch_size(self) -> int:
        """Chunks that one write may hold."""
        ...

    def open(self, name: str) -> Collection | None:
        """The collection, or None."""
        ...

    def create(self, name: str, metadata: Mapping[str, Scalar]) -> Collection:
        """A new collection for cosine similarity; the existing one when there is one already."""
        ...

    def every(self) -> list[Collection]:
        """All collections of all tenants."""
        ...

    def remove(self, name: str) -> None:
        """Delete a collection; an unknown name does no harm."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class ChromaStore:
    """A `VectorStore` on a Chroma server; the server is not needed before the first call."""

    def __init__(self, host: str | None = None, port: int | None = None) -> None:
        """By default the configured server."""
        self._host = host or settings().chroma_host
        self._port = port or settings().chroma_port
        self._lock = threading.Lock()
        self._made: chromadb.api.ClientAPI | None = None

    def ping(self) -> None:
        """Return when the server answers."""
        self.call(lambda: self._client().heartbeat())

    def batch_size(self) -> int:
        """Chunks that one write may hold."""
        return self.call(lambda: self._client().get_max_batch_size())

    def open(self, name: str) -> Collection | None:
        """The collection, or None."""
        try:
            found = self.call(lambda: self._client().get_collection(name, embedding_function=None))
        except CollectionGone:
            return None
        return _ChromaCollection(self, found)

    def create(self, name: str, metadata: Mapping[str, Scalar]) -> Collection:
        """A new collection for cosine similarity; the existing one when there is one already."""
        made = self.call(
            lambda: self._client().get_or_create_collection(
                name,
                metadata=dict(metadata),
                embedding_function=None,
                configuration={"hnsw": {"space": "cosine"}},
            )
        )
        return _ChromaCollection(self, made)

    def every(self) -> list[Collection]:
        """All collections of all tenants."""

        def page(offset: int) -> list[Collection]:
            listed = self._client().list_collections(limit=PAGE, offset=offset)
            return [_ChromaCollection(self, collection) for collection in listed]

        return self.pages(page)

    def remove(self, name: str) -> None:
        """Delete a collection; an unknown name does no harm."""
        try:
            self.call(lambda: self._client().delete_collection(name))
        except CollectionGone:
            return

    def close(self) -> None:
        """Let go of connections."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            _session(made).close()

    def call(self, ask: Callable[[], T]) -> T:
        """The server's answer; every failure but a missing collection is `StoreUnavailable`."""
        try:
            try:
                return ask()
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                return ask()  # the server has restarted and left dead connections in the pool
        except NotFoundError as error:
            raise CollectionGone from error
        except (httpx.HTTPError, ChromaError, OSError, ValueError) as error:
            name = type(error).__name__
            raise StoreUnavailable(f"Chroma at {self._host}:{self._port} does not serve ({name}).") from error

    def pages(self, page: Callable[[int], list[T]]) -> list[T]:
        """Everything that `page` gives from offset 0 on, `PAGE` items at a time."""
        found: list[T] = []
        while True:
            offset = len(found)
            part = self.call(lambda offset=offset: page(offset))  # type: ignore[misc]
            found += part
            if len(part) < PAGE:
                return found

    def _client(self) -> chromadb.api.ClientAPI:
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> chromadb.api.ClientAPI:
        # Chroma's client has no time limit of its own, not even while it is made: ask first, then set one.
        httpx.get(f"http://{self._host}:{self._port}/api/v2/heartbeat", timeout=CONNECT_S).raise_for_status()
        client = chromadb.HttpClient(
            self._host, self._port, settings=chromadb.config.Settings(anonymized_telemetry=False)
        )
        _session(client).timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        return client


def _session(client: chromadb.api.ClientAPI) -> httpx.Client:
    return cast(httpx.Client, cast(Any, client)._server._session)


class _ChromaCollection:
    def __init__(self, store: ChromaStore, collection: chromadb.Collection) -> None:
        self._store = store
        self._collection = collection
        self.name = collection.name
        self.metadata = cast("Mapping[str, Scalar]", dict(collection.metadata or {}))

    def count(self) -> int:
        return self._store.call(self._collection.count)

    def write(self, entries: Sequence[Entry], dropped: Mapping[str, Sequence[str]]) -> None:
        # Chroma merges metadata into what is there; a key goes when it is set to None.
        metadatas = [dict(e.metadata) | dict.fromkeys(dropped.get(e.id, ())) for e in entries]
        self._store.call(
            lambda: self._collection.upsert(
                ids=[entry.id for entry in entries],
                documents=[entry.text for entry in entries],
                metadatas=cast(Any, metadatas),
                embeddings=[entry.vector or () for entry in entries],
            )
        )

    def erase(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), PAGE):
            page = list(ids[start : start + PAGE])
            self._store.call(lambda page=page: self._collection.delete(ids=page))  # type: ignore[misc]

    def query(self, vector: Vector, limit: int, where: Where | None) -> list[Match]:
        found = self._store.call(
            lambda: self._collection.query(
                query_embeddings=[vector],
                n_results=limit,
                where=where,
                include=["documents", "metadatas", "distances"],
            )
        )
        rows = zip(*(cast(Any, found)[part][0] for part in ("ids", "documents", "metadatas", "distances")), strict=True)
        return [Match(Entry(id_, text or "", data or {}), 1.0 - distance) for id_, text, data, distance in rows]

    def read(
        self, *, ids: Sequence[str] | None = None, where: Where | None = None, vectors: bool = False
    ) -> list[Entry]:
        include: list[Any] = ["documents", "metadatas", *(["embeddings"] if vectors else [])]
        named = None if ids is None else list(ids)

        def page(offset: int) -> list[Entry]:
            found = self._collection.get(named, where=where, limit=PAGE, offset=offset, include=include)
            return _entries(cast(Any, found), vectors)

        return self._store.pages(page)

    def describe(self, metadata: Mapping[str, Scalar], *, rename: str | None = None) -> None:
        self._store.call(lambda: self._collection.modify(name=rename, metadata=dict(metadata)))


def _entries(page: Any, vectors: bool) -> list[Entry]:
    found = page["embeddings"].tolist() if vectors and len(page["ids"]) else [None] * len(page["ids"])
    rows = zip(page["ids"], page["documents"], page["metadatas"], found, strict=True)
    return [Entry(id_, text or "", data or {}, vector) for id_, text, data, vector in rows]
