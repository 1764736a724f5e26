"""One Chroma server and two embedding models for all tests of retrieval."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import packs
from tests.support.chroma import ChromaServer
from tests.support.embedding import make_embedding_model
from tests.support.knowledge import (
    DIARY,
    over,
)
from workers.engines.embedder import SentenceEmbedder
from workers.engines.retriever import HybridRetriever


@pytest.fixture(scope="package")
def chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    server = ChromaServer(tmp_path_factory.mktemp("chroma"))
    yield server
    server.close()


@pytest.fixture
def own_chroma(tmp_path: Path) -> Iterator[ChromaServer]:
    """A server that a test may break."""
    server = ChromaServer(tmp_path)
    yield server
    server.close()


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    texts = [*DIARY.values(), *(file.text for file in packs.knowledge_files(packs.load_pack("artist")))]
    return (
        make_embedding_model(folder / "first", texts),
        make_embedding_model(folder / "second", texts, dimension=192, seed=1),
    )


@pytest.fixture(scope="package")
def embedder(models: tuple[Path, Path]) -> Iterator[SentenceEmbedder]:
    engine = SentenceEmbedder(str(models[0]))
    yield engine
    engine.close()


@pytest.fixture(scope="package")
def newer(models: tuple[Path, Path]) -> Iterator[SentenceEmbedder]:
    engine = SentenceEmbedder(str(models[1]))
    yield engine
    engine.close()


@pytest.fixture(scope="package")
def retriever(chroma: ChromaServer, embedder: SentenceEmbedder) -> Iterator[HybridRetriever]:
    engine = over(chroma, embedder)
    engine.warm_up()
    yield engine
    engine.close()


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"
