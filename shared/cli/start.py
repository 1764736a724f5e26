"""Bring a cluster up and show how far it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shared.errors import BrokerUnavailable, MaeariError

from .tools import Tools

if TYPE_CHECKING:
    from shared.cluster.cluster import Cluster, Row

POLL_S = 0.3
"""Seconds between two looks at what starts."""

START_S = 900.0
"""Seconds that every role has to load, by default."""


class StartFailed(MaeariError):
    """The cluster did not start."""

    code = "start_failed"


def the_cluster(tools: Tools) -> Cluster:
    """The cluster that the settings describe."""
    from shared.cluster.cluster import Cluster
    from shared.settings import settings

    return Cluster(settings(), lambda: tools.producer().workers())


def start(
    tools: Tools,
    cluster: Cluster,
    replicas: dict[str, int] | None = None,
    gpus: tuple[str, ...] | None = None,
    *,
    timeout_s: float = START_S,
    throw_away: bool = False,
) -> None:
    """Start what does not run and wait until it is ready; `timeout_s` 0: only until Redis and Chroma are.

    Raises `StartFailed` with the last log lines of what failed.
    """
    missing = cluster.prepare(replicas or {}, gpus, throw_away)
    if not missing:
        tools.say("The cluster is up already; nothing to start.")
    rows = _watched(tools, cluster, missing, timeout_s)
    if failed := [row for row in rows if row.state == "failed"]:
        raise StartFailed(_why(cluster, failed))
    if tools.json:
        tools.print_json({"started": missing, "processes": [vars(row) for row in rows]})
    elif missing:
        _where_next(tools, cluster)


def _watched(tools: Tools, cluster: Cluster, missing: Sequence[str], timeout_s: float) -> list[Row]:
    deadline = time.monotonic() + max(timeout_s, 30.0)
    told: set[tuple[str, str]] = set()
    with ProcessTable(tools) as show:
        while True:
            rows = cluster.advance()
            show(rows)
            if not tools.json and not tools.out.is_terminal:
                _tell(tools, rows, missing, told)
            if _over(rows, timeout_s):
                return rows
            if time.monotonic() > deadline:
                late = [row.name for row in rows if not row.settled]
                raise StartFailed(
                    f"After {max(timeout_s, 30.0):.0f} s {', '.join(late)} are not ready. See: maeari logs {late[0]}"
                )
            time.sleep(POLL_S)


def _over(rows: Sequence[Row], timeout_s: float) -> bool:
    if any(row.state == "failed" for row in rows):
        return True
    if timeout_s == 0:
        return all(row.state != "waiting" for row in rows)
    return all(row.settled for row in rows)


def _tell(tools: Tools, rows: Sequence[Row], missing: Sequence[str], told: set[tuple[str, str]]) -> None:
    """Without a terminal: one line for each change."""
    for row in rows:
        if row.name in missing and (row.name, row.state) not in told and row.state in ("loading", "ready", "failed"):
            told.add((row.name, row.state))
            tools.say(f"{row.name:14} {row.state:8} {row.seconds:5.1f} s  {row.note}".rstrip())


class ProcessTable:
    """On a terminal: a table of all processes that lives until the end of the block."""

    def __init__(self, tools: Tools) -> None:
        from rich.live import Live

        shown = tools.out.is_terminal and not tools.json
        self._live = Live(console=tools.out, refresh_per_second=8) if shown else None

    def __enter__(self) -> Any:
        if self._live:
            self._live.start()
        return self._show

    def _show(self, rows: Sequence[Row]) -> None:
        if self._live:
            from .render import start_table

            self._live.update(start_table(rows), refresh=True)

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()


def _why(cluster: Cluster, failed: Sequence[Row]) -> str:
    parts = []
    for row in failed:
        lines = "\n".join(f"    {line}" for line in cluster.last_lines(row.name))
        parts.append(f"{row.name}: {row.note}.\n{lines}\n  The whole log: {cluster.layout.log(row.name)}")
    return "\n".join(parts)


def _where_next(tools: Tools, cluster: Cluster) -> None:
    config = cluster.config
    tools.say("")
    tools.say("Ask something:  maeari ask --pack artist --text '안녕!'", "bold")
    tools.say("Look at it:     maeari status")
    password = (
        "the password of your settings" if config.flower_password else f"password in {cluster.layout.flower_password}"
    )
    tools.say(f"Dashboard:      http://127.0.0.1:{config.flower_port}  (user {config.flower_user}, {password})")
    tools.say("Stop it:        maeari down")


def stop(tools: Tools, cluster: Cluster) -> bool:
    """Stop the cluster and show how it goes; whether there was anything to stop."""
    was_running = cluster.supervisor.running()
    with ProcessTable(tools) as show:
        for rows in cluster.stop():
            show(rows)
    return was_running


def ensure_up(tools: Tools) -> None:
    """Have the whole cluster ready. Raises `StartFailed`, `ConfigurationInvalid`."""
    cluster = the_cluster(tools)
    if not cluster.supervisor.running() and _served_elsewhere(tools):
        return
    start(tools, cluster)


def _served_elsewhere(tools: Tools) -> bool:
    """Workers of every role are ready though nobody started them here (containers, another machine)."""
    from shared.cluster.plan import ROLES

    try:
        ready = {worker.role for worker in tools.producer().workers() if worker.state == "ready"}
    except BrokerUnavailable:
        return False
    return ready >= set(ROLES)
