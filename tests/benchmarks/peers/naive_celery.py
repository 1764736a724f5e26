"""The Celery worker that everybody writes first: one `LLM.generate` per task, solo pool, stock result backend."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from celery import Celery

from . import workload

app = Celery("naive", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(result_expires=3600, task_default_queue="naive", broker_connection_retry_on_startup=True)


@cache
def _engine() -> Any:
    arguments, _ = workload.prepared()
    from vllm import LLM

    return LLM(**arguments)


@app.task(name="generate")
def generate(job: dict[str, Any]) -> int:
    """A reply; its tokens."""
    llm = _engine()
    (output,) = llm.generate(
        [job["prompt"]],
        workload.sampling(job["tokens"], streamed=False),
        lora_request=workload.handles()[job["adapter"]],
        use_tqdm=False,
    )
    return len(output.outputs[0].token_ids)
