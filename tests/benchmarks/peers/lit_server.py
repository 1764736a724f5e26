"""LitServe over the same AsyncLLM. `python -m ... PORT`.

No postponed annotations here: LitServe reads them to know what a request is.
"""

import json
import multiprocessing
import sys
from collections.abc import AsyncIterator
from typing import Any

import litserve
import litserve.server

from tests.benchmarks.peers import workload


class Api(litserve.LitAPI):
    """Streams pieces of text, or one piece."""

    def setup(self, device: str) -> None:
        """In LitServe's worker process, which is a daemon and so would not be allowed an engine core of its own."""
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        self.engine = workload.Engine()

    async def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """As it came."""
        return request

    async def predict(self, job: dict[str, Any]) -> AsyncIterator[tuple[str, int]]:
        """Pieces with their tokens."""
        async for piece in self.engine.generate(job, streamed=job["streamed"]):
            yield piece

    async def encode_response(self, pieces: AsyncIterator[tuple[str, int]]) -> AsyncIterator[str]:
        """A line of JSON each."""
        async for text, tokens in pieces:
            yield json.dumps({"text": text, "tokens": tokens}) + "\n"


if __name__ == "__main__":
    # It takes any `mcp` for the release that it knows and stumbles over the product's; nobody asks for tools here.
    litserve.server._MCP_AVAILABLE = False
    api = Api(stream=True, enable_async=True)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=300)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error", num_api_servers=1
    )
