"""Keeps knowledge: adds, lists, deletes and re-embeds documents; keeps packs' own knowledge as it is in their files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from shared.contracts.base import EngineInfo, Scalar, Text
from shared.contracts.rag import (
    ChunkProfile,
    CollectionInfo,
    Document,
    DocumentInfo,
    KnowledgeAddRequest,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
    KnowledgeReembedRequest,
    KnowledgeReport,
)
from shared.errors import InvalidRequest, JobCancelled, UnknownCollection
from shared.packs import knowledge_files, load_pack
from shared.protocols import OnProgress, Stop

from .chunking import PROFILES, Chunk, MediaType, chunks
from .filters import Where, scalar
from .keyword_index import terms
from .library import Library, Shelf
from .vector_store import Collection, Entry, Vector

BATCH = 256
"""Chunks between two looks at `stop` and two reports of progress."""

DOCUMENT = "_document"
POSITION = "_position"
HEADING = "_heading"
TERMS = "_terms"
"""Metadata keys of our own; a caller's begin with a letter. Terms are the morphemes, space-separated: computed once
here, so that an index over a large collection is built without analysing all of it again."""

_TEXT: TypeAdapter[str] = TypeAdapter(Text)
Planned = list[Entry]
"""Chunks without vectors, as they should be stored."""


class KnowledgeEmbedder(Protocol):
    """What keeping and finding ask of the embedding engine."""

    @property
    def info(self) -> EngineInfo:
        """Name, model, version and device."""
        ...

    dimension: int

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Vectors of passages."""
        ...

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        ...

    def token_ends(self, text: str) -> Sequence[int]:
        """Where each token ends, as character positions."""
        ...


@dataclass(frozen=True)
class _Manuscript:
    """A document before it is cut."""

    id: str
    text: str
    media_type: MediaType
    metadata: Mapping[str, Scalar]


def own_metadata(entry: Entry) -> dict[str, Scalar]:
    """What the caller gave with the document."""
    return {key: value for key, value in entry.metadata.items() if not key.startswith("_")}


