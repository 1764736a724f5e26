"""What people read of an evaluation: a table on the terminal, a page of documentation."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.settings import settings

from .curves import draw, learning_curves
from .measures import MEASURES

PICTURE = "pictures/learning-curves.svg"
"""Beside the page."""

QUOTED = 4
"""Failures that are shown per figure."""


def shown_value(name: str, value: float) -> str:
    """A figure with the digits that it is good for."""
    return f"{value:.3f}" if next(m for n, m in MEASURES.items() if n == name).error_rate else f"{value:.2f}"


def shown_target(figure: Mapping[str, Any]) -> str:
    """`at most 0.08`; a dash without a target."""
    return "–" if figure["target"] is None else f"at {figure['at']} {figure['target']:.2f}"


def verdict(figure: Mapping[str, Any]) -> str:
    """Whether the target is met, in a word."""
    return {True: "yes", False: "no", None: "–"}[figure["met"]]


def print_report(console: Console, report: Mapping[str, Any], *, failures: bool = True) -> None:
    """The table of one pack's figures, and the worst failures below."""
    table = Table(title=f"{report['pack']}, adapter {report['adapter']}", title_justify="left", title_style="bold")
    table.add_column("figure")
    for heading in ("value", "target", "met", "cases"):
        table.add_column(heading, justify="right")
    for name, figure in report["figures"].items():
        met = {True: "green", False: "red", None: "dim"}[figure["met"]]
        cases = f"{figure['cases']}" + (f" (+{figure['failed_jobs']} failed)" if figure["failed_jobs"] else "")
        row = (shown_value(name, figure["value"]), shown_target(figure), Text(verdict(figure), style=met), cases)
        table.add_row(_what(name), *row)
    console.print(table)
    if not failures:
        return
    for name, figure in report["figures"].items():
        for failure in (*figure["failures"][:QUOTED], *({"case": "job", "shown": e} for e in figure["errors"])):
            console.print(f"{name} {failure['case']}: {failure['shown']}", style="dim", markup=False, soft_wrap=True)


def write_page(path: Path, reports: Mapping[str, Mapping[str, Any]], command: str) -> list[Path]:
    """Write the page and its picture; the files that were written."""
    picture = path.parent / PICTURE
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(draw(learning_curves(settings().models_path)), encoding="utf-8")
    path.write_text(page(reports, command), encoding="utf-8")
    return [path, picture]


def page(reports: Mapping[str, Mapping[str, Any]], command: str) -> str:
    """The page as Markdown."""
    at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    seconds = sum(report["seconds"] for report in reports.values())
    lines = [
        "# Evaluation",
        "",
        "Written by one command, which asks the running cluster and nothing else:",
        "",
        f"    {command}",
        "",
        f"Measured {at} in {seconds / 60:.1f} minutes on {os.cpu_count()} CPU cores. Every case was held out from",
        "training: wordings, combinations, values, speeds and pitches. Character errors are given per character said.",
        "What each figure means, and how to bring cases of your own: [training.md](training.md#evaluate).",
        "",
        "## Figures",
        "",
        *_table(reports),
        "",
        *_engines(reports),
        "## What goes wrong",
        "",
        "The worst cases of each figure, as the cluster answered them: said → understood; asked → replied.",
        "",
    ]
    for pack, report in reports.items():
        lines += [f"### {pack}", "", *_failures(report)]
    lines += ["## Learning curves", "", f"![Losses over steps of every model]({PICTURE})", ""]
    return "\n".join(lines)


def _table(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    packs = list(reports)
    names = [name for name in MEASURES if any(name in report["figures"] for report in reports.values())]
    lines = [f"| figure | target | {' | '.join(packs)} | cases |", "|---|---|" + "---|" * len(packs) + "---|"]
    for name in names:
        figures = [report["figures"].get(name) for report in reports.values()]
        first = next(figure for figure in figures if figure is not None)
        cells = [_cell(name, figure) for figure in figures]
        cases = ", ".join(str(figure["cases"]) if figure else "0" for figure in figures)
        lines.append(f"| {_what(name)} | {shown_target(first)} | {' | '.join(cells)} | {cases} |")
    return lines


def _cell(name: str, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    mark = {True: "", False: " **missed**", None: ""}[figure["met"]]
    return shown_value(name, figure["value"]) + mark


def _engines(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = {role: engines for report in reports.values() for role, engines in report["engines"].items()}
    shown = [f"{role}: {', '.join(engines)}" for role, engines in sorted(found.items()) if engines]
    return ["Engines: " + "; ".join(shown) + ".", ""] if shown else []


def _failures(report: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, figure in report["figures"].items():
        if quoted := [*(f["shown"] for f in figure["failures"][:QUOTED]), *figure["errors"]]:
            lines += [f"{_what(name)}:", "", *(f"- {_safe(text)}" for text in quoted), ""]
    return lines or ["Nothing.", ""]


def _what(name: str) -> str:
    return next(measure.what for known, measure in MEASURES.items() if known == name)


def _safe(text: str) -> str:
    """A model's words as Markdown shows them: no markup, one line."""
    plain = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in plain)
