"""Sentences for speech recognition: everything that is spoken to the packs, and what they speak themselves."""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass
from typing import Literal

from workers.training.corpus.facts import PACKS, facts, table
from workers.training.corpus.josa import fill
from workers.training.corpus.questions import questions
from workers.training.corpus.style import without_emoji
from workers.training.corpus.values import Split, real

STATEMENTS = 10
"""Values per wording of a statement about oneself."""

RECALLS = 2
"""Values per wording of a reply that takes up what was said."""

_HELD_SHARE = 8
_AFTER_SENTENCE = re.compile(r"(?<=[.?!])\s+")


@dataclass(frozen=True, slots=True)
class SpokenSentence:
    """A sentence as it is spoken and written down: Hangul and closing punctuation."""

    text: str
    pack_id: str
    """Pack in whose conversations it is spoken; `both` for what people say to any."""
    kind: Literal["question", "paraphrase", "statement", "talk", "reply"]
    """`paraphrase`: a question in words that need not occur in training; every other held sentence is a combination."""
    split: Split


def spoken_sentences(seed: int = 0) -> list[SpokenSentence]:
    """Every sentence once; a held one is never spoken in training."""
    found: dict[str, SpokenSentence] = {}
    for sentence in [*_questions(), *_statements(seed), *_talk(), *_replies(seed)]:
        known = found.get(sentence.text)
        if known is None or (known.split == "held" and sentence.split == "train"):
            found[sentence.text] = sentence
    return list(found.values())


def _questions() -> list[SpokenSentence]:
    # Wordings that other models hold out stay out here too: an evaluation speaks them.
    return [
        SpokenSentence(
            question.text,
            pack_id,
            "paraphrase" if question.kind == "paraphrase" else "question",
            question.split,
        )
        for pack_id in PACKS
        for question in questions(pack_id)
    ]


def _statements(seed: int) -> list[SpokenSentence]:
    rng = random.Random(f"statements {seed}")
    made = []
    for matter in table("memory"):
        words = real(matter["slot"])
        for says in matter["says"]:
            for value in rng.sample(words, min(STATEMENTS, len(words))):
                text = fill(says, v=value)
                made.append(SpokenSentence(text, "both", "statement", _split(text)))
        made += [SpokenSentence(ask, "both", "question", "train") for ask in matter["asks"][:-1]]
        made.append(SpokenSentence(matter["asks"][-1], "both", "question", "held"))
    return made


def _talk() -> list[SpokenSentence]:
    made = []
    for subject in table("talk"):
        for says in subject["says"]:
            split: Split = "held" if says == subject["says"][-1] else "train"
            made += [SpokenSentence(part, "both", "talk", split) for part in _cut(says)]
    unasked = [*table("styles")["unknown_asks"], *table("styles")["unsafe"]]
    return made + [SpokenSentence(text, "both", "talk", "train") for text in unasked]


def _replies(seed: int) -> list[SpokenSentence]:
    return [
        SpokenSentence(sentence, pack_id, "reply", _split(sentence))
        for pack_id in PACKS
        for reply in _reply_texts(pack_id, random.Random(f"replies {pack_id} {seed}"))
        for sentence in _cut(reply)
    ]


def _reply_texts(pack_id: str, rng: random.Random) -> list[str]:
    """Each reply behind two of the usual openers and one that calls somebody by name."""
    manner = table("styles")[pack_id]
    cores = [fill(style, v=fact.value) for fact in facts(pack_id) for style in fact.style]
    cores += [reply for subject in table("talk") for reply in subject[pack_id]]
    cores += [*manner["unknown"], *manner["refuse"], *_recalls(pack_id, rng)]
    names = real("person_name")
    texts = list(manner["closers"])
    for core in cores:
        named = fill(rng.choice(manner["named"]), n=rng.choice(names))
        texts += [opener + core for opener in (*rng.sample(manner["openers"], 2), named)]
    return texts


def _recalls(pack_id: str, rng: random.Random) -> list[str]:
    return [
        fill(template, v=value)
        for matter in table("memory")
        for template in (*matter[pack_id]["ack"], *matter[pack_id]["recall"])
        for value in rng.sample(real(matter["slot"]), RECALLS)
    ]


def _split(text: str) -> Split:
    return "held" if zlib.crc32(text.encode()) % _HELD_SHARE == 0 else "train"


def _cut(text: str) -> list[str]:
    return [part for part in (without_emoji(piece) for piece in _AFTER_SENTENCE.split(text)) if part]
