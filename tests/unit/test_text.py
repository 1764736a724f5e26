"""Sentences of informal Korean come out whole, early, and exactly as they were written."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.text import SHORT_CHARS, SentenceSplitter, split

LIMIT = 95

SENTENCES = {
    "그럼... 나중에 봐~": ["그럼... 나중에 봐~"],
    "안녕! 나는 하린이야. 오늘 뭐 했어?": ["안녕!", "나는 하린이야.", "오늘 뭐 했어?"],
    "ㅋㅋㅋ 진짜 웃겨 ㅋㅋㅋ 내일 보자": ["ㅋㅋㅋ 진짜 웃겨 ㅋㅋㅋ", "내일 보자"],
    "키는 3.5미터야. 오전 10.30에 만나자. 알았지?": ["키는 3.5미터야.", "오전 10.30에 만나자.", "알았지?"],
    "날짜는 2024. 5. 1.이야. 그날 기억해?": ["날짜는 2024. 5. 1.이야.", "그날 기억해?"],
    "고마워! 😊 내일도 와 줘~ 기다릴게 ❤️": ["고마워! 😊", "내일도 와 줘~", "기다릴게 ❤️"],
    "음... 잘 모르겠어... 그래도 해 볼게!": ["음... 잘 모르겠어...", "그래도 해 볼게!"],
    "아빠는… 네가 자랑스러워… 정말로.": ["아빠는… 네가 자랑스러워…", "정말로."],
    "뭐라고!? 정말?? 나도 갈래!": ["뭐라고!?", "정말??", "나도 갈래!"],
    '엄마가 "밥 먹었니? 얼른 와."라고 했어. 그래서 갔지.': [
        '엄마가 "밥 먹었니? 얼른 와."라고 했어.',
        "그래서 갔지.",
    ],
    "“안녕! 잘 지냈니?” 하고 인사했어. 그랬더니 웃더라.": [
        "“안녕! 잘 지냈니?” 하고 인사했어.",
        "그랬더니 웃더라.",
    ],
    '친구가 물었어. "어디 가?" 나는 웃었지.': ["친구가 물었어.", '"어디 가?"', "나는 웃었지."],
    "Dr. Kim은 U.S. Army에서 왔어. Mr. Lee도.": ["Dr. Kim은 U.S. Army에서 왔어.", "Mr. Lee도."],
    "홈페이지는 naver.com이야. 버전은 v1.2.3이고.": ["홈페이지는 naver.com이야.", "버전은 v1.2.3이고."],
    "1. 사과를 사\n2. 배를 사": ["1. 사과를 사", "2. 배를 사"],
    "그래.나도 좋아.가자": ["그래.", "나도 좋아.", "가자"],
    "뭐야?나도 갈래": ["뭐야?", "나도 갈래"],
    "3~5개 정도면 돼~ 알았지": ["3~5개 정도면 돼~", "알았지"],
    "우리~ 이쁜 딸 왔니?": ["우리~ 이쁜 딸 왔니?"],
    "그렇구나... 많이 힘들었겠다.": ["그렇구나...", "많이 힘들었겠다."],
    "*웃으며* 그래, **정말** 잘했어! 또 와.": ["*웃으며* 그래, **정말** 잘했어!", "또 와."],
    "Hello there! How are you? I am fine.": ["Hello there!", "How are you?", "I am fine."],
    "😊 안녕!": ["😊 안녕!"],
    "...": ["..."],
    "끝이 없는 문장": ["끝이 없는 문장"],
    " \n\t ": [],
    "": [],
}


@pytest.mark.parametrize(("text", "sentences"), SENTENCES.items(), ids=range(len(SENTENCES)))
def test_sentences_of_informal_korean(text: str, sentences: list[str]) -> None:
    assert split(text, LIMIT) == sentences


@pytest.mark.parametrize(("text", "sentences"), SENTENCES.items(), ids=range(len(SENTENCES)))
def test_the_same_sentences_when_it_trickles_in(text: str, sentences: list[str]) -> None:
    splitter = SentenceSplitter(LIMIT)
    trickled = [sentence for char in text for sentence in splitter.feed(char)]
    assert trickled + splitter.flush() == sentences


def test_a_sentence_comes_with_the_first_character_that_proves_its_end() -> None:
    splitter = SentenceSplitter(LIMIT)
    assert splitter.feed("우리 딸, 왔구나! ") == []  # an emoji might follow
    assert splitter.feed("오") == ["우리 딸, 왔구나!"]
    assert splitter.feed("늘은 3.") == []
    assert splitter.feed("5점이야.\n") == ["오늘은 3.5점이야."]  # a line's end needs no proof
    assert splitter.feed("좋") == []
    assert splitter.flush() == ["좋"]
    assert splitter.flush() == []


def test_an_exclamation_waits_for_nobody_but_takes_company_that_is_there() -> None:
    eager = SentenceSplitter(LIMIT)
    assert eager.feed("응. 그") == ["응."]  # the first sound of a reply, however short
    assert eager.feed("래. 나") == ["그래."]  # nothing else is complete yet
    assert SentenceSplitter(LIMIT).feed("잘했어. 응. 그래. 나중에 보자. 또") == [
        "잘했어.",
        "응. 그래. 나중에 보자.",
    ]


def test_an_exclamation_takes_no_company_that_would_make_it_too_long() -> None:
    assert split("좋아. 응. " + "나" * 38 + ".", 40) == ["좋아.", "응.", "나" * 38 + "."]


def test_a_long_sentence_is_cut_behind_a_clause_or_at_a_space() -> None:
    text = (
        "아주 긴 문장을 계속해서 말하고, 또 말하고, 그래도 멈추지 않고 이어서 말을 하다 보면 "
        "어느새 정해진 길이를 훌쩍 넘게 되는 것이다"
    )
    assert split(text, 40) == [
        "아주 긴 문장을 계속해서 말하고, 또 말하고,",
        "그래도 멈추지 않고 이어서 말을 하다 보면 어느새 정해진 길이를 훌쩍",
        "넘게 되는 것이다",
    ]


def test_a_long_sentence_is_given_before_it_has_ended() -> None:
    splitter = SentenceSplitter(20)
    given = [sentence for word in ["가나다라 "] * 5 for sentence in splitter.feed(word)]
    assert given == ["가나다라 가나다라 가나다라 가나다라"]


def test_a_quotation_left_open_holds_nothing_back_for_long() -> None:
    text = '그가 말했어. "오늘은 날이 참 좋네. 산책이나 갈까. ' + "같이 가자. " * 30
    pieces = split(text, LIMIT)
    assert max(map(len, pieces)) <= LIMIT
    assert pieces[0] == "그가 말했어."


def test_a_cut_never_falls_inside_what_the_eye_sees_as_one() -> None:
    decomposed = "\u1112\u1161\u11ab" * 50  # 한, spelled in three jamo
    assert all(len(piece) % 3 == 0 for piece in split(decomposed, 20))
    family = "👨\u200d👩\u200d👧"
    assert all(piece.replace(family, "") == "" for piece in split(family * 20, 12))


def test_a_limit_too_small_to_hold_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        SentenceSplitter(3)


ALPHABET = "가나다요해지네자ㅋㅎㅠabzAB019 \n\t.!?~…\"'“”()*,;:😊❤️\u200d👍🏽^-_라고하며\u1112\u1161\u11ab"
texts = st.text(alphabet=st.sampled_from(ALPHABET), max_size=300) | st.text(max_size=120)


def bare(text: str) -> str:
    return re.sub(r"\s", "", text)


@given(text=texts, limit=st.integers(8, 120))
def test_nothing_is_lost_or_changed(text: str, limit: int) -> None:
    pieces = split(text, limit)
    assert bare("".join(pieces)) == bare(text)
    assert all(piece and piece == piece.strip() and len(piece) <= limit for piece in pieces)


@given(chunks=st.lists(texts, max_size=12), limit=st.integers(8, 120))
def test_nothing_is_lost_however_it_is_fed(chunks: list[str], limit: int) -> None:
    splitter = SentenceSplitter(limit)
    text, place = "".join(chunks), 0
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)] + splitter.flush()
    assert bare("".join(pieces)) == bare(text)
    for piece in pieces:  # each is an exact slice, behind the one before: what the caller relies on
        place = text.index(piece, place) + len(piece)
    assert all(len(piece) <= limit for piece in pieces)


@given(text=texts)
@example(text="0:.:)0")
@example(text="좋아요.;-)다음")
def test_only_the_first_and_company_left_alone_differ_from_the_whole_text(text: str) -> None:
    """Fed by the character, no two sentences are ever joined; apart from that the ends are the same."""
    splitter = SentenceSplitter(LIMIT)
    single = [piece for char in text for piece in splitter.feed(char)] + splitter.flush()
    whole = split(text, LIMIT)
    assert len(whole) <= len(single)
    ends = {len(bare("".join(single[: n + 1]))) for n in range(len(single))}
    assert {len(bare("".join(whole[: n + 1]))) for n in range(len(whole))} <= ends
    assert SHORT_CHARS < LIMIT


@pytest.mark.parametrize("unit", ["가나다 ", "네! ", ". ", "ㅋ", '"안녕. ', "가", " ", "1.", "😊"])
def test_a_long_text_takes_time_in_proportion(unit: str) -> None:
    began = time.process_time()  # of this process alone, however busy the machine is
    split(unit * (200_000 // len(unit)), LIMIT)
    assert time.process_time() - began < 20  # quadratic: minutes
