"""Tokens of a reply that nobody reads along leave the engine's core in pieces, not one by one.

vLLM's core hands on every token of every reply as it comes; what is not streamed is held back (`stream_interval`) by
the process that asks for it. Until then each token has been packed, sent and read by itself: of a step of the laptop's
model with 64 replies about 1 %, and time of the interpreter that Celery's threads share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PIECE = 16
"""Tokens of a piece; all at once at the end would make the last text wait for the work of a whole reply."""

UPDATE = "update_from_output"
"""What vLLM's scheduler tells after a step: outputs by client."""


def gather() -> None:
    """Have every scheduler of this process gather."""
    from vllm.v1.core.sched.scheduler import Scheduler

    setattr(Scheduler, UPDATE, gathering(getattr(Scheduler, UPDATE)))


def gathering(update: Callable[..., dict[int, Any]]) -> Callable[..., dict[int, Any]]:
    """`update`, whose outputs come in pieces where nothing is lost by it."""
    held: dict[str, list[int]] = {}

    def gathered(scheduler: Any, *args: Any) -> dict[int, Any]:
        found = update(scheduler, *args)
        for client, outputs in tuple(found.items()):
            if outputs.outputs:
                outputs.outputs = [out for out in outputs.outputs if _leaves(out, scheduler.requests, held)]
                if not (outputs.outputs or outputs.finished_requests or outputs.scheduler_stats):
                    del found[client]
        if len(held) > len(scheduler.requests):  # some were given up, of which nothing more is heard
            for gone in held.keys() - scheduler.requests.keys():
                del held[gone]
        return found

    return gathered


def _leaves(output: Any, requests: dict[str, Any], held: dict[str, list[int]]) -> bool:
    """Whether an output goes out now, with what has gathered before it."""
    before = held.get(output.request_id)
    if before is None:  # the first one always does: its time is told
        if output.finish_reason is None and _may_wait(requests[output.request_id].sampling_params):
            held[output.request_id] = []
        return True
    before += output.new_token_ids
    if output.finish_reason is None and len(before) < PIECE:
        return False
    output.new_token_ids = before
    if output.finish_reason is None:
        held[output.request_id] = []
    else:
        del held[output.request_id]
    return True


def _may_wait(params: Any) -> bool:
    """Nobody reads along, and nobody looks in the text for where it must stop."""
    if params is None or params.stop or params.num_logprobs is not None:
        return False
    return (params.stream_interval or 1) >= PIECE