class Keeper:
    """Writes collections. Writers of one process to one collection take turns."""

    def __init__(self, library: Library, embedder: KnowledgeEmbedder) -> None:
        """`library` and `embedder` belong to the same model."""
        self._library = library
        self._embedder = embedder
        self._turns: defaultdict[Shelf, threading.Lock] = defaultdict(threading.Lock)

    # --- what callers ask ---

    def add(
        self, request: KnowledgeAddRequest, texts: Sequence[str], stop: Stop, on_progress: OnProgress
    ) -> KnowledgeReport:
        """Chunk, embed and store; a document of the same id is replaced, its unchanged chunks are left as they are."""
        manuscripts = _manuscripts(request.documents, texts)
        shelf = Shelf("tenant", request.tenant, request.collection)
        with self._turn(shelf, stop):
            collection = self._writable(shelf, request.profile)
            planned = self._cut(shelf, manuscripts, request.profile)
            ids = [manuscript.id for manuscript in manuscripts]
            stored = collection.read(where={DOCUMENT: {"$in": ids}})
            try:
                self._bring(collection, planned, stored, stop, on_progress)
            finally:
                # Even if nothing changed: an earlier attempt may have died between writing and marking.
                self._library.touch(collection)
        return KnowledgeReport(
            collection=request.collection, documents=_documents(planned, manuscripts), chunks=len(planned)
        )

    def list(self, request: KnowledgeListRequest) -> KnowledgeReport:
        """The tenant's collections, or the documents of one; readable whatever model embedded them."""
        collections = self._library.of_tenant(request.tenant)
        if request.collection is None:
            infos = tuple(_info(name, collection) for name, collection in collections.items())
            return KnowledgeReport(collections=infos, chunks=sum(info.chunks for info in infos))
        if request.collection not in collections:
            raise _unknown(request.collection)
        entries = collections[request.collection].read()
        return KnowledgeReport(collection=request.collection, documents=_documents(entries), chunks=len(entries))

    def delete(self, request: KnowledgeDeleteRequest) -> KnowledgeReport:
        """Documents, or the whole collection with every version of it."""
        shelf = Shelf("tenant", request.tenant, request.collection)
        with self._turn(shelf, None):
            found = self._library.everything(shelf)
            if not found:
                raise _unknown(request.collection)
            where: Where | None = {DOCUMENT: {"$in": list(request.documents)}} if request.documents else None
            removed = {entry.id: entry for collection in found for entry in collection.read(where=where)}
            for collection in found:
                self._remove(collection, list(removed) if request.documents else None)
        return KnowledgeReport(
            collection=request.collection, documents=_documents(list(removed.values())), chunks=len(removed)
        )

    def reembed(self, request: KnowledgeReembedRequest, stop: Stop, on_progress: OnProgress) -> KnowledgeReport:
        """New vectors for every chunk.

        Vectors of another model go into a collection that no search sees until it is whole; then it takes the place of
        the old one in one step. Vectors of the served model are comparable with their predecessors: replaced in place.
        """
        shelf = Shelf("tenant", request.tenant, request.collection)
        with self._turn(shelf, stop):
            served = self._library.find(shelf)
            if served is None:
                served = self._rebuild(shelf, stop, on_progress)
            else:
                self._embed(served, served.read(), stop, on_progress)
            for old in self._library.everything(shelf):
                if old.metadata["version"] != self._library.embedding.version:
                    self._library.store.remove(old.name)
            chunks_ = served.count()
        return KnowledgeReport(
            collection=request.collection, collections=(_info(request.collection, served),), chunks=chunks_
        )

    # --- packs ---

    def sync_pack(self, pack_id: str) -> Shelf:
        """Make the stored knowledge of a pack equal to its files; nothing is written when it is. Raises `UnknownPack`.

        Any number of workers may do it at once: chunks have the same ids everywhere.
        """
        pack = load_pack(pack_id)
        shelf = Shelf("pack", pack.id, pack.retrieval.collection)
        manuscripts = [
            _Manuscript(
                file.document,
                file.text,
                "text/markdown",
                {"category": file.document, "source": f"{file.document}.md"},
            )
            for file in knowledge_files(pack)
        ]
        with self._turn(shelf, None):
            collection = self._library.find(shelf) or self._library.create(shelf, pack.retrieval.profile)
            planned = self._cut(shelf, manuscripts, pack.retrieval.profile)
            if self._bring(collection, planned, collection.read(), threading.Event(), _silent):
                self._library.touch(collection)
        return shelf

    # --- steps ---

    @contextmanager
    def _turn(self, shelf: Shelf, stop: Stop | None) -> Iterator[None]:
        lock = self._turns[shelf]
        while not lock.acquire(timeout=0.1):
            _look_at(stop)
        try:
            yield
        finally:
            lock.release()

    def _writable(self, shelf: Shelf, profile: ChunkProfile) -> Collection:
        try:
            collection = self._library.get(shelf, "collection")
        except UnknownCollection:
            return self._library.create(shelf, profile)
        theirs = collection.metadata["profile"]
        if theirs != profile:
            raise InvalidRequest(f"The collection {shelf.name} is chunked by {theirs}.", field="profile")
        return collection

    def _cut(self, shelf: Shelf, manuscripts: Sequence[_Manuscript], profile: ChunkProfile) -> Planned:
        return [
            _entry(shelf, manuscript, position, chunk)
            for manuscript in manuscripts
            for position, chunk in enumerate(
                chunks(manuscript.text, manuscript.media_type, PROFILES[profile], self._embedder.token_ends)
            )
        ]

    def _bring(
        self,
        collection: Collection,
        planned: Sequence[Entry],
        stored: Sequence[Entry],
        stop: Stop,
        on_progress: OnProgress,
    ) -> bool:
        """Turn `stored` into `planned`; new chunks are in before old ones go. Whether there was anything to do."""
        known = {entry.id: entry for entry in stored}
        changed = [entry for entry in planned if entry.id not in known or not _same(entry, known[entry.id])]
        dropped = {entry.id: _dropped(entry, known[entry.id]) for entry in changed if entry.id in known}
        self._embed(collection, changed, stop, on_progress, dropped=dropped, done=len(planned) - len(changed))
        stale = list(known.keys() - {entry.id for entry in planned})
        collection.erase(stale)
        return bool(changed or stale)

    def _embed(
        self,
        collection: Collection,
        work: Sequence[Entry],
        stop: Stop,
        on_progress: OnProgress,
        *,
        dropped: Mapping[str, Sequence[str]] | None = None,
        done: int = 0,
    ) -> None:
        """Compute vectors and terms and write; `dropped`: metadata keys to take away; `done`: chunks already right."""
        total = done + len(work)
        size = min(BATCH, self._library.store.batch_size())
        on_progress(done, total)
        for start in range(0, len(work), size):
            _look_at(stop)
            batch = work[start : start + size]
            vectors = self._embedder.embed([entry.text for entry in batch])
            entries = [self._computed(entry, vector) for entry, vector in zip(batch, vectors, strict=True)]
            collection.write(entries, dropped or {})
            on_progress(done + start + len(batch), total)

    def _computed(self, entry: Entry, vector: Vector) -> Entry:
        words = terms(f"{entry.metadata[HEADING]}\n{entry.text}")
        return replace(entry, vector=vector, metadata={**entry.metadata, TERMS: " ".join(words)})

    def _rebuild(self, shelf: Shelf, stop: Stop, on_progress: OnProgress) -> Collection:
        others = self._library.others(shelf)
        if not others:
            raise _unknown(shelf.name)
        source = others[0]
        building = self._library.build(shelf, str(source.metadata["profile"]))
        while True:
            # What an attempt that died here has left is of the same model: it need not be computed again.
            self._bring(building, source.read(), building.read(), stop, on_progress)
            now = self._library.store.open(source.name)
            if now is None:
                raise _unknown(shelf.name)
            if now.metadata["revision"] == source.metadata["revision"]:
                break
            source = now  # documents came or went meanwhile, through a worker that still serves the old model
        self._library.publish(shelf, building)
        return self._library.get(shelf, "collection")

    def _remove(self, collection: Collection, ids: Sequence[str] | None) -> None:
        if ids is None:
            self._library.store.remove(collection.name)
        else:
            collection.erase(ids)
            self._library.touch(collection)


