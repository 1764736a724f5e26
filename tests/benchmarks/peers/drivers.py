"""Clients of the generation section, each in a process of its own: `batch`, `async`, `cluster`, `celery`, or `http KIND URL`.

A question is `{"jobs", "tokens", "streamed"}`: that many jobs at once, with replies of that length. The answer: tokens, seconds, milliseconds to each first token
that can be read: the bytes of one character may take several tokens, and until the last of them there is nothing to show.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.benchmarks.child import serve

from . import workload

KEPT_S = 2.0
"""Seconds for which connections are kept: from a warm-up to its batch, but not until a server that was frozen closes them."""

One = Callable[[dict[str, Any], bool, Callable[[], None]], Awaitable[int]]
"""Job, whether streamed, to be called at the first text; gives the tokens."""


class Clock:
    """Collects what a batch took."""

    def __init__(self) -> None:
        """The batch begins now."""
        self.began = time.perf_counter()
        self.firsts: list[float] = []

    def first(self) -> None:
        """A first text was seen; jobs of a batch begin together."""
        self.firsts.append((time.perf_counter() - self.began) * 1000)

    def answer(self, tokens: int) -> dict[str, Any]:
        """The batch is complete."""
        return {"tokens": tokens, "seconds": time.perf_counter() - self.began, "ttft_ms": self.firsts}


def batch() -> None:
    """Raw `LLM.generate`."""
    arguments, _ = workload.prepared()
    from vllm import LLM

    llm, loras = LLM(**arguments), workload.handles()
    known = workload.prompts(64)

    def run(question: dict[str, Any]) -> dict[str, Any]:
        jobs = known[: question["jobs"]]
        params = workload.sampling(question["tokens"], streamed=False)
        prompts = [job["prompt"] for job in jobs]
        clock = Clock()
        outputs = llm.generate(prompts, params, lora_request=[loras[job["adapter"]] for job in jobs], use_tqdm=False)
        return clock.answer(sum(len(output.outputs[0].token_ids) for output in outputs))

    serve({"run": run})


def asynchronous(make: Callable[[], Awaitable[One]]) -> None:
    """Serve batches of coroutines."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    one = loop.run_until_complete(make())
    known = workload.prompts(64)

    async def together(question: dict[str, Any]) -> dict[str, Any]:
        jobs = [job | {"tokens": question["tokens"]} for job in known[: question["jobs"]]]
        clock = Clock()
        return clock.answer(sum(await asyncio.gather(*(one(job, question["streamed"], clock.first) for job in jobs))))

    serve({"run": lambda question: loop.run_until_complete(together(question))})


async def raw_async() -> One:
    """AsyncLLM in this very process."""
    engine = workload.Engine()

    async def one(job: dict[str, Any], streamed: bool, first: Callable[[], None]) -> int:
        tokens, read = 0, False
        async for text, count in engine.generate(job, streamed=streamed):
            if text and not read:
                read = True
                first()
            tokens += count
        return tokens

    return one


def over_http(kind: str, url: str) -> Callable[[], Awaitable[One]]:
    """vLLM's OpenAI server, LitServe or Ray Serve."""

    async def make() -> One:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S)
        session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(300))

        async def one(job: dict[str, Any], streamed: bool, first: Callable[[], None]) -> int:
            tokens, read = 0, False
            async with session.post(url, json=_body(kind, job, streamed)) as answer:
                answer.raise_for_status()
                async for line in answer.content:
                    text, found = _piece(kind, line)
                    if text and not read:
                        read = True
                        first()
                    tokens += found
            return tokens

        return one

    return make


def _body(kind: str, job: dict[str, Any], streamed: bool) -> dict[str, Any]:
    if kind != "openai":
        return job | {"streamed": streamed}
    return {
        "model": job["adapter"] or "language",
        "prompt": job["prompt"],
        "temperature": 0.0,
        "max_tokens": job["tokens"],
        "min_tokens": job["tokens"],
        "stream": streamed,
        "return_token_ids": streamed,
    }


def _piece(kind: str, line: bytes) -> tuple[str, int]:
    """Text and tokens of a line of an answer."""
    said = line.decode().strip().removeprefix("data: ")
    if not said.startswith("{"):
        return "", 0
    answer = json.loads(said)
    if kind != "openai":
        return answer["text"], int(answer["tokens"])
    text = "".join(choice["text"] for choice in answer["choices"])
    if answer.get("usage"):
        return text, int(answer["usage"]["completion_tokens"])
    return text, sum(len(choice.get("token_ids") or ()) for choice in answer["choices"])


def _threads(count: int, work: Callable[[int], int]) -> int:
    found: list[int] = []
    threads = [threading.Thread(target=lambda place=place: found.append(work(place))) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) != count:
        raise RuntimeError(f"{count - len(found)} jobs failed")
    return sum(found)


def cluster() -> None:
    """This cluster through its thin producer: text in, text out."""
    from shared.contracts.events import Done, TextDelta
    from shared.contracts.llm import Sampling
    from shared.producer import Producer

    producer, requests = Producer(), workload.requests(64)

    def run(question: dict[str, Any]) -> dict[str, Any]:
        streamed, tokens = question["streamed"], question["tokens"]
        clock = Clock()
        how = {"stream": streamed, "sampling": Sampling(temperature=0.0, max_tokens=tokens, min_tokens=tokens)}
        asked = [request.model_copy(update=how) for request in requests[: question["jobs"]]]
        jobs = [job.job_id for job in producer.submit_all("llm.generate", asked)]

        def follow(place: int) -> int:
            seen = False
            for event in producer.follow(jobs[place], timeout_s=300):
                if isinstance(event, TextDelta) and not seen:
                    seen = True
                    clock.first()
                if isinstance(event, Done):
                    return int(event.result["usage"]["completion_tokens"])
            raise RuntimeError("the job failed")

        if streamed:
            return clock.answer(_threads(len(jobs), follow))
        return clock.answer(sum(producer.result(job, timeout_s=300)["usage"]["completion_tokens"] for job in jobs))

    serve({"run": run})


def celery() -> None:
    """The worker that everybody writes first."""
    from .naive_celery import generate

    known = workload.prompts(64)

    def run(question: dict[str, Any]) -> dict[str, Any]:
        clock = Clock()
        results = [generate.delay(job | {"tokens": question["tokens"]}) for job in known[: question["jobs"]]]
        return clock.answer(sum(result.get(timeout=600) for result in results))

    serve({"run": run})


if __name__ == "__main__":
    if sys.argv[1] == "http":
        asynchronous(over_http(*sys.argv[2:]))
    elif sys.argv[1] == "async":
        asynchronous(raw_async)
    else:
        {"batch": batch, "cluster": cluster, "celery": celery}[sys.argv[1]]()
