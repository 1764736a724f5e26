"""Written Korean becomes words that any synthesizer can say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.spoken_text import speakable

KOREAN = {
    "사과 3개랑 배 20개 샀어.": "사과 세 개랑 배 스무 개 샀어.",
    "학생 21명, 고양이 2마리": "학생 스물한 명, 고양이 두 마리.",
    "나는 8살이고 언니는 13살이야": "나는 여덟 살이고 언니는 열세 살이야.",
    "3시 30분에 만나": "세 시 삼십분에 만나.",
    "10:05에 출발, 12:00 도착": "열 시 오분에 출발, 열두 시 도착.",
    "오전 10.30에 보자": "오전 열 시 삼십분에 보자.",
    "2024년 6월 10일": "이천이십사년 유월 십일.",
    "2024-10-03에 만나자": "이천이십사년 시월 삼일에 만나자.",
    "날짜는 2024. 5. 1.이야": "날짜는 이천이십사년 오월 일일이야.",
    "1,500원이고 12층이야": "천오백원이고 십이층이야.",
    "키는 3.5미터, 무게는 0.25kg": "키는 삼 점 오미터, 무게는 영 점 이오킬로그램.",
    "점수는 95%!": "점수는 구십오퍼센트!",
    "010-1234-5678로 전화해": "공일공 일이삼사 오육칠팔로 전화해.",
    "번호는 01012345678": "번호는 공일공일이삼사오육칠팔.",
    "비밀번호는 007이야": "비밀번호는 공공칠이야.",
    "3~5개면 돼": "세 개에서 다섯 개면 돼.",
    "영하 -5도": "영하 마이너스 오도.",
    "$20": "이십달러.",
    "2개월 전에 3시간 걸렸어": "이개월 전에 세 시간 걸렸어.",
    "첫 앨범은 1번째, 다음은 2번째": "첫 앨범은 첫 번째, 다음은 두 번째.",
    "10대 때, 차 3대": "십대 때, 차 세 대.",
    "123명이 왔어": "백이십삼명이 왔어.",
    "AI와 K-POP, MP3": "에이아이와 케이팝, 엠피삼.",
    "iPhone은 그대로": "iPhone은 그대로.",
    "12345678901234567890": "일이삼사오육칠팔구공일이삼사오육칠팔구공.",
    "그럼... 나중에 봐~": "그럼, 나중에 봐.",
    "고마워!! 😊❤️ ㅋㅋㅋㅋㅋ": "고마워! 크크크.",
    "슬퍼 ㅠㅠ": "슬퍼.",
    "**정말** 잘했어! [링크](https://a.b/c)": "정말 잘했어! 링크.",
    "- 사과\n- 배": "사과 배.",
    "https://example.com/x?y=1 봐": "링크 봐.",
    "뭐라고!?": "뭐라고!",
    "<b>굵게</b>": "굵게.",
    "[[h@l'oU]]": "h l'oU.",
}


@pytest.mark.parametrize(("written", "spoken"), KOREAN.items(), ids=range(len(KOREAN)))
def test_korean_as_it_is_said(written: str, spoken: str) -> None:
    assert speakable(written, "ko") == spoken


@pytest.mark.parametrize("text", ["😊", "...", "~~", "ㅠㅠ", " ", "", "**", "(😊)"])
def test_what_cannot_be_said_is_empty(text: str) -> None:
    assert speakable(text, "ko") == ""


def test_english_keeps_its_digits() -> None:
    assert speakable("I have **3** cats 😺", "en") == "I have 3 cats."


@given(st.text(max_size=200) | st.from_regex(r"[0-9.,:~\-$%개명시월 A-Z가ㅋ]{1,60}", fullmatch=True))
def test_no_digit_and_no_emoji_is_left(text: str) -> None:
    spoken = speakable(text, "ko")
    assert not re.search(r"[0-9\U0001f000-\U0001faff]", spoken)
    assert spoken == "" or spoken[-1] in ".!?\"'”’"
