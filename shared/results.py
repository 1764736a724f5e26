"""A job's result, waited for. Who needs no events is woken once: what ends a job publishes its result, as in Celery."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import redis

from . import codec, streams
from .contracts.base import Fault
from .contracts.events import TERMINAL, Cancelled, Done, Failed
from .errors import JobNotFound, MaeariError, by_code
from .keys import CELERY_RESULT

if TYPE_CHECKING:
    from .jobs import Jobs

LOOK_S = 2.0
"""Seconds after which the record is looked at again: an announcement may be lost."""


def error_of(fault: Fault) -> MaeariError:
    """The exception that a fault stands for."""
    kind = by_code().get(fault.code, MaeariError)
    error = MaeariError.__new__(kind)
    error.detail, error.field = fault.message, fault.field
    Exception.__init__(error, fault.message)
    return error


def wait(jobs: Jobs, job_id: str, *, timeout_s: float | None = None) -> dict[str, Any]:
    """The job's result. Raises the error that the job failed with, `JobNotFound`, `TimeoutError`."""
    until = math.inf if timeout_s is None else time.monotonic() + timeout_s
    (stored,) = jobs.ask([("GET", CELERY_RESULT + job_id)])  # who collects many results finds most of them there
    if stored and (ready := _success(stored)) is not None:
        return ready
    while True:
        try:
            answers, told = _heard(jobs, job_id, min(until - time.monotonic(), LOOK_S))
        except redis.ResponseError:  # this user may not subscribe, or the connection speaks RESP2
            return _followed(jobs, job_id, None if timeout_s is None else until - time.monotonic())
        if not answers:
            answers = jobs.ask(_questions(jobs, job_id))  # with redis-py's patience
        if (found := _success(told) if told else _read(job_id, answers)) is not None:
            return found
        if not told and time.monotonic() > until:  # what it failed with, if that was told, the record says
            raise TimeoutError(f"job {job_id} has not ended yet")


def _questions(jobs: Jobs, job_id: str) -> list[tuple[str, ...]]:
    """The state first: once it says that the job has ended, the result is there."""
    record = jobs.keys.job(job_id)
    return [("HGET", record, "state"), ("HGET", record, "fault"), ("GET", CELERY_RESULT + job_id)]


def _read(job_id: str, answers: list[Any]) -> dict[str, Any] | None:
    """What Redis answered; None: it has not ended yet."""
    state, fault, stored = answers
    if fault:
        raise error_of(Fault.model_validate_json(fault))
    if stored and (result := _success(stored)) is not None:
        return result
    if state is None:
        raise JobNotFound(job_id)
    if state not in TERMINAL:
        return None  # what it failed with, if just now, is in its record the next time
    if not stored:
        raise JobNotFound(f"{job_id}: it is {state}, and its result is no longer kept.")
    failure = codec.read(stored)["result"]
    raise error_of(Fault(code=failure["exc_type"], message=failure["exc_message"][0], stage=""))


def _success(stored: str) -> dict[str, Any] | None:
    meta = codec.read(stored)
    result: dict[str, Any] | None = meta["result"] if meta["status"] == "SUCCESS" else None
    return result


def _heard(jobs: Jobs, job_id: str, seconds: float) -> tuple[list[Any], str | None]:
    """Answers to the questions and, if it had not ended then, the result that is announced within `seconds`.

    No answers where the connection was lost.
    """
    with jobs.hearing() as hearing:
        answers = hearing.ask(CELERY_RESULT + job_id, _questions(jobs, job_id))
        state, _, stored = answers
        open_ = state is not None and state not in TERMINAL and not stored
        return answers, hearing.wait(seconds) if open_ else None
    return [], None


def _followed(jobs: Jobs, job_id: str, timeout_s: float | None) -> dict[str, Any]:
    for event in streams.follow(jobs, job_id, timeout_s=timeout_s):
        if isinstance(event, Done):
            return event.result
        if isinstance(event, Failed | Cancelled):
            raise error_of(event.fault)
    raise JobNotFound(job_id)
