"""A store that is away is named, and used again when it is back; the embedding engine keeps its word."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shared.contracts.rag import KnowledgeListRequest
from shared.errors import (
    ConfigurationInvalid,
    StoreUnavailable,
)
from tests.support.chroma import ChromaServer
from tests.support.knowledge import (
    DIARY,
    add,
    ask,
    diary,
    over,
)
from workers.engines import vector_store
from workers.engines.embedder import SentenceEmbedder

# --- trouble ---


@pytest.fixture(scope="module")
def own_chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """A server that each test breaks and mends."""
    server = ChromaServer(tmp_path_factory.mktemp("broken"))
    yield server
    server.close()


def test_a_dead_store_is_named_and_a_restarted_one_is_used_again(
    own_chroma: ChromaServer, embedder: SentenceEmbedder, tenant: str
) -> None:
    engine = over(own_chroma, embedder)
    add(engine, tenant, "diary", diary())
    before = ask(engine, tenant, "조개", "diary")
    own_chroma.kill()
    with pytest.raises(StoreUnavailable, match=str(own_chroma.port)) as caught:
        ask(engine, tenant, "조개", "diary")
    assert caught.value.retryable
    own_chroma.start()
    with ThreadPoolExecutor(8) as pool:
        assert all(found == before for found in pool.map(lambda _: ask(engine, tenant, "조개", "diary"), range(16)))
    engine.close()


def test_a_collection_that_is_replaced_again_and_again_is_tried_soon(
    own_chroma: ChromaServer, embedder: SentenceEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = over(own_chroma, embedder)

    def replaced(_: object) -> None:
        raise vector_store.CollectionGone

    monkeypatch.setattr(engine._keeper, "list", replaced)
    with pytest.raises(StoreUnavailable, match="being replaced") as caught:
        engine.list(KnowledgeListRequest())
    fault = caught.value
    assert (fault.code, fault.retryable, fault.rest_ms) == ("store_unavailable", True, 500)
    assert StoreUnavailable.rest_ms > fault.rest_ms, "a store that is gone needs longer"
    engine.close()


def test_a_silent_store_does_not_hold_a_job(
    own_chroma: ChromaServer, embedder: SentenceEmbedder, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_store, "ANSWER_S", 0.5)
    monkeypatch.setattr(vector_store, "CONNECT_S", 0.5)
    engine, fresh = over(own_chroma, embedder), over(own_chroma, embedder)
    add(engine, tenant, "diary", diary())
    own_chroma.freeze()
    for waiting in (engine, fresh):
        with pytest.raises(StoreUnavailable):  # else it would wait for as long as the test may take
            ask(waiting, tenant, "조개", "diary")
    own_chroma.thaw()
    assert ask(engine, tenant, "조개", "diary")
    assert ask(fresh, tenant, "조개", "diary")
    engine.close()
    fresh.close()


# --- the embedding engine ---


def test_threads_share_batches_and_get_their_own_vectors(embedder: SentenceEmbedder) -> None:
    texts = [f"{text} {n}" for n in range(25) for text in DIARY.values()]
    alone = [embedder.embed([text])[0] for text in texts]
    assert np.allclose(np.linalg.norm(alone, axis=1), 1.0, atol=1e-5)
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda text: embedder.embed([text])[0], texts))
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(embedder.embed(texts), alone, atol=1e-5)
    assert np.allclose(np.frombuffer(embedder.pack(texts), "<f4").reshape(len(texts), -1), alone, atol=1e-5)
    assert embedder.embed([]) == []


def test_a_recent_question_is_not_computed_twice(embedder: SentenceEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = embedder.embed_query("한 번만 계산한다")
    monkeypatch.setattr(embedder, "_batcher", None)
    assert embedder.embed_query("한 번만 계산한다") is first


def test_the_version_follows_the_files(models: tuple[Path, Path], embedder: SentenceEmbedder, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(models[0], tmp_path / "copy"))
    same = SentenceEmbedder(str(copy))
    assert same.info.version == embedder.info.version
    (copy / "config_sentence_transformers.json").write_text("{}")
    other = SentenceEmbedder(str(copy))
    assert other.info.version != embedder.info.version
    same.close()
    other.close()


def test_a_missing_model_is_a_matter_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid):
        SentenceEmbedder(str(tmp_path / "nothing"))
