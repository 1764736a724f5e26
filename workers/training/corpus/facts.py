"""The facts that packs know, read from `data/`, and the Markdown and chunks that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from workers.training.corpus.josa import fill

DATA = Path(__file__).resolve().parent / "data"
"""Folder of the hand-written tables."""

PACKS = ("parent", "artist")
"""Packs that have a table of facts."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a pack knows: one value of one attribute."""

    id: str
    """Unique in the pack."""
    topic: str
    slot: str
    """Kind of the value; other values of that kind may stand in its place."""
    value: str
    says: str
    """Template of the knowledge sentence."""
    neutral: str
    """Template of a polite answer."""
    style: tuple[str, ...]
    """Templates of answers in the pack's speech style."""
    asks: tuple[str, ...]
    """Wordings of the question; the last is held out from training."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its facts: what is retrieved as one chunk."""

    document: str
    heading: str
    facts: tuple[Fact, ...]

    @property
    def id(self) -> str:
        """Unique in the pack."""
        return f"{self.document}/{self.heading}"

    def text(self, values: Mapping[str, str] | None = None) -> str:
        """The chunk: a heading line and the sentences, with `values` (fact id to value) in place of the pack's own."""
        given = values or {}
        sentences = " ".join(fill(fact.says, v=given.get(fact.id, fact.value)) for fact in self.facts)
        return f"## {self.heading}\n\n{sentences}"


@cache
def sections(pack_id: str) -> tuple[Section, ...]:
    """Every section of a pack, in the order of its documents."""
    return tuple(_section(document, section) for document in _documents(pack_id) for section in document["sections"])


@cache
def facts(pack_id: str) -> tuple[Fact, ...]:
    """Every fact of a pack."""
    return tuple(fact for section in sections(pack_id) for fact in section.facts)


@cache
def section_of(pack_id: str, fact_id: str) -> Section:
    """The section that states a fact."""
    return next(section for section in sections(pack_id) if any(fact.id == fact_id for fact in section.facts))


def markdown(pack_id: str) -> dict[str, str]:
    """The pack's knowledge as files: name to Markdown."""
    files: dict[str, str] = {}
    for document in _documents(pack_id):
        own = [s for s in sections(pack_id) if s.document == _stem(document)]
        files[document["file"]] = "\n\n".join([f"# {document['title']}", *(s.text() for s in own)]) + "\n"
    return files


@cache
def table(name: str) -> Any:
    """A hand-written table of `data/` as it stands in its YAML file."""
    return yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8"))


def _documents(pack_id: str) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = table(pack_id)["documents"]
    return documents


def _stem(document: dict[str, Any]) -> str:
    return Path(document["file"]).stem


def _section(document: dict[str, Any], section: dict[str, Any]) -> Section:
    made = tuple(_fact(document["topic"], raw) for raw in section["facts"])
    return Section(_stem(document), section["heading"], made)


def _fact(topic: str, raw: dict[str, Any]) -> Fact:
    lists = {key: tuple(raw[key]) for key in ("style", "asks")}
    return Fact(topic=topic, **{**raw, **lists})
