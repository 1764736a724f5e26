"""What people ask: every fact in several wordings, each after several ways of calling the persona."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

from workers.training.corpus.facts import Fact, facts, section_of, table
from workers.training.corpus.values import Split, draw

_HELD_SHARE = 6


@dataclass(frozen=True, slots=True)
class Question:
    """A spoken question about a fact; no digits, no Latin letters."""

    text: str
    fact_id: str
    topic: str
    split: Split
    kind: Literal["seen", "combination", "paraphrase"]
    """`combination`: wording and call are trained, but never together. `paraphrase`: the wording is never trained."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and the chunk that answers it, for the embedder."""

    question: str
    passage: str
    fact_id: str


@cache
def questions(pack_id: str) -> list[Question]:
    """Every question of a pack, training and held out, without duplicates."""
    calls: list[str] = table("styles")[pack_id]["calls"]
    found: dict[str, Question] = {}
    for fact in facts(pack_id):
        for ask in fact.asks:
            for call in calls:
                if _fits(call, ask):
                    made = _question(pack_id, fact, ask, call)
                    found.setdefault(made.text, made)
    return list(found.values())


def pairs(pack_id: str, split: Split = "train", seed: int = 0, variants: int = 0) -> list[Pair]:
    """Question and passage pairs; `variants` more of each question with other values in the passage."""
    rng = random.Random(f"pairs {pack_id} {split} {seed}")
    made = []
    for question in questions(pack_id):
        if question.split != split:
            continue
        section = section_of(pack_id, question.fact_id)
        made.append(Pair(question.text, section.text(), question.fact_id))
        for _ in range(variants):
            values = {fact.id: draw(fact.slot, rng, split) for fact in section.facts}
            made.append(Pair(question.text, section.text(values), question.fact_id))
    return made


def _question(pack_id: str, fact: Fact, ask: str, call: str) -> Question:
    text = call + ask
    if ask == fact.asks[-1]:
        return Question(text, fact.id, fact.topic, "held", "paraphrase")
    # The bare wording is always trained, so that a held combination has both its parts in training.
    held = bool(call) and zlib.crc32(f"{pack_id} {fact.id} {text}".encode()) % _HELD_SHARE == 0
    return Question(text, fact.id, fact.topic, "held" if held else "train", "combination" if held else "seen")


def _fits(call: str, ask: str) -> bool:
    """Nobody calls the persona twice in one breath."""
    return not any(name in call and name in ask for name in ("엄마", "온결"))
