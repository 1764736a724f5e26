"""Tests never sleep for luck: they wait for a described condition.

Deadlines are there so that a broken promise is told, not to measure: a starved machine may take many times its usual time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, *, timeout_s: float = 90.0, every_s: float = 0.02) -> T:
    """The first truthy value of `condition`; fails with `what` when none came in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain until {what}; last value: {value!r}")
        time.sleep(every_s)
