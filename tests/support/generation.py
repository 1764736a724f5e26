"""Asking a generator without a cluster, and finding the processes in which it computes."""

from __future__ import annotations

import threading
from typing import Any

import psutil

from shared.contracts.llm import GenerateRequest, Generation, Message, Sampling
from tests.support.processes import command
from workers.engines.generator import BatchingGenerator

GREEDY = Sampling(temperature=0.0, max_tokens=32)
ENDLESS = Sampling(temperature=0.0, max_tokens=900, min_tokens=900)


def ask(generator: BatchingGenerator, text: str = "안녕하세요", *, on_text: Any = None, **fields: Any) -> Generation:
    """One request with usual values for what is not given."""
    control = {"stop": threading.Event(), "timeout_s": 600.0} | {
        name: fields.pop(name) for name in ("stop", "timeout_s") if name in fields
    }
    request = GenerateRequest(messages=(Message(role="user", content=text),), **({"sampling": GREEDY} | fields))
    return generator.generate(request, request_id="test", on_text=on_text, **control)


def cores_of(pid: int) -> set[psutil.Process]:
    """The engine cores that a process has."""
    return {child for child in psutil.Process(pid).children() if "Engine" in command(child)}
