"""What the corpus holds: counts, duplicates, lengths, style violations, and a sample to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from workers.training.corpus.dialogues import Dialogue, dialogues
from workers.training.corpus.facts import PACKS, facts, markdown, sections
from workers.training.corpus.questions import questions
from workers.training.corpus.speech import spoken_sentences
from workers.training.corpus.style import NEUTRAL, violations

STYLES = (*PACKS, NEUTRAL)
"""Every style that dialogues come in."""


def report(n: int, seed: int) -> dict[str, Any]:
    """Figures over `n` training dialogues of each style and everything else that is generated."""
    spoken = spoken_sentences()
    return {
        "packs": {pack_id: _pack(pack_id) for pack_id in PACKS},
        "spoken_sentences": dict(Counter(f"{s.kind}/{s.split}" for s in spoken)) | {"all": len(spoken)},
        "dialogues": {style: _dialogues(list(dialogues(style, n, seed))) for style in STYLES},
    }


def replies(dialogue: Dialogue) -> Iterator[str]:
    """Every reply of a dialogue: those in its history and the answer."""
    yield from (message.content for message in dialogue.messages if message.role == "assistant")
    yield dialogue.answer


def sample(n: int, seed: int) -> Iterator[str]:
    """`n` dialogues of each style as text to read."""
    for style in STYLES:
        for dialogue in dialogues(style, n, seed):
            lines = [f"=== {style} / {dialogue.kind} / {', '.join(dialogue.expect) or '-'}"]
            lines += [f"{message.role}: {message.content}" for message in dialogue.messages]
            yield "\n".join([*lines, f"answer: {dialogue.answer}\n"])


def _pack(pack_id: str) -> dict[str, Any]:
    return {
        "facts": len(facts(pack_id)),
        "chunks": len(sections(pack_id)),
        "documents": len(markdown(pack_id)),
        "questions": dict(Counter(f"{q.split}/{q.kind}" for q in questions(pack_id))),
    }


def _dialogues(made: list[Dialogue]) -> dict[str, Any]:
    lengths = sorted(sum(len(message.content) for message in d.messages) + len(d.answer) for d in made)
    broken = Counter(rule for d in made for reply in replies(d) for rule in violations(d.style, reply, d.name))
    return {
        "kinds": dict(Counter(d.kind for d in made)),
        "duplicates": len(made) - len({(d.messages, d.answer) for d in made}),
        "distinct_answers": len({d.answer for d in made}),
        "characters": _spread(lengths),
        "answer_characters": _spread(sorted(len(d.answer) for d in made)),
        "style_violations": dict(broken),
    }


def _spread(lengths: Iterable[int]) -> dict[str, int]:
    ordered = list(lengths)
    return {
        "median": ordered[len(ordered) // 2],
        "p95": ordered[int(len(ordered) * 0.95)],
        "longest": ordered[-1],
    }
