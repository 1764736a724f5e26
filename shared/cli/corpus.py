"""`maeari corpus`: data to train on, looked at and made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .modules import absolute, run_module

MODULE = "workers.training.preparation"

app = typer.Typer(no_args_is_help=True, help="Data to train on: its quality; chats and generated dialogues as JSONL.")

Seed = Annotated[int, typer.Option("--seed", help="Of the drawing.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="JSONL file to write.")]


@app.command("report")
def report(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Instruction JSONL; without it: what the project generates.")
    ] = None,
    pack: Annotated[str | None, typer.Option("--pack", "-p", help="Whose style rules its answers should keep.")] = None,
    sample: Annotated[
        Path | None, typer.Option("--sample", help="Write a tenth of the examples there, to be read.")
    ] = None,
    dialogues: Annotated[int, typer.Option("--dialogues", help="Generated dialogues of each style.", min=1)] = 2000,
    seed: Seed = 0,
) -> None:
    """Counts per category, duplicates, lengths, broken style rules, as JSON."""
    arguments = ["report", "--dialogues", str(dialogues), "--seed", str(seed)]
    for name, path in (("--file", file), ("--sample", sample)):
        arguments += [name, absolute(path)] if path else []
    run_module(MODULE, arguments + (["--pack", pack] if pack else []), needs="torch")


@app.command("prepare")
def prepare(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Chats: JSONL with turns, or KakaoTalk's text export.")
    ],
    out: Out,
    pack: Annotated[str, typer.Option("--pack", "-p", help="Whose system message stands in front.")] = "parent",
    parent: Annotated[list[str] | None, typer.Option("--parent", help="A speaker who is a parent.")] = None,
    child: Annotated[list[str] | None, typer.Option("--child", help="A speaker who is a child.")] = None,
) -> None:
    """Keep what parent and child said to each other, clean it, write it to train on."""
    arguments = ["prepare", *map(absolute, files), "--out", absolute(out), "--pack", pack]
    arguments += [word for name in parent or () for word in ("--parent", name)]
    arguments += [word for name in child or () for word in ("--child", name)]
    run_module(MODULE, arguments, needs="torch")


@app.command("write")
def write(
    out: Out,
    style: Annotated[str, typer.Option("--style", help="parent, artist or neutral.")] = "parent",
    count: Annotated[int, typer.Option("--count", "-n", help="Dialogues.", min=1)] = 4500,
    seed: Seed = 0,
) -> None:
    """The dialogues that the project generates, written to be read, changed or trained on elsewhere."""
    arguments = ["write", "--style", style, "--count", str(count), "--seed", str(seed), "--out", absolute(out)]
    run_module(MODULE, arguments, needs="torch")
