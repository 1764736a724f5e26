"""What a job's stream carries. Every event has `seq`, `job_id`, `type`, `at`; a reader resumes from its last `seq`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from .base import BlobRef, Fault, Wire
from .rag import Source


class _Event(Wire):
    """`seq` counts from 1 without gaps; `at` is Redis time in milliseconds since the epoch."""

    seq: int
    job_id: str
    at: int


class Accepted(_Event):
    """The job is recorded and queued."""

    type: Literal["accepted"] = "accepted"
    task: str


class Started(_Event):
    """A worker has begun a stage; `attempt` above 1 is a re-run."""

    type: Literal["started"] = "started"
    stage: str
    attempt: int


class TranscriptReady(_Event):
    """The question was understood."""

    type: Literal["transcript"] = "transcript"
    text: str
    language: str


class ContextReady(_Event):
    """What will be told to the model."""

    type: Literal["context"] = "context"
    sources: tuple[Source, ...]


class TextDelta(_Event):
    """New text of the reply. Keep the first `offset` characters of what you have and append `text`: a re-run stage may
    go back to an earlier place."""

    type: Literal["text.delta"] = "text.delta"
    offset: int
    text: str


class AudioReady(_Event):
    """A sentence was spoken; `sentence` gives the order of playing, from 0."""

    type: Literal["audio"] = "audio"
    sentence: int
    text: str
    audio: BlobRef
    duration_s: float


class Progress(_Event):
    """A long job moves on; of a training, `done` of `total` are steps."""

    type: Literal["progress"] = "progress"
    stage: str
    done: int
    total: int
    note: str = ""
    loss: float | None = None
    """Of a training: mean loss since the last look at the validation split."""
    rate: float | None = None
    """Of a training: learning rate."""
    eta_s: float | None = None
    """Seconds that the rest will take, as far as can be said."""


class Retrying(_Event):
    """A stage failed and will be tried again in `delay_ms`."""

    type: Literal["retrying"] = "retrying"
    fault: Fault
    delay_ms: int


class Done(_Event):
    """The job ended well; `result` is the task's result."""

    type: Literal["done"] = "done"
    result: dict[str, Any]


class Failed(_Event):
    """The job ended badly."""

    type: Literal["failed"] = "failed"
    fault: Fault


class Cancelled(_Event):
    """The job was stopped by its caller."""

    type: Literal["cancelled"] = "cancelled"
    fault: Fault


Event = Annotated[
    Accepted
    | Started
    | TranscriptReady
    | ContextReady
    | TextDelta
    | AudioReady
    | Progress
    | Retrying
    | Done
    | Failed
    | Cancelled,
    Field(discriminator="type"),
]
"""Any event. Types that a reader does not know are skipped by it."""

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads an event from its JSON object."""

TERMINAL = ("done", "failed", "cancelled")
"""Types that end a stream; exactly one of them does."""
