"""What is said of what is written: no emoji, no markup, numbers and letters in Korean words.

Both synthesizers are given the same words, so that a reply sounds alike in either voice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from num2words import num2words

from shared.text import EMOJI

_NATIVE_ONES = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
_SINO_DIGITS = "영일이삼사오육칠팔구"
_PHONE_DIGITS = "공일이삼사오육칠팔구"
_MAX_NUMBER_DIGITS = 16
"""Longer numbers are read digit by digit: nobody counts them."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NATIVE_UNITS = _words(
    "개 명 살 시 시간 마리 번 번째 잔 권 송이 그루 장 병 켤레 벌 가지 달 사람 끼 줄 곡 통 채 자루 쌍 군데 곳 배 "
    "마디 바퀴 조각 걸음 접시 그릇 모금 방울 대"
)
"""Counters that go with one, two, three of the native kind: 세 개."""
_SINO_UNITS = _words(
    "개월 개국 개년 번지 시리즈 년 월 일 분 초 원 층 호 도 등 위 회 학년 반 주 점 세 인분 인 호선 권역 "
    "미터 킬로 그램 퍼센트 달러 번길 대대 명령 배수"
)
"""Counters of the Chinese kind, and longer words that only begin like a native counter: 삼 개월."""
_SYMBOL_UNITS = {
    "%": "퍼센트",
    "％": "퍼센트",
    "℃": "도",
    "°C": "도",
    "°": "도",
    "km": "킬로미터",
    "cm": "센티미터",
    "mm": "밀리미터",
    "m": "미터",
    "kg": "킬로그램",
    "mg": "밀리그램",
    "g": "그램",
    "mL": "밀리리터",
    "ml": "밀리리터",
    "L": "리터",
    "GB": "기가바이트",
    "MB": "메가바이트",
}
_CURRENCIES = {"$": "달러", "₩": "원", "￦": "원", "€": "유로", "¥": "엔"}
_LETTERS = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        _words(
            "에이 비 씨 디 이 에프 지 에이치 아이 제이 케이 엘 엠 엔 오 피 큐 알 에스 티 유 브이 더블유 엑스 와이 지"
        ),
        strict=True,
    )
)
_WORDS = {"OK": "오케이", "K-POP": "케이팝", "POP": "팝", "NO": "노", "HI": "하이", "BYE": "바이", "LOVE": "러브"}
"""Words in capitals that are words all the same."""
_JAMO_WORDS = {"ㅇㅇ": "응응", "ㄴㄴ": "노노", "ㅇㅋ": "오키", "ㄱㅅ": "감사", "ㅊㅋ": "축하", "ㄱㄱ": "고고"}

_UNITS = "|".join(
    re.escape(unit) for unit in sorted((*_NATIVE_UNITS, *_SINO_UNITS, *_SYMBOL_UNITS), key=len, reverse=True)
)
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_UNIT = rf"(?P<gap>\s?)(?P<unit>(?:{_UNITS})(?![A-Za-z]))?"
_NUMBER = re.compile(rf"(?P<sign>(?<![\w)])[-−])?(?P<whole>{_DIGITS})(?:\.(?P<part>\d+))?{_UNIT}")
_RANGE = re.compile(rf"(?P<low>{_DIGITS}(?:\.\d+)?)\s?[~～]\s?(?P<high>{_DIGITS}(?:\.\d+)?){_UNIT}")
_MONEY = re.compile(rf"(?P<sign>[{''.join(_CURRENCIES)}])\s?(?P<amount>{_DIGITS}(?:\.\d+)?)")

_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def speakable(text: str, language: str) -> str:
    """`text` as it is to be spoken; empty when it holds nothing that can be said.

    In Korean all numbers and capitals are written out. English keeps its digits: both engines read them.
    """
    text = _apply(_MARKUP, unicodedata.normalize("NFC", text))
    if language == "ko":
        text = _apply(_KOREAN, text)
    text = _apply(_TIDY, text).strip(" ,")
    if not any(char.isalnum() for char in text):
        return ""
    return text if text[-1] in ".!?\"'”’" else text + "."


