"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from shared.cluster.cluster import Row
    from shared.cluster.doctor import Finding
    from shared.cluster.status import ProcessStatus, Report

    from .tools import Tools

_STATES = {
    "ready": ("●", "green"),
    "external": ("●", "green"),
    "loading": ("◐", "yellow"),
    "starting": ("◌", "yellow"),
    "running": ("●", "green"),
    "waiting": ("·", "dim"),
    "draining": ("◑", "yellow"),
    "stopping": ("◑", "yellow"),
    "stopped": ("○", "dim"),
    "failed": ("✗", "red"),
    "unreachable": ("✗", "red"),
}


def state_text(state: str) -> Text:
    """A state with its mark and colour."""
    mark, colour = _STATES.get(state, ("?", "white"))
    return Text(f"{mark} {state}", style=colour)


def plain_table(*columns: tuple[str, str]) -> Table:
    """A table without lines; columns are (heading, justification)."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading, justify in columns:
        wraps = justify == "wrap"
        side: JustifyMethod = "right" if justify == "right" else "left"
        table.add_column(heading, justify=side, no_wrap=not wraps, overflow="fold" if wraps else "ellipsis")
    return table


def start_table(rows: Sequence[Row]) -> Table:
    """What starts or stops."""
    table = plain_table(("process", "left"), ("state", "left"), ("seconds", "right"), ("", "wrap"))
    for row in rows:
        table.add_row(
            row.name, state_text(row.state), f"{row.seconds:.1f}" if row.seconds else "", Text(row.note, style="dim")
        )
    return table


def print_status(tools: Tools, report: Report) -> None:
    """The whole status."""
    if not report.supervised and not report.workers:
        tools.say("The cluster is not running. Start it: maeari up", "bold")
        return
    head = Text("ready" if report.ready else "not ready", style="bold green" if report.ready else "bold yellow")
    head.append(f"  profile {report.profile}, home {report.home}", "not bold dim")
    tools.out.print(head, soft_wrap=True)
    tools.out.print(_processes(report))
    tools.out.print()
    if report.queues:
        tools.out.print(_queues(report))
        tools.out.print()
    tools.say(f"all together {report.rss_mb:,.0f} MiB resident, {report.cpu_percent:.0f} % of a core", "dim")
    if report.dead_letters:
        tools.say(f"{report.dead_letters} dead letters; see: maeari dead list", "yellow")


def _processes(report: Report) -> Table:
    table = plain_table(("process", "left"), ("state", "left"), ("up", "right"), ("memory", "right"), ("cpu", "right"),
                        ("runs", "right"), ("engine, or address", "wrap"))  # fmt: skip
    for row in (*report.services, *report.workers):
        memory = f"{row.rss_mb:,.0f} MiB" if row.pid else ""
        cpu = f"{row.cpu_percent:.0f} %" if row.pid else ""
        up = _duration(row.uptime_s) if row.uptime_s else ""
        runs = str(row.running) if row.role not in ("redis", "chroma", "flower") else ""
        table.add_row(row.name, state_text(row.state), up, memory, cpu, runs, _about(row))
    return table


def _about(row: ProcessStatus) -> Text:
    text = Text(row.detail, style="dim")
    for place, engine in enumerate(row.engines):
        text.append(("\n" if place else "") + f"{engine['name']} {engine['model']} ", "cyan")
        text.append(f"{engine['version']} on {engine['device']}", "dim")
    if row.gpu:
        text.append(f" GPU {row.gpu}", "magenta")
    return text


def _queues(report: Report) -> Table:
    table = plain_table(("queue", "left"), ("waiting", "right"), ("parked", "right"), ("oldest", "right"))
    for name, depth in report.queues.items():
        oldest = f"{depth['oldest_wait_s']:.1f} s" if depth["oldest_wait_s"] else ""
        table.add_row(name, f"{depth['waiting']:.0f}", f"{depth['parked']:.0f}", oldest)
    return table


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def finding_line(finding: Finding) -> Text:
    """One finding of the doctor."""
    line = Text("✓ " if finding.ok else "✗ ", style="green" if finding.ok else "red")
    line.append(f"{finding.name:28} ", "bold" if not finding.ok else "")
    line.append(finding.detail, "dim" if finding.ok else "")
    if not finding.ok:
        line.append(f"\n    mend it: {finding.remedy}", "yellow")
    return line
