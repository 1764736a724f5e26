"""Each tenant finds its own knowledge alone; a pack's own knowledge lies apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import packs
from shared.contracts.rag import (
    Document,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
)
from shared.errors import (
    UnknownCollection,
    UnknownPack,
)
from shared.packs import KnowledgeFile
from tests.support.chroma import ChromaServer
from tests.support.knowledge import (
    DIARY,
    add,
    ask,
    diary,
    documents_of,
    over,
    pack_state,
    reembed,
)
from workers.engines import keeper
from workers.engines.embedder import SentenceEmbedder
from workers.engines.retriever import HybridRetriever

# --- tenants ---


def test_no_tenant_sees_anothers_collection(retriever: HybridRetriever, tenant: str) -> None:
    add(retriever, tenant, "diary", diary())
    with pytest.raises(UnknownCollection) as caught:
        ask(retriever, f"{tenant}-other", "봄", "diary")
    assert caught.value.field == "collections.0.name"
    assert retriever.list(KnowledgeListRequest(tenant=f"{tenant}-other")).collections == ()
    for act in (
        lambda: retriever.list(KnowledgeListRequest(tenant=f"{tenant}-other", collection="diary")),
        lambda: retriever.delete(KnowledgeDeleteRequest(tenant=f"{tenant}-other", collection="diary")),
        lambda: reembed(retriever, f"{tenant}-other", "diary"),
    ):
        with pytest.raises(UnknownCollection):
            act()
    assert len(ask(retriever, tenant, "봄", "diary", min_score=-1.0)) == 3


def test_dots_in_names_do_not_lead_to_a_neighbour(retriever: HybridRetriever, tenant: str) -> None:
    add(retriever, f"{tenant}.a", "b", [Document(id="one", text=DIARY["spring"])])
    add(retriever, tenant, "a.b", [Document(id="two", text=DIARY["spring"])])
    assert documents_of(ask(retriever, f"{tenant}.a", "쑥", "b")) == ["one"]
    assert documents_of(ask(retriever, tenant, "쑥", "a.b")) == ["two"]


@pytest.mark.parametrize("name", ["a", "x" * 64, "a..b", "end-", "A.b_c-d", "127.0.0.1"])
def test_every_well_formed_name_can_be_used(retriever: HybridRetriever, tenant: str, name: str) -> None:
    owner = f"{tenant}{'y' * 64}"[:64]
    add(retriever, owner, name, [Document(id=name, text=DIARY["spring"])])
    assert documents_of(ask(retriever, owner, "쑥", name)) == [name]


@pytest.mark.parametrize("pretender", ["pack", "artist"])
def test_a_tenant_called_like_a_pack_reaches_no_pack(retriever: HybridRetriever, pretender: str) -> None:
    with pytest.raises(UnknownCollection):
        ask(retriever, pretender, "온결", "artist")
    assert retriever.list(KnowledgeListRequest(tenant=pretender)).collections == ()


# --- packs ---


@pytest.mark.parametrize(
    ("pack", "question", "document"),
    [("artist", "온결 고양이 이름 뭐였지?", "daily"), ("artist", "첫 앨범 타이틀곡 뭐야?", "albums")],
)
def test_a_packs_own_knowledge_is_found(
    retriever: HybridRetriever, tenant: str, pack: str, question: str, document: str
) -> None:
    best = ask(retriever, tenant, question, pack=pack)[0]
    assert (best.document, best.metadata["category"]) == (document, document)
    assert best.text.startswith("## ")
    assert " > " in str(best.metadata["heading"])


def test_an_unknown_pack_is_named(retriever: HybridRetriever, tenant: str) -> None:
    with pytest.raises(UnknownPack) as caught:
        ask(retriever, tenant, "봄", pack="nobody")
    assert caught.value.field == "pack"


def test_a_second_start_writes_nothing(
    chroma: ChromaServer, embedder: SentenceEmbedder, retriever: HybridRetriever
) -> None:
    before = pack_state(chroma, "artist")
    again = over(chroma, embedder)
    again.warm_up()
    again.close()
    assert pack_state(chroma, "artist") == before


def test_changed_and_removed_knowledge_follows(
    chroma: ChromaServer, embedder: SentenceEmbedder, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [KnowledgeFile("a", "# 첫째\n\n쑥떡을 먹었다.\n"), KnowledgeFile("b", "# 둘째\n\n조개를 주웠다.\n")]
    pack = packs.load_pack("artist").model_copy(update={"id": f"p-{tenant}"})
    monkeypatch.setattr(keeper, "load_pack", lambda _: pack)
    monkeypatch.setattr(keeper, "knowledge_files", lambda _: tuple(files))
    engine = over(chroma, embedder)
    engine._keeper.sync_pack(pack.id)
    first = pack_state(chroma, pack.id)
    files[0] = KnowledgeFile("a", "# 첫째\n\n찰떡을 먹었다.\n")
    del files[1]
    engine._keeper.sync_pack(pack.id)
    second = pack_state(chroma, pack.id)
    engine.close()
    assert [text for text, _ in first] == ["# 둘째\n\n조개를 주웠다.", "# 첫째\n\n쑥떡을 먹었다."]
    assert [text for text, _ in second] == ["# 첫째\n\n찰떡을 먹었다."]
    assert {mark for _, mark in first} != {mark for _, mark in second}


def test_many_workers_bring_a_pack_in_at_once(
    chroma: ChromaServer, embedder: SentenceEmbedder, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = packs.load_pack("artist").model_copy(update={"id": f"p-{tenant}"})
    known = packs.knowledge_files(packs.load_pack("artist"))
    monkeypatch.setattr(keeper, "load_pack", lambda _: pack)
    monkeypatch.setattr(keeper, "knowledge_files", lambda _: known)
    engines = [over(chroma, embedder) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda engine: engine._keeper.sync_pack(pack.id), engines))
    for engine in engines:
        engine.close()
    expected = sum(file.text.count("\n## ") for file in known)
    assert len(pack_state(chroma, pack.id)) == expected


def test_an_emptied_store_gets_the_packs_back_at_the_next_question(
    own_chroma: ChromaServer, embedder: SentenceEmbedder, tenant: str
) -> None:
    engine = over(own_chroma, embedder)
    assert ask(engine, tenant, "온결 고양이 이름", pack="artist")
    engine.close()
