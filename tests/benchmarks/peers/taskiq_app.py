"""Taskiq over its Redis stream broker, tuned: its result is asked for every millisecond instead of every 200."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from tests.benchmarks.peers.client import PAYLOAD, RESULT, answer

URL = os.environ["BENCH_REDIS"]
CHECK_S = 0.001
"""Seconds between two looks at a result."""
TOGETHER = 64
"""Submissions under way at a time."""

broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=3600))


@broker.task(task_name="noop")
async def noop(payload: dict[str, Any]) -> dict[str, Any]:
    """The job."""
    return RESULT


async def _trip() -> None:
    await (await noop.kiq(PAYLOAD)).wait_result(check_interval=CHECK_S, timeout=60)


async def _burst(count: int) -> None:
    gate = asyncio.Semaphore(TOGETHER)

    async def submit() -> Any:
        async with gate:
            return await noop.kiq(PAYLOAD)

    tasks = await asyncio.gather(*(submit() for _ in range(count)))
    for task in tasks:
        await task.wait_result(check_interval=CHECK_S, timeout=300)


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    loop.run_until_complete(broker.startup())
    answer(
        lambda: loop.run_until_complete(_trip()),
        lambda count: loop.run_until_complete(_burst(count)),
    )
