"""Commands that live beside the models: run as a module of `workers`, which this package never imports."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import typer

from shared.errors import ConfigurationInvalid

STOP_S = 20.0
"""Seconds that a module has to end after Ctrl-C."""


def command_of(module: str, arguments: Sequence[str], needs: str) -> list[str]:
    """The command that runs `module`. Raises `ConfigurationInvalid` where the library `needs` is not installed."""
    if find_spec(needs) is None:
        raise ConfigurationInvalid(f"This needs the extra `train` of the project; {needs} is not installed.")
    return [sys.executable, "-m", module, *arguments]


def run_module(module: str, arguments: Sequence[str], needs: str) -> None:
    """Run a module with this process's settings and terminal; its exit status becomes the command's."""
    from shared.cluster.environment import child_environment
    from shared.settings import ROOT, settings

    command = command_of(module, arguments, needs)
    with subprocess.Popen(command, cwd=ROOT, env=child_environment(settings())) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # the terminal has told the module too
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()
            raise
    if status:
        raise typer.Exit(status)


def absolute(path: Path) -> str:
    """A path as the module takes it, which runs elsewhere."""
    return str(path.expanduser().absolute())
