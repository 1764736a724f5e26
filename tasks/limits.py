"""Limits that every task keeps in the same words."""

from __future__ import annotations

from shared.errors import TextTooLong
from shared.settings import settings


def check_length(text: str, field: str = "text") -> None:
    """Raises `TextTooLong` for more than `text_max_chars`."""
    limit = settings().text_max_chars
    if len(text) > limit:
        raise TextTooLong(f"It has {len(text)} characters, the limit is {limit}.", field=field)
