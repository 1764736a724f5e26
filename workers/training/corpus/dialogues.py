"""Dialogues that teach a small model to answer from the context and the conversation rather than from memory."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from shared.contracts.llm import Message
from shared.contracts.rag import Source
from shared.packs import load_pack
from shared.prompting import build_messages
from workers.training.corpus.facts import PACKS, Fact, Section, facts, section_of, sections, table
from workers.training.corpus.josa import fill
from workers.training.corpus.questions import Question, questions
from workers.training.corpus.style import NEUTRAL
from workers.training.corpus.values import Split, draw

Kind = Literal["fact", "invented", "recall", "statement", "talk", "unknown", "forgotten", "unsafe"]

WEIGHTS: dict[Kind, int] = {
    "fact": 24,
    "invented": 30,
    "recall": 18,
    "statement": 6,
    "talk": 9,
    "unknown": 7,
    "forgotten": 3,
    "unsafe": 3,
}
"""How often each kind is drawn.

`fact`: the pack's own knowledge. `invented`: the same questions, other values in the context. `recall`: what the person
said up to three turns earlier. `unknown`: the context does not hold the answer. `forgotten`: a recall of what was
never said.
"""

BARE = 0.15
"""Share of last messages without closing punctuation, as hasty typing and speech recognition leave them."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation up to the person's last message, and the reply that is right."""

    pack_id: str
    """Whose persona and knowledge stand in the prompt."""
    style: str
    """Speech style of every reply: the pack's id or `neutral`."""
    kind: Kind
    messages: tuple[Message, ...]
    """System, history, last message; assistant turns of the history are right replies as well."""
    answer: str
    expect: tuple[str, ...]
    """Values that the answer must hold."""
    name: str | None
    """The person's name where the conversation has revealed it."""
    fact_id: str | None = None


@dataclass
class _Scene:
    """A conversation while it is made."""

    pack_id: str
    style: str
    split: Split
    rng: random.Random
    alike: float = 0.0
    history: list[Message] = field(default_factory=list)
    name: str | None = None

    def say(self, person: str, reply: str) -> None:
        """Add an exchange."""
        self.history += [Message(role="user", content=person), Message(role="assistant", content=reply)]

    def reply(self, core: str, topic: str = "", *, opened: bool = True, closed: float = 0.0) -> str:
        """A whole reply in style around what it states."""
        manner = table("styles")[self.style]
        opener = self._opener(manner) if opened else ""
        closer = " " + self.rng.choice(manner["closers"]) if self.rng.random() < closed else ""
        emoji = manner.get("emoji")
        mark = f" {emoji.get(topic, emoji['other'])}" if emoji else ""
        return f"{opener}{core}{closer}{mark}"

    def _opener(self, manner: dict[str, Any]) -> str:
        if self.name is None:
            return str(self.rng.choice(manner["openers"]))
        return fill(self.rng.choice(manner["named"]), n=self.name)


def dialogues(
    pack_id: str, n: int, seed: int = 0, split: Split = "train", *, abroad: bool = False, alike: float = 0.0
) -> Iterator[Dialogue]:
    """`n` dialogues in a pack's style, or polite ones over all packs for `neutral`; the same for the same arguments.

    `abroad`: the style under other packs' personas, of whose facts it has no sentences. `alike`: share of the questions
    beside whose answer stand the sections that have most letter pairs in common with the question, like a search's near
    misses; beside the others stands anything.
    """
    rng = random.Random(f"dialogues {pack_id} {split} {seed}{' abroad' if abroad else ''}")
    kinds = [kind for kind in WEIGHTS if not (abroad and kind in ("fact", "invented"))]
    weights = [WEIGHTS[kind] for kind in kinds]
    others = [other for other in PACKS if other != pack_id]
    for _ in range(n):
        home = rng.choice(PACKS) if pack_id == NEUTRAL else rng.choice(others) if abroad else pack_id
        scene = _Scene(home, pack_id, split, rng, alike)
        yield _dialogue(scene, rng.choices(kinds, weights)[0])


