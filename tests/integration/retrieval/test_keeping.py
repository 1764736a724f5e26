"""Documents are added, replaced, listed, deleted and embedded anew."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.contracts.rag import (
    Document,
    KnowledgeAddRequest,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
    KnowledgeReembedRequest,
)
from shared.errors import (
    InvalidRequest,
    JobCancelled,
    UnknownCollection,
)
from tests.support.chroma import ChromaServer
from tests.support.knowledge import (
    DIARY,
    Counting,
    add,
    ask,
    diary,
    documents_of,
    over,
    reembed,
)
from workers.engines import keeper
from workers.engines.embedder import SentenceEmbedder
from workers.engines.retriever import HybridRetriever
from workers.engines.vector_store import ChromaStore

# --- keeping ---


def test_a_document_is_replaced(retriever: HybridRetriever, tenant: str) -> None:
    long = " ".join(f"{n}번째 날에는 쑥떡을 먹었다." for n in range(200))
    first = add(retriever, tenant, "diary", [Document(id="days", text=long), *diary()])
    assert first.documents[0].chunks > 1
    second = add(retriever, tenant, "diary", [Document(id="days", text="이제 조개만 먹는다.")])
    assert second.chunks == 1
    report = retriever.list(KnowledgeListRequest(tenant=tenant, collection="diary"))
    assert {d.id: d.chunks for d in report.documents} == {"days": 1} | dict.fromkeys(DIARY, 1)
    assert report.chunks == 5


def test_unchanged_chunks_are_not_embedded_again(chroma: ChromaServer, embedder: SentenceEmbedder, tenant: str) -> None:
    counting = Counting(embedder)
    engine = over(chroma, counting)
    add(engine, tenant, "diary", diary())
    assert counting.count == 4
    add(engine, tenant, "diary", diary())
    assert counting.count == 4
    changed = [d.model_copy(update={"metadata": {"year": 1999}}) if d.id == "winter" else d for d in diary()]
    add(engine, tenant, "diary", changed)
    assert counting.count == 5
    winter = ask(engine, tenant, "눈사람", "diary")[0]
    assert winter.metadata == {"year": 1999}
    assert ask(engine, tenant, "눈사람", "diary", filters={"season": "winter"}) == ()
    engine.close()


def test_progress_ends_at_the_total(retriever: HybridRetriever, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "BATCH", 3)
    steps: list[tuple[int, int]] = []
    add(retriever, tenant, "diary", [Document(id=f"d{n}", text=f"쑥떡 {n}") for n in range(8)], progress=steps)
    assert steps == [(0, 8), (3, 8), (6, 8), (8, 8)]


def test_a_stopped_job_ends_between_batches_and_can_be_repeated(
    retriever: HybridRetriever, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "BATCH", 2)
    stop = threading.Event()
    many = [Document(id=f"d{n}", text=f"쑥떡 {n}") for n in range(9)]
    request = KnowledgeAddRequest(tenant=tenant, collection="diary", documents=tuple(many))
    with pytest.raises(JobCancelled):
        retriever.add(
            request,
            [d.text or "" for d in many],
            stop=stop,
            on_progress=lambda done, _: stop.set() if done == 4 else None,
        )
    assert retriever.list(KnowledgeListRequest(tenant=tenant, collection="diary")).chunks == 4
    assert add(retriever, tenant, "diary", many).chunks == 9
    assert retriever.list(KnowledgeListRequest(tenant=tenant, collection="diary")).chunks == 9


def test_other_workers_see_a_change_at_once(
    chroma: ChromaServer, embedder: SentenceEmbedder, retriever: HybridRetriever, tenant: str
) -> None:
    add(retriever, tenant, "diary", diary())
    other = over(chroma, embedder)
    question = "다람쥐"
    assert "squirrel" not in documents_of(ask(other, tenant, question, "diary", min_score=-1.0))
    add(retriever, tenant, "diary", [Document(id="squirrel", text="다람쥐")])
    assert ask(other, tenant, question, "diary", min_score=-1.0)[0].document == "squirrel"
    retriever.delete(KnowledgeDeleteRequest(tenant=tenant, collection="diary", documents=("squirrel",)))
    assert "squirrel" not in documents_of(ask(other, tenant, question, "diary", min_score=-1.0, top_k=10))
    other.close()


def test_the_profile_belongs_to_the_collection(retriever: HybridRetriever, tenant: str) -> None:
    text = "쑥떡을 먹었다. " * 300
    add(retriever, tenant, "diary", [Document(id="a", text=text)], profile="chars-1000-0")
    listed = retriever.list(KnowledgeListRequest(tenant=tenant))
    assert [(c.name, c.profile) for c in listed.collections] == [("diary", "chars-1000-0")]
    found = ask(retriever, tenant, "쑥떡", "diary", top_k=10)
    assert max(len(source.text) for source in found) in range(900, 1001)
    with pytest.raises(InvalidRequest) as caught:
        add(retriever, tenant, "diary", diary())
    assert caught.value.field == "profile"


def test_token_chunks_fit_the_models_tokenizer(
    retriever: HybridRetriever, embedder: SentenceEmbedder, tenant: str
) -> None:
    add(retriever, tenant, "diary", [Document(id="a", text=" ".join(DIARY.values()) * 60)])
    sizes = [len(embedder.token_ends(s.text)) for s in ask(retriever, tenant, "쑥떡", "diary", top_k=50)]
    assert len(sizes) > 3
    assert 400 < max(sizes) <= 512


def test_deleting_documents_and_collections(retriever: HybridRetriever, tenant: str) -> None:
    add(retriever, tenant, "diary", diary())
    request = KnowledgeDeleteRequest(tenant=tenant, collection="diary", documents=("spring", "nobody"))
    report = retriever.delete(request)
    assert ([d.id for d in report.documents], report.chunks) == (["spring"], 1)
    assert retriever.list(KnowledgeListRequest(tenant=tenant, collection="diary")).chunks == 3
    assert retriever.delete(KnowledgeDeleteRequest(tenant=tenant, collection="diary")).chunks == 3
    with pytest.raises(UnknownCollection) as caught:
        retriever.delete(KnowledgeDeleteRequest(tenant=tenant, collection="diary"))
    assert caught.value.field == "collection"
    assert retriever.list(KnowledgeListRequest(tenant=tenant)).collections == ()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (Document(id="b", text=" \n "), "documents.1.text"),
        (Document(id="a", text="쑥"), "documents.1.id"),
        (Document(id="b", text="쑥", metadata={"n": float("inf")}), "documents.1.metadata.n"),
        (Document(id="b", text="쑥", metadata={"n": 2**70}), "documents.1.metadata.n"),
        (Document(id="b", text="쑥", metadata={"s": "\x00"}), "documents.1.metadata.s"),
    ],
)
def test_a_document_that_cannot_be_kept_is_named(
    retriever: HybridRetriever, tenant: str, document: Document, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        add(retriever, tenant, "diary", [Document(id="a", text="쑥"), document])
    assert caught.value.field == field
    assert retriever.list(KnowledgeListRequest(tenant=tenant)).collections == ()


def test_text_of_a_blob_is_cleaned(retriever: HybridRetriever, tenant: str) -> None:
    given = Document(id="a", text="x")
    request = KnowledgeAddRequest(tenant=tenant, collection="diary", documents=(given,))
    decomposed = "\ufeff\u110a\u116e\u11a8\u1104\u1165\u11a8"  # a byte order mark, then two syllables in jamo
    retriever.add(request, [decomposed], stop=threading.Event(), on_progress=lambda *_: None)
    assert ask(retriever, tenant, "쑥떡", "diary", min_score=-1.0)[0].text == "쑥떡"
    with pytest.raises(InvalidRequest, match="control character"):
        retriever.add(request, ["쑥\x00"], stop=threading.Event(), on_progress=lambda *_: None)


# --- another model ---


def test_vectors_of_another_model_must_be_computed_anew(
    chroma: ChromaServer, retriever: HybridRetriever, newer: SentenceEmbedder, tenant: str
) -> None:
    add(retriever, tenant, "diary", diary())
    upgraded = over(chroma, newer)
    with pytest.raises(InvalidRequest, match=r"knowledge\.reembed") as caught:
        ask(upgraded, tenant, "봄", "diary")
    assert caught.value.field == "collections.0.name"
    with pytest.raises(InvalidRequest, match=r"knowledge\.reembed"):
        add(upgraded, tenant, "diary", diary())
    assert upgraded.list(KnowledgeListRequest(tenant=tenant)).collections[0].embedding.endswith("(256)")
    report = reembed(upgraded, tenant, "diary")
    assert (report.chunks, report.collections[0].embedding[-5:]) == (4, "(192)")
    best = ask(upgraded, tenant, "조개 목걸이", "diary", filters={"year": 2020})[0]
    assert (best.document, best.metadata["season"]) == ("summer", "summer")
    assert [d.id for d in upgraded.list(KnowledgeListRequest(tenant=tenant, collection="diary")).documents] == sorted(
        DIARY
    )
    with pytest.raises(InvalidRequest, match=r"knowledge\.reembed"):
        ask(retriever, tenant, "봄", "diary")
    upgraded.close()


def test_no_search_sees_a_half_made_collection(
    chroma: ChromaServer,
    retriever: HybridRetriever,
    newer: SentenceEmbedder,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "BATCH", 2)
    add(retriever, tenant, "diary", diary())
    gate = threading.Event()
    slow = Counting(newer, gate)
    upgraded, bystander = over(chroma, slow), over(chroma, newer)
    begun = threading.Event()
    request = KnowledgeReembedRequest(tenant=tenant, collection="diary")
    with ThreadPoolExecutor(1) as pool:
        # Given half of the new vectors are written
        job = pool.submit(
            upgraded.reembed,
            request,
            stop=threading.Event(),
            on_progress=lambda done, _: begun.set() if done == 2 else None,
        )
        assert begun.wait(120)
        # Then the old model's workers still find everything, the new one's nothing, and the list shows it once
        assert len(ask(retriever, tenant, "봄", "diary", top_k=10, min_score=-1.0)) == 4
        with pytest.raises(InvalidRequest, match=r"knowledge\.reembed"):
            ask(bystander, tenant, "봄", "diary")
        assert [c.chunks for c in retriever.list(KnowledgeListRequest(tenant=tenant)).collections] == [4]
        # And a document that comes meanwhile is not lost
        add(retriever, tenant, "diary", [Document(id="late", text="늦게 온 다람쥐")])
        gate.set()
        assert job.result(120).chunks == 5
    found = ask(bystander, tenant, "늦게 온 다람쥐", "diary", top_k=10, min_score=-1.0)
    assert set(documents_of(found)) == {*DIARY, "late"}
    for engine in (upgraded, bystander):
        engine.close()


def test_a_broken_off_reembedding_is_resumed(
    chroma: ChromaServer,
    retriever: HybridRetriever,
    newer: SentenceEmbedder,
    tenant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "BATCH", 1)
    add(retriever, tenant, "diary", diary())
    counting = Counting(newer)
    upgraded = over(chroma, counting)
    stop = threading.Event()
    request = KnowledgeReembedRequest(tenant=tenant, collection="diary")
    with pytest.raises(JobCancelled):
        upgraded.reembed(request, stop=stop, on_progress=lambda done, _: stop.set() if done == 3 else None)
    assert reembed(upgraded, tenant, "diary").chunks == 4
    assert counting.count == 4
    upgraded.close()


def test_the_same_model_computes_in_place(retriever: HybridRetriever, tenant: str) -> None:
    add(retriever, tenant, "diary", diary())
    before = ask(retriever, tenant, "조개", "diary", top_k=4, min_score=-1.0)
    assert reembed(retriever, tenant, "diary").chunks == 4
    assert ask(retriever, tenant, "조개", "diary", top_k=4, min_score=-1.0) == before


def test_a_deleted_collection_leaves_no_version_behind(
    chroma: ChromaServer, retriever: HybridRetriever, newer: SentenceEmbedder, tenant: str
) -> None:
    add(retriever, tenant, "diary", diary())
    upgraded = over(chroma, newer)
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobCancelled):
        upgraded.reembed(
            KnowledgeReembedRequest(tenant=tenant, collection="diary"), stop=stop, on_progress=lambda *_: None
        )
    upgraded.delete(KnowledgeDeleteRequest(tenant=tenant, collection="diary"))
    store = ChromaStore(chroma.host, chroma.port)
    assert [c.name for c in store.every() if c.metadata["owner"] == tenant] == []
    store.close()
    upgraded.close()
