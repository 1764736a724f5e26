"""The project's own cases of a pack: wordings, combinations and values that were held out from training."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

from shared.errors import ConfigurationInvalid
from workers.training.corpus import PACKS, Fact, Question, facts, questions, spoken_sentences
from workers.training.corpus.facts import table
from workers.training.corpus.josa import fill
from workers.training.corpus.values import draw

from .cases import Case, MeasureName

T = TypeVar("T")

HEARD = 60
"""Spoken questions, said once without and once with a background."""

NEW_WORDINGS = 30
"""Spoken questions in wordings that the recogniser has never heard."""

ASKED = 60
"""Questions whose reply must state a fact."""

TALKED = 20
"""Small talk, whose reply must keep the style."""

RECALLED = 20
"""Conversations in which something that was said is asked for."""

SPOKEN_BACK = 24
"""Replies whose own audio is recognised."""

EARLIER = (1, 2, 3)
"""How many turns earlier the thing was said."""


def own_cases(pack_id: str, seed: int = 0) -> list[Case]:
    """The same cases for the same arguments. Raises `ConfigurationInvalid` for a pack without a corpus."""
    if pack_id not in PACKS:
        raise ConfigurationInvalid(
            f"The project has cases for {', '.join(PACKS)}; bring your own for {pack_id}: --cases FILE.", field="pack"
        )
    rng = random.Random(f"evaluation {pack_id} {seed}")
    return [
        *_heard(pack_id, rng),
        *_found(pack_id),
        *_asked(pack_id, rng),
        *_talked(rng),
        *_recalled(rng),
    ]


def _heard(pack_id: str, rng: random.Random) -> Iterator[Case]:
    """Questions of the pack that were never spoken in training, though their parts were."""
    held = [one for one in spoken_sentences() if one.split == "held" and one.pack_id == pack_id]
    combinations = [one.text for one in held if one.kind == "question"]
    paraphrases = [one.text for one in held if one.kind == "paraphrase"]
    for number, text in enumerate(_drawn(combinations, HEARD, rng), 1):
        yield _case(f"heard-{number}", (text,), measures=("heard_cer", "noisy_cer"))
    for number, text in enumerate(_drawn(paraphrases, NEW_WORDINGS, rng), 1):
        yield _case(f"new-wording-{number}", (text,), measures=("new_wordings_cer",))


def _found(pack_id: str) -> Iterator[Case]:
    """Every paraphrase; the chunk that states the fact must be found."""
    known = _facts(pack_id)
    for number, question in enumerate(_of_kind(pack_id, "paraphrase"), 1):
        sentence = _sentence(known[question.fact_id])
        yield _case(f"found-{number}", (question.text,), retrieved=(sentence,), measures=("hit_at_3",))


def _asked(pack_id: str, rng: random.Random) -> Iterator[Case]:
    """Each fact in a wording never trained, then combinations never trained."""
    known = _facts(pack_id)
    by_fact: dict[str, list[Question]] = {}
    for question in _of_kind(pack_id, "paraphrase"):
        by_fact.setdefault(question.fact_id, []).append(question)
    chosen = [rng.choice(wordings) for wordings in by_fact.values()]
    chosen += _drawn(_of_kind(pack_id, "combination"), max(0, ASKED - len(chosen)), rng)
    rng.shuffle(chosen)
    for number, question in enumerate(chosen[:ASKED], 1):
        measures: tuple[MeasureName, ...] = ("fact_stated", "style_kept", "other_style_kept")
        if number <= SPOKEN_BACK:
            measures = (*measures, "spoken_back_cer")
        fact = known[question.fact_id]
        yield _case(
            f"asked-{number}",
            (question.text,),
            expect=(fact.value,),
            retrieved=(_sentence(fact),),
            measures=measures,
        )


def _talked(rng: random.Random) -> Iterator[Case]:
    """Small talk in wordings never trained."""
    for number, says in enumerate(_drawn(_small_talk(), TALKED, rng), 1):
        yield _case(f"talk-{number}", (says,), measures=("style_kept", "other_style_kept"))


def _recalled(rng: random.Random) -> Iterator[Case]:
    """A value never trained is told, other things are said, the value is asked for in a wording never trained."""
    matters = table("memory")
    order = [rng.sample(matters, len(matters)) for _ in range(-(-RECALLED // len(matters)))]
    for number, matter in enumerate([one for part in order for one in part][:RECALLED], 1):
        value = draw(matter["slot"], rng, "held")
        told = fill(rng.choice(matter["says"]), v=value)
        between = _drawn(_small_talk(), EARLIER[number % len(EARLIER)] - 1, rng)
        name = value if matter["id"] == "name" else None
        turns = (told, *between, matter["asks"][-1])
        yield _case(f"recall-{number}", turns, expect=(value,), name=name, measures=("recall_stated", "style_kept"))


def _case(
    case_id: str,
    turns: tuple[str, ...],
    *,
    measures: tuple[MeasureName, ...],
    expect: tuple[str, ...] = (),
    retrieved: tuple[str, ...] | None = None,
    name: str | None = None,
) -> Case:
    return Case(id=case_id, turns=turns, expect=expect, retrieved=retrieved, measures=measures, name=name)


def _facts(pack_id: str) -> dict[str, Fact]:
    return {fact.id: fact for fact in facts(pack_id)}


def _sentence(fact: Fact) -> str:
    return fill(fact.says, v=fact.value)


def _of_kind(pack_id: str, kind: str) -> list[Question]:
    return [question for question in questions(pack_id) if question.kind == kind]


def _small_talk() -> list[str]:
    return [subject["says"][-1] for subject in table("talk")]


def _drawn(items: Sequence[T], count: int, rng: random.Random) -> list[T]:
    return rng.sample(items, min(count, len(items)))
