"""Dialogues over chance pairs of words: nothing in them can be remembered, all of it must be looked up and copied."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .corpus.josa import fill
from .corpus.values import draw

STYLE = "lookup"
"""The style under which a recipe asks for these dialogues."""

SLOTS = ("place", "food", "thing", "animal", "flower", "name", "person_name", "title", "hobby", "job")
LINES = ("{k}: {v}.", "{k}: {k:은} {v:이다}.", "{k:은} {v:이다}.", "{k}의 짝은 {v:이다}.")
ASKS = ("{k:은} 뭐야?", "{k}?", "{k:이} 뭐라고 했지?", "{k:은} 뭐지?", "나 {k:이} 궁금해.")
ANSWERS = ("{k:은} {v:이에요}.", "{v:이에요}.", "네, {k:은} {v:이에요}.", "네, {v:이에요}.", "{v:이라고} 하셨어요.")

Talk = list[tuple[str, str]]


def lookups(count: int, seed: int) -> Iterator[Talk]:
    """`count` conversations as roles and texts: two to five pairs in the context, each asked for once."""
    rng = random.Random(f"lookups {seed}")
    for _ in range(count):
        pairs = {_word(rng): _word(rng) for _ in range(rng.randint(2, 5))}
        lines = (fill(rng.choice(LINES), k=key, v=value) for key, value in pairs.items())
        talk: Talk = [("system", "\n".join(f"- {line}" for line in lines))]
        for key in rng.sample(list(pairs), len(pairs)):
            talk.append(("user", fill(rng.choice(ASKS), k=key)))
            talk.append(("assistant", fill(rng.choice(ANSWERS), k=key, v=pairs[key])))
        yield talk


def _word(rng: random.Random) -> str:
    return " ".join(draw(rng.choice(SLOTS), rng, "train") for _ in range(rng.choice((1, 1, 1, 2))))