def _silent(_done: int, _total: int) -> None:
    """Nobody follows a pack's way into the store."""


def _look_at(stop: Stop | None) -> None:
    if stop is not None and stop.is_set():
        raise JobCancelled


def _unknown(name: str) -> UnknownCollection:
    return UnknownCollection(f"{name} is not a collection of this tenant.", field="collection")


def _manuscripts(documents: Sequence[Document], texts: Sequence[str]) -> list[_Manuscript]:
    found: dict[str, _Manuscript] = {}
    for place, (document, text) in enumerate(zip(documents, texts, strict=True)):
        where = f"documents.{place}"
        if document.id in found:
            raise InvalidRequest(f"The document {document.id} is given twice.", field=f"{where}.id")
        content = f"{where}.{'text' if document.blob is None else 'blob'}"
        metadata = _metadata(document, f"{where}.metadata")
        found[document.id] = _Manuscript(document.id, _clean(text, content), document.media_type, metadata)
    return list(found.values())


def _clean(text: str, field: str) -> str:
    """NFC text; what came through a blob has not been looked at before."""
    try:
        clean = _TEXT.validate_python(text.removeprefix("\ufeff"))
    except ValidationError as error:
        raise InvalidRequest("The document holds a control character.", field=field) from error
    if not clean.strip():
        raise InvalidRequest("The document is empty.", field=field)
    return clean


def _metadata(document: Document, field: str) -> dict[str, Scalar]:
    found = {}
    for key, value in document.metadata.items():
        try:
            found[key] = scalar(value)
        except ValueError as error:
            raise InvalidRequest(f"The value {error}.", field=f"{field}.{key}") from error
    return found


def _entry(shelf: Shelf, manuscript: _Manuscript, position: int, chunk: Chunk) -> Entry:
    key = [shelf.scope, shelf.owner, shelf.name, manuscript.id, position, chunk.text]
    id_ = hashlib.sha256(json.dumps(key, ensure_ascii=False).encode()).hexdigest()[:32]
    own: dict[str, Scalar] = {DOCUMENT: manuscript.id, POSITION: position, HEADING: chunk.heading}
    return Entry(id_, chunk.text, {**manuscript.metadata, **own})


def _same(planned: Entry, stored: Entry) -> bool:
    """True where nothing but computed things differ; 1 and True are different values."""
    return _given(planned) == _given(stored)


def _given(entry: Entry) -> dict[str, tuple[type, Scalar]]:
    return {key: (type(value), value) for key, value in entry.metadata.items() if key != TERMS}


def _dropped(planned: Entry, stored: Entry) -> Sequence[str]:
    return sorted(stored.metadata.keys() - planned.metadata.keys() - {TERMS})


def _documents(entries: Sequence[Entry], given: Sequence[_Manuscript] = ()) -> tuple[DocumentInfo, ...]:
    """The documents that chunks belong to, sorted; `given` ones first, in their own order, even without chunks."""
    grouped: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        grouped[str(entry.metadata[DOCUMENT])].append(entry)
    if given:
        return tuple(DocumentInfo(id=m.id, chunks=len(grouped[m.id]), metadata=dict(m.metadata)) for m in given)
    return tuple(
        DocumentInfo(id=id_, chunks=len(parts), metadata=own_metadata(parts[0]))
        for id_, parts in sorted(grouped.items())
    )


def _info(name: str, collection: Collection) -> CollectionInfo:
    return CollectionInfo(
        name=name,
        chunks=collection.count(),
        profile=str(collection.metadata["profile"]),
        embedding=str(collection.metadata["embedding"]),
    )
