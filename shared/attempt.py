"""One attempt at a job or stage: what a task's body may do, and how its end is recorded."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, NoReturn

import redis
from celery.exceptions import Ignore
from pydantic import BaseModel, ValidationError

from . import codec, envelope, pulse
from .blobs import open_store
from .claims import Asked, Claim, Refused, new_owner
from .connection import is_trouble, patiently
from .contracts.base import Fault, Request, first_problem
from .contracts.catalog import TaskSpec
from .errors import (
    AttemptTimeout,
    DeadlineExceeded,
    InvalidMessage,
    InvalidRequest,
    JobCancelled,
    MaeariError,
    UnknownTenant,
)
from .jobs import STAGE_SEPARATOR, Append, Jobs, Report, Stage
from .protocols import BlobStore
from .settings import settings

log = logging.getLogger(__name__)

Body = Callable[["Attempt", Any], BaseModel | None]
"""A task: reads its request, calls one engine method, gives the result. None: it goes on in the stages it opened."""


class Attempt:
    """Handed to a task's body. What it emits or opens is buffered and reported at once by the pulse or at the end."""

    def __init__(self, claim: Claim, spec: TaskSpec, jobs: Jobs) -> None:
        """`claim`: the right to run; `spec`: what is fixed about the task."""
        self.claim = claim
        self.spec = spec
        self.jobs = jobs
        self.stop = threading.Event()
        """Set when the attempt must end: cancelled, overdue, taken over."""
        self.verdict: str = "ok"
        self.timeout_at = time.monotonic() + spec.timeout_s
        self.sending = threading.Lock()
        """Held while a report is on its way, so that the last one comes last."""
        self.lock = threading.Lock()
        self.beat_at = time.monotonic()
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._stages: list[Stage] = []
        self._appends: list[Append] = []
        self._last: Stage | None = None
        self._checkpoint = ""
        self._numbered = 0
        self._unsent: Report | None = None
        self._delta: list[str] = []
        self._offset = 0

    # --- what a body may use ---

    @property
    def tenant(self) -> str:
        """Whose data this is."""
        return self.claim.tenant

    @property
    def timeout_s(self) -> float:
        """Seconds left to this attempt: its own limit or the job's deadline, whichever comes first."""
        return max(0.0, min(self.timeout_at - time.monotonic(), self.claim.deadline_ms / 1000 - time.time()))

    @property
    def overdue(self) -> bool:
        """The job's deadline has passed, by this machine's clock."""
        return self.claim.deadline_ms <= time.time() * 1000

    def end_by(self, deadline_ms: int) -> None:
        """End at this time (since the epoch) at the latest, whatever the record says."""
        self.claim = replace(self.claim, deadline_ms=min(self.claim.deadline_ms, deadline_ms))
        self.timeout_at = time.monotonic() + self.timeout_s

    @cached_property
    def blobs(self) -> BlobStore:
        """The blob store."""
        return store()

    @cached_property
    def root_request(self) -> dict[str, Any]:
        """The request of the job that this stage belongs to."""
        checked = envelope.check(self.claim.root_message, signing=self.jobs.signing)
        if checked.job_id != self.claim.root:
            raise InvalidMessage(f"It is not the message of {self.claim.root}.", field="headers.id")
        request: dict[str, Any] = checked.request
        return request

    def stage(self, name: str, task: str, request: Request) -> Stage:
        """A stage of this job; the same name is the same stage, however often it is asked for."""
        return Stage(
            f"{self.claim.root}{STAGE_SEPARATOR}{name}", task, request.model_dump(exclude_none=True, mode="json")
        )

    def emit(self, kind: str, **data: Any) -> None:
        """Tell the caller something now."""
        self.conclude(kind, **data)
        pulse.flusher().add(self)

    def conclude(self, kind: str, **data: Any) -> None:
        """Tell the caller something together with the end of this attempt."""
        with self.lock:
            self._flush_delta()
            self._events.append((kind, data))

    def say(self, text: str) -> None:
        """New text of the reply; joined with what comes within `llm_flush_ms`."""
        with self.lock:
            self._delta.append(text)
        pulse.flusher().hasten(self)

    def start_at(self, offset: int) -> None:
        """The reply's first `offset` characters stand already."""
        self._offset = offset

    def open(self, stage: Stage, *, checkpoint: str = "") -> None:
        """Begin a further stage now, before this one ends; a later attempt goes on from `checkpoint`."""
        with self.lock:
            self._stages.append(stage)
            self._checkpoint = checkpoint
        pulse.flusher().add(self)

    def then(self, stage: Stage) -> None:
        """Begin a further stage when this one has ended well."""
        with self.lock:
            self._stages.append(stage)

    def then_wait_for_stages(self, last: Stage) -> None:
        """The job goes on in its stages; `last` ends it once no other is open."""
        self._last = last

    def remember(self, append: Append) -> None:
        """Append to short-term memory when this attempt ends well, and only then."""
        self._appends.append(append)

    # --- reporting ---

    @property
    def key(self) -> tuple[str, int]:
        """Tells this attempt from an earlier one at the same record in the same process."""
        return self.claim.id, self.claim.fence

    @property
    def unheard(self) -> bool:
        """Nothing of this attempt has been reported yet."""
        return self._numbered == 0

    def drain(self) -> Report | None:
        """What has gathered since the last report; None when nothing has. The same again until it is `sent`."""
        with self.lock:
            if self._unsent is None:
                self._flush_delta()
                if self._events or self._stages:
                    self._numbered += 1
                    self._unsent = Report(
                        events=self._events, stages=self._stages, checkpoint=self._checkpoint, number=self._numbered
                    )
                    self._events, self._stages = [], []
            return self._unsent

    def sent(self, verdict: str) -> bool:
        """What `drain` gave has been answered. Whether more has gathered meanwhile."""
        self._unsent = None
        self.heed(verdict)
        return bool(self._events or self._stages or self._delta)

    def heed(self, verdict: str) -> None:
        """Take in what a report was answered with."""
        self.beat_at = time.monotonic()
        if verdict != "ok" and self.verdict == "ok":
            self.verdict = verdict
            self.stop.set()

    def finish(self, result: BaseModel | None) -> None:
        """Record the end, with all that is still buffered, in one step."""
        pulse.flusher().forget(self)
        with self.sending, self.lock:
            if self._unsent is not None:
                self.sent(self.jobs.report(self.claim, self._unsent))
            self._flush_delta()
            ending: Literal["done", "wait"] = "wait" if self._last is not None else "done"
            report = Report(
                events=self._events,
                stages=self._stages,
                appends=self._appends,
                ending=ending,
                result=None if result is None else codec.write(result),
                ends_job=ending == "done" and (not self.claim.in_turn or self.spec.name == "turns.finish"),
                last=self._last,
                number=self._numbered + 1,
            )
            self.heed(self.jobs.report(self.claim, report))

    def _flush_delta(self) -> None:
        if self._delta:
            text = "".join(self._delta)
            self._events.append(("text.delta", {"offset": self._offset, "text": text}))
            self._offset += len(text)
            self._delta = []


