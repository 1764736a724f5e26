"""The prompt of a turn, in four blocks: persona, safety rules and retrieved context (one system message), conversation.

The rendering is short and regular on purpose: the laptop model pays for every character. Nothing that a person typed
or a document holds can open a block or play another role, see `neutralise`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from shared.contracts.llm import Message
from shared.contracts.pack import Pack
from shared.contracts.rag import Source

TEMPLATES = Path(__file__).resolve().parent / "prompts"
"""Folder of the prompt templates."""

HISTORY_CHARS = 600
"""Characters of earlier messages that a prompt keeps; the oldest go first."""

CONTEXT_CHARS = 600
"""Characters of retrieved text that a prompt keeps; the best come first."""

_TITLE = re.compile(r"^\[(.+)\]$", re.MULTILINE)
_INVISIBLE = frozenset({"Cf", "Cs", "Co", "Cn"})
_EMOJI_JOINERS = frozenset("\u200d\ufe0f")
_LOOKALIKES = str.maketrans(
    {
        "［": "[",
        "］": "]",
        "【": "[",
        "】": "]",
        "〔": "[",
        "〕": "]",
        "＜": "<",
        "＞": ">",
        "｜": "|",
        "\u2028": "\n",
        "\u2029": "\n",
    }
)
_MARKERS = (
    (re.compile(r"<(?=\s*\|)"), "‹"),
    (re.compile(r"(?<=\|)(\s*)>"), r"\1›"),
    (
        re.compile(r"<(?=\s*/?\s*(?:s|pad|unk|bos|eos|mask|im_start|im_end|<\s*/?\s*sys)\b)", re.IGNORECASE),
        "‹",
    ),
    (re.compile(r"\[(?=\s*/?\s*(?:inst|system|user|assistant)\s*\])", re.IGNORECASE), "("),
    (re.compile(r"^(\s*)(system|user|assistant|시스템)\s*[:：]", re.IGNORECASE | re.MULTILINE), r"\1\2 -"),
)


def build_messages(
    pack: Pack,
    sources: Sequence[Source],
    history: Sequence[Message],
    user_text: str,
    *,
    history_chars: int = HISTORY_CHARS,
    context_chars: int = CONTEXT_CHARS,
) -> tuple[Message, ...]:
    """One system message of three titled blocks, the recent history (oldest first) and the person's new text.

    Equal arguments give equal messages. A system message in `history` is left out: only the pack speaks as the system.
    """
    system = Message(role="system", content=_system(pack, sources, context_chars))
    spoken = [Message(role=m.role, content=neutralise(m.content)) for m in history if m.role != "system"]
    user = Message(role="user", content=neutralise(user_text))
    return (system, *_recent(spoken, history_chars), user)


def neutralise(text: str) -> str:
    """`text` in NFC, where nothing reads as a block title, a role marker or a special token of a chat template.

    Brackets become round or single ones, invisible characters go; the words stay. Applying it again changes nothing.
    """
    visible = "".join(
        char for char in unicodedata.normalize("NFC", text) if char in _EMOJI_JOINERS or _is_visible(char)
    ).translate(_LOOKALIKES)
    for marker, harmless in _MARKERS:
        visible = marker.sub(harmless, visible)
    return _titles().sub(r"(\1)", visible).strip()


def context_line(text: str) -> str:
    """A chunk as one line: its Markdown heading, a colon, its sentences."""
    lines = [line.strip() for line in neutralise(text).splitlines() if line.strip()]
    body = [line.lstrip("#>-* ").strip() for line in lines if not line.startswith("#")]
    heads = [line.lstrip("# ").strip() for line in lines if line.startswith("#")]
    joined = " ".join(body)
    return f"{heads[-1]}: {joined}" if heads and joined else joined or " ".join(heads)


def _system(pack: Pack, sources: Sequence[Source], context_chars: int) -> str:
    lines = _fitting((context_line(source.text) for source in sources), context_chars)
    return _template("system.txt").format(
        persona="\n".join(pack.prompt.persona),
        safety="\n".join(pack.prompt.safety),
        context="\n".join(f"- {line}" for line in lines) or _template("empty_context.txt"),
    )


def _fitting(lines: Iterable[str], budget: int) -> list[str]:
    kept: list[str] = []
    for line in lines:
        if not line or line in kept:
            continue
        if len(line) > budget:
            # The best chunk is cut rather than lost; a later one that does not fit is left out whole.
            return kept or [line[:budget].rstrip()]
        kept.append(line)
        budget -= len(line)
    return kept


def _recent(history: Sequence[Message], budget: int) -> list[Message]:
    kept: list[Message] = []
    for message in reversed(history):
        budget -= len(message.content)
        if budget < 0:
            break
        kept.insert(0, message)
    while kept and kept[0].role != "user":
        kept.pop(0)
    return kept


def _is_visible(char: str) -> bool:
    category = unicodedata.category(char)
    return char in "\n\t" or (category not in _INVISIBLE and category != "Cc")


@cache
def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").rstrip("\n")


@cache
def _titles() -> re.Pattern[str]:
    names = (r"\s*".join(map(re.escape, title.replace(" ", ""))) for title in _TITLE.findall(_template("system.txt")))
    return re.compile(rf"\[\s*({'|'.join(names)})\s*\]")
