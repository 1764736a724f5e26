"""Joins what two kinds of search found in several collections into one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .vector_store import Entry

RANK_CONSTANT = 60
"""Softens the difference between neighbouring ranks, as in reciprocal rank fusion's first description."""


@dataclass(frozen=True)
class Candidate:
    """A chunk that at least one kind of search found."""

    collection: str
    entry: Entry
    cosine: float
    """Similarity of query and chunk."""
    keyword: float
    """BM25 score; 0 where no word is shared."""
    weight: float = 1.0
    """How much its collection counts."""
    near: bool = True
    """The vector search found it."""


def fuse(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Best first, by reciprocal ranks in the order of similarity and in the order of shared words.

    Both orders run over all collections, their scores multiplied by the collection's weight: a collection with nothing
    to say on the matter does not place its least bad chunk at the top, as it would if each ranked its own.
    """
    scores = [0.0] * len(candidates)
    near = [place for place, candidate in enumerate(candidates) if candidate.near]
    worded = [place for place, candidate in enumerate(candidates) if candidate.keyword > 0]
    near.sort(key=lambda place: -_weighed(candidates[place]))
    worded.sort(key=lambda place: -candidates[place].keyword * candidates[place].weight)
    for order in (near, worded):
        for rank, place in enumerate(order, 1):
            scores[place] += 1.0 / (RANK_CONSTANT + rank)
    places = sorted(
        range(len(candidates)),
        key=lambda place: (-scores[place], -_weighed(candidates[place]), candidates[place].entry.id),
    )
    return [candidates[place] for place in places]


def _weighed(candidate: Candidate) -> float:
    """A larger weight lifts a negative similarity too."""
    if candidate.cosine < 0:
        return candidate.cosine / candidate.weight
    return candidate.cosine * candidate.weight
