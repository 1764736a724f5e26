"""What every client of the hops section does, whatever the system: single round trips, then a burst."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.benchmarks.child import serve

PAYLOAD = {"tenant": "default", "texts": ["가" * 300]}
"""About 1 kB of JSON."""
RESULT = {"vectors": [[0.0123456789012345] * 32], "dimension": 32, "engine_ms": 0.01}
"""What a peer's no-op job gives back: as many bytes as this cluster's."""

Trip = Callable[[], object]
Burst = Callable[[int], object]


def answer(trip: Trip, burst: Burst, **further: Trip) -> None:
    """Serve the bench; `further`: other trips by their names."""

    def trips(count: int, once: Trip = trip) -> list[float]:
        found = []
        for _ in range(count):
            began = time.perf_counter()
            once()
            found.append((time.perf_counter() - began) * 1000)
        return found

    def rush(count: int) -> float:
        began = time.perf_counter()
        burst(count)
        return time.perf_counter() - began

    handlers: dict[str, Callable[[Any], Any]] = {"trips": trips, "burst": rush}
    for name, once in further.items():
        handlers[name] = partial(trips, once=once)
    serve(handlers)
