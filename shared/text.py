"""Sentences of Korean and English text, found while it is still being written.

The pieces are exact slices of the text, so that whoever fed it can find its place again: joined, and apart
from white space between them, they are the input. Nothing is kept waiting that could be spoken: a sentence comes
out as soon as what follows proves its end.
"""

from __future__ import annotations

import re
from typing import Literal

SHORT_CHARS = 4
"""Letters and digits up to which a sentence is a mere exclamation ("응.", "그래!"); it is joined to the next one if
that is there already."""
LOOKAHEAD_CHARS = 4
"""Characters after a possible end that decide whether it is one: the longest quoting particle."""

_STRONG = "!?！？。"
_FULL_STOPS = ".…~～"
_MARKS = _STRONG + _FULL_STOPS
_CLOSERS = "\"'”’)]}」』》〉*_"
_CLOSING_QUOTES = "\"'”’"
EMOJI = (
    "\u00a9\u00ae\u203c\u2049\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2900-\u297f\u2b00-\u2bff\ufe0f\u200d\u20e3"
    "\U0001f000-\U0001faff\U000e0020-\U000e007f"
)
_MOOD = f"[{EMOJI}]|[ㅋㅎㅠㅜ]+|\\^\\^+|[:;]-?[)D(]"
"""What colours a sentence and belongs to the one before it: emoji, laughter, tears, smileys."""

_HALF_MOOD = re.compile(r"[:;]-?|\^")
"""What a further character may turn into a smiley."""

_RUNS = "ㅋㅎㅠㅜ^"
_CANDIDATE = re.compile(f"\n|[{_MARKS}]|[{EMOJI}]|[ㅋㅎㅠㅜ]{{2,}}|\\^\\^")
_MARK_RUN = re.compile(f"[{re.escape(_MARKS + _CLOSERS)}]*")
_MOOD_RUN = re.compile(f"(?:[ \t]*(?:{_MOOD}))*")
_BLANKS = re.compile(r"[^\S\n]*")
_SPACE = re.compile(r"\s*")
_QUOTING = re.compile(r"(이?라고|이?라며|이?라는|이?라면서|하고|하며|하는|하면서|고 )")
"""After a quotation the sentence goes on."""
_LIST_NUMBER = re.compile(r"\s*\(?\d{1,3}\s*")
_ABBREVIATION = re.compile(
    r"(?:^|[^A-Za-z])(?:mr|mrs|ms|dr|prof|st|jr|sr|vs|no|vol|fig|feat|ft|inc|ltd|co|corp|approx|dept|(?:[a-z]\.)*[a-z])$",
    re.IGNORECASE,
)
_ENDINGS = frozenset("다요야어아여해지네자봐게까래대줘와니냐걸군렴마죠써돼라셔쳐려겨져켜춰둬워께녕")
"""Syllables that an informal Korean sentence ends in; they tell an end from a pause before "...", "~" or an emoji."""
_CLAUSE_END = re.compile(r"[,;:，、；：)\]”’」』]+(?=\s)")

Verdict = Literal["end", "no", "wait"]


def split(text: str, max_chars: int) -> list[str]:
    """The sentences of a whole text, none longer than `max_chars`."""
    splitter = SentenceSplitter(max_chars)
    return splitter.feed(text) + splitter.flush()


