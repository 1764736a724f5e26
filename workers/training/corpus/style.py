"""Speech-style rules that a reply can be checked against; a pack's rules are data in its `persona.yaml`."""

from __future__ import annotations

import re
import unicodedata

from shared.contracts.pack import Speech
from shared.packs import load_pack

NEUTRAL = "neutral"
"""Style of the base model: polite endings, no emoji, no role."""

_EDGE = " \t\n.,!?~…\"'()"
_SENTENCE = re.compile(r"[.!?~…\n]+")


def violations(style: str, reply: str, name: str | None = None) -> list[str]:
    """Names of the rules that `reply` breaks; empty for a reply in style.

    `style` is a pack's id or `neutral`; `name` is the listener's given name where the conversation has revealed it.
    """
    if not reply.strip():
        return ["empty"]
    if style == NEUTRAL:
        return _neutral(reply)
    speech = load_pack(style).speech
    checks = {
        "ending": any(s.endswith(speech.endings.forbidden) for s in sentences(reply)),
        "signature": not _signed(speech, reply),
        "self-reference": _misspeaks(speech, reply),
        "address": speech.address.every_reply and not _addressed(speech, reply, name),
        "emoji": _emoji_wrong(speech, reply),
    }
    return [rule for rule, broken in checks.items() if broken]


def sentences(reply: str) -> list[str]:
    """The reply's sentences without emoji and punctuation."""
    pieces = (without_emoji(piece).strip(_EDGE) for piece in _SENTENCE.split(reply))
    return [piece for piece in pieces if piece]


def without_emoji(text: str) -> str:
    """`text` without emoji, as it is spoken."""
    return " ".join("".join(char for char in text if not is_emoji(char)).split())


def is_emoji(char: str) -> bool:
    """A pictograph, or one of the characters that join or colour them."""
    return (unicodedata.category(char) in ("So", "Sk") and ord(char) > 0x2000) or char in "\u200d\ufe0f"


def _signed(speech: Speech, reply: str) -> bool:
    marks = speech.endings.signature
    return not marks or any(sentence.endswith(marks) for sentence in sentences(reply))


def _misspeaks(speech: Speech, reply: str) -> bool:
    words = {word.strip(_EDGE) for word in reply.split()}
    return not words.isdisjoint(speech.self_reference.avoid)


def _addressed(speech: Speech, reply: str, name: str | None) -> bool:
    forms = (*speech.address.default, *((name,) if name and speech.address.by_name else ()))
    return any(form in reply for form in forms)


def _emoji_wrong(speech: Speech, reply: str) -> bool:
    found = [char for char in reply if is_emoji(char) and char not in "\u200d\ufe0f"]
    if speech.emoji.ratio == 0.0:
        return bool(found)
    foreign = speech.emoji.allowed and any(char not in speech.emoji.allowed for char in found)
    return bool(foreign) or (speech.emoji.ratio == 1.0 and not found)


def _neutral(reply: str) -> list[str]:
    broken = []
    if not all(sentence.endswith(("요", "니다", "까", "네")) for sentence in sentences(reply)):
        broken.append("ending")
    if any(is_emoji(char) for char in reply):
        broken.append("emoji")
    return broken
