"""Schemas are refused before the engine sees them, and replies judged after."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidSchema, UnsatisfiedSchema
from tests.integration.models import make_tokenizer
from workers.engines.grammar import SchemaChecker

checker = SchemaChecker(make_tokenizer())


def nested(depth: int) -> dict[str, Any]:
    """An array of arrays of arrays ..."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"이름": {"type": "string"}}, "required": ["이름"]},
        {"enum": ["기쁨", "슬픔"]},
        {"type": "string", "pattern": "^[가-힣]{2,4}$"},
        {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 3, "$defs": {"n": {"type": "integer"}}},
    ],
    ids=str,
)
def test_a_good_schema(schema: dict[str, Any]) -> None:
    checker.check(schema)
    checker.check(schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "nope"}, r"At \$\.type"),
        ({"$ref": "http://127.0.0.1:9/x"}, "not present"),
        ({"type": "string", "pattern": "(?=a)"}, "look-around"),
        ({"type": "array", "maxItems": 10**8}, "maxItems is over"),
        ({"type": "array", "items": {"type": "object", "minProperties": 10**8}}, "minProperties is over"),
        ({"enum": ["가" * 40_000]}, "longer than"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "Unsatisfiable"),
        ({"x-guidance": {"lenient": True}}, "reserved"),
        ({"not": {}}, "Unimplemented"),
        (nested(900), "recursion limit|cannot be read"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_schema(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSchema, match=words) as caught:
        checker.check(schema)
    assert caught.value.field == "json_schema"


def test_a_reply_is_judged() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]}
    checker.verify(schema, '{"a": 4}', complete=True)
    for text, complete in (('{"a": 4}', False), ('{"a": 1}', True), ("{}", True), ('{"a"', True), ("", True)):
        with pytest.raises(UnsatisfiedSchema):
            checker.verify(schema, text, complete=complete)


@pytest.mark.timeout(10)
def test_a_wild_expression_does_not_run_on_the_reply() -> None:
    checker.verify({"type": "string", "pattern": "^(a+)+$"}, '"' + "a" * 40 + '!"', complete=True)
