"""From dialogues to batches: tokens, labels on the answer alone, examples of like length side by side."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from transformers import PreTrainedTokenizerBase

from shared.contracts.base import NonBlank, first_problem
from shared.errors import ConfigurationInvalid

from .corpus import dialogues
from .corpus.report import STYLES
from .lookup import STYLE, lookups
from .recipe import Data, Source

IGNORED = -100
"""Label of a token that bears no loss."""


class Turn(BaseModel):
    """One message of a training dialogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: NonBlank


class Dialogue(BaseModel):
    """A conversation; what the assistant says in it is learned, its last message above all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: Annotated[tuple[Turn, ...], Field(min_length=2)]
    category: str | None = None
    """For people who look at the data."""

    @model_validator(mode="after")
    def _ends_with_answer(self) -> Dialogue:
        if self.messages[-1].role != "assistant":
            raise ValueError("the last message must be the assistant's")
        return self


@dataclass(frozen=True)
class Example:
    """A tokenised dialogue."""

    tokens: tuple[int, ...]
    spoken: tuple[bool, ...]
    """Per token: the assistant's, which bears loss."""


@dataclass(frozen=True)
class Batch:
    """Right-padded examples, each tensor of shape (examples, longest). Padding bears no loss, so it needs no mask."""

    tokens: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Split:
    """Examples to learn from, and examples that say how well."""

    training: tuple[Example, ...]
    validation: tuple[Example, ...]
    left_out: int
    """Dialogues that were longer than allowed."""


def load_dialogues(sources: Iterable[Source], seed: int) -> Iterator[Dialogue]:
    """Every dialogue of the sources. Raises `ConfigurationInvalid` naming file and line."""
    for source in sources:
        if source.path is not None:
            yield from _read(source.path, source.count)
        elif source.style == STYLE and source.count is not None:
            for talk in lookups(source.count, seed):
                yield Dialogue.model_validate({"messages": [{"role": role, "content": text} for role, text in talk]})
        elif source.style is not None and source.count is not None:
            if source.style not in STYLES:
                known = ", ".join((*STYLES, STYLE))
                raise ConfigurationInvalid(
                    f"There are no dialogues in the style {source.style}, only {known}; give a file.",
                    field="data.sources",
                )
            how = dialogues(source.style, source.count, seed, "train", abroad=source.abroad, alike=source.alike)
            for made in how:
                system, *spoken = (Turn(role=m.role, content=m.content) for m in made.messages)
                first = _brief(system, made.expect) if source.brief else system
                yield Dialogue(messages=(first, *spoken, Turn(role="assistant", content=made.answer)))


def _brief(system: Turn, values: Sequence[str]) -> Turn:
    """The system message cut to two lines of its context, in their order, one that holds the values before others."""
    lines = [line for line in system.content.splitlines() if line.startswith("- ")]
    holding = [line for line in lines if values and all(value in line for value in values)]
    kept = [*holding, *(line for line in lines if line not in holding)][:2]
    return Turn(role="system", content="\n".join(line for line in lines if line in kept))


def split_examples(dialogues: Iterable[Dialogue], tokenizer: PreTrainedTokenizerBase, data: Data, seed: int) -> Split:
    """Tokenise and set the validation share apart. Raises `ConfigurationInvalid` where a part would be empty."""
    examples = [encode(dialogue, tokenizer) for dialogue in dialogues]
    fitting = [example for example in examples if len(example.tokens) <= data.max_tokens]
    held = int(len(fitting) * data.validation)
    if held < 1:
        raise ConfigurationInvalid(
            f"{len(fitting)} dialogues of at most {data.max_tokens} tokens leave no validation split.", field="data"
        )
    random.Random(seed).shuffle(fitting)
    return Split(tuple(fitting[held:]), tuple(fitting[:held]), len(examples) - len(fitting))


def hash_of(dialogues: Iterable[Dialogue]) -> str:
    """Sixteen hexadecimal digits that change with any word of the data."""
    total = hashlib.sha256()
    for dialogue in dialogues:
        total.update(dialogue.model_dump_json(include={"messages"}).encode())
    return total.hexdigest()[:16]


def encode(dialogue: Dialogue, tokenizer: PreTrainedTokenizerBase) -> Example:
    """Tokens exactly as a server renders them: each of the assistant's messages follows its own generation prompt."""
    messages = [{"role": turn.role, "content": turn.content} for turn in dialogue.messages]
    tokens: list[int] = []
    spoken: list[bool] = []
    done = ""
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:index], generate=True)
        whole = _render(tokenizer, messages[: index + 1], generate=False)
        if not (prompt.startswith(done) and whole.startswith(prompt)):
            raise ConfigurationInvalid("The chat template does not continue its own prompt.", field="base_model")
        for text, learned in ((prompt[len(done) :], False), (whole[len(prompt) :], True)):
            piece = tokenizer.encode(text, add_special_tokens=False)
            tokens += piece
            spoken += [learned] * len(piece)
        done = whole
    return Example(tuple(tokens), tuple(spoken))


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, generate: bool) -> str:
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=generate, tokenize=False))


class Batches:
    """An endless, seeded sequence of batches in which examples of like length lie together; `[i]` is the i-th."""

    def __init__(self, examples: Sequence[Example], size: int, seed: int, padding: int) -> None:
        """`padding`: the token that fills rows up."""
        self._examples = examples
        self._size = size
        self._seed = seed
        self._padding = padding
        self._order: tuple[int, list[list[int]]] = (-1, [])
        self.per_epoch = -(-len(examples) // size)

    def __getitem__(self, index: int) -> Batch:
        """The batch number `index`, counted over all epochs."""
        epoch, position = divmod(index, self.per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, self._shuffled(epoch))
        return collate([self._examples[i] for i in self._order[1][position]], self._padding)

    def _shuffled(self, epoch: int) -> list[list[int]]:
        draw = random.Random(self._seed * 1_000_003 + epoch)
        indices = list(range(len(self._examples)))
        draw.shuffle(indices)
        pool = self._size * 50
        batches: list[list[int]] = []
        for start in range(0, len(indices), pool):
            near = sorted(indices[start : start + pool], key=lambda i: len(self._examples[i].tokens))
            batches += [near[i : i + self._size] for i in range(0, len(near), self._size)]
        draw.shuffle(batches)
        return batches


def collate(examples: Sequence[Example], padding: int) -> Batch:
    """Tensors of `examples`, filled up on the right."""
    longest = max(len(example.tokens) for example in examples)
    tokens = torch.full((len(examples), longest), padding)
    labels = torch.full((len(examples), longest), IGNORED)
    for row, example in enumerate(examples):
        end = len(example.tokens)
        tokens[row, :end] = torch.tensor(example.tokens)
        labels[row, :end] = torch.where(torch.tensor(example.spoken), tokens[row, :end], IGNORED)
    return Batch(tokens, labels)


def _read(path: Path, limit: int | None) -> Iterator[Dialogue]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(f"{path} cannot be read ({type(error).__name__}).", field="data.sources") from error
    for number, line in enumerate(lines[:limit], 1):
        try:
            yield Dialogue.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            raise ConfigurationInvalid(f"{path}, line {number}: is not JSON.", field="data.sources") from error
        except ValidationError as error:
            _, problem = first_problem(error.errors())
            raise ConfigurationInvalid(f"{path}, line {number}, {problem}", field="data.sources") from error
