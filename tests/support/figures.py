"""Figures that a test measures beside what it asserts; `pytest -s` shows them."""

from __future__ import annotations

import sys


def figure(line: str) -> None:
    """Write a line among the test's output."""
    sys.stdout.write(f"\nfigure: {line}\n")
