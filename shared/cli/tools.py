"""What every command works with: the producer, the blob store, two consoles; and how errors are shown."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.console import Console

from shared.errors import BrokerUnavailable, InvalidRequest, MaeariError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.blobs import Blobs
    from shared.contracts.base import Fault, Request
    from shared.contracts.catalog import Priority
    from shared.contracts.events import Event
    from shared.contracts.status import JobView, QueueDepth, WorkerStatus
    from shared.jobs import DeadLetter
    from shared.producer import Submitted

INTERRUPTED = 130
"""Exit status after Ctrl-C."""

PRESENCE_S = 4.0
"""Seconds between two signs of life of a waiting caller."""


class Client(Protocol):
    """The part of `shared.producer.Producer` that the command uses."""

    def submit(
        self,
        task: str,
        request: Request | dict[str, Any],
        *,
        job_id: str | None = None,
        priority: Priority = "interactive",
        deadline_s: float | None = None,
        presence: bool = False,
    ) -> Submitted:
        """Hand in a job."""
        ...

    def follow(self, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> Iterator[Event]:
        """A job's events, to the last one."""
        ...

    def cancel(self, job_id: str) -> bool:
        """Stop a job."""
        ...

    def keep_alive(self, job_id: str) -> None:
        """The caller is still there."""
        ...

    def job(self, job_id: str) -> JobView | None:
        """A job's record."""
        ...

    def queues(self) -> Mapping[str, QueueDepth]:
        """What waits."""
        ...

    def workers(self) -> Sequence[WorkerStatus]:
        """Who works."""
        ...

    def dead(self, limit: int = 100) -> Sequence[DeadLetter]:
        """Dead letters, newest first."""
        ...

    def dead_letter(self, entry: str) -> DeadLetter:
        """One dead letter."""
        ...

    def replay(self, entry: str) -> str:
        """Run a dead letter again."""
        ...

    def purge(self, entry: str | None = None) -> int:
        """Delete dead letters."""
        ...


class JobFailed(MaeariError):
    """The job failed."""

    def __init__(self, fault: Fault, job_id: str) -> None:
        """`fault`: how the job ended; `job_id`: empty when it never became one."""
        super().__init__(fault.message, field=fault.field)
        self.fault = fault
        self.job_id = job_id


def _producer() -> Client:
    from shared.cluster.probes import ask_redis
    from shared.cluster.services import shown_url
    from shared.producer import Producer
    from shared.settings import settings

    url = settings().redis_url
    answer = ask_redis(url)
    if answer.state not in ("ready", "loading"):
        raise BrokerUnavailable(
            f"Nothing answers at {shown_url(url)} ({answer.why}). Is the cluster up? Start it: maeari up"
        )
    return Producer(url)


def _store() -> Blobs:
    from shared.blobs import open_store
    from shared.settings import settings

    return open_store(settings().blobs)


@dataclass
class Tools:
    """Handed to every command as `ctx.obj`; tests put their own in."""

    producer: Callable[[], Client] = _producer
    store: Callable[[], Blobs] = _store
    out: Console = field(default_factory=lambda: Console(highlight=False))
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    json: bool = False
    """The caller is a program: one JSON object on standard output, nothing else."""

    def print_json(self, value: Any) -> None:
        """One JSON object (or array) to standard output."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        sys.stdout.flush()

    def print_line(self, value: Any) -> None:
        """One JSON object on one line, for streams."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def say(self, text: str, style: str = "") -> None:
        """A line for people, never wrapped or read as markup; nothing when a program reads."""
        if not self.json:
            self.out.print(text, style=style or None, markup=False, soft_wrap=True)

    def hint(self, text: str) -> None:
        """A line for people beside the output; on a terminal through the console whose live view it must not tear."""
        console = self.out if self.out.is_terminal and not self.json else self.err
        console.print(text, style="dim", markup=False, soft_wrap=True)

    def report(self, error: MaeariError) -> None:
        """Show an error: to people on standard error, to programs as JSON."""
        shown = described(error)
        if self.json:
            self.print_json({"error": shown} | ({"job_id": error.job_id} if isinstance(error, JobFailed) else {}))
            return
        self.err.print(f"error [{shown['code']}] {shown['message']}", style="red", markup=False, soft_wrap=True)
        for name in ("stage", "field"):
            if shown[name]:
                self.err.print(f"  {name}: {shown[name]}", markup=False, soft_wrap=True)
        if isinstance(error, JobFailed) and error.job_id:
            self.err.print(f"  job: {error.job_id}", style="dim", markup=False, soft_wrap=True)