def _dialogue(scene: _Scene, kind: Kind) -> Dialogue:
    if kind in ("fact", "invented", "unknown"):
        return _about_fact(scene, kind)
    if kind in ("recall", "statement", "forgotten"):
        return _about_person(scene, kind)
    return _about_nothing(scene, kind)


# --- facts -----------------------------------------------------------------------------------------------------------


def _about_fact(scene: _Scene, kind: Kind) -> Dialogue:
    rng = scene.rng
    _warm_up(scene, rng.choice((0, 0, 1, 2)))
    if kind == "unknown" and rng.random() < 0.4:
        ask = rng.choice(table("styles")["unknown_asks"])
        return _finish(scene, kind, ask, _unknown(scene), (), _context(scene, None, {}))
    question = _draw_question(scene)
    fact = _fact(scene.pack_id, question.fact_id)
    home = section_of(scene.pack_id, fact.id)
    values = {} if kind == "fact" else _values(scene, home)
    if kind == "unknown":
        context = _context(scene, None, values, without=home, ask=question.text)
        return _finish(scene, kind, question.text, _unknown(scene), (), context)
    value = values.get(fact.id, fact.value)
    reply = _state(scene, fact, value)
    context = _context(scene, home, values, ask=question.text)
    return _finish(scene, kind, question.text, reply, (value,), context, fact.id)


def _draw_question(scene: _Scene) -> Question:
    return scene.rng.choice(_of_split(scene.pack_id, scene.split))


@cache
def _of_split(pack_id: str, split: Split) -> tuple[Question, ...]:
    return tuple(question for question in questions(pack_id) if question.split == split)


def _state(scene: _Scene, fact: Fact, value: str) -> str:
    template = fact.neutral if scene.style == NEUTRAL else scene.rng.choice(fact.style)
    return scene.reply(fill(template, v=value), fact.topic, closed=0.25)


def _unknown(scene: _Scene) -> str:
    return scene.reply(scene.rng.choice(table("styles")[scene.style]["unknown"]))


def _values(scene: _Scene, home: Section | None) -> dict[str, str]:
    """Other values for every fact of the pack; ids are unique in it."""
    rng = scene.rng
    everything = facts(scene.pack_id) if rng.random() < 0.7 or home is None else home.facts
    return {fact.id: draw(fact.slot, rng, scene.split) for fact in everything}


def _fact(pack_id: str, fact_id: str) -> Fact:
    return next(fact for fact in facts(pack_id) if fact.id == fact_id)


def _context(
    scene: _Scene, home: Section | None, values: dict[str, str], without: Section | None = None, ask: str = ""
) -> list[Source]:
    """One to three sources: the one that answers, mostly in front, and others of the pack."""
    rng = scene.rng
    count = rng.choices((3, 2, 1), (7, 2, 1))[0]
    others = [s for s in sections(scene.pack_id) if s is not home and s is not without]
    chosen = rng.sample(others, count)
    if scene.alike and ask and rng.random() < scene.alike:
        chosen = sorted(others, key=lambda section: _shared(ask, section.text(values)), reverse=True)[:count]
    if home is not None:
        chosen[min(rng.choices((0, 1, 2), (6, 2, 2))[0], count - 1)] = home
    return [_source(scene.pack_id, section, values, rank) for rank, section in enumerate(chosen)]


def _shared(ask: str, text: str) -> int:
    """Pairs of neighbouring letters that a question and a section have in common."""
    pairs = {ask[at : at + 2] for at in range(len(ask) - 1)}
    return sum(pair in text for pair in pairs if " " not in pair)


def _source(pack_id: str, section: Section, values: dict[str, str], rank: int) -> Source:
    return Source(
        id=section.id,
        collection=load_pack(pack_id).retrieval.collection,
        document=section.document,
        text=section.text(values),
        score=round(0.9 - 0.1 * rank, 2),
    )


# --- what the person says about themselves ---------------------------------------------------------------------------


