"""Learning curves of the served models as one SVG picture, drawn from the figures that training left beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 420, 240
"""Pixels of one panel."""

LEFT, RIGHT, TOP, BOTTOM = 52, 16, 34, 34
"""Pixels around a panel's axes."""

COLUMNS = 2
COLOURS = ("#2563eb", "#ea580c")


@dataclass(frozen=True)
class Curve:
    """One training: steps and two losses."""

    title: str
    names: tuple[str, str]
    points: tuple[tuple[float, float, float], ...]


def learning_curves(models: Path) -> list[Curve]:
    """The curves of the models under `models` that have one."""
    return [curve for file in sorted(models.glob("**/figures.json")) for curve in _of_model(models, file)]


def _of_model(models: Path, file: Path) -> Iterator[Curve]:
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    name = str(file.parent.relative_to(models))
    parts: list[tuple[str, Any]] = [(name, figures.get("curve"))]
    stages = figures.get("stages", [])
    parts += [(f"{name}, stage {number}", stage.get("curve")) for number, stage in enumerate(stages, 1)]
    names = ("text", "letters") if "combinations" in figures else ("training", "validation")
    for title, curve in parts:
        points = tuple(tuple(float(value) for value in point) for point in curve or () if len(point) == 3)
        if len(points) > 1:
            yield Curve(title, names, points)  # type: ignore[arg-type]


def draw(curves: Sequence[Curve]) -> str:
    """An SVG with a panel per curve; the losses' scale is logarithmic."""
    rows = math.ceil(len(curves) / COLUMNS)
    panels = [
        f'<g transform="translate({index % COLUMNS * WIDTH},{index // COLUMNS * HEIGHT})">{_panel(curve)}</g>'
        for index, curve in enumerate(curves)
    ]
    width, height = WIDTH * min(COLUMNS, max(1, len(curves))), HEIGHT * max(1, rows)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *panels, "</svg>"]) + "\n"


def _panel(curve: Curve) -> str:
    steps = [point[0] for point in curve.points]
    losses = [max(loss, 1e-4) for point in curve.points for loss in point[1:]]
    low, high = math.log10(min(losses)), math.log10(max(losses))
    if high - low < 0.05:
        low, high = low - 0.05, high + 0.05

    def x(step: float) -> float:
        return LEFT + (step - steps[0]) / max(1e-9, steps[-1] - steps[0]) * (WIDTH - LEFT - RIGHT)

    def y(loss: float) -> float:
        return TOP + (high - math.log10(max(loss, 1e-4))) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 18, curve.title, weight="bold")]
    parts += [_across(y(loss), f"{loss:.3g}") for loss in _ticks(low, high)]
    parts += [_text(x(step), HEIGHT - 14, f"{step:.0f}", anchor="middle") for step in (steps[0], steps[-1])]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "step", anchor="middle"))
    for which, (name, colour) in enumerate(zip(curve.names, COLOURS, strict=True), 1):
        line = " ".join(f"{x(point[0]):.1f},{y(point[which]):.1f}" for point in curve.points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(WIDTH - RIGHT, TOP + 14 * which, name, anchor="end", colour=colour))
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Four losses, evenly apart on the logarithmic scale."""
    return [float(10 ** (low + (high - low) * part / 3)) for part in range(4)]


def _across(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
    return line + _text(LEFT - 6, y + 4, label, anchor="end")


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = "#333") -> str:
    look = f'text-anchor="{anchor}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>'
