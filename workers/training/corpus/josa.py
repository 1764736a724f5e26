"""Korean particles and copulas that fit the word before them."""

from __future__ import annotations

import re

_SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}")
_FIRST, _LAST = ord("가"), ord("힣")
_RIEUL = 8

# Form after a final consonant -> form after a vowel.
_PAIRS = {
    "을": "를",
    "이": "가",
    "은": "는",
    "과": "와",
    "아": "야",
    "이랑": "랑",
    "으로": "로",
    "이다": "다",
    "이야": "야",
    "이지": "지",
    "이란다": "란다",
    "이었다": "였다",
    "이었어": "였어",
    "이었지": "였지",
    "이었단다": "였단다",
    "이었어요": "였어요",
    "이에요": "예요",
    "이라는": "라는",
    "이라고": "라고",
    "이라니": "라니",
    "이구나": "구나",
    "이군요": "군요",
    "이잖아": "잖아",
    "에": "에",
    # A given name as it is called within a family: 지우, but 서연이.
    "이름": "",
}


def final(word: str) -> int:
    """Index of the last syllable's final consonant, 0 for none; a word that does not end in Hangul counts as open."""
    code = ord(word.rstrip()[-1])
    return (code - _FIRST) % 28 if _FIRST <= code <= _LAST else 0


def attach(word: str, form: str) -> str:
    """`word` with a particle, named by its form after a consonant: `attach("나무", "을")` is 나무를."""
    closed = final(word)
    if form == "으로" and closed == _RIEUL:
        return f"{word}로"
    if form == "이름":
        return f"{word}이" if closed else word
    return word + (form if closed else _PAIRS[form])


def fill(template: str, **values: str) -> str:
    """`template` with `{name}` and `{name:particle}` filled in."""

    def put(match: re.Match[str]) -> str:
        word = values[match[1]]
        return attach(word, match[2]) if match[2] else word

    return _SLOT.sub(put, template)


def vocative(name: str) -> str:
    """`name` as it is called: 지우야, 서연아."""
    return attach(name, "아")
