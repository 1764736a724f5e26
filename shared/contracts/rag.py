"""Embedding, retrieval and the keeping of knowledge."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import BlobRef, EngineInfo, Metadata, Name, NonBlank, Part, Request, Text, Wire

ChunkProfile = Literal["tokens-512-64", "chars-1000-0"]
"""Size and overlap of chunks: 512/64 in tokens of the embedding model, or 1000/0 in characters."""

Filters = dict[str, Any]
"""A metadata filter: `{"category": "album"}`, or Chroma's operators `$and $or $eq $ne $gt $gte $lt $lte $in $nin`."""


class EmbedRequest(Request):
    """`rag.embed`: texts to vectors of unit length."""

    texts: Annotated[tuple[NonBlank, ...], Field(strict=False, min_length=1, max_length=4096)]
    encoding: Literal["base64"] | None = None
    """`base64`: all vectors in one string, a quarter of the size of JSON numbers and far cheaper to write and read."""


class Embeddings(Wire):
    """Result of `rag.embed`: one vector per text, in order."""

    vectors: tuple[tuple[float, ...], ...]
    """Empty where `base64` was asked for."""
    packed: str = ""
    """With `base64`: the vectors one after another, each of `dimension` 32-bit floats, little-endian."""
    dimension: int
    engine_ms: float
    engine: EngineInfo


class CollectionQuery(Part):
    """A collection to search and how much its hits count."""

    name: Name
    weight: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0


class RetrieveRequest(Request):
    """`rag.retrieve`: hybrid search (vectors and BM25, fused by rank) over one or more collections."""

    query: NonBlank
    collections: Annotated[tuple[CollectionQuery, ...], Field(strict=False, max_length=16)] = ()
    """Of the tenant."""
    pack: Name | None = None
    """Search this pack's own knowledge as well."""
    top_k: Annotated[int, Field(ge=1, le=100)] = 3
    min_score: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.0
    """Cosine similarity under which a hit is dropped."""
    filters: Filters | None = None

    @model_validator(mode="after")
    def _something_to_search(self) -> RetrieveRequest:
        if not self.collections and self.pack is None:
            raise ValueError("name a pack or at least one collection")
        return self


class Source(Wire):
    """A retrieved chunk."""

    id: str
    collection: str
    document: str
    text: str
    score: float
    """Cosine similarity of query and chunk, 1.0 at best; the order is that of the fused ranks."""
    metadata: Metadata = Field(default_factory=dict)


class Retrieval(Wire):
    """Result of `rag.retrieve`: best first."""

    sources: tuple[Source, ...]
    engine_ms: float
    engine: EngineInfo


class Document(Part):
    """A source of knowledge: its text, or a blob with it."""

    id: Name
    text: Text | None = None
    blob: BlobRef | None = None
    media_type: Literal["text/plain", "text/markdown"] = "text/plain"
    metadata: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")], str | int | float | bool] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _one_content(self) -> Document:
        if (self.text is None) == (self.blob is None):
            raise ValueError("give either text or blob")
        return self


class KnowledgeAddRequest(Request):
    """`knowledge.add`: add or replace documents of a collection."""

    collection: Name
    documents: Annotated[tuple[Document, ...], Field(strict=False, min_length=1, max_length=1000)]
    profile: ChunkProfile = "tokens-512-64"


class KnowledgeListRequest(Request):
    """`knowledge.list`: the tenant's collections, or the documents of one."""

    collection: Name | None = None


class KnowledgeDeleteRequest(Request):
    """`knowledge.delete`: named documents, or without names the whole collection."""

    collection: Name
    documents: Annotated[tuple[Name, ...], Field(strict=False, max_length=1000)] = ()


class KnowledgeReembedRequest(Request):
    """`knowledge.reembed`: compute a collection's vectors anew with the model that is served now."""

    collection: Name


class DocumentInfo(Wire):
    """A stored document."""

    id: str
    chunks: int
    metadata: Metadata = Field(default_factory=dict)


class CollectionInfo(Wire):
    """A stored collection."""

    name: str
    chunks: int
    profile: str
    embedding: str
    """Model and dimension of its vectors."""


class KnowledgeReport(Wire):
    """Result of every `knowledge.*` task: what was touched or listed."""

    collection: str | None = None
    collections: tuple[CollectionInfo, ...] = ()
    documents: tuple[DocumentInfo, ...] = ()
    chunks: int = 0
    engine_ms: float = 0.0
