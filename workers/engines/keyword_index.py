"""Keyword search: BM25 over Korean morphemes."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache
from pathlib import Path

import bm25s
import numpy as np
from kiwipiepy import Kiwi

MAX_INDICES = 32
"""Indices that a process keeps; the least recently used goes first."""
MIN_SPREAD = 8
"""Chunks from which on a word can be too common to search for."""

_NOUNS = frozenset({"NNG", "NNP", "NR", "XR", "SL", "SH", "SN", "MM", "MAG"})
_VERBS = frozenset({"VV", "VA"})
_FILLERS = frozenset(Path(__file__).with_name("fillers_ko.txt").read_text(encoding="utf-8").split())
"""Words of asking and of glue: they say nothing about what is asked, but the one short text that has one would win."""

_loading = threading.Lock()

# It takes the level of its own logger for its own affair, past what the process has set.
logging.getLogger("bm25s").setLevel(logging.WARNING)


def terms(text: str) -> list[str]:
    """The words that carry a text's meaning, without particles and endings.

    Nouns, names, numbers, determiners and adverbs in lower case; verbs and adjectives in dictionary form.
    """
    found = []
    with _loading:
        kiwi = _kiwi()
    for token in kiwi.tokenize(text):
        tag = token.tag.split("-")[0]  # irregular verbs are marked, e.g. VV-R
        if tag in _NOUNS:
            found.append(token.form.lower())
        elif tag in _VERBS:
            found.append(f"{token.form}다")
    return [word for word in found if word not in _FILLERS]


@cache
def _kiwi() -> Kiwi:
    """Loaded once in a process: a second or two, 230 MB."""
    # The dictionaries of proper names would double that; without them names are still told by their context.
    return Kiwi(num_workers=1, load_default_dict=False, load_multi_dict=False)


class KeywordIndex:
    """BM25 over the terms of a collection's chunks; immutable."""

    def __init__(self, chunks: Iterable[tuple[str, Sequence[str]]]) -> None:
        """`chunks`: id and terms of each."""
        listed = [(id_, list(terms)) for id_, terms in chunks if terms]
        self._ids = [id_ for id_, _ in listed]
        spread = Counter(term for _, terms in listed for term in set(terms))
        # A word of most chunks, like the persona's own name, tells none of them from another.
        self._common = {term for term, count in spread.items() if 2 * count > len(listed) >= MIN_SPREAD}
        self._bm25: bm25s.BM25 | None = None
        if listed:
            self._bm25 = bm25s.BM25()
            self._bm25.index([terms for _, terms in listed], show_progress=False)

    def search(self, terms: Sequence[str]) -> list[tuple[str, float]]:
        """Id and score of every chunk that holds one of `terms`, best first."""
        if self._bm25 is None:
            return []
        known = self._bm25.get_tokens_ids([term for term in terms if term not in self._common])
        if not known:
            return []
        scores = self._bm25.get_scores_from_ids(known)
        order = np.argsort(-scores, kind="stable")
        return [(self._ids[place], float(scores[place])) for place in order[: int((scores > 0).sum())]]


class KeywordIndices:
    """The indices in use, each built when a collection is first searched after a change."""

    def __init__(self, limit: int = MAX_INDICES) -> None:
        """Keep at most `limit` indices."""
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Hashable, KeywordIndex]] = OrderedDict()
        self._building: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(
        self, key: Hashable, revision: Hashable, load: Callable[[], Iterable[tuple[str, Sequence[str]]]]
    ) -> KeywordIndex:
        """The index of `key` at `revision`; only one thread builds it, from what `load` gives."""
        with self._lock:
            index = self._known(key, revision)
            building = self._building.setdefault(key, threading.Lock())
        if index is not None:
            return index
        with building:
            with self._lock:
                index = self._known(key, revision)
            if index is None:
                index = KeywordIndex(load())
                self._keep(key, revision, index)
        return index

    def _known(self, key: Hashable, revision: Hashable) -> KeywordIndex | None:
        kept = self._kept.get(key)
        if kept is None or kept[0] != revision:
            return None
        self._kept.move_to_end(key)
        return kept[1]

    def _keep(self, key: Hashable, revision: Hashable, index: KeywordIndex) -> None:
        with self._lock:
            self._kept[key] = (revision, index)
            self._kept.move_to_end(key)
            while len(self._kept) > self._limit:
                gone, _ = self._kept.popitem(last=False)
                self._building.pop(gone, None)
