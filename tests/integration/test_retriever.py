"""Knowledge is kept on a real Chroma server and found again, each tenant's own alone."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared import packs
from shared.contracts.rag import (
    ChunkProfile,
    CollectionQuery,
    Document,
    KnowledgeAddRequest,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
    KnowledgeReembedRequest,
    KnowledgeReport,
    RetrieveRequest,
    Source,
)
from shared.errors import (
    ConfigurationInvalid,
    InvalidRequest,
    JobCancelled,
    StoreUnavailable,
    UnknownCollection,
    UnknownPack,
)
from shared.packs import KnowledgeFile
from tests.support.chroma import ChromaServer
from tests.support.embedding import make_embedding_model
from workers.engines import keeper, vector_store
from workers.engines.embedder import SentenceEmbedder
from workers.engines.retriever import HybridRetriever
from workers.engines.vector_store import ChromaStore

DIARY = {
    "spring": "봄에는 할머니와 쑥을 캤다. 쑥떡을 만들어 이웃과 나누어 먹었다.",
    "summer": "여름 바다에서 조개 목걸이를 주웠다. 파도가 높아 수영은 하지 못했다.",
    "autumn": "가을 운동회에서 이어달리기를 했다. 우리 반이 이겼다.",
    "winter": "겨울에는 눈사람을 만들고 고구마를 구웠다. 고양이 조약이도 나왔다.",
}
YEARS = {"spring": 2019, "summer": 2020, "autumn": 2021, "winter": 2022}


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    texts = [*DIARY.values(), *(file.text for file in packs.knowledge_files(packs.load_pack("artist")))]
    return (
        make_embedding_model(folder / "first", texts),
        make_embedding_model(folder / "second", texts, dimension=48, seed=1),
    )


@pytest.fixture(scope="module")
def embedder(models: tuple[Path, Path]) -> Iterator[SentenceEmbedder]:
    engine = SentenceEmbedder(str(models[0]))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def newer(models: tuple[Path, Path]) -> Iterator[SentenceEmbedder]:
    engine = SentenceEmbedder(str(models[1]))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def retriever(chroma: ChromaServer, embedder: SentenceEmbedder) -> Iterator[HybridRetriever]:
    engine = over(chroma, embedder)
    engine.warm_up()
    yield engine
    engine.close()


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def over(chroma: ChromaServer, embedder: Any) -> HybridRetriever:
    return HybridRetriever(embedder, ChromaStore(chroma.host, chroma.port))


def add(
    engine: HybridRetriever,
    tenant: str,
    collection: str,
    documents: Sequence[Document],
    *,
    profile: ChunkProfile = "tokens-512-64",
    stop: threading.Event | None = None,
    progress: list[tuple[int, int]] | None = None,
) -> KnowledgeReport:
    request = KnowledgeAddRequest(tenant=tenant, collection=collection, documents=tuple(documents), profile=profile)
    steps = progress if progress is not None else []
    return engine.add(
        request,
        [document.text or "" for document in documents],
        stop=stop or threading.Event(),
        on_progress=lambda done, total: steps.append((done, total)),
    )


def diary() -> list[Document]:
    return [
        Document(id=id_, text=text, metadata={"season": id_, "year": YEARS[id_], "warm": id_ in {"spring", "summer"}})
        for id_, text in DIARY.items()
    ]


def ask(
    engine: HybridRetriever, tenant: str, query: str, *collections: str | tuple[str, float], **more: Any
) -> tuple[Source, ...]:
    asked = [(c, 1.0) if isinstance(c, str) else c for c in collections]
    queries = tuple(CollectionQuery(name=name, weight=weight) for name, weight in asked)
    return engine.retrieve(RetrieveRequest(tenant=tenant, query=query, collections=queries, **more))


def documents_of(sources: Sequence[Source]) -> list[str]:
    return [source.document for source in sources]


def nested(levels: int) -> dict[str, Any]:
    return {"$and": [nested(levels - 1)]} if levels else {"year": 2020}


# --- finding ---


def test_what_was_added_is_found(retriever: HybridRetriever, tenant: str) -> None:
    report = add(retriever, tenant, "diary", diary())
    assert (report.collection, report.chunks, [d.id for d in report.documents]) == ("diary", 4, list(DIARY))
    best = ask(retriever, tenant, "조개 목걸이는 어디서 주웠어?", "diary")[0]
    assert (best.document, best.text, best.collection) == ("summer", DIARY["summer"], "diary")
    assert best.metadata == {"season": "summer", "year": 2020, "warm": True}
    assert 0 < best.score <= 1


def test_scores_are_the_true_cosines(retriever: HybridRetriever, embedder: SentenceEmbedder, tenant: str) -> None:
    add(retriever, tenant, "diary", diary())
    query = "고양이 조약이"
    sources = ask(retriever, tenant, query, "diary", top_k=4, min_score=-1.0)
    assert len(sources) == 4
    for source in sources:
        true = float(np.dot(embedder.embed_query(query), embedder.embed([source.text])[0]))
        assert source.score == pytest.approx(true, abs=1e-4)


def test_a_chunk_that_only_the_words_find_has_its_true_cosine(
    retriever: HybridRetriever, embedder: SentenceEmbedder, tenant: str
) -> None:
    # Given so many near copies of the question that the vector search never reaches the one chunk with the rare word
    question = "할머니와 쑥을 캤다 쑥떡을 만들어 이웃과 나누어 먹었다 솔방울"
    noise = [
        Document(id=f"n{n}", text=f"할머니와 쑥을 캤다 쑥떡을 만들어 이웃과 나누어 먹었다 {n}") for n in range(200)
    ]
    rare = Document(id="rare", text="눈사람 옆 고구마 " * 20 + "솔방울")
    add(retriever, tenant, "diary", [*noise, rare])
    sources = ask(retriever, tenant, question, "diary", top_k=8, min_score=-1.0)
    found = {source.document: source for source in sources}
    true = float(np.dot(embedder.embed_query(question), embedder.embed([rare.text or ""])[0]))
    assert all(true < source.score - 0.2 for source in sources if source.document != "rare")
    assert found["rare"].score == pytest.approx(true, abs=1e-4)


def test_top_k_and_min_score_cut_the_list(retriever: HybridRetriever, tenant: str) -> None:
    add(retriever, tenant, "diary", diary())
    everything = ask(retriever, tenant, "바다", "diary", top_k=4, min_score=-1.0)
    assert len(ask(retriever, tenant, "바다", "diary", top_k=2, min_score=-1.0)) == 2
    floor = sorted(source.score for source in everything)[2]
    kept = ask(retriever, tenant, "바다", "diary", top_k=4, min_score=floor)
    assert [s.id for s in kept] == [s.id for s in everything if s.score >= floor]
    assert 0 < len(kept) < 4


def test_a_heavier_collection_comes_first(retriever: HybridRetriever, tenant: str) -> None:
    text = DIARY["summer"]
    add(retriever, tenant, "one", [Document(id="one", text=text)])
    add(retriever, tenant, "two", [Document(id="two", text=text)])
    for heavy, light in (("one", "two"), ("two", "one")):
        found = ask(retriever, tenant, "조개 목걸이", (light, 1.0), (heavy, 2.0))
        assert documents_of(found) == [heavy, light]


def test_a_collection_with_nothing_to_say_stays_behind(retriever: HybridRetriever, tenant: str) -> None:
    add(retriever, tenant, "diary", diary())
    add(retriever, tenant, "rules", [Document(id="rule", text="도서관은 월요일마다 쉰다.")])
    found = ask(retriever, tenant, "가을 운동회에서 이어달리기 누가 이겼어?", "rules", "diary", top_k=2)
    assert found[0].document == "autumn"


def test_pack_and_collections_are_searched_together(retriever: HybridRetriever, tenant: str) -> None:
    add(retriever, tenant, "diary", diary())
    found = ask(retriever, tenant, "고양이 조약이도 나왔어? 이름이 조약이야?", "diary", pack="artist", top_k=3)
    assert {("diary", "winter"), ("artist", "daily")} <= {(source.collection, source.document) for source in found}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"season": "summer"}, {"summer"}),
        ({"season": {"$ne": "summer"}}, {"spring", "autumn", "winter"}),
        ({"year": {"$gte": 2021}}, {"autumn", "winter"}),
        ({"year": {"$gt": 2019, "$lt": 2022}}, {"summer", "autumn"}),
        ({"year": 2020.0}, {"summer"}),
        ({"year": {"$in": [2019, 2022.0]}}, {"spring", "winter"}),
        ({"season": {"$nin": ["spring", "summer"]}}, {"autumn", "winter"}),
        ({"warm": True}, {"spring", "summer"}),
        ({"warm": True, "year": 2019}, {"spring"}),
        ({"$or": [{"season": "spring"}, {"year": 2022}]}, {"spring", "winter"}),
        ({"$and": [{"warm": False}]}, {"autumn", "winter"}),
        ({"absent": "x"}, set()),
        (nested(7), {"summer"}),
        ({}, set(DIARY)),
    ],
)
def test_filters_choose_documents(
    retriever: HybridRetriever, tenant: str, filters: dict[str, Any], expected: set[str]
) -> None:
    add(retriever, tenant, "diary", diary())
    # The question names a word of every document, so that each would be a keyword hit as well.
    question = "쑥떡 조개 이어달리기 눈사람"
    found = ask(retriever, tenant, question, "diary", filters=filters, top_k=10, min_score=-1.0)
    assert set(documents_of(found)) == expected


@pytest.mark.parametrize(
    ("filters", "part"),
    [
        ({"season": {"$like": "s"}}, "filters.season.$like"),
        ({"$not": [{"a": 1}]}, "filters.$not"),
        ({"year": {"$gt": "2020"}}, "filters.year.$gt"),
        ({"year": {"$gt": True}}, "filters.year.$gt"),
        ({"year": {"$in": []}}, "filters.year.$in"),
        ({"year": {"$in": [1, "a"]}}, "filters.year.$in"),
        ({"year": {"$in": [1, True]}}, "filters.year.$in"),
        ({"year": None}, "filters.year"),
        ({"year": [2020]}, "filters.year"),
        ({"year": {}}, "filters.year"),
        ({"year": float("nan")}, "filters.year"),
        ({"year": 2**63}, "filters.year"),
        ({"season": "\ud800"}, "filters.season"),
        ({"season": "a\x00"}, "filters.season"),
        ({"_document": "spring"}, "filters._document"),
        ({"$and": {"a": 1}}, "filters.$and"),
        ({"$or": []}, "filters.$or"),
        ({"$or": [{"a": 1}, 3]}, "filters.$or.1"),
        (nested(9), "levels deep"),
    ],
)
def test_a_wrong_filter_is_named(retriever: HybridRetriever, tenant: str, filters: dict[str, Any], part: str) -> None:
    add(retriever, tenant, "diary", diary()[:1])
    with pytest.raises(InvalidRequest, match=part.replace("$", r"\$")) as caught:
        ask(retriever, tenant, "봄", "diary", filters=filters)
    assert caught.value.field == "filters"


def test_keyword_hits_behind_a_narrow_filter_are_reached(retriever: HybridRetriever, tenant: str) -> None:
    many = [Document(id=f"d{n}", text="솔방울", metadata={"n": n}) for n in range(300)]
    add(retriever, tenant, "diary", many)
    found = ask(retriever, tenant, "솔방울", "diary", filters={"n": {"$gte": 298}}, top_k=10, min_score=-1.0)
    assert set(documents_of(found)) == {"d298", "d299"}


@pytest.mark.parametrize("query", ["!?", "ㅋㅋㅋ", "🙂", "a" * 5000, "쑥 " * 3000])
def test_odd_questions_do_no_harm(retriever: HybridRetriever, tenant: str, query: str) -> None:
    add(retriever, tenant, "diary", diary())
    assert len(ask(retriever, tenant, query, "diary", top_k=4, min_score=-1.0)) == 4


def test_a_collection_named_twice_is_refused(retriever: HybridRetriever, tenant: str) -> None:
    add(retriever, tenant, "diary", diary())
    with pytest.raises(InvalidRequest) as caught:
        ask(retriever, tenant, "봄", "diary", "diary")
    assert caught.value.field == "collections.1.name"


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


def pack_state(chroma: ChromaServer, pack_id: str) -> list[tuple[str, str]]:
    """Text and revision of everything that is stored for a pack."""
    store = ChromaStore(chroma.host, chroma.port)
    found = [c for c in store.every() if (c.metadata["scope"], c.metadata["owner"]) == ("pack", pack_id)]
    state = sorted((entry.text, str(c.metadata["revision"])) for c in found for entry in c.read())
    store.close()
    return state


def test_an_emptied_store_gets_the_packs_back_at_the_next_question(
    own_chroma: ChromaServer, embedder: SentenceEmbedder, tenant: str
) -> None:
    engine = over(own_chroma, embedder)
    assert ask(engine, tenant, "온결 고양이 이름", pack="artist")
    engine.close()


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


class Counting:
    """An embedder that counts passages, and can be slow."""

    def __init__(self, inner: SentenceEmbedder, gate: threading.Event | None = None) -> None:
        self._inner = inner
        self._gate = gate
        self.dimension = inner.dimension
        self.info = inner.info
        self.embed_query = inner.embed_query
        self.token_ends = inner.token_ends
        self.count = 0

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self._gate is not None and self.count:
            assert self._gate.wait(30)
        self.count += len(texts)
        return self._inner.embed(texts)


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


def reembed(engine: HybridRetriever, tenant: str, collection: str) -> KnowledgeReport:
    request = KnowledgeReembedRequest(tenant=tenant, collection=collection)
    return engine.reembed(request, stop=threading.Event(), on_progress=lambda *_: None)


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
    assert upgraded.list(KnowledgeListRequest(tenant=tenant)).collections[0].embedding.endswith("(64)")
    report = reembed(upgraded, tenant, "diary")
    assert (report.chunks, report.collections[0].embedding[-4:]) == (4, "(48)")
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
        assert begun.wait(30)
        # Then the old model's workers still find everything, the new one's nothing, and the list shows it once
        assert len(ask(retriever, tenant, "봄", "diary", top_k=10, min_score=-1.0)) == 4
        with pytest.raises(InvalidRequest, match=r"knowledge\.reembed"):
            ask(bystander, tenant, "봄", "diary")
        assert [c.chunks for c in retriever.list(KnowledgeListRequest(tenant=tenant)).collections] == [4]
        # And a document that comes meanwhile is not lost
        add(retriever, tenant, "diary", [Document(id="late", text="늦게 온 다람쥐")])
        gate.set()
        assert job.result(30).chunks == 5
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


# --- trouble ---


def test_a_dead_store_is_named_and_a_restarted_one_is_used_again(
    own_chroma: ChromaServer, embedder: SentenceEmbedder, tenant: str
) -> None:
    engine = over(own_chroma, embedder)
    add(engine, tenant, "diary", diary())
    before = ask(engine, tenant, "조개", "diary")
    own_chroma.kill()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=str(own_chroma.port)) as caught:
        ask(engine, tenant, "조개", "diary")
    assert caught.value.retryable
    assert time.monotonic() - began < 5
    own_chroma.start()
    with ThreadPoolExecutor(8) as pool:
        assert all(found == before for found in pool.map(lambda _: ask(engine, tenant, "조개", "diary"), range(16)))
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
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            ask(waiting, tenant, "조개", "diary")
        assert time.monotonic() - began < 5
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
