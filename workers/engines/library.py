"""Which Chroma collection holds what: names, versions and revisions.

A tenant's collection is one Chroma collection per version of the embedding model, so that vectors of two models never
mix. Names are derived from the owner; nobody can name another's.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shared.contracts.base import Scalar
from shared.errors import InvalidRequest, UnknownCollection

from .vector_store import Collection, VectorStore


@dataclass(frozen=True)
class Shelf:
    """A collection as its owner knows it."""

    scope: Literal["tenant", "pack"]
    """Packs' own knowledge lies apart from every tenant, even from one that is called like a pack."""
    owner: str
    name: str


@dataclass(frozen=True)
class Embedding:
    """The model that vectors come from."""

    model: str
    version: str
    dimension: int

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.model}@{self.version} ({self.dimension})"


class Library:
    """Finds and makes collections for the model that is served now."""

    def __init__(self, store: VectorStore, embedding: Embedding) -> None:
        """`embedding`: the model that is served now."""
        self.store = store
        self.embedding = embedding

    def find(self, shelf: Shelf) -> Collection | None:
        """The collection with vectors of the served model."""
        return self.store.open(self._name(shelf))

    def get(self, shelf: Shelf, field: str) -> Collection:
        """As `find`; raises `UnknownCollection`, or `InvalidRequest` when its vectors are of another model."""
        found = self.find(shelf)
        if found is not None:
            return found
        others = self.others(shelf)
        if others:
            theirs = others[0].metadata["embedding"]
            raise InvalidRequest(
                f"The vectors of collection {shelf.name} are of {theirs}, but {self.embedding.title} is served: "
                "run knowledge.reembed on it.",
                field=field,
            )
        raise UnknownCollection(f"{shelf.name} is not a collection of this tenant.", field=field)

    def others(self, shelf: Shelf) -> list[Collection]:
        """The collection with vectors of other models than the served one."""
        return [found for found in self._stored(shelf) if found.metadata["version"] != self.embedding.version]

    def everything(self, shelf: Shelf) -> list[Collection]:
        """Every Chroma collection of that name: of any model, unfinished ones as well."""
        return [found for found in self.store.every() if _belongs(found, shelf)]

    def of_tenant(self, tenant: str) -> dict[str, Collection]:
        """The tenant's collections by name; of two versions the served one."""
        found: dict[str, Collection] = {}
        for collection in self.store.every():
            data = collection.metadata
            if (data.get("scope"), data.get("owner"), data.get("state")) != ("tenant", tenant, "served"):
                continue
            name = str(data["collection"])
            if name not in found or data["version"] == self.embedding.version:
                found[name] = collection
        return dict(sorted(found.items()))

    def create(self, shelf: Shelf, profile: str) -> Collection:
        """The collection with vectors of the served model, made if need be."""
        return self.store.create(self._name(shelf), self._metadata(shelf, profile, "served"))

    def build(self, shelf: Shelf, profile: str) -> Collection:
        """An unfinished collection, which no search sees."""
        return self.store.create(self._name(shelf, building=True), self._metadata(shelf, profile, "building"))

    def publish(self, shelf: Shelf, built: Collection) -> None:
        """Give an unfinished collection its place, in one step."""
        built.describe(self._metadata(shelf, str(built.metadata["profile"]), "served"), rename=self._name(shelf))

    def touch(self, collection: Collection) -> None:
        """Mark that the content has changed: caches of other processes are void."""
        # A random mark, not a counter: two writers that count at the same time could end at the same number.
        collection.describe({**collection.metadata, "revision": secrets.token_hex(8)})

    def _stored(self, shelf: Shelf) -> list[Collection]:
        return [found for found in self.everything(shelf) if found.metadata["state"] == "served"]

    def _name(self, shelf: Shelf, *, building: bool = False) -> str:
        key = [shelf.scope, shelf.owner, shelf.name, self.embedding.version, building]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        # The digest alone is the identity (dots in names would make "a.b" + "c" equal to "a" + "b.c").
        return f"{_readable(shelf.scope)}.{_readable(shelf.owner)}.{_readable(shelf.name)}.{digest}"

    def _metadata(self, shelf: Shelf, profile: str, state: str) -> Mapping[str, Scalar]:
        return {
            "scope": shelf.scope,
            "owner": shelf.owner,
            "collection": shelf.name,
            "profile": profile,
            "embedding": self.embedding.title,
            "dimension": self.embedding.dimension,
            "version": self.embedding.version,
            "state": state,
            "revision": secrets.token_hex(8),
        }


def _readable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def _belongs(collection: Collection, shelf: Shelf) -> bool:
    data = collection.metadata
    return (data.get("scope"), data.get("owner"), data.get("collection")) == (shelf.scope, shelf.owner, shelf.name)
