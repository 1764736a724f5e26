"""Text generation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import AdapterName, EngineInfo, Many, Name, NonBlank, Part, Request, Text, Wire

Role = Literal["system", "user", "assistant"]


class Message(Part):
    """One message of a conversation."""

    role: Role
    content: Text


class Sampling(Part):
    """How tokens are drawn."""

    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    top_k: Annotated[int, Field(ge=0, le=1000)] = 0
    """0: all tokens."""
    repetition_penalty: Annotated[float, Field(gt=0.0, le=2.0)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 256
    min_tokens: Annotated[int, Field(ge=0, le=8192)] = 0
    """Tokens before the model may end its reply."""
    stop: Annotated[tuple[NonBlank, ...], Field(strict=False, max_length=8)] = ()
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class Speak(Part):
    """Inside a turn: each finished sentence goes to synthesis at once, in this voice."""

    voice: Name
    language: Literal["ko", "en"] = "ko"


class GenerateRequest(Request):
    """`llm.generate`: the next message of a conversation."""

    messages: Annotated[tuple[Message, ...], Field(strict=False, min_length=1, max_length=512)]
    model: Name | None = None
    """Must be the served model; empty: whatever is served."""
    adapter: AdapterName | None = None
    """LoRA adapter over the base model: the version that is served now, or a version, `artist@3`."""
    sampling: Sampling = Sampling()
    json_schema: dict[str, Any] | None = None
    """JSON Schema that the text must match."""
    stream: bool = False
    """Emit `text.delta` events."""
    prefix: Text = ""
    """Beginning of the reply that stands already; generation goes on behind it."""
    speak: Speak | None = None
    """Set by a turn; refused elsewhere."""

    @model_validator(mode="after")
    def _one_shape(self) -> GenerateRequest:
        if self.json_schema is not None and self.speak is not None:
            raise ValueError("json_schema and speak exclude each other")
        return self


class Usage(Wire):
    """Tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Generation(Wire):
    """Result of `llm.generate`."""

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
    adapter: str | None = None
    """As it was asked for."""
    adapter_version: str | None = None
    """What that was: `artist@3`, or a digest behind the name of one that was shipped."""
    ttft_ms: float
    """Milliseconds from the engine's start on this job to its first token."""
    engine_ms: float
    """Milliseconds in the engine."""
    engine: EngineInfo
    sentences: int = 0
    """Sentences that were dispatched to synthesis."""


Messages = Many[Message]
