"""Results as JSON text: what pydantic's core refuses travels nevertheless."""

from __future__ import annotations

import json

import pytest

from shared import codec
from shared.contracts.base import Wire


class Told(Wire):
    """Anything."""

    text: str
    numbers: tuple[float, ...] = ()


@pytest.mark.parametrize("text", ["안녕 🌊", 'a "quoted" \\ line\n', "\u2028", "half \ud83c of a pair"])
def test_what_is_written_is_read_again(text: str) -> None:
    written = codec.write(Told.model_construct(text=text, numbers=(0.1, 1e-12, -3.0)))
    carried = written.encode("utf-8", "backslashreplace").decode()  # as the client of Redis does
    assert codec.read(carried) == json.loads(carried) == {"text": text, "numbers": [0.1, 1e-12, -3.0]}


@pytest.mark.parametrize("text", ['"\\ud83c"', "[1, 2.5, null]", '{"a": {"b": []}}', "12345678901234567890123"])
def test_whatever_python_reads_is_read(text: str) -> None:
    assert codec.read(text) == json.loads(text)


@pytest.mark.parametrize("broken", ["", "{", "[1,]", "nothing", '{"a": 1} more'])
def test_what_is_no_json_is_refused(broken: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the class of json's or of pydantic's
        codec.read(broken)