def _about_person(scene: _Scene, kind: Kind) -> Dialogue:
    rng = scene.rng
    matter = rng.choice(table("memory"))
    context = _context(scene, None, _values(scene, None) if rng.random() < 0.5 else {})
    if kind == "forgotten":
        _warm_up(scene, rng.choice((0, 1)), names=matter["id"] != "name")
        return _finish(scene, kind, _ask(scene, matter), _unknown(scene), (), context)
    _warm_up(scene, rng.choice((0, 0, 1)), names=matter["id"] != "name")
    value, person, reply = _statement(scene, matter)
    if kind == "statement":
        return _finish(scene, kind, person, reply, (value,), context)
    scene.say(person, reply)
    _between(scene, matter, rng.choice((0, 0, 1, 1, 2)))
    recall = fill(rng.choice(matter[scene.style]["recall"]), v=value)
    answer = scene.reply(recall, opened=matter["id"] != "name")
    return _finish(scene, kind, _ask(scene, matter), answer, (value,), context)


def _statement(scene: _Scene, matter: dict[str, Any]) -> tuple[str, str, str]:
    """The value, what the person says, and the reply that takes it up."""
    value = draw(matter["slot"], scene.rng, scene.split)
    person = fill(scene.rng.choice(matter["says"]), v=value)
    if matter["id"] == "name":
        scene.name = value
    core = fill(scene.rng.choice(matter[scene.style]["ack"]), v=value)
    return value, person, scene.reply(core, opened=matter["id"] != "name")


def _ask(scene: _Scene, matter: dict[str, Any]) -> str:
    asks = matter["asks"]
    return str(asks[-1] if scene.split == "held" else scene.rng.choice(asks[:-1]))


def _between(scene: _Scene, matter: dict[str, Any], exchanges: int) -> None:
    """Other talk between a statement and the question for it; never about the same matter."""
    others = [o for o in table("memory") if o["id"] != "name" and _matter_group(o) != _matter_group(matter)]
    for other in scene.rng.sample(others, exchanges):
        if scene.rng.random() < 0.5:
            _value, person, reply = _statement(scene, other)
            scene.say(person, reply)
        else:
            scene.say(*_talk(scene, scene.rng.choice(table("talk"))))


# --- small talk ------------------------------------------------------------------------------------------------------


def _about_nothing(scene: _Scene, kind: Kind) -> Dialogue:
    rng = scene.rng
    _warm_up(scene, rng.choice((0, 0, 1)))
    context = _context(scene, None, {})
    if kind == "unsafe":
        reply = scene.reply(rng.choice(table("styles")[scene.style]["refuse"]))
        return _finish(scene, kind, rng.choice(table("styles")["unsafe"]), reply, (), context)
    person, reply = _talk(scene, rng.choice(table("talk")))
    return _finish(scene, kind, person, reply, (), context)


def _matter_group(matter: dict[str, Any]) -> str:
    return str(matter.get("group", matter["id"]))


def _talk(scene: _Scene, subject: dict[str, Any]) -> tuple[str, str]:
    says: Sequence[str] = subject["says"]
    person = says[-1] if scene.split == "held" else scene.rng.choice(says[:-1])
    return person, scene.reply(scene.rng.choice(subject[scene.style]))


def _warm_up(scene: _Scene, exchanges: int, *, names: bool = True) -> None:
    """Earlier exchanges: a name given, small talk."""
    for index in range(exchanges):
        if names and index == 0 and scene.rng.random() < 0.5:
            _value, person, reply = _statement(scene, table("memory")[0])
            scene.say(person, reply)
        else:
            scene.say(*_talk(scene, scene.rng.choice(table("talk"))))


def _finish(
    scene: _Scene,
    kind: Kind,
    person: str,
    answer: str,
    expect: tuple[str, ...],
    context: Sequence[Source],
    fact_id: str | None = None,
) -> Dialogue:
    if scene.rng.random() < BARE:
        person = person.rstrip(".?!")
    messages = build_messages(load_pack(scene.pack_id), context, scene.history, person)
    return Dialogue(scene.pack_id, scene.style, kind, messages, answer, expect, scene.name, fact_id)