_store: list[BlobStore] = []


def store() -> BlobStore:
    """The blob store of this process."""
    if not _store:
        _store.append(open_store(settings().blobs))
    return _store[0]


def parse(spec: TaskSpec, payload: Any) -> Any:
    """The task's request from a message. Raises `InvalidRequest` with the field."""
    try:
        return spec.request.model_validate(payload)
    except ValidationError as error:
        field, sentence = first_problem(error.errors(include_url=False, include_input=False))
        raise InvalidRequest(sentence, field=field) from None


class Call(NamedTuple):
    """What a message asks for."""

    job_id: str
    payload: Any
    """The request, unchecked."""
    signed_ms: int = 0
    """The deadline that the message was signed with, which no record can put off; 0 where none is."""
    digest: str = ""
    """Of the message."""
    asked: Asked | None = None
    """The job's claim, where that is on its way."""


def run(spec: TaskSpec, body: Body, call: Call, jobs: Jobs) -> None:
    """Claim, run and record. Raises `Ignore` when there is nothing to do, and the error that the job failed with."""
    try:
        claim = (call.asked and call.asked.take()) or _claim(call, jobs)
        if isinstance(claim, Refused):
            _refused(spec, call, jobs, claim.reason)
        attempt = Attempt(claim, spec, jobs)
        if call.signed_ms:
            attempt.end_by(call.signed_ms)
        _run(attempt, body, call.payload)
    except redis.RedisError as error:
        # Nothing can be recorded now. What is not claimed is delivered again; of what is, the lease runs out.
        log.warning("Redis failed under job=%s task=%s", call.job_id, spec.name, exc_info=not is_trouble(error) or None)
        raise Ignore from error