def _apply(rules: tuple[_Rule, ...], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _sino(digits: str) -> str:
    """A whole number in Chinese numerals; with a leading zero or beyond all counting, digit by digit."""
    digits = digits.replace(",", "")
    if len(digits) > _MAX_NUMBER_DIGITS or (len(digits) > 1 and digits.startswith("0")):
        return _digit_by_digit(digits)
    return str(num2words(int(digits), lang="ko"))


def _digit_by_digit(digits: str) -> str:
    return "".join(_PHONE_DIGITS[int(digit)] for digit in digits)


def _native(number: int) -> str:
    """A number from 1 to 99 as it stands before a native counter."""
    if number == 20:
        return "스무"
    return _NATIVE_TENS[number // 10] + _NATIVE_ONES[number % 10]


def _counted(whole: str, part: str | None, gap: str, unit: str) -> str:
    """A number with its unit, which may be empty."""
    number = int(whole.replace(",", ""))
    unit = _SYMBOL_UNITS.get(unit, unit)
    if part is not None:
        fraction = "".join(_SINO_DIGITS[int(digit)] for digit in part)
        return f"{_sino(whole)} 점 {fraction}{gap}{unit}"
    if _counts_natively(number, unit):
        return f"{'첫' if (number, unit) == (1, '번째') else _native(number)} {unit}"
    if unit == "월" and number in {6, 10}:
        return "유월" if number == 6 else "시월"
    return f"{_sino(whole)}{gap}{unit}"


def _counts_natively(number: int, unit: str) -> bool:
    if unit not in _NATIVE_UNITS or not 1 <= number <= 99:
        return False
    if unit == "시":
        return number <= 12
    return not (unit == "대" and number % 10 == 0)  # 십대, 이십대: an age


def _say_number(match: re.Match[str]) -> str:
    sign = "마이너스 " if match["sign"] else ""
    return sign + _counted(match["whole"], match["part"], match["gap"], match["unit"] or "")


def _say_range(match: re.Match[str]) -> str:
    unit = match["unit"] or ""
    low, _, low_part = match["low"].partition(".")
    high, _, high_part = match["high"].partition(".")
    first = _counted(low, low_part or None, match["gap"] if unit else "", unit)
    return f"{first}에서 {_counted(high, high_part or None, match['gap'], unit)}"


def _say_clock(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    if hour > 24 or minute > 59:
        return f"{match['hour']} 대 {match['minute']}"  # a score
    prefix = match.groupdict().get("half") or ""
    return f"{prefix}{hour}시" + (f" {minute}분" if minute else "")


def _say_date(match: re.Match[str]) -> str:
    return f"{match['year']}년 {int(match['month'])}월 {int(match['day'])}일"


def _say_phone(match: re.Match[str]) -> str:
    return " ".join(_digit_by_digit(group) for group in match[0].split("-"))


def _say_capitals(match: re.Match[str]) -> str:
    word = match[0]
    return _WORDS.get(word) or "".join(_LETTERS.get(letter, "") for letter in word)


def _laugh(match: re.Match[str]) -> str:
    return ("크" if match[0][0] == "ㅋ" else "흐") * min(3, len(match[0]))


_MARKUP: tuple[_Rule, ...] = (
    (re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)"), r"\1"),  # a Markdown link
    (re.compile(r"<[^<>\n]{1,200}>"), " "),  # a tag
    (re.compile(r"^\s*(?:[-*+•]|#{1,6}|>)\s+", re.MULTILINE), ""),
    (re.compile(r"\*+|`+|_{2,}|\^\^+|\[|\]|\|"), ""),
    (re.compile(f"[{EMOJI}]+"), " "),
    (re.compile(r"(?<!\S)[:;=]-?[)D(P]+"), " "),
)
_KOREAN: tuple[_Rule, ...] = (
    (re.compile(r"https?://\S+|www\.\S+"), "링크"),
    (re.compile(r"(?<!\d)\d{2,4}-\d{3,4}-\d{4}(?!\d)|(?<![\d.,])0\d{8,10}(?!\d)"), _say_phone),
    (
        re.compile(
            r"(?<!\d)(?P<year>\d{4})\s?[-./]\s?(?P<month>0?[1-9]|1[0-2])\s?[-./]\s?(?P<day>\d{1,2})(?:\.(?!\d))?(?!\d)"
        ),
        _say_date,
    ),
    (re.compile(r"(?<!\d)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?!\d)"), _say_clock),
    (re.compile(r"(?P<half>오[전후]\s?)(?P<hour>\d{1,2})\.(?P<minute>\d{2})(?!\d)"), _say_clock),
    (_MONEY, lambda match: f"{match['amount']}{_CURRENCIES[match['sign']]}"),
    (_RANGE, _say_range),
    (_NUMBER, _say_number),
    (re.compile(r"(?<![A-Za-z])(?:K-POP|[A-Z]{1,6})(?![A-Za-z])"), _say_capitals),
    (re.compile("|".join(_JAMO_WORDS)), lambda match: _JAMO_WORDS[match[0]]),
    (re.compile("ㅋ+|ㅎ+"), _laugh),
    (re.compile("[\u3131-\u318e]+"), ""),
    (re.compile(r"\s*&\s*"), " 그리고 "),
)
_TIDY: tuple[_Rule, ...] = (
    (re.compile(r"[(){}「」『』《》〈〉【】#@/\\=<>+−]"), " "),
    (re.compile(r"[~～]+"), ""),
    (re.compile(r"(?:\.{2,}|…+|\.\s*…)[.…]*(?=\s*$)"), "."),
    (re.compile(r"\.{2,}|…+"), ", "),
    (re.compile(r"([!?])[!?.,]+"), r"\1"),
    (re.compile(r"\s+([.,!?])"), r"\1"),
    (re.compile(r",(?:\s*,)+"), ","),
    (re.compile(r"\s+"), " "),
)
