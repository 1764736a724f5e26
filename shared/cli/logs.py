"""`maeari logs`: what the processes have written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from shared.errors import InvalidRequest

from .tools import Tools, tools_of

POLL_S = 0.3
"""Seconds between two looks at a log that is followed."""


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
