"""A FAKE generator: it says what it was told to say, at a chosen speed. No model runs.

For tests and benchmarks of everything around the engine: it keeps the protocol's promises (streaming, `prefix`,
`max_tokens`, stop strings, cancellation, time limits) with the timing of an engine that one would like to have.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

from shared.contracts.base import EngineInfo
from shared.contracts.llm import GenerateRequest, Generation, Usage
from shared.errors import AttemptTimeout, EngineDead, JobCancelled
from shared.protocols import OnText, Stop

TOKEN_CHARS = 2
"""Characters per token: what a Korean vocabulary makes of running text."""

Script = Callable[[GenerateRequest], str]
"""The whole reply to a request, its prefix included."""


class ScriptedGenerator:
    """FAKE: recites `script` at `token_ms` a token; all requests run at once, none slows another."""

    def __init__(self, script: str | Script, *, token_ms: float = 15.0, first_token_ms: float = 15.0) -> None:
        """`first_token_ms`: milliseconds until the first token; `token_ms`: between two."""
        self._script: Script = script if callable(script) else lambda _: script
        self._token_s = token_ms / 1000
        self._first_s = first_token_ms / 1000
        self._dead = threading.Event()

    @property
    def info(self) -> EngineInfo:
        """Says that it is a fake."""
        return EngineInfo(name="scripted (fake)", model="script", version="1")

    @property
    def dead(self) -> threading.Event:
        """Set by a test that wants the engine dead."""
        return self._dead

    def warm_up(self) -> None:
        """There is nothing to warm."""

    def close(self) -> None:
        """Nothing is held; what still runs dies."""
        self._dead.set()

    def generate(
        self,
        request: GenerateRequest,
        *,
        request_id: str,  # noqa: ARG002 - the protocol's
        stop: Stop,
        timeout_s: float,
        on_text: OnText | None = None,
    ) -> Generation:
        """The script's reply behind `request.prefix`. Raises `JobCancelled`, `AttemptTimeout`, `EngineDead`."""
        begun = time.monotonic()
        reply = self._script(request).removeprefix(request.prefix)
        kept, reason = _kept(reply, request)
        first_at = begun + self._first_s
        for number, token in enumerate(_tokens(kept)):
            self._sleep_until(first_at + number * self._token_s, stop, begun + timeout_s)
            if on_text is not None:
                on_text(token)
        prompt = sum(len(message.content) for message in request.messages) + len(request.prefix)
        return Generation(
            text=kept,
            finish_reason=reason,
            usage=Usage(prompt_tokens=-(-prompt // TOKEN_CHARS), completion_tokens=len(list(_tokens(kept)))),
            adapter=request.adapter,
            ttft_ms=self._first_s * 1000,
            engine_ms=(time.monotonic() - begun) * 1000,
            engine=self.info,
        )

    def _sleep_until(self, at: float, stop: Stop, limit: float) -> None:
        """Absolute times: a slow caller does not slow the script down."""
        if stop.wait(max(0.0, min(at, limit) - time.monotonic())):
            raise JobCancelled
        if self._dead.is_set():
            raise EngineDead
        if at > limit:
            raise AttemptTimeout


def _tokens(text: str) -> Iterator[str]:
    return (text[start : start + TOKEN_CHARS] for start in range(0, len(text), TOKEN_CHARS))


def _kept(reply: str, request: GenerateRequest) -> tuple[str, Literal["stop", "length"]]:
    """What stop strings and `max_tokens` leave of the reply."""
    ends = [reply.index(stop) for stop in request.sampling.stop if stop in reply]
    stopped = reply[: min(ends)] if ends else reply
    cut = stopped[: request.sampling.max_tokens * TOKEN_CHARS]
    return cut, "stop" if cut == stopped else "length"
