"""Cuts documents into chunks by a named profile: at paragraphs, else sentences, else words, never inside a syllable.

A Markdown document is cut along its headings first. Every chunk of a section begins with the section's own heading
line, so that its text says what it is about, and carries the whole path of headings beside it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from shared.contracts.rag import ChunkProfile

Ends = Callable[[str], Sequence[int]]
"""Where each unit (token or character) of a text ends, as ascending character positions."""
MediaType = Literal["text/plain", "text/markdown"]

_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE = re.compile(r"[.!?…。！？~]+[\"'”’」』)\]]*\s+|\n\s*")
_WORD = re.compile(r"\s+")
_JOINERS = frozenset("\u200d\ufe0e\ufe0f")


@dataclass(frozen=True)
class Profile:
    """Size and overlap of chunks, in units."""

    size: int
    overlap: int
    unit: Literal["token", "character"]

    def __post_init__(self) -> None:
        """Refuse what could not go forward."""
        if not 0 <= self.overlap < self.size // 4:
            raise ValueError("the overlap must be under a quarter of the size")


PROFILES: dict[ChunkProfile, Profile] = {
    "tokens-512-64": Profile(512, 64, "token"),
    "chars-1000-0": Profile(1000, 0, "character"),
}
"""Every named profile."""


@dataclass(frozen=True)
class Chunk:
    """A unit of retrieval."""

    text: str
    heading: str
    """Path of the headings above it, e.g. `온결의 앨범 > 첫 앨범`; empty without headings."""


@dataclass(frozen=True)
class _Section:
    path: tuple[str, ...]
    line: str
    """Its heading as written, e.g. `## 첫 앨범`; empty before the first heading."""
    body: str
    leaf: bool
    """No deeper section follows."""


def chunks(text: str, media_type: MediaType, profile: Profile, token_ends: Ends) -> list[Chunk]:
    """The chunks of a document in order, each at most `profile.size` units long, its heading line included.

    `token_ends` measures by the embedding model's tokenizer. Blank text has no chunks.
    """
    ends = token_ends if profile.unit == "token" else _character_ends
    return [
        Chunk(piece, " > ".join(section.path))
        for section in _sections(text, media_type)
        for piece in _pieces(section, profile, ends)
    ]


def _character_ends(text: str) -> Sequence[int]:
    return range(1, len(text) + 1)


# --- sections --------------------------------------------------------------------------------------------------------


def _sections(text: str, media_type: MediaType) -> list[_Section]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if media_type == "text/plain":
        return [_Section((), "", "\n".join(lines).strip(), leaf=True)]
    starts = _headings(lines)
    bounds = [(-1, 0, ""), *starts, (len(lines), 0, "")]
    found: list[_Section] = []
    path: list[tuple[int, str]] = []
    for (row, level, title), (following, next_level, _) in pairwise(bounds):
        if level:
            path = [step for step in path if step[0] < level] + [(level, title)]
        body = "\n".join(lines[row + 1 : following]).strip()
        line = lines[row].strip() if level else ""
        found.append(_Section(tuple(title for _, title in path), line, body, leaf=next_level <= level))
    return found


def _headings(lines: Sequence[str]) -> list[tuple[int, int, str]]:
    """Row, level and title of every heading outside of code blocks."""
    found = []
    fence = ""
    for row, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif not fence and (heading := _HEADING.match(line)) and heading[2]:
            found.append((row, len(heading[1]), heading[2]))
    return found


# --- pieces ----------------------------------------------------------------------------------------------------------


def _pieces(section: _Section, profile: Profile, ends: Ends) -> Iterator[str]:
    if not section.body:
        if section.line and section.leaf:
            yield from _Cutter(section.line, "", profile, ends).pieces()
        return
    head = f"{section.line}\n\n" if section.line else ""
    if len(ends(head)) > profile.size // 2:  # no heading, but a text that was typed as one
        yield from _Cutter(head + section.body, "", profile, ends).pieces()
    else:
        yield from _Cutter(section.body, head, profile, ends).pieces()


class _Cutter:
    """Cuts one text; positions are characters, sizes are units."""

    def __init__(self, text: str, head: str, profile: Profile, ends: Ends) -> None:
        self._text = text
        self._head = head
        self._profile = profile
        self._measure = ends
        self._ends = ends(text)
        self._room = profile.size - len(ends(head))
        # From the best place to cut to the worst.
        self._seams = tuple([found.end() for found in seam.finditer(text)] for seam in (_PARAGRAPH, _SENTENCE, _WORD))

    def pieces(self) -> Iterator[str]:
        """Every piece with the heading line before it."""
        start = covered = 0
        while covered < len(self._text):
            stop, piece = self._piece(start, covered)
            if piece:
                yield piece
            covered = stop
            start = self._back(start, stop)

    def _piece(self, start: int, covered: int) -> tuple[int, str]:
        """End and text of the piece that begins at `start` and goes beyond `covered`."""
        room = self._room
        while True:
            stop = self._cut(start, self._reach(start, room), covered)
            body = self._text[start:stop].strip()
            piece = self._head + body if body else ""
            # A tokenizer may see a piece otherwise than the same characters inside the whole text.
            over = len(self._measure(piece)) - self._profile.size
            if over <= 0 or room <= 1:
                return stop, piece
            room = max(1, room - over)

    def _reach(self, start: int, room: int) -> int:
        last = bisect_right(self._ends, start) + room
        return len(self._text) if last >= len(self._ends) else self._ends[last - 1]

    def _cut(self, start: int, limit: int, covered: int) -> int:
        """The best place to end: not much before `limit`, and always beyond `covered`."""
        if limit >= len(self._text):
            return len(self._text)
        floor = max(covered, start + (limit - start) // 2)
        for seams in self._seams:
            at = bisect_right(seams, limit) - 1
            if at >= 0 and seams[at] > floor:
                return seams[at]
        return self._whole(max(limit, covered + 1), covered)

    def _back(self, start: int, stop: int) -> int:
        """Where the piece after `stop` begins, so that it repeats up to `overlap` units: at a sentence, else a word."""
        overlap = self._profile.overlap
        if overlap == 0 or stop >= len(self._text):
            return stop
        first = bisect_right(self._ends, stop) - overlap
        low = self._ends[first - 1] if first > 0 else 0
        for seams in self._seams[1:]:
            at = bisect_left(seams, low)
            if at < len(seams) and start < seams[at] < stop:
                return seams[at]
        return self._whole(low, start) if low > start else stop

    def _whole(self, position: int, after: int) -> int:
        """The nearest position at or before `position`, but behind `after`, that cuts no visible character in two."""
        for place in range(position, after, -1):
            if place == len(self._text) or not _joined(self._text[place - 1], self._text[place]):
                return place
        return position


def _joined(before: str, after: str) -> bool:
    """Whether two neighbouring characters belong to one: combining marks, conjoining jamo, joined emoji, flags."""
    return (
        unicodedata.category(after).startswith("M")
        or after in _JOINERS
        or before == "\u200d"
        or "\u1160" <= after <= "\u11ff"
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or ("\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= after <= "\U0001f1ff")
    )
