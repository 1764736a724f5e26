"""The report: docs/benchmarks.json holds what was found; docs/benchmarks.md and its pictures are made from it alone."""

from __future__ import annotations

import datetime
import json
from typing import Any

from shared.settings import ROOT

from . import machine
from .measures import Section

DOCS = ROOT / "docs"
DATA = DOCS / "benchmarks.json"
PAGE = DOCS / "benchmarks.md"
PICTURES = DOCS / "pictures"


def plain(section: Section) -> str:
    """A section for the terminal."""
    lines = [f"  {name:<44} {value}" for name, value in section.figures.items()]
    lines += [f"  {'met   ' if t.met else 'MISSED'} {t.what}: {t.measured} ({t.aim})" for t in section.targets]
    return "\n".join(lines + [f"  {note}" for note in section.notes])


def update(name: str, section: dict[str, Any], doc: str, noise: str) -> None:
    """Put a section in the place of its last measurement, and make the page anew."""
    data = json.loads(DATA.read_text("utf-8")) if DATA.is_file() else {"sections": {}}
    at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    data["environment"] = machine.describe()
    data["sections"][name] = section | {"doc": doc, "noise": noise, "at": at}
    DATA.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
