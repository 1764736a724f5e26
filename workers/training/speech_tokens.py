"""The tokenizer of the small Whisper: bytes, one token per common Hangul syllable, and Whisper's special tokens.

The layout is what CTranslate2 and faster-whisper expect, in this order: text, an empty-string token (without it the
model reads as English-only), `<|endoftext|>` (every id below it is text), the other special tokens, 1,501 timestamps.
"""

from __future__ import annotations

import json
import unicodedata
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from .corpus.values import common_syllables

LANGUAGES = ("en", "ko", "ja")
"""Languages of the layout; only `ko` is trained."""

END = "<|endoftext|>"
START = "<|startoftranscript|>"
KOREAN = "<|ko|>"
TRANSCRIBE = "<|transcribe|>"
NO_SPEECH = "<|nospeech|>"
NO_TIMESTAMPS = "<|notimestamps|>"

TIMESTAMPS = 1501
"""Timestamp tokens: 0.00 s to 30.00 s in steps of 0.02 s."""

SPECIAL = (
    END,
    START,
    *(f"<|{language}|>" for language in LANGUAGES),
    "<|translate|>",
    TRANSCRIBE,
    "<|startoflm|>",
    "<|startofprev|>",
    NO_SPEECH,
    NO_TIMESTAMPS,
)

_SILENT_INITIAL = "\u110b"
"""The letter ieung at the start of a syllable, which has no sound."""


def build_tokenizer() -> Tokenizer:
    """The tokenizer; it depends on nothing, so that every model of this recipe family shares it."""
    tokenizer = Tokenizer.from_str(json.dumps(_text_tokenizer()))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    stamps = [f"<|{index * 0.02:.2f}|>" for index in range(TIMESTAMPS)]
    tokenizer.add_tokens([AddedToken(stamp, special=True, normalized=False) for stamp in stamps])
    return tokenizer


def _text_tokenizer() -> dict[str, object]:
    # faster-whisper suppresses the first token of " -", " '" and " ♪" by default. Were that token the bare space, no
    # transcript could have one; so these three become tokens of their own.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    space = _as_bytes(" ")
    merges = [(space, symbol) for symbol in ("-", "'", _as_bytes("♪")[0])]
    for syllable in common_syllables():
        spelled = _as_bytes(syllable)
        merges += [(spelled[0], spelled[1]), (spelled[:2], spelled[2])]
    merges = list(dict.fromkeys(merges))
    vocabulary = [*alphabet, *("".join(pair) for pair in merges), ""]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(vocabulary)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    state: dict[str, object] = json.loads(tokenizer.to_str())
    return state


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that the layout names."""
    identity: int | None = tokenizer.token_to_id(token)
    if identity is None:
        raise ValueError(f"the tokenizer has no {token}")
    return identity


def _as_bytes(text: str) -> str:
    """`text` in the byte-level alphabet: one printable character per UTF-8 byte."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]


def letters_of(text: str) -> list[int]:
    """Indices (from 1; 0 is the blank) of the Hangul letters that sound in `text`, for the auxiliary CTC loss."""
    table = _letters()
    return [table[letter] for letter in unicodedata.normalize("NFD", text) if letter in table]


@cache
def _letters() -> dict[str, int]:
    """Sounding letters (initials, vowels, finals) and the space."""
    ranges = (range(0x1100, 0x1113), range(0x1161, 0x1176), range(0x11A8, 0x11C3))
    letters = [chr(code) for block in ranges for code in block if chr(code) != _SILENT_INITIAL]
    return {letter: index for index, letter in enumerate([*letters, " "], start=1)}


def letter_count() -> int:
    """Classes of the auxiliary CTC loss, the blank included."""
    return len(_letters()) + 1
