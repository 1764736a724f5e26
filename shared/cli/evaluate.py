"""`maeari evaluate`: how good the running cluster is, as figures with their targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from shared.errors import InvalidRequest

from .modules import absolute, run_module
from .start import ensure_up
from .tools import Json, Tenant, tools_of


def evaluate(
    ctx: typer.Context,
    pack: Annotated[
        list[str] | None, typer.Option("--pack", "-p", help="The persona to evaluate. May be given again.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every pack that the project has cases for.")] = False,
    cases: Annotated[Path | None, typer.Option("--cases", help="A JSONL file with cases of your own.")] = None,
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="Another adapter than the pack's, or a version: artist@3.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="At most so many cases per figure.", min=1)] = None,
    write: Annotated[
        Path | None, typer.Option("--write", help="Write the page of documentation, and a picture beside it.")
    ] = None,
    up: Annotated[bool, typer.Option("--up", help="Start the cluster first where it does not run.")] = False,
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Ask the running cluster what it has never seen, and measure what comes back."""
    tools = tools_of(ctx, json)
    if bool(pack) == everything:
        raise InvalidRequest("Give either --pack or --all.", field="pack")
    if up:
        ensure_up(replace(tools, json=False, out=tools.err) if json else tools)
    tools.producer()  # says how to start the cluster where none answers
    arguments = ["--all"] if everything else [word for name in pack or () for word in ("--pack", name)]
    arguments += ["--tenant", tenant, *(["--json"] if json else [])]
    for name, path in (("--cases", cases), ("--write", write)):
        arguments += [name, absolute(path)] if path else []
    for name, value in (("--adapter", adapter), ("--limit", limit)):
        arguments += [name, str(value)] if value else []
    run_module("workers.evaluation", arguments, needs="torch")
