"""From messages to tokens, so that nobody's text can pose as a mark of the chat format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.contracts.llm import Message
from shared.errors import ConfigurationInvalid, InvalidRequest

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

STAND_INS = range(0xF0000, 0xFFFFE)
"""Private-use characters; one stands in for a forged mark while the template is rendered."""


class ChatEncoder:
    """Renders a model's chat template and encodes it.

    A text without forged marks is encoded in one piece with its template, exactly as in training. A piece of text that
    the tokenizer would read as one of its added tokens (`<|end|>`, `<think>`, ...) is cut out and spelled character by
    character: the model reads the letters, never the mark.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Needs a fast tokenizer with a chat template."""
        from tokenizers import Tokenizer

        if not tokenizer.is_fast or not tokenizer.chat_template:
            raise ConfigurationInvalid("The language model needs a fast tokenizer with a chat template.")
        self._template = tokenizer
        # A copy of its own: transformers' wrapper sets padding and truncation with each call, a race between threads.
        self._tokens: Tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._tokens.no_padding()
        self._tokens.no_truncation()
        added = self._tokens.get_added_tokens_decoder()
        self._marks = frozenset(added)
        # Those that are looked for after normalizing can be written in other letters; any text may hold one.
        exact = not any(token.normalized for token in added.values())
        letters = "|".join(re.escape(token.content) for token in added.values()) if exact else ""
        self._letters = re.compile(letters)

    def encode(self, messages: Sequence[Message], prefix: str = "") -> list[int]:
        """Token ids of the conversation, the opening of the reply and `prefix`, its beginning."""
        # Behind a prompt that ends in U+FFFD, vLLM's detokenizer takes all of it for unfinished output and says it.
        texts = [text.replace("\ufffd", "") for text in (*(message.content for message in messages), prefix)]
        forged = self._forged(texts)
        *contents, beginning = [_replace(text, forged) for text in texts]
        turns = [{"role": message.role, "content": text} for message, text in zip(messages, contents, strict=True)]
        rendered = self._render(turns) + beginning
        if not forged:
            return self._encode(rendered)
        back = {stand_in: mark for mark, stand_in in forged.items()}
        pieces = re.split(f"([{''.join(back)}])", rendered)
        return [
            token for piece in pieces for token in (self._spell(back[piece]) if piece in back else self._encode(piece))
        ]

    def _render(self, turns: list[dict[str, str]]) -> str:
        from jinja2 import TemplateError

        try:
            rendered = self._template.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {error}", field="messages"
            ) from error
        return str(rendered)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokens.encode(text, add_special_tokens=False).ids)

    def _forged(self, texts: Sequence[str]) -> dict[str, str]:
        """Pieces of the texts that would become marks, each with the character that stands in for it."""
        found: dict[str, None] = {}
        for text in filter(self._letters.search, texts):
            encoding = self._tokens.encode(text, add_special_tokens=False)
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                if token in self._marks and start < end:
                    found[text[start:end]] = None
        if not found:
            return {}
        used = set().union(*texts)
        free = (chr(code) for code in STAND_INS if chr(code) not in used)
        # Longest first: a mark may be the beginning of another.
        return dict(zip(sorted(found, key=len, reverse=True), free, strict=False))

    def _spell(self, mark: str) -> list[int]:
        return [token for character in mark for token in self._encode(character) if token not in self._marks]


def _replace(text: str, forged: dict[str, str]) -> str:
    for mark, stand_in in forged.items():
        text = text.replace(mark, stand_in)
    return text
