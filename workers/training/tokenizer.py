"""A Korean tokenizer that knows every character, and the chat template that goes with it."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL = (PAD, SYSTEM, USER, ASSISTANT, END)

_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
_WORDS = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"

CHARACTERS = 620
"""How many characters are one token. A rarer one is spelled in bytes, whose tokens are known better than its own would
be."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] | replace('<|', '< |') + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""`<|role|>content<|end|>` per message; a special token inside a content is broken up, so that no text plays a role."""


def train_tokenizer(texts: Iterable[str], vocabulary: int, positions: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over `texts`: common characters and words are one token, anything else falls back to bytes.

    No piece cuts a common character: a model that copies a word it has never seen finds each piece in one place only.
    """
    merges = _merges(texts, vocabulary)[: vocabulary - len(_BYTES) - len(SPECIAL)]
    tokens = dict.fromkeys([*SPECIAL, *_BYTES, *("".join(pair) for pair in merges)])
    core = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _merges(texts: Iterable[str], vocabulary: int) -> list[tuple[str, str]]:
    """First those that make characters of bytes, then those that make words of characters, most frequent first."""
    characters = Tokenizer(models.BPE())
    characters.normalizer = normalizers.NFC()
    characters.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, limit_alphabet=CHARACTERS, show_progress=False)
    characters.train_from_iterator(texts, trainer)
    learned = json.loads(characters.to_str())["model"]
    alphabet = [_as_bytes(token) for token in learned["vocab"] if len(token) == 1]
    spelled = [(token[:end], token[end]) for token in alphabet for end in range(1, len(token))]
    return list(dict.fromkeys([*spelled, *((_as_bytes(a), _as_bytes(b)) for a, b in learned["merges"])]))


def _as_bytes(text: str) -> str:
    """`text` in the byte-level alphabet: one printable character per UTF-8 byte."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]
