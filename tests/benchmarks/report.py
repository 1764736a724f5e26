"""The report: docs/benchmarks.json holds what was found; docs/benchmarks.md and its pictures are made from it alone.

`python -m tests.benchmarks.report` makes them anew without measuring.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from shared.settings import ROOT

from . import machine, pictures
from .measures import Section

ORDER = ("generation", "hops", "turn", "throughput", "scale", "start", "idle")
KEPT = 400
"""Points that are kept of a distribution."""

HEAD = """\
# Benchmarks

`make bench`, or `SECTIONS="generation hops" make bench`, measures, writes this page, its pictures and
[benchmarks.json](benchmarks.json), and ends with one JSON object of every ratio. What counts are ratios of medians from rounds
that alternate within one run, on the same models and prompts; absolute figures belong to the machine. Every system has its own
processes; while one is measured, the others are frozen. Peers are installed at run time into an environment of their own
({pins}).

{machine}
"""


def plain(section: Section) -> str:
    """A section for the terminal."""
    lines = [f"  {name:<44} {value}" for name, value in section.figures.items()]
    lines += [f"  {'met   ' if t.met else 'MISSED'} {t.what}: {t.measured} ({t.aim})" for t in section.targets]
    return "\n".join(lines + [f"  {note}" for note in section.notes])


def update(name: str, section: dict[str, Any], doc: str, noise: str, docs: Path = ROOT / "docs") -> None:
    """Put a section in the place of its last measurement, and make the page anew."""
    file = docs / "benchmarks.json"
    data = json.loads(file.read_text("utf-8")) if file.is_file() else {"sections": {}}
    at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    data["environment"] = machine.describe()
    for picture in section["pictures"]:
        if picture["kind"] == "distribution":
            picture["series"] = {who: thinned(values) for who, values in picture["series"].items()}
    data["sections"][name] = section | {"doc": doc, "noise": noise, "at": at}
    file.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", "utf-8")
    write(docs)


def thinned(values: list[float]) -> list[float]:
    """At most `KEPT` of sorted values, evenly, the largest among them."""
    if len(values) <= KEPT:
        return [round(value, 3) for value in values]
    step = (len(values) - 1) / (KEPT - 1)
    return [round(values[round(place * step)], 3) for place in range(KEPT)]


def write(docs: Path = ROOT / "docs") -> None:
    """The page and its pictures."""
    data = json.loads((docs / "benchmarks.json").read_text("utf-8"))
    found = {name: data["sections"][name] for name in ORDER if name in data["sections"]}
    (docs / "benchmarks.md").write_text(page(data["environment"], found), "utf-8")
    for section in found.values():
        for picture in section["pictures"]:
            pictures.draw(picture, docs / "pictures" / picture["file"])


def page(environment: dict[str, str], sections: dict[str, Any]) -> str:
    """The whole page."""
    from .peers.environment import versions

    pins = ", ".join(f"{name} {version}" for name, version in versions().items())
    described = ", ".join(
        value if name in ("processor", "system") else f"{value} {name}" if name == "cores" else f"{name} {value}"
        for name, value in environment.items()
    )
    text = [HEAD.format(pins=pins, machine=f"This machine: {described}."), "## Targets\n", _targets(sections)]
    text += [_section(name, section) for name, section in sections.items()]
    if missing := [name for name in ORDER if name not in sections]:
        text.append(f"Not measured for this page: {', '.join(missing)}.\n")
    return "\n".join(text)


def _targets(sections: dict[str, Any]) -> str:
    rows = [
        [name, target["what"], target["aim"], target["measured"], "yes" if target["met"] else "**no**"]
        for name, section in sections.items()
        for target in section["targets"]
    ]
    return _table(["section", "figure", "aim", "measured", "met"], rows)


def _section(name: str, section: dict[str, Any]) -> str:
    first = section["doc"].splitlines()[0]
    parts = [f"## {name.capitalize()}\n", f"{first} Measured {section['at']}; meanwhile {section['noise']}.\n"]
    for table in section["tables"]:
        parts += [f"**{table['title']}**\n", _table(table["columns"], table["rows"])]
    if not section["tables"]:
        rows = [[figure.replace("_", " "), f"{value}"] for figure, value in section["figures"].items()]
        parts.append(_table(["figure", "measured"], rows))
    for picture in section["pictures"]:
        parts.append(f"![{picture['caption']}](pictures/{picture['file']})\n\n*{picture['caption']}*\n")
    return "\n".join(parts + [f"{note}\n" for note in section["notes"]])


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    write()
