"""JSON schemas that constrain a reply: checked before the engine sees them, and the reply checked after."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidSchema, UnsatisfiedSchema

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_BYTES = 32_768
"""Longest schema, as JSON."""
MAX_COUNT = 1_000
"""Largest number of items or properties that a schema may name; memory for it is taken before the first token."""
MAX_COMPILE_S = 0.5
"""CPU time of compiling a schema; the engine spends it again for each request."""
REMEMBERED = 256
"""Schemas whose check is not repeated."""
COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties")


class SchemaChecker:
    """Knows which schemas the engine can follow. Thread-safe: at worst a schema is checked twice."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """The tokenizer is the served model's."""
        import llguidance.hf

        self._tokens = llguidance.hf.from_tokenizer(tokenizer)  # type: ignore[arg-type]
        self._good: OrderedDict[str, None] = OrderedDict()

    def check(self, schema: dict[str, Any]) -> None:
        """Raise `InvalidSchema` unless the engine can follow `schema`."""
        try:
            text = json.dumps(schema, sort_keys=True)
            if text in self._good:
                return
            self._check(schema, text)
        except (RecursionError, ValueError, OverflowError) as error:
            raise _invalid(f"It cannot be read: {error}") from error
        self._good[text] = None
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)

    def verify(self, schema: dict[str, Any], text: str, *, complete: bool) -> None:
        """Raise `UnsatisfiedSchema` unless `text` is a finished JSON value that matches."""
        if not complete:
            raise UnsatisfiedSchema("It was cut off; allow more max_tokens or a shorter value.")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UnsatisfiedSchema("The text is not JSON.") from error
        if not _validator(schema).is_valid(value):
            raise UnsatisfiedSchema("The text does not match it.")

    def _check(self, schema: dict[str, Any], text: str) -> None:
        if len(text.encode()) > MAX_BYTES:
            raise _invalid(f"It is longer than {MAX_BYTES} bytes.")
        for key, value in _entries(schema):
            if key in COUNTS and isinstance(value, int) and value > MAX_COUNT:
                raise _invalid(f"{key} is over {MAX_COUNT}.")
            if key == "x-guidance":
                raise _invalid("It holds the key x-guidance, which is reserved.")
        _check_draft(schema)
        self._compile(schema)

    def _compile(self, schema: dict[str, Any]) -> None:
        from llguidance import LLMatcher

        begun = time.thread_time()
        grammar = LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_flexible": False})
        matcher = LLMatcher(self._tokens, grammar, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # some faults show at the first token only
        if matcher.is_error():
            raise _invalid(_first_line(matcher.get_error()))
        if time.thread_time() - begun > MAX_COMPILE_S:
            raise _invalid("It is too complex.")


def _invalid(detail: str) -> InvalidSchema:
    return InvalidSchema(detail, field="json_schema")


def _first_line(message: str) -> str:
    return " ".join(message.split("<state>", maxsplit=1)[0].split())[:300]


def _entries(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield from here.items()
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)


def _check_draft(schema: dict[str, Any]) -> None:
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        path = "".join(f".{part}" for part in error.absolute_path)
        raise _invalid(f"At ${path}: {error.message[:200]}") from error


def _validator(schema: dict[str, Any]) -> Any:
    """A validator that neither fetches references nor runs a caller's regular expressions on Python's engine.

    The grammar has held the text to those expressions already, in linear time.
    """
    from jsonschema.validators import extend, validator_for
    from referencing import Registry

    def held(*_: Any) -> Iterator[Any]:
        return iter(())

    held_ones = {"pattern": held, "patternProperties": held, "additionalProperties": held}
    cls = extend(validator_for(schema), held_ones)  # type: ignore[no-untyped-call]
    return cls(schema, registry=Registry())
