"""The fake keeps the promises of the protocol that it stands in for."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from shared.contracts.llm import GenerateRequest, Generation, Message, Sampling
from shared.errors import AttemptTimeout, EngineDead, JobCancelled
from shared.protocols import Generator
from workers.engines.scripted_generator import ScriptedGenerator

TEXT = "안녕! 오늘도 고마워. 내일 또 보자."


def ask(
    fake: Generator, *, on_text: Any = None, stop: Any = None, timeout_s: float = 120.0, **fields: Any
) -> Generation:
    """One request."""
    request = GenerateRequest(messages=(Message(role="user", content="안녕"),), **fields)
    return fake.generate(
        request, request_id="test", stop=stop or threading.Event(), timeout_s=timeout_s, on_text=on_text
    )


def test_it_recites_in_time() -> None:
    pieces: list[str] = []
    begun = time.monotonic()
    reply = ask(ScriptedGenerator(TEXT, token_ms=10, first_token_ms=50), on_text=pieces.append)
    assert reply.text == "".join(pieces) == TEXT
    assert reply.finish_reason == "stop"
    assert time.monotonic() - begun >= 0.05 + 0.01 * (len(pieces) - 1)
    assert "fake" in reply.engine.name


def test_prefix_stop_string_and_token_limit() -> None:
    fake = ScriptedGenerator(TEXT, token_ms=0, first_token_ms=0)
    assert ask(fake, prefix="안녕! ").text == TEXT.removeprefix("안녕! ")
    assert ask(fake, sampling=Sampling(stop=("내일",))).text == "안녕! 오늘도 고마워. "
    short = ask(fake, sampling=Sampling(max_tokens=2))
    assert (short.text, short.finish_reason, short.usage.completion_tokens) == ("안녕! ", "length", 2)


def test_it_ends_when_told() -> None:
    fake = ScriptedGenerator(TEXT, token_ms=1000, first_token_ms=0)
    with pytest.raises(AttemptTimeout):
        ask(fake, timeout_s=0.05)
    stop = threading.Event()
    with pytest.raises(JobCancelled):
        ask(fake, stop=stop, on_text=lambda _: stop.set())
    fake.close()
    with pytest.raises(EngineDead):
        ask(fake)
