"""The `maeari` command: one module per group of sub-commands. Heavy imports wait until a command needs them."""

from __future__ import annotations


def main() -> None:
    """Entry of the console script and of `python -m shared.cli`."""
    from .root import app

    app(prog_name="maeari")
