"""`maeari job` and `maeari dead`: what became of jobs, and of messages that could not be run."""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import InvalidRequest, JobNotFound

from .tools import Json, Tools, tools_of

if TYPE_CHECKING:
    from shared.contracts.events import Event
    from shared.contracts.status import JobView
    from shared.jobs import DeadLetter

JobArgument = Annotated[str, typer.Argument(metavar="JOB_ID", help="Id of the job.")]
Entry = Annotated[str, typer.Argument(metavar="ENTRY", help="Id of the dead letter, as `maeari dead list` shows it.")]

PEEK_S = 0.3
"""Seconds to wait for events that are there already."""

job = typer.Typer(no_args_is_help=True, help="Look at a job, its events; cancel it.")
dead = typer.Typer(no_args_is_help=True, help="Messages that could not be run: look, run again, delete.")


@job.command("show")
def show(ctx: typer.Context, job_id: JobArgument, json: Json = False) -> None:
    """Show a job's record and its stages."""
    tools = tools_of(ctx, json)
    view = tools.producer().job(job_id)
    if view is None:
        raise JobNotFound(job_id)
    if tools.json:
        tools.print_json(view.model_dump(mode="json"))
    else:
        _print_job(tools, view)


def _print_job(tools: Tools, view: JobView) -> None:
    from .render import plain_table

    tools.say(f"{view.job_id}  {view.task}  {view.state}", "bold")
    tools.say(
        f"tenant {view.tenant}, {view.priority}, accepted {clock(view.created_ms)}, {view.attempts} attempt(s)", "dim"
    )
    if view.fault is not None:
        where = f" field {view.fault.field}" if view.fault.field else ""
        tools.say(f"[{view.fault.code}] {view.fault.message} (stage {view.fault.stage}{where})", "red")
    if not view.stages:
        return
    headings = ("stage", "left"), ("state", "left"), ("attempts", "right"), ("waited", "right"), ("ran", "right")
    table = plain_table(*headings)
    for stage in view.stages:
        waited = _ms(stage.created_ms, stage.started_ms)
        table.add_row(stage.task, stage.state, str(stage.attempts), waited, _ms(stage.started_ms, stage.finished_ms))
    tools.out.print(table)


def _ms(start: int | None, end: int | None) -> str:
    return "" if start is None or end is None else f"{end - start:,} ms"


def clock(at_ms: int) -> str:
    """A time of day of this machine."""
    return datetime.datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@job.command("events")
def events(
    ctx: typer.Context,
    job_id: JobArgument,
    after: Annotated[int, typer.Option("--after", help="Only events behind this number.", min=0)] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for further events, to the last one.")] = False,
    json: Json = False,
) -> None:
    """Show a job's events; with --json one object per line."""
    tools = tools_of(ctx, json)
    client = tools.producer()
    with contextlib.suppress(TimeoutError):
        for event in client.follow(job_id, after=after, timeout_s=None if follow else PEEK_S):
            if tools.json:
                tools.print_line(event.model_dump(mode="json"))
            else:
                tools.say(f"{event.seq:4}  {clock(event.at)[11:]}  {event.type:11} {_gist(event)}")


def _gist(event: Event) -> str:
    if event.type in ("failed", "cancelled", "retrying"):
        return f"[{event.fault.code}] {event.fault.message} ({event.fault.stage})"
    if event.type == "context":
        return ", ".join(source.document for source in event.sources)
    if event.type == "done":
        return str(event.result.get("reply") or event.result.get("text") or "")
    shown = event.model_dump(mode="json", exclude={"seq", "job_id", "type", "at", "audio"})
    return " ".join(f"{name}={value!r}" for name, value in shown.items())


@job.command("cancel")
def cancel(ctx: typer.Context, job_id: JobArgument, json: Json = False) -> None:
    """Stop a job."""
    tools = tools_of(ctx, json)
    cancelled = tools.producer().cancel(job_id)
    if tools.json:
        tools.print_json({"job_id": job_id, "cancelled": cancelled})
    else:
        tools.say(f"{job_id} is cancelled." if cancelled else f"{job_id} had ended already.")


def _letter(letter: DeadLetter, *, whole: bool = False) -> dict[str, Any]:
    shown = {"entry": letter.entry, "at_ms": letter.at_ms, "queue": letter.queue, "task": letter.task,
             "job_id": letter.job_id, "reason": letter.reason}  # fmt: skip
    return shown | ({"raw": letter.raw} if whole else {})


@dead.command("list")
def list_(
    ctx: typer.Context, limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000)] = 50, json: Json = False
) -> None:
    """The newest dead letters."""
    from .render import plain_table

    tools = tools_of(ctx, json)
    letters = tools.producer().dead(limit)
    if tools.json:
        tools.print_json([_letter(letter) for letter in letters])
        return
    if not letters:
        tools.say("There are no dead letters.")
        return
    table = plain_table(("entry", "left"), ("at", "left"), ("queue", "left"), ("job", "left"), ("reason", "wrap"))
    for letter in letters:
        table.add_row(letter.entry, clock(letter.at_ms), letter.queue, letter.job_id or "(unreadable)", letter.reason)
    tools.out.print(table)


@dead.command("show")
def show_dead(ctx: typer.Context, entry: Entry, json: Json = False) -> None:
    """One dead letter with its message, which may hold people's words."""
    tools = tools_of(ctx, json)
    letter = tools.producer().dead_letter(entry)
    if tools.json:
        tools.print_json(_letter(letter, whole=True))
        return
    for name, value in _letter(letter, whole=True).items():
        tools.say(f"{name:8} {clock(value) if name == 'at_ms' else value}")


@dead.command("replay")
def replay(ctx: typer.Context, entry: Entry, json: Json = False) -> None:
    """Run a dead letter again under its job id."""
    tools = tools_of(ctx, json)
    job_id = tools.producer().replay(entry)
    if tools.json:
        tools.print_json({"entry": entry, "job_id": job_id})
    else:
        tools.say(f"{job_id} runs again. Follow it: maeari job events {job_id} -f")


@dead.command("purge")
def purge(
    ctx: typer.Context,
    entry: Annotated[str | None, typer.Argument(metavar="[ENTRY]", help="The one to delete.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete every dead letter.")] = False,
    json: Json = False,
) -> None:
    """Delete one dead letter, or all of them."""
    tools = tools_of(ctx, json)
    if (entry is None) == (not everything):
        raise InvalidRequest("Name an entry, or give --all.", field="entry")
    count = tools.producer().purge(entry)
    if entry is not None and count == 0:
        raise JobNotFound(f"No dead letter {entry}.")
    if tools.json:
        tools.print_json({"purged": count})
    else:
        tools.say(f"Deleted {count}.")
