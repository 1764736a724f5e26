"""The right to run an attempt; and asking for it early, so that Redis answers while Celery gets to the job."""

from __future__ import annotations

import itertools
import os
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from .lane import Trip

OWNER = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4()}"
"""How a claim names its worker; a later process may have the same number."""

_CLAIMS = itertools.count(1)

ASKED = "asked"
"""Header in which a checked message carries its `Asked` to the task of the same process."""


LEFT = ("task", "result", "created", "started", "finished")
"""Fields of a stage's record that the end of a turn is made of."""


def new_owner() -> str:
    """Names this worker and one claim of it: asking again by the same name gives the same claim."""
    return f"{OWNER}:{next(_CLAIMS)}"


@dataclass(frozen=True)
class Claim:
    """The right to run one attempt."""

    id: str
    fence: int
    attempt: int
    root: str
    """Id of the job that this stage belongs to; its own id for a job of a single stage."""
    tenant: str
    deadline_ms: int
    created_ms: int
    """When the job was accepted."""
    root_message: str
    """A stage is told its job's own message, whose request says what the job is about; a job itself has it."""
    checkpoint: str
    """What an earlier attempt left to go on from."""
    left: Sequence[dict[str, str]]
    """For the stage that ends a job: of each other stage what it has of `LEFT`, in the order of their making."""
    granted_ms: int = field(compare=False)
    asked_at: float = field(compare=False)
    """By `time.monotonic`."""

    @property
    def in_turn(self) -> bool:
        """This is a stage of a larger job."""
        return self.root != self.id

    def clock_ms(self) -> int:
        """Redis time now, as far as one can tell without asking."""
        return self.granted_ms + round((time.monotonic() - self.asked_at) * 1000)


@dataclass(frozen=True)
class Refused:
    """No attempt: the record has ended, is running elsewhere, or met its deadline."""

    reason: str


def claim_of(job_id: str, answer: Sequence[Any], asked_at: float) -> Claim | Refused:
    """What `claim.lua` answered."""
    if answer[0] != "ok":
        return Refused(":".join(answer))
    _, fence, attempt, root, tenant, deadline, created, message, checkpoint, now, rows = answer
    return Claim(
        job_id,
        int(fence),
        int(attempt),
        root,
        tenant,
        int(deadline),
        int(created),
        message,
        checkpoint,
        [{name: value for name, value in zip(LEFT, row, strict=True) if value is not None} for row in rows],
        int(now),
        asked_at,
    )


class Asked:
    """A claim that was asked for when its message left the queue. Whoever runs the job or gives it back takes it."""

    def __init__(self, job_id: str, owner: str, trip: Trip, place: int) -> None:
        """`place`: of the answer among those of the trip."""
        self.owner = owner
        self._job_id = job_id
        self._place = place
        self._at = time.monotonic()
        self._untaken = [trip]

    def take(self) -> Claim | Refused | None:
        """None where Redis gave no answer, then the same `owner` may ask again, or where somebody has taken it."""
        try:
            found = self._untaken.pop().answers()[self._place]
        except (IndexError, redis.RedisError):
            return None
        return None if isinstance(found, redis.RedisError) else claim_of(self._job_id, found, self._at)
