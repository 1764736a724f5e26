"""Ray Serve over the same AsyncLLM. `python -m ... PORT`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import StreamingResponse

from tests.benchmarks.peers import workload


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Api:
    """Streams pieces of text, or one piece."""

    def __init__(self) -> None:
        """Load."""
        self.engine = workload.Engine()

    async def __call__(self, request: Request) -> StreamingResponse:
        """A line of JSON for each piece."""
        return StreamingResponse(self._lines(await request.json()), media_type="application/x-ndjson")

    async def _lines(self, job: dict[str, Any]) -> AsyncIterator[str]:
        async for text, tokens in self.engine.generate(job, streamed=job["streamed"]):
            yield json.dumps({"text": text, "tokens": tokens}) + "\n"


if __name__ == "__main__":
    # Quiet, small, without a report to anybody, and no nicer to others than its rivals are.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=128 * 2**20, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    from tests.benchmarks.peers.ray_server import Api as Importable  # workers find it by its module, not as __main__

    serve.run(Importable.bind(), route_prefix="/predict")
    while True:
        time.sleep(3600)
