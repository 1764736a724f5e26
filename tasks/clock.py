"""Milliseconds that an engine took."""

from __future__ import annotations

import time


class Stopwatch:
    """Starts when it is made."""

    def __init__(self) -> None:
        """Start."""
        self._began = time.perf_counter()

    @property
    def ms(self) -> float:
        """Milliseconds since the start."""
        return round((time.perf_counter() - self._began) * 1000, 2)
