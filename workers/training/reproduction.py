"""Whether a rerun of a recipe gives the figures on its card.

Data, order and first weights follow from the seed. On another processor sums are rounded otherwise, which moves a loss
a little and turns a few of the examined cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHARE = 0.08
"""How far a share of cases, or an error rate, may lie from the former one; some eight of a hundred cases."""

RELATIVE = 0.1
"""How far any other figure may, as a share of the former one."""

TIMES = ("minutes", "training_minutes")
"""Belong to the machine."""


def apart(shipped: Mapping[str, Any], rerun: Mapping[str, Any]) -> list[str]:
    """A line for each figure of `shipped` that `rerun` does not give within the bounds."""
    found = dict(_numbers(rerun))
    return [
        f"{name}: {value} on the card, {found.get(name, 'nothing')} now"
        for name, value in _numbers(shipped)
        if name not in found or abs(found[name] - value) > _bound(name, value)
    ]


def _bound(name: str, value: float) -> float:
    return SHARE if 0 <= value <= 1 and not name.endswith("loss") else RELATIVE * abs(value)


def _numbers(figures: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Names like `held_out.fact_stated`, with their values; curves and samples are left out."""
    for name, value in figures.items():
        parts = value if isinstance(value, list) else [value]
        for number, part in enumerate(parts, 1):
            if isinstance(part, Mapping) and name != "samples":
                yield from _numbers(part, f"{path}{name}.{number}." if part is not value else f"{path}{name}.")
        if isinstance(value, int | float) and name not in TIMES:
            yield f"{path}{name}", value
