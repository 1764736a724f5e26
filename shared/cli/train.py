"""`maeari train`: run a recipe here, or as a job of the cluster, and see how far it is."""

from __future__ import annotations

import contextlib
import json as json_lines
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any

import typer

from shared.errors import EngineFailed, InvalidRequest, MaeariError, by_code

from .modules import absolute, command_of, run_module
from .tools import INTERRUPTED, JobFailed, Json, Tenant, Tools, tools_of, warn_of_missing

LINE_EVERY_S = 15.0
"""Seconds between two lines of progress where there is no terminal."""

DEADLINE_S = 86_000.0
"""Seconds that a training job has: a little under the longest that the cluster takes."""

LAST_LINES = 12
"""Lines of the log that a failure is shown with."""


def train(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name, or a .yaml file.")],
    queue: Annotated[bool, typer.Option("--queue", "-q", help="Let a trainer of the cluster run it.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="With --queue: follow the job to its end.")] = True,
    promote: Annotated[bool, typer.Option("--promote", help="Serve the new version if it passes.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what memory it needs, and train nothing.")] = False,
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Train a model from its recipe; run it again after an interruption, and it goes on where it stood."""
    tools = tools_of(ctx, json)
    if plan:
        run_module("workers.training", [_recipe(recipe), "--plan"], needs="peft")
        return
    if queue:
        result = _queued(tools, {"tenant": tenant, "recipe": recipe, "promote": promote}, wait=wait)
    else:
        result = _here(tools, recipe, promote=promote)
    if result is not None:
        _show(tools, result)


def _recipe(recipe: str) -> str:
    return absolute(Path(recipe)) if recipe.endswith((".yaml", ".yml")) else recipe


class View:
    """How far a training is: a bar on a terminal, else a line now and then."""

    def __init__(self, tools: Tools, title: str) -> None:
        """`title`: what is trained."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._tools, self._title = tools, title
        self._shown = time.monotonic()
        shown = tools.out.is_terminal and not tools.json
        told = TextColumn("loss {task.fields[loss]}  rate {task.fields[rate]}  left {task.fields[left]}")
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), told
        self._bar = Progress(*columns, console=tools.out) if shown else None
        self._task = self._bar.add_task(title, total=None, loss="–", rate="–", left="–") if self._bar else None

    def __enter__(self) -> View:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, note: str, step: int, steps: int, loss: float, rate: float, eta_s: float) -> None:
        """A step has been made."""
        told: dict[str, Any] = {"loss": f"{loss:.3f}", "rate": f"{rate:.1e}", "left": _minutes(eta_s)}
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=note or self._title, completed=step, total=steps, **told)
        elif step == steps or time.monotonic() - self._shown > LINE_EVERY_S:
            self._shown = time.monotonic()
            line = f"{note or self._title}: step {step} of {steps}, loss {told['loss']}, rate {told['rate']}"
            self._tools.hint(f"{line}, {told['left']} left")


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


# --- as a job ---


def _queued(tools: Tools, request: dict[str, Any], *, wait: bool) -> dict[str, Any] | None:
    client = tools.producer()
    warn_of_missing(tools, client, ["trainer"])
    job_id = client.submit("training.run", request, priority="batch", deadline_s=DEADLINE_S).job_id
    follow = f"Follow it: maeari job events {job_id} -f   Stop it: maeari job cancel {job_id}"
    if not wait:
        if tools.json:
            tools.print_json({"job_id": job_id})
        tools.say(f"Job {job_id} is queued. {follow}")
        return None
    try:
        with View(tools, request["recipe"]) as show:
            return _followed(tools, job_id, show)
    except KeyboardInterrupt:
        tools.hint(f"\nThe job goes on. {follow}")
        raise typer.Exit(INTERRUPTED) from None


def _followed(tools: Tools, job_id: str, show: View) -> dict[str, Any]:
    for event in tools.producer().follow(job_id):
        if event.type == "progress":
            show(event.note, event.done, event.total, event.loss or 0.0, event.rate or 0.0, event.eta_s or 0.0)
        elif event.type == "retrying":
            tools.hint(f"It will be tried again: {event.fault.message}")
        elif event.type == "done":
            return event.result
        elif event.type in ("failed", "cancelled"):
            raise JobFailed(event.fault, job_id)
    raise MaeariError(f"The events of job {job_id} ended without an end.")


# --- on this machine ---


def _here(tools: Tools, recipe: str, *, promote: bool) -> dict[str, Any]:
    from shared.cluster.environment import child_environment
    from shared.cluster.layout import layout_of
    from shared.settings import ROOT, settings

    arguments = [_recipe(recipe), "--keep", "--events", *(["--promote"] if promote else [])]
    command = command_of("workers.training", arguments, "peft")
    logs = layout_of(settings().home).logs
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"train-{Path(recipe).stem}.log"
    with log.open("wb") as written, View(tools, Path(recipe).stem) as show:
        process = subprocess.Popen(
            command, cwd=ROOT, env=child_environment(settings()), stdout=subprocess.PIPE, stderr=written, text=True
        )
        with process, _stopped_gently(tools, process):
            assert process.stdout is not None
            result = _listen(process.stdout, show)
    if result is None:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        raise EngineFailed(f"The training ended with status {process.returncode}. {log} says:\n" + "\n".join(lines))
    return result


def _listen(lines: IO[str], show: View) -> dict[str, Any] | None:
    """The result; None where the process ended without one. Raises the error that it tells of."""
    for line in lines:
        told: dict[str, Any] = json_lines.loads(line)
        kind = told.pop("type")
        if kind == "progress":
            show(told["stage"], told["step"], told["steps"], told["loss"], told["rate"], told["eta_s"])
        elif kind == "done":
            return told
        else:
            raise by_code().get(told["code"], MaeariError)(told["message"], field=told["field"])
    return None


@contextlib.contextmanager
def _stopped_gently(tools: Tools, process: subprocess.Popen[str]) -> Iterator[None]:
    """Ctrl-C: the training ends after its step and keeps its checkpoint; the terminal has told it too."""
    try:
        yield
    except KeyboardInterrupt:
        tools.hint("\nStopping after this step. The same command goes on from there.")
        process.wait()
        raise


def _show(tools: Tools, result: dict[str, Any]) -> None:
    if tools.json:
        tools.print_json(result)
        return
    figures, version = result["figures"], result["version"]
    parts = [f"{figures[name]} {name.replace('_', ' ')}" for name in ("steps", "validation_loss") if name in figures]
    tools.say(f"{result['recipe']} is trained: {', '.join([*parts, str(result['minutes']) + ' minutes'])}", "bold")
    if version is None:
        tools.say(f"It lies under the home folder's models, not where it is served: {result['kind']}.")
        return
    tools.say(f"Registered as {version}. {'It is served from now on.' if result['promoted'] else 'It is not served.'}")
    for shortcoming in result["shortcomings"]:
        tools.say(f"  {shortcoming}", "yellow")
    if not result["promoted"]:
        tools.say(f"Measure it: maeari adapter evaluate {version}   Serve it: maeari adapter promote {version}", "dim")


def check_label(label: str) -> str:
    """A version's name as people give it. Raises `InvalidRequest`."""
    if "@" not in label:
        raise InvalidRequest(f"Name a version, e.g. {label}@1. See: maeari adapter list", field="adapter")
    return label
