"""Keyword search finds Korean words whatever particle or ending they carry."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from workers.engines.keyword_index import KeywordIndex, KeywordIndices, terms

DOCUMENTS = {
    "album": "온결의 첫 앨범 제목은 첫 번째 파도다. 타이틀곡은 밤바다 편지다.",
    "cat": "온결이 키우는 고양이 이름은 조약이다. 고양이는 기타 가방 위에서 잔다.",
    "concert": "다음 콘서트는 별내항에서 열린다. 앙코르 곡은 언제나 집으로 가는 길이다.",
    "song": "NewJeans의 Ditto를 2024년에 불렀다.",
}


@pytest.fixture(scope="module")
def index() -> KeywordIndex:
    return KeywordIndex((id_, terms(text)) for id_, text in DOCUMENTS.items())


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("첫 앨범이 뭐였지?", "album"),
        ("고양이한테 이름 지어줬어?", "cat"),
        ("콘서트에서 앙코르로 뭐 불러?", "concert"),
        ("별내항에 가면 누구 볼 수 있어?", "concert"),
        ("newjeans 노래", "song"),
        ("2024년에는?", "song"),
        ("어디서 자는데?", "cat"),
    ],
)
def test_words_are_found_in_other_forms(index: KeywordIndex, question: str, best: str) -> None:
    assert index.search(terms(question))[0][0] == best


def test_terms_are_content_words() -> None:
    assert terms("고양이는 기타 가방 위에서 잔다.") == ["고양이", "기타", "가방", "위", "자다"]


def test_chunks_without_a_shared_word_are_not_found(index: KeywordIndex) -> None:
    assert {id_ for id_, _ in index.search(terms("고양이"))} == {"cat"}
    assert index.search(terms("로켓 엔진")) == []


def test_words_of_asking_are_not_searched_for() -> None:
    assert terms("혹시 온결이 좋아하는 색이 뭔지 알려 줄 수 있어?") == ["온결", "좋아하다", "색"]


def test_a_word_of_most_chunks_finds_none() -> None:
    index = KeywordIndex((f"{place}", ["온결", f"곡{place}"]) for place in range(10))
    assert [id_ for id_, _ in index.search(["온결", "곡3"])] == ["3"]
    assert index.search(["온결"]) == []


def test_marks_alone_find_nothing(index: KeywordIndex) -> None:
    assert index.search(terms("ㅋㅋ?! ~~ 😀")) == []


def test_scores_fall(index: KeywordIndex) -> None:
    scores = [score for _, score in index.search(terms("온결이 좋아하는 곡"))]
    assert len(scores) > 1
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


@pytest.mark.parametrize("chunks", [[], [("a", [])]])
def test_an_empty_collection_is_searched_in_vain(chunks: list[tuple[str, Sequence[str]]]) -> None:
    assert KeywordIndex(chunks).search(["바다"]) == []


def test_morphemes_are_the_same_from_many_threads() -> None:
    texts = list(DOCUMENTS.values()) * 20
    alone = [terms(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(terms, texts)) == alone


class Loads:
    """Counts how often an index is read in."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self) -> Iterator[tuple[str, Sequence[str]]]:
        with self._lock:
            self.count += 1
        yield "one", ["바다"]


def test_an_index_is_built_once_for_a_revision() -> None:
    indices, loads = KeywordIndices(), Loads()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: indices.get("a", 1, loads), range(32)))
    assert loads.count == 1
    assert len(set(map(id, found))) == 1


def test_a_new_revision_is_read_again() -> None:
    indices, loads = KeywordIndices(), Loads()
    old = indices.get("a", 1, loads)
    assert indices.get("a", 2, loads) is not old
    assert loads.count == 2


def test_the_least_recently_used_index_goes() -> None:
    indices, loads = KeywordIndices(limit=2), Loads()
    for key in ("a", "b", "a", "c"):
        indices.get(key, 1, loads)
    assert loads.count == 3
    indices.get("a", 1, loads)
    assert loads.count == 3
    indices.get("b", 1, loads)
    assert loads.count == 4