class SentenceSplitter:
    """Takes text in pieces of any size and gives sentences as soon as they are certain. Not thread-safe.

    The first sentence is given alone however short it is, since a listener waits for it. Later exclamations of a
    word ride with the next sentence, but only if that one is complete too: nobody ever waits for company.
    """

    def __init__(self, max_chars: int) -> None:
        """`max_chars`: length at which a sentence is cut, at a clause or a space where there is one."""
        if max_chars < 8:
            raise ValueError("max_chars must be at least 8")
        self._max_chars = max_chars
        self._buffer = ""
        self._seen = 0
        """Up to here the buffer holds no end."""
        self._quoted = False
        """The buffer begins inside a quotation that was cut."""
        self._given = 0

    def feed(self, text: str) -> list[str]:
        """New text; the sentences that are finished now."""
        self._buffer += text
        return self._take(final=False)

    def flush(self) -> list[str]:
        """The text is complete; what is left of it."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> list[str]:
        spans: list[tuple[int, int]] = []
        start = self._skip_blanks(0)
        while start < len(self._buffer) and (end := self._next_end(start, final=final)) is not None:
            spans.append((start, _without_blanks(self._buffer, start, end)))
            start = self._skip_blanks(end)
        sentences = [self._buffer[begin:end] for begin, end in self._joined(spans)]
        self._given += len(sentences)
        self._buffer = self._buffer[start:]
        self._seen = max(0, self._seen - start)
        if final:
            self._quoted, self._given = False, 0
        return sentences

    def _skip_blanks(self, at: int) -> int:
        match = _SPACE.match(self._buffer, at)
        return match.end() if match else at

    def _joined(self, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Exclamations joined to what follows them, the very first one excepted."""
        joined: list[tuple[int, int]] = []
        for begin, end in spans:
            last = joined[-1] if len(joined) + self._given > 1 and joined else None
            if last and _letters(self._buffer[slice(*last)]) <= SHORT_CHARS and end - last[0] <= self._max_chars:
                joined[-1] = (last[0], end)
            else:
                joined.append((begin, end))
        return joined

    def _next_end(self, start: int, *, final: bool) -> int | None:
        """Where the sentence that begins at `start` ends, or None while that is open."""
        window = min(len(self._buffer), start + 2 * self._max_chars)
        end = self._scan(start, window, final=final)
        known = window if end is None else end
        if _without_blanks(self._buffer, start, known) - start > self._max_chars:
            end = _cut(self._buffer, start, start + self._max_chars)
            self._quoted = self._inside_quotation(start, end)
        elif end is not None:
            self._quoted = False
        elif final:
            end = len(self._buffer)
        if end is not None:
            self._seen = end
        return end

    def _scan(self, start: int, window: int, *, final: bool) -> int | None:
        """The first end among the marks before `window`; what was looked at before is not looked at again."""
        position = max(start, self._seen)
        while match := _CANDIDATE.search(self._buffer, position, window):
            self._seen = match.start()
            verdict, position = self._judge(start, match.start(), window, final=final)
            if verdict == "wait":
                return None
            # A lone ornament is spoken with the sentence that it precedes.
            if verdict == "end" and _letters(self._buffer[start:position]):
                return position
        self._seen = max(start, position)
        while self._seen < window and self._buffer[window - 1] in _RUNS:
            window -= 1  # a run of laughter must be met from its beginning, however it trickles in
        self._seen = max(self._seen, window)
        return None

    def _judge(self, start: int, at: int, window: int, *, final: bool) -> tuple[Verdict, int]:
        """Does the mark at `at` end the sentence that begins at `start`, and where; or where to look on."""
        text = self._buffer
        if text[at] == "\n":
            return "end", at + 1
        after = _end(_MARK_RUN, text, at, window) if text[at] in _MARKS else at
        end = _end(_MOOD_RUN, text, after, window)
        following = _end(_BLANKS, text, end, window)
        quoting = following == after or any(closer in text[at:after] for closer in _CLOSING_QUOTES)
        if not final and not self._certain(following, quoting=quoting):
            return "wait", end
        if not self._inside_quotation(start, after) and _ends_here(text, start, at, after, end, following):
            return "end", end
        return "no", max(end, at + 1)

    def _certain(self, following: int, *, quoting: bool) -> bool:
        """Enough text follows to judge by. `quoting`: a particle may turn what stands before into a quotation."""
        rest = self._buffer[following : following + LOOKAHEAD_CHARS]
        if not rest or _HALF_MOOD.fullmatch(rest):
            return False
        return not quoting or rest[0] not in "이라하고" or "\n" in rest or len(rest) == LOOKAHEAD_CHARS

    def _inside_quotation(self, start: int, end: int) -> bool:
        piece = self._buffer[start:end]
        straight = piece.count('"') % 2 == 1
        curly = piece.count("“") > piece.count("”")
        if self._quoted:
            return not straight and "”" not in piece
        return straight or curly


def _ends_here(text: str, start: int, at: int, after: int, end: int, following: int) -> bool:
    """`at`: the mark; `after`: behind all marks; `end`: behind emoji and laughter; `following`: behind the blanks."""
    marks = text[at:after]
    apart = end > after or following > end or following >= len(text) or text[following] == "\n"
    rest = text[following : following + LOOKAHEAD_CHARS]
    if any(closer in marks for closer in _CLOSING_QUOTES) and _QUOTING.match(rest):
        return False
    if any(mark in _STRONG for mark in marks):
        return apart or (_hangul(rest[:1]) and not _QUOTING.match(rest))
    if "." in marks and ".." not in marks:
        return _full_stop_ends(text, start, at, rest, apart=apart)
    return apart and _sounds_finished(text[start:at])


def _full_stop_ends(text: str, start: int, at: int, rest: str, *, apart: bool) -> bool:
    """A single full stop: neither a decimal point nor part of a date, a list's number or an abbreviation."""
    before = text[start:at]
    if not apart:
        return _hangul(rest[:1]) and before[-1:] in _ENDINGS
    if before[-1:].isdigit() and rest[:1].isdigit():
        return False
    if _LIST_NUMBER.fullmatch(before) and rest:
        return False
    return not (rest and _ABBREVIATION.search(before[-16:]))


def _sounds_finished(before: str) -> bool:
    """`before` could stand alone as an informal sentence: two syllables or more, the last of them a final ending."""
    spoken = before.rstrip(" \t*_\"'”’)" + _RUNS + _MARKS)
    if _letters(spoken) < 2 or spoken.endswith("에게"):
        return False
    return spoken[-1] in _ENDINGS or spoken.endswith("구나")


def _letters(text: str) -> int:
    return sum(char.isalnum() for char in text)


def _hangul(char: str) -> bool:
    return "가" <= char <= "힣"


def _end(pattern: re.Pattern[str], text: str, start: int, window: int) -> int:
    match = pattern.match(text, start, window)
    return match.end() if match else start


def _without_blanks(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end


def _cut(text: str, start: int, limit: int) -> int:
    """Where to cut a sentence that is too long: behind a clause, at a space, between two characters."""
    clauses = [match.end() for match in _CLAUSE_END.finditer(text, start + (limit - start) // 3, limit)]
    if clauses:
        return clauses[-1]
    space = max(text.rfind(blank, start + 1, limit + 1) for blank in " \t\u3000")
    if space > start:
        return space
    while limit > start + 1 and _continues(text, limit):
        limit -= 1
    return limit


_CONTINUING = re.compile(
    "[\u0300-\u036f\u1160-\u11ff\ua960-\ua97f\ud7b0-\ud7ff\u200d\u20d0-\u20ff\ufe00-\ufe0f"
    "\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)
"""Characters that belong to the one before: combining marks, later jamo of a syllable, modifiers of an emoji."""


def _continues(text: str, at: int) -> bool:
    """The characters before and at `at` are one to the eye."""
    return bool(_CONTINUING.match(text[at])) or text[at - 1] == "\u200d"
