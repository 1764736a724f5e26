"""The parent product's preparation: keep parent and child, unify their roles, clean, write instructions."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

from shared.packs import load_pack
from shared.prompting import build_messages

from .chats import Chat, Said

Role = Literal["user", "assistant", "other"]

PARENTS = ("엄마", "어머니", "아빠", "아버지", "맘", "부모", "mother", "father", "mom", "dad", "parent")
CHILDREN = ("아들", "딸", "자녀", "아이", "첫째", "둘째", "막내", "child", "son", "daughter", "kid")
"""Words that tell a speaker's role, where no name was given for it."""

MOST_MESSAGES = 8
"""Messages of one example; a longer conversation gives several, each with what came before it."""

LONGEST = 400
"""Characters of one message; what is longer was pasted."""

_NOTHING_SAID = re.compile(
    r"사진( \d+장)?|동영상|이모티콘|음성메시지|삭제된 메시지입니다\.?|<.*읽지 않음>"
    r"|보이스톡.*|페이스톡.*|(파일|지도|연락처): .*"
)
_PRIVATE = (
    re.compile(r"https?://|www\."),
    re.compile(r"[\w.+-]+@[\w-]+\.\w+"),
    re.compile(r"(?<!\d)0\d{1,2}[-. ]?\d{3,4}[-. ]?\d{4}(?!\d)"),
    re.compile(r"(?<!\d)\d{6}[- ]?[1-4]\d{6}(?!\d)"),
    re.compile(r"(?<!\d)\d{2,6}-\d{2,6}-\d{2,8}(?!\d)"),
    re.compile(r"(?<!\d)(?:\d{4}[- ]?){3}\d{4}(?!\d)"),
)
"""Links, addresses, telephone, resident, account and card numbers."""

_LAUGHTER = re.compile(r"([ㅋㅎㅠㅜ!?~.])\1{2,}")
_BLANKS = re.compile(r"\s+")


@dataclass
class Prepared:
    """The examples, and what became of everything else."""

    examples: list[dict[str, object]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def prepare(chats: Iterable[Chat], pack_id: str, parents: Sequence[str] = (), children: Sequence[str] = ()) -> Prepared:
    """Examples `{"messages": [...]}` as a recipe's `file` takes them; the system message is the one of serving.

    `parents`, `children`: names of speakers; where both are empty, words like 엄마 and 딸 decide.
    """
    done = Prepared()
    seen: set[str] = set()
    system = {"role": "system", "content": build_messages(load_pack(pack_id), (), (), "?")[0].content}
    for chat in chats:
        done.counts["conversations"] += 1
        roles = [_role(said.speaker, parents, children) for said in chat.turns]
        if set(roles) != {"user", "assistant"}:
            done.counts["without_both" if "other" not in roles else "with_others"] += 1
            continue
        done.counts["conversations_kept"] += 1
        for window in _windows(_merged(_cleaned(chat.turns, roles, done.counts))):
            messages = [{"role": role, "content": text} for role, text in window]
            mark = json.dumps(messages, ensure_ascii=False)
            if mark in seen:
                done.counts["duplicates"] += 1
                continue
            seen.add(mark)
            done.examples.append({"messages": [system, *messages]})
    done.counts["examples"] = len(done.examples)
    return done


def clean(text: str) -> str:
    """NFC on one line, without invisible characters; laughter and marks at most twice in a row."""
    visible = "".join(
        char if not unicodedata.category(char).startswith("C") or char in "\n\t\u200d" else " "
        for char in unicodedata.normalize("NFC", text)
    )
    return _LAUGHTER.sub(r"\1\1", _BLANKS.sub(" ", visible)).strip()


def refused(text: str) -> str:
    """Why a clean message is left out, or nothing: `empty`, `no_words`, `private`, `too_long`."""
    if not text:
        return "empty"
    if _NOTHING_SAID.fullmatch(text):
        return "no_words"
    if any(pattern.search(text) for pattern in _PRIVATE):
        return "private"
    return "too_long" if len(text) > LONGEST else ""


def write(path: Path, examples: Iterable[dict[str, object]]) -> None:
    """JSONL, whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in examples), encoding="utf-8")
    fresh.replace(path)


def _role(speaker: str, parents: Sequence[str], children: Sequence[str]) -> Role:
    """Mother and father become one: the persona that answers."""
    name = unicodedata.normalize("NFC", speaker).strip().lower()
    if parents or children:
        given = {
            other.strip().lower(): role
            for role, names in (("assistant", parents), ("user", children))
            for other in names
        }
        if name in given:
            return "assistant" if given[name] == "assistant" else "user"
    if (
        not parents
        and any(word in name for word in PARENTS)
        and not any(word in name for word in ("할머", "할아", "외할"))
    ):
        return "assistant"
    if not children and any(word in name for word in CHILDREN):
        return "user"
    return "other"


def _cleaned(turns: Sequence[Said], roles: Sequence[Role], counts: Counter[str]) -> Iterator[tuple[Role, str]]:
    for said, role in zip(turns, roles, strict=True):
        counts["messages"] += 1
        text = clean(said.text)
        if why := refused(text):
            counts[f"left_out_{why}"] += 1
        else:
            yield role, text


def _merged(messages: Iterable[tuple[Role, str]]) -> list[tuple[Role, str]]:
    """What one says in several messages is one."""
    grouped = groupby(messages, key=lambda message: message[0])
    merged = [(role, " ".join(text for _, text in group)) for role, group in grouped]
    return [(role, text) for role, text in merged if text]


def _windows(messages: list[tuple[Role, str]]) -> Iterator[list[tuple[Role, str]]]:
    """Pieces that begin with the child and end with the parent, none longer than `MOST_MESSAGES`."""
    while messages and messages[0][0] != "user":
        messages = messages[1:]
    while messages and messages[-1][0] != "assistant":
        messages = messages[:-1]
    for start in range(0, len(messages), MOST_MESSAGES):
        yield messages[start : start + MOST_MESSAGES]
