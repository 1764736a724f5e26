"""Medians, quantiles, spreads and ratios, and what a section hands to the report."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return round(statistics.median(values), 3)


def quantile(values: Sequence[float], share: float) -> float:
    """The value at `share` of the sorted values."""
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 3)


def spread(values: Sequence[float]) -> str:
    """Smallest to largest."""
    return f"{number(min(values))} to {number(max(values))}"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what one round's noise did to both cancels out."""
    return [a / b for a, b in zip(ours, theirs, strict=False)]


def number(value: float) -> str:
    """Three significant digits, thousands with commas."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Target:
    """What a section was aimed at, and what came."""

    what: str
    aim: str
    measured: str
    met: bool


@dataclass
class Table:
    """A table of the report; cells are text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass
class Section:
    """What a section found; all of it goes to the JSON file."""

    figures: dict[str, float] = field(default_factory=dict)
    """Every ratio, and the few absolute figures that targets name."""
    targets: list[Target] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences: how it was measured, what was left out and why."""
    pictures: list[dict[str, Any]] = field(default_factory=list)
    """Each `{"kind", "file", "caption", ...}`; the data lies beside it, so that it can be drawn anew."""

    def at_least(self, what: str, value: float, aim: float) -> None:
        """A target from below."""
        self.targets.append(Target(what, f"at least {aim:g}", f"{value:.2f}", value >= aim))

    def at_most(self, what: str, value: float, aim: float, unit: str = "") -> None:
        """A target from above."""
        self.targets.append(Target(what, f"at most {aim:g}{unit}", f"{value:.2f}{unit}", value <= aim))
