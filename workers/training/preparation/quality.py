"""What data is like before anybody trains on it: categories, duplicates, lengths, broken style rules, a sample."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shared.errors import ConfigurationInvalid
from shared.packs import load_pack, seed_dialogues
from workers.training.corpus import PACKS, violations
from workers.training.corpus.report import report, sample
from workers.training.dialogue import Dialogue, load_dialogues
from workers.training.recipe import Source

SHARE = 0.1
"""Share of the examples that a person should read."""


def of_file(path: Path, style: str | None) -> dict[str, Any]:
    """Figures of an instruction file; `style`: the pack whose rules its answers should keep.

    Raises `ConfigurationInvalid` naming file and line.
    """
    talks = _talks(path)
    categories = Counter(_category(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    answers = [turn.content for talk in talks for turn in talk.messages if turn.role == "assistant"]
    whole = [" ".join(turn.content for turn in talk.messages if turn.role != "system") for talk in talks]
    broken = Counter(rule for answer in answers for rule in violations(style, answer)) if style else Counter()
    return {
        "file": path.name,
        "examples": len(talks),
        "categories": dict(categories),
        "messages": sum(len(talk.messages) for talk in talks),
        "duplicates": len(whole) - len(set(whole)),
        "same_answers": len(answers) - len(set(answers)),
        "characters": spread([len(text) for text in whole]),
        "answer_characters": spread([len(answer) for answer in answers]),
        "style": style,
        "style_violations": dict(broken),
        "answers_in_style": round(sum(not violations(style, answer) for answer in answers) / len(answers), 4)
        if style
        else None,
    }


def of_corpus(dialogues: int, seed: int) -> dict[str, Any]:
    """Figures of everything that the project generates, and of the hand-written seeds of its packs."""
    return report(dialogues, seed) | {"seeds": {pack: _seeds(pack) for pack in PACKS}}


def sample_of_file(path: Path, seed: int) -> Iterator[str]:
    """A tenth of the examples as text to read, at least one."""
    talks = _talks(path)
    for talk in random.Random(seed).sample(talks, max(1, round(len(talks) * SHARE))):
        yield "\n".join(f"{turn.role}: {turn.content}" for turn in talk.messages) + "\n"


def sample_of_corpus(dialogues: int, seed: int) -> Iterator[str]:
    """A tenth of the generated dialogues of every style as text to read."""
    yield from sample(max(1, round(dialogues * SHARE)), seed)


def spread(lengths: Sequence[int]) -> dict[str, int]:
    """Shortest, median, 95th percentile, longest."""
    ordered = sorted(lengths)
    return {
        "shortest": ordered[0],
        "median": ordered[len(ordered) // 2],
        "p95": ordered[int(len(ordered) * 0.95)],
        "longest": ordered[-1],
    }


def _talks(path: Path) -> list[Dialogue]:
    talks = list(load_dialogues([Source(file=path.absolute())], seed=0))
    if not talks:
        raise ConfigurationInvalid(f"{path} holds no dialogue.", field="file")
    return talks


def _category(line: str) -> str:
    return str(json.loads(line).get("category", "none"))


def _seeds(pack_id: str) -> dict[str, Any]:
    """The hand-written dialogues: how many of each category, and whether they keep the pack's rules."""
    seeds = list(seed_dialogues(load_pack(pack_id)))
    replies = [reply for seed in seeds for reply in _replies(seed.turns)]
    broken = Counter(rule for reply in replies for rule in violations(pack_id, reply))
    return {
        "categories": dict(Counter(seed.category for seed in seeds)),
        "duplicates": len(seeds) - len({seed.turns for seed in seeds}),
        "style_violations": dict(broken),
    }


def _replies(turns: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(turns):
        if number % 2:
            yield text
