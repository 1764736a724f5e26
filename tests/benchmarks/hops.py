"""A no-op job of 1 kB with every promise kept: push, claim, lease, finish, seen by the caller."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .stage import median, quantile, stage

SINGLE, BURST = 400, 3000
PAYLOAD = {"texts": ["가" * 300]}


def measure(folder: Path) -> dict[str, Any]:
    """Round trips one after another, then a burst."""
    with stage(folder, ["rag"], MAEARI_ENGINES="scripted", MAEARI_TASK_EVENTS="false", MAEARI_TENANT_SHARE="16") as on:
        trips = []
        for _ in range(SINGLE):
            began = time.perf_counter()
            job = on.producer.submit("rag.embed", PAYLOAD)
            for _ in on.producer.follow(job.job_id, timeout_s=30):
                pass
            trips.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        jobs = [on.producer.submit("rag.embed", PAYLOAD).job_id for _ in range(BURST)]
        for job_id in jobs:
            on.producer.result(job_id, timeout_s=120)
        burst = BURST / (time.perf_counter() - began)
    return {
        "round_trip_ms_p50": median(trips),
        "round_trip_ms_p95": quantile(trips, 0.95),
        "burst_jobs_per_s": round(burst),
    }
