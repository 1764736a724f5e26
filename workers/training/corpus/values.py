"""Values for slots: real Korean words and made-up ones, some of them held out from training."""

from __future__ import annotations

import random
import zlib
from functools import cache
from typing import Literal

from workers.training.corpus.facts import table

Split = Literal["train", "held"]

MADE_UP = 0.4
"""Share of made-up words where a slot allows them: what has never been seen can only be copied."""

RARE = 0.12
"""Share of syllables in made-up words that may be any that Korean uses; the others come from real words."""

ANYTHING = "anything"
"""Slot of whatever a person may like."""

_LIKED = ("food", "animal", "flower", "hobby", "season", "weather", "instrument", "bread", "drink", "place")
_SUFFIXES = {
    "place": ("", " 마을", " 공원", "골", " 섬", " 역"),
    "food": ("", "떡", "죽", "차", "국", "전"),
    "thing": ("", " 인형", " 상자", " 그림"),
    "room": (" 방", " 탁자"),
    "shop": (" 빵집",),
    "bread": ("빵",),
    "drink": ("차",),
    "animal": ("", "새"),
    "flower": ("", "꽃"),
    "color": ("색",),
    "instrument": ("",),
    "name": ("",),
    "person_name": ("",),
}
_SENTENCE_ENDS = "요다렴까오"
_HELD_SHARE = 6
_SMALL = 30


def draw(slot: str, rng: random.Random, split: Split) -> str:
    """A value for a slot. One that training draws is never drawn for `held`, save in slots with few possible values."""
    if slot == ANYTHING:
        slot = rng.choice(_LIKED)
    for _ in range(1000):
        value = _made_up(slot, rng) if slot in _SUFFIXES and rng.random() < MADE_UP else _real(slot, rng)
        if _few(slot) or split_of(value) == split:
            return value
    raise AssertionError(f"slot {slot} has no {split} values")


def split_of(value: str) -> Split:
    """To which split a value belongs; decided by the value alone."""
    return "held" if zlib.crc32(value.encode()) % _HELD_SHARE == 0 else "train"


def real(slot: str) -> list[str]:
    """Every real word of a slot."""
    lists = table("values")
    if slot == ANYTHING:
        return [word for liked in _LIKED for word in real(liked)]
    if f"{slot}_first" in lists:
        return [f"{a} {b}" for a in lists[f"{slot}_first"] for b in lists[f"{slot}_second"]]
    words: list[str] = lists[slot]
    return words


def _few(slot: str) -> bool:
    return slot not in _SUFFIXES and len(real(slot)) <= _SMALL


def _real(slot: str, rng: random.Random) -> str:
    return rng.choice(real(slot))


def _made_up(slot: str, rng: random.Random) -> str:
    length = 2 if slot == "person_name" else rng.choice((2, 2, 3))
    word = "".join(_syllable(rng) for _ in range(length)) + rng.choice(_SUFFIXES[slot])
    # A word that ends like a sentence would break the speech-style rules wherever it stands alone.
    return word if word[-1] not in _SENTENCE_ENDS else _made_up(slot, rng)


def _syllable(rng: random.Random) -> str:
    return rng.choice(common_syllables() if rng.random() < RARE else _common())


@cache
def common_syllables() -> list[str]:
    """The 2,350 Hangul syllables of KS X 1001, which cover nearly all of written Korean."""
    rows = (bytes((row, column)) for row in range(0xB0, 0xC9) for column in range(0xA1, 0xFF))
    return [code.decode("euc_kr") for code in rows]


@cache
def _common() -> str:
    """Every syllable of the real words, once."""
    words = (word for words in table("values").values() for word in words)
    return "".join(sorted({char for word in words for char in word if "가" <= char <= "힣"}))
