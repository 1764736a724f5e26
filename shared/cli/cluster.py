"""`maeari up`, `down`, `status`, `logs`, `doctor`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import BrokerUnavailable

from .start import START_S, StartFailed, start, stop, the_cluster
from .tools import Json, Tools, tools_of

if TYPE_CHECKING:
    from shared.cluster.cluster import Cluster
    from shared.cluster.doctor import Finding


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
    limit = timeout if wait or foreground else 0.0
    if foreground:
        _run(tools, cluster, lambda: start(tools, cluster, wanted, cards, timeout_s=limit, throw_away=throw_away))
        return
    try:
        start(tools, cluster, wanted, cards, timeout_s=limit, throw_away=throw_away)
    except KeyboardInterrupt:
        tools.hint("The cluster goes on starting. Look at it: maeari status. Stop it: maeari down")
        raise


def _run(tools: Tools, cluster: Cluster, begin: Callable[[], None]) -> None:
    """A cluster that lives as long as this command; SIGTERM means Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        begin()
        tools.hint("Running. Ctrl-C stops the cluster.")
        while cluster.supervisor.running():
            time.sleep(1.0)
        raise StartFailed(f"The supervisor has ended; see {cluster.layout.log('supervisord')}.")
    except KeyboardInterrupt:
        tools.hint("Stopping.")
    finally:
        signal.signal(signal.SIGTERM, before)
        stop(tools, cluster)


def down(ctx: typer.Context, json: Json = False) -> None:
    """Stop the cluster: workers finish what they run, then the services go."""
    tools = tools_of(ctx, json)
    stopped = stop(tools, the_cluster(tools))
    if tools.json:
        tools.print_json({"stopped": stopped})
    else:
        tools.say("The cluster is down." if stopped else "The cluster was not running.")


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
