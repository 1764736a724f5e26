"""Knowledge is found by meaning and by words, within what the filter lets through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.contracts.rag import (
    Document,
)
from shared.errors import (
    InvalidRequest,
)
from tests.support.knowledge import (
    DIARY,
    add,
    ask,
    diary,
    documents_of,
    nested,
)
from workers.engines.embedder import SentenceEmbedder
from workers.engines.retriever import HybridRetriever


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
    found = ask(retriever, tenant, "고양이 조약이도 나왔어? 이름이 조약이야?", "diary", pack="artist", top_k=8)
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