def described(error: MaeariError) -> dict[str, Any]:
    """An error's code, sentence, stage and field."""
    if isinstance(error, JobFailed):
        return error.fault.model_dump()
    return {
        "code": error.code,
        "message": error.message,
        "stage": "",
        "field": error.field,
        "retryable": error.retryable,
    }


def tools_of(ctx: typer.Context, json: bool = False) -> Tools:
    """The tools of this call; `json`: the caller asked for JSON."""
    tools = ctx.find_object(Tools)
    if tools is None:
        tools = ctx.find_root().obj = Tools()
    tools.json = tools.json or json
    return tools


Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
"""`--json`."""

Tenant = Annotated[str, typer.Option("--tenant", help="Whose data this is.", show_default=True)]
"""`--tenant`."""


def run_job(
    tools: Tools,
    task: str,
    request: dict[str, Any],
    on_event: Callable[[Event], None] | None = None,
    *,
    deadline_s: float | None = None,
) -> tuple[str, dict[str, Any]]:
    """Hand in a job and follow it to its end: its id and result. Ctrl-C cancels it. Raises `JobFailed`."""
    client = tools.producer()
    warn_of_missing(tools, client, roles_for(task, request))
    job_id = _submitted(client, task, request, deadline_s)
    try:
        with present(client, job_id):
            return job_id, _followed(client, job_id, on_event)
    except KeyboardInterrupt:
        client.cancel(job_id)
        tools.hint(f"\ncancelled job {job_id}")
        raise typer.Exit(INTERRUPTED) from None


def _submitted(client: Client, task: str, request: dict[str, Any], deadline_s: float | None) -> str:
    from shared.contracts.base import Fault

    try:
        return client.submit(task, request, deadline_s=deadline_s, presence=True).job_id
    except InvalidRequest as error:  # refused at the door: as if the cluster had refused it
        raise JobFailed(Fault(code=error.code, message=error.message, stage=task, field=error.field), "") from None


def _followed(client: Client, job_id: str, on_event: Callable[[Event], None] | None) -> dict[str, Any]:
    for event in client.follow(job_id):
        if on_event is not None:
            on_event(event)
        if event.type == "done":
            return event.result
        if event.type in ("failed", "cancelled"):
            raise JobFailed(event.fault, job_id)
    raise MaeariError(f"The events of job {job_id} ended without an end.")


def warn_of_missing(tools: Tools, client: Client, roles: Sequence[str]) -> None:
    """Say which kinds of worker a job will have to wait for."""
    workers = client.workers()
    ready = {worker.role for worker in workers if worker.state == "ready"}
    loading = {worker.role for worker in workers if worker.state == "loading"}
    if missing := [role for role in roles if role not in ready]:
        shown = ", ".join(f"{role} (loading)" if role in loading else f"{role} (not there)" for role in missing)
        tools.hint(f"The job will wait for: {shown}. See: maeari status")


def roles_for(task: str, request: Mapping[str, Any]) -> list[str]:
    """Kinds of worker that a job needs."""
    from shared.contracts.catalog import CATALOG

    if task == "turns.start":
        heard, spoken = ["stt"] if "audio" in request else [], ["tts"] if request.get("speech", True) else []
        return ["conductor", *heard, "rag", "llm", *spoken]
    queue = CATALOG[task].queue
    return [{"knowledge": "rag", "training": "trainer"}.get(queue, queue)]


@contextlib.contextmanager
def present(client: Client, job_id: str) -> Iterator[None]:
    """Tell the cluster that somebody waits for the job; without it the job ends by itself."""
    over = threading.Event()

    def refresh() -> None:
        import redis

        while not over.wait(PRESENCE_S):
            with contextlib.suppress(redis.RedisError):
                client.keep_alive(job_id)

    thread = threading.Thread(target=refresh, name="presence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1.0)