_UNCALLED = {
    "unknown": Fault(code="job_not_found", message="no job of this id was recorded", stage=""),
    "foreign": Fault(code="invalid_message", message="the job was recorded with another message", stage=""),
}
"""Messages that no record asks for are dead letters; whatever job their id belongs to is none of theirs."""


def _claim(call: Call, jobs: Jobs) -> Claim | Refused:
    owner = call.asked.owner if call.asked else new_owner()
    return patiently(lambda: jobs.claim(call.job_id, owner, call.digest))


def _refused(spec: TaskSpec, call: Call, jobs: Jobs, reason: str) -> NoReturn:
    log.info("not run job=%s task=%s: %s", call.job_id, spec.name, reason)
    if fault := _UNCALLED.get(reason):
        jobs.bury(spec.queue, jobs.message(spec.name, call.job_id, call.payload, until_ms=call.signed_ms), fault)
    raise Ignore


def _run(attempt: Attempt, body: Body, payload: Any) -> None:
    try:
        with pulse.keeper().watching(attempt):
            request = parse(attempt.spec, payload)
            if attempt.jobs.signing and attempt.overdue:
                raise DeadlineExceeded
            if request.tenant != attempt.tenant:
                raise InvalidRequest(f"The job was enqueued for tenant {attempt.tenant}.", field="tenant")
            if not settings().serves(request.tenant):
                raise UnknownTenant(request.tenant, field="tenant")
            result = body(attempt, request)
            patiently(lambda: attempt.finish(result))
    except MaeariError as error:
        _fail(attempt, error)
    except redis.RedisError:
        raise
    except Exception as error:
        log.exception("unexpected error in job=%s task=%s", attempt.claim.id, attempt.spec.name)
        _fail(attempt, MaeariError(f"({type(error).__name__})"))
    if attempt.verdict != "ok":
        log.info("stopped job=%s task=%s: %s", attempt.claim.id, attempt.spec.name, attempt.verdict)
        raise Ignore


def _fail(attempt: Attempt, error: MaeariError) -> None:
    """Record a failure by the error tree's rules. An attempt that was told to stop has nothing to record."""
    pulse.flusher().forget(attempt)
    if attempt.verdict == "timeout":
        limit = f"The limit is {attempt.spec.timeout_s:.0f} s."
        error = DeadlineExceeded() if attempt.overdue else AttemptTimeout(limit)
    elif attempt.verdict == "drained":
        attempt.jobs.release(attempt.claim)
        return
    elif attempt.verdict != "ok":
        return
    elif isinstance(error, AttemptTimeout) and (attempt.overdue or time.monotonic() < attempt.timeout_at):
        error = DeadlineExceeded()  # the engine was given no more time than the job has
    elif isinstance(error, JobCancelled):
        log.warning("job=%s stopped without a reason", attempt.claim.id)
    fault = Fault(
        code=error.code, message=error.message, stage=attempt.spec.name, field=error.field, retryable=error.retryable
    )
    delay = backoff_ms(attempt.claim.attempt, error.rest_ms) if error.retryable else None
    outcome = patiently(lambda: attempt.jobs.fail(attempt.claim, fault, retry_ms=delay))
    log.info(
        "job=%s task=%s attempt=%d: %s %s",
        attempt.claim.id,
        attempt.spec.name,
        attempt.claim.attempt,
        error.code,
        outcome,
    )
    raise error


def backoff_ms(attempt: int, rest_ms: int) -> int:
    """Milliseconds before the next attempt: doubling from `rest_ms` up to 30 s, with jitter on its upper half."""
    ceiling = min(30_000, rest_ms * 2 ** (attempt - 1))
    return random.randint(ceiling // 2, ceiling)
