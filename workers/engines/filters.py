"""Metadata filters: checked here, so that a mistake is named to the caller, then handed to the vector store."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.contracts.base import Scalar, Text
from shared.errors import InvalidRequest

Where = dict[str, Any]
"""A filter in the vector store's own, fully bracketed form."""

MAX_DEPTH = 8
"""Levels of `$and` and `$or`."""
MAX_VALUES = 1000
"""Values in one list."""
INT_LIMIT = 2**63
"""Integers lie below it in size."""

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_EQUALITY = frozenset({"$eq", "$ne"})
_ORDER = frozenset({"$gt", "$gte", "$lt", "$lte"})
_MEMBERSHIP = frozenset({"$in", "$nin"})
_TEXT: TypeAdapter[str] = TypeAdapter(Text)


def where_of(filters: Mapping[str, Any] | None) -> Where | None:
    """The filter in the store's form; None when there is nothing to filter. Raises `InvalidRequest` on `filters`."""
    return _clause(filters, "filters", MAX_DEPTH) if filters else None


def scalar(value: object) -> Scalar:
    """A metadata value as it is stored: text in NFC, finite numbers. Raises ValueError with the reason."""
    if isinstance(value, str):
        try:
            return _TEXT.validate_python(value)
        except ValidationError as error:
            raise ValueError("is text with a character that no text needs") from error
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and -INT_LIMIT <= value < INT_LIMIT:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError("must be text, a finite number of at most 64 bits, true or false")


def _clause(node: object, path: str, depth: int) -> Where:
    if not isinstance(node, Mapping) or not node:
        raise _wrong(path, "must be an object with at least one entry")
    if depth == 0:
        raise _wrong(path, f"is nested more than {MAX_DEPTH} levels deep")
    return _all_of([_entry(key, value, f"{path}.{key}", depth) for key, value in node.items()])


def _entry(key: object, value: object, path: str, depth: int) -> Where:
    if key in {"$and", "$or"}:
        return _combined(str(key), value, path, depth)
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise _wrong(path, "is neither a metadata key nor $and or $or")
    if not isinstance(value, Mapping):
        return {key: {"$eq": _scalar(value, path)}}
    if not value:
        raise _wrong(path, "must name an operator")
    return _all_of([{key: _condition(name, operand, f"{path}.{name}")} for name, operand in value.items()])


def _combined(operator: str, value: object, path: str, depth: int) -> Where:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_VALUES:
        raise _wrong(path, f"must be a list of 1 to {MAX_VALUES} filters")
    clauses = [_clause(part, f"{path}.{place}", depth - 1) for place, part in enumerate(value)]
    return clauses[0] if len(clauses) == 1 else {operator: clauses}


def _condition(operator: object, operand: object, path: str) -> dict[str, Any]:
    if operator in _EQUALITY:
        return {str(operator): _scalar(operand, path)}
    if operator in _ORDER:
        if isinstance(operand, bool | str):
            raise _wrong(path, "must be a number")
        return {str(operator): _scalar(operand, path)}
    if operator in _MEMBERSHIP:
        return {str(operator): _members(operand, path)}
    raise _wrong(path, f"is not one of {', '.join(sorted(_EQUALITY | _ORDER | _MEMBERSHIP))}")


def _members(operand: object, path: str) -> list[Scalar]:
    if not isinstance(operand, list | tuple) or not 1 <= len(operand) <= MAX_VALUES:
        raise _wrong(path, f"must be a list of 1 to {MAX_VALUES} values")
    values = [_scalar(value, f"{path}.{place}") for place, value in enumerate(operand)]
    kinds = {"number" if type(value) in {int, float} else type(value).__name__ for value in values}
    if len(kinds) > 1:
        raise _wrong(path, "must hold values of one type")
    if {type(value) for value in values} == {int, float}:  # the store wants one type of number
        return [float(value) for value in values]
    return values


def _scalar(value: object, path: str) -> Scalar:
    try:
        return scalar(value)
    except ValueError as error:
        raise _wrong(path, str(error)) from error


def _all_of(clauses: list[Where]) -> Where:
    return clauses[0] if len(clauses) == 1 else {"$and": clauses}


def _wrong(path: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{path} {problem}.", field="filters")
