"""Chats as they are exported: who said what, in which conversation.

Two forms are read. JSONL, one conversation a line: `{"turns": [{"speaker": "엄마", "text": "밥 먹었니?"}]}`.
Text: what KakaoTalk on a computer exports, `[엄마] [오후 3:12] 밥 먹었니?` under a line per day.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.contracts.base import NonBlank, first_problem
from shared.errors import MaeariError

PAUSE_MIN = 180
"""Minutes of silence after which the next message begins another conversation."""

_DAY = re.compile(r"-{3,}\s*\d{4}년 \d{1,2}월 \d{1,2}일.*?-{3,}")
_MESSAGE = re.compile(
    r"\[(?P<speaker>[^\]]{1,40})\] \[(?P<half>오전|오후) (?P<hour>\d{1,2}):(?P<minute>\d{2})\] (?P<text>.*)"
)


class InvalidChats(MaeariError):
    """The chats cannot be read."""

    code = "invalid_chats"


class Said(BaseModel):
    """One message."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    speaker: NonBlank
    text: str


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str | int | None = None
    turns: Annotated[tuple[Said, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Chat:
    """A conversation."""

    id: str
    turns: tuple[Said, ...]


def read_chats(path: Path) -> Iterator[Chat]:
    """The conversations of a file. Raises `InvalidChats` naming file and line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidChats(f"{path} is not UTF-8 text.", field="file") from error
    except OSError as error:
        raise InvalidChats(f"{path} cannot be read: {error.strerror}.", field="file") from error
    yield from _jsonl(path, text) if path.suffix.lower() in (".jsonl", ".json") else _exported(path, text)


def _jsonl(path: Path, text: str) -> Iterator[Chat]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            read = _Line.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            raise InvalidChats(f"{where}: is not JSON ({error.msg}).", field="file") from error
        except ValidationError as error:
            raise InvalidChats(f"{where}: {first_problem(error.errors())[1]}", field="file") from error
        yield Chat(str(read.id or f"{path.stem}-{number}"), read.turns)


def _exported(path: Path, text: str) -> Iterator[Chat]:
    turns: list[Said] = []
    count, last = 0, -PAUSE_MIN
    for line in text.splitlines():
        found = _MESSAGE.fullmatch(line)
        minute = _minutes(found) if found else last
        if turns and (_DAY.fullmatch(line.strip()) or minute - last > PAUSE_MIN or minute < last):
            count += 1
            yield Chat(f"{path.stem}-{count}", tuple(turns))
            turns = []
        if found:
            turns.append(Said(speaker=found["speaker"].strip() or "?", text=found["text"]))
            last = minute
        elif turns and line.strip() and not _DAY.fullmatch(line.strip()):
            # A message of several lines goes on without a name.
            turns[-1] = Said(speaker=turns[-1].speaker, text=f"{turns[-1].text}\n{line}")
    if turns:
        yield Chat(f"{path.stem}-{count + 1}", tuple(turns))
    elif count == 0:
        raise InvalidChats(f"{path} holds no line like `[엄마] [오후 3:12] 밥 먹었니?`.", field="file")


def _minutes(found: re.Match[str]) -> int:
    """Of the day."""
    hour = int(found["hour"]) % 12 + (12 if found["half"] == "오후" else 0)
    return hour * 60 + int(found["minute"])
