"""`maeari up`, `down`, `status`, `logs`, `doctor`."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import BrokerUnavailable, ConfigurationInvalid, InvalidRequest, MaeariError

from .tools import Json, Tools, tools_of

if TYPE_CHECKING:
    from shared.cluster.cluster import Cluster, Row
    from shared.cluster.doctor import Finding

POLL_S = 0.3
"""Seconds between two looks at what starts."""

START_S = 900.0
"""Seconds that every role has to load, by default."""


class StartFailed(MaeariError):
    """The cluster did not start."""

    code = "start_failed"


def up(
    ctx: typer.Context,
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replicas", "-r", help="ROLE=NUMBER, e.g. llm=2. May be given again.", metavar="ROLE=N"),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option("--gpus", help="GPUs to use, e.g. 0,1: each role runs once per GPU.")
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay, and stop the cluster at Ctrl-C.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until every role is ready.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait.", min=1.0)] = START_S,
    throw_away: Annotated[bool, typer.Option("--throw-away", help="Accept a Redis that may lose jobs.")] = False,
    json: Json = False,
) -> None:
    """Start the cluster on this machine, or what is missing of it."""
    from shared.cluster.plan import parse_gpus, parse_replicas

    tools = tools_of(ctx, json)
    cluster = the_cluster(tools)
    wanted = parse_replicas(replicas or [])
    cards = parse_gpus(gpus) if gpus is not None else None
    with _stopping_at_signals(foreground):
        try:
            start(
                tools, cluster, wanted, cards, timeout_s=timeout if wait or foreground else 0.0, throw_away=throw_away
            )
            if foreground:
                _stay(tools, cluster)
        except KeyboardInterrupt:
            if not foreground:
                tools.hint("The cluster goes on starting. Look at it: maeari status. Stop it: maeari down")
                raise
            _stop(tools, cluster)


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
    if cluster.left_over:
        tools.hint(f"Ended {cluster.left_over} processes that a dead supervisor had left over.")
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
    with _table(tools) as show:
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


class _table:  # noqa: N801  a context manager that reads like a function
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
    tools.say(f"Dashboard:      http://127.0.0.1:{config.flower_port}  (user {config.flower_user}, password in")
    tools.say(
        f"                {cluster.layout.flower_password})"
        if not config.flower_password
        else "                your settings)"
    )
    tools.say("Stop it:        maeari down")


class _stopping_at_signals:  # noqa: N801
    """SIGTERM means Ctrl-C while a foreground cluster runs."""

    def __init__(self, active: bool) -> None:
        self._active = active and threading.current_thread() is threading.main_thread()
        self._before: Any = None

    def __enter__(self) -> None:
        if self._active:
            self._before = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        if self._active:
            signal.signal(signal.SIGTERM, self._before)


def _stay(tools: Tools, cluster: Cluster) -> None:
    tools.hint("Running. Ctrl-C stops the cluster.")
    while cluster.supervisor.running():
        time.sleep(1.0)
    raise StartFailed(f"The supervisor has ended; see {cluster.layout.log('supervisord')}.")


def down(ctx: typer.Context, json: Json = False) -> None:
    """Stop the cluster: workers finish what they run, then the services go."""
    tools = tools_of(ctx, json)
    _stop(tools, the_cluster(tools))


def _stop(tools: Tools, cluster: Cluster) -> None:
    was_running = cluster.supervisor.running()
    with _table(tools) as show:
        for rows in cluster.stop():
            show(rows)
    if cluster.left_over:
        tools.hint(f"Ended {cluster.left_over} processes that a dead supervisor had left over.")
    if tools.json:
        tools.print_json({"stopped": was_running or cluster.left_over > 0})
    else:
        tools.say("The cluster is down." if was_running else "The cluster was not running.")


def status(ctx: typer.Context, json: Json = False) -> None:
    """Show services, workers, engines and queues. Exit status 0: everything is ready."""
    from shared.cluster.plan import ROLES
    from shared.cluster.status import report, wanted_roles
    from shared.settings import settings

    from .render import print_status

    tools = tools_of(ctx, json)
    try:
        client = tools.producer()
        seen = client.workers(), client.queues(), len(client.dead(1000))
    except BrokerUnavailable:
        seen = (), {}, 0
    found = report(settings(), *seen, wanted_roles(settings(), ROLES))
    if tools.json:
        tools.print_json(found.as_json())
    else:
        print_status(tools, found)
    if not found.ready:
        raise typer.Exit(1)


def logs(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A role (llm), a process (llm-0), redis, chroma, flower or supervisord.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Lines of the past.", min=0)] = 100,
) -> None:
    """Show what a process has written."""
    from shared.cluster.layout import layout_of
    from shared.settings import settings

    tools = tools_of(ctx)
    folder = layout_of(settings().home).logs
    paths = (
        sorted({*folder.glob(f"{name}.log"), *folder.glob(f"{name}-[0-9]*.log")})
        if name.replace("-", "").isalnum()
        else []
    )
    if not paths:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none; start the cluster: maeari up"
        raise InvalidRequest(f"There is no log of {name!r}. Logs: {known}.", field="name")
    for path in paths:
        for line in _last(path, lines):
            _log_line(tools, path, line, many=len(paths) > 1)
    if follow:
        for path, line in _following(paths):
            _log_line(tools, path, line, many=len(paths) > 1)


def _last(path: Path, lines: int) -> Sequence[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=lines)]


def _log_line(tools: Tools, path: Path, line: str, *, many: bool) -> None:
    tools.out.print(f"{path.stem}  {line}" if many else line, markup=False, soft_wrap=True)


def _following(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Lines as they come, over rotations, until Ctrl-C."""
    places = {path: path.stat().st_size for path in paths}
    while True:
        for path in paths:
            size = path.stat().st_size if path.exists() else 0
            if size < places[path]:
                places[path] = 0
            if size > places[path]:
                with path.open("rb") as file:
                    file.seek(places[path])
                    whole = file.read().rpartition(b"\n")[0]
                places[path] += len(whole) + 1 if whole else 0
                yield from ((path, line) for line in whole.decode("utf-8", "replace").splitlines())
        time.sleep(POLL_S)


def doctor(
    ctx: typer.Context,
    throw_away: Annotated[bool, typer.Option("--throw-away", help="Accept a Redis that may lose jobs.")] = False,
    json: Json = False,
) -> None:
    """Look for what is missing on this machine and name the command that mends it."""
    from shared.cluster.doctor import examine
    from shared.settings import settings

    from .render import finding_line

    tools = tools_of(ctx, json)
    findings: list[Finding] = []
    for finding in examine(settings(), throw_away=throw_away):
        findings.append(finding)
        if not tools.json:
            tools.out.print(finding_line(finding), soft_wrap=True)
    bad = [finding for finding in findings if not finding.ok]
    if tools.json:
        tools.print_json({"ok": not bad, "findings": [finding.as_json() for finding in findings]})
    else:
        tools.say("")
        tools.say("Nothing is missing." if not bad else f"{len(bad)} of {len(findings)} need mending.", "bold")
    if bad:
        raise typer.Exit(1)


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
    except (BrokerUnavailable, ConfigurationInvalid):
        return False
    return ready >= set(ROLES)
