"""The report's pictures, drawn from docs/benchmarks.json alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = "this cluster"
OURS_COLOR = "#c2185b"
COLORS = ("#455a64", "#1e88e5", "#43a047", "#fb8c00", "#8e24aa", "#6d4c41", "#00897b")
LANES = {"stt.transcribe": "listen", "rag.retrieve": "look up", "llm.generate": "write", "tts.synthesize": "speak"}
LANE_COLORS = {"listen": "#1e88e5", "look up": "#43a047", "write": "#fb8c00", "speak": "#c2185b"}


def draw(picture: dict[str, Any], path: Path) -> None:
    """One picture as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "maeari"  # the same data gives the same file
    from matplotlib import pyplot as plt

    kinds: dict[str, Callable[[Any, Any, dict[str, Any]], None]] = {
        "lines": _lines, "distribution": _distribution, "gantt": _gantt,
    }  # fmt: skip
    figure, axes = plt.subplots(figsize=(8, 4.2))
    kinds[picture["kind"]](figure, axes, picture)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _styles(names: list[str]) -> dict[str, dict[str, Any]]:
    others = iter(COLORS)
    return {
        name: {"color": OURS_COLOR, "linewidth": 2.4, "zorder": 3}
        if name in (OURS, "measured", "done")
        else {"color": next(others), "linewidth": 1.4}
        for name in names
    }


def _lines(_: Any, axes: Any, picture: dict[str, Any]) -> None:
    for name, style in _styles(list(picture["series"])).items():
        values = picture["series"][name]
        axes.plot(range(len(values)), values, marker="o", markersize=4, label=name, **style)
    axes.set_xticks(range(len(picture["x"])), picture["x"])
    axes.set_xlabel(picture["x_label"])
    axes.set_ylabel(picture["unit"])
    axes.set_yscale("log")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(fontsize=8, frameon=False)


def _distribution(_: Any, axes: Any, picture: dict[str, Any]) -> None:
    for name, style in _styles(list(picture["series"])).items():
        values = picture["series"][name]
        axes.plot(values, [(place + 1) / len(values) for place in range(len(values))], label=name, **style)
    axes.set_xscale("log")
    axes.set_xlabel(picture["unit"])
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)


def _gantt(_: Any, axes: Any, picture: dict[str, Any]) -> None:
    """A band for each way of doing it; in it a line for each stage, its wait pale, its engine's work full."""
    row, ticks, labels = 0, [], []
    for way, stages in picture["series"].items():
        axes.text(0, row - 0.75, way, fontsize=9, fontweight="bold", va="center")
        for stage in [stage for stage in stages if stage["stage"] in LANES]:
            lane = LANES[stage["stage"]]
            work = min(stage["engine_ms"], stage["finished_at"] - stage["queued_at"])
            begun = stage["finished_at"] - work
            axes.barh(row, begun - stage["queued_at"], left=stage["queued_at"], color="#cfd8dc", height=0.7)
            axes.barh(row, work, left=begun, color=LANE_COLORS[lane], height=0.7)
            ticks.append(row)
            labels.append(lane if stage["seq"] is None else f"{lane} {stage['seq'] + 1}")
            row += 1
        row += 1
    axes.set_yticks(ticks, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"{picture['unit']} after the question was handed in")
    axes.grid(axis="x", alpha=0.25)
