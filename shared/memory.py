"""Short-term memory: the last turns of a session, kept in Redis and forgotten after half an hour of silence."""

from __future__ import annotations

import json

from .contracts.llm import Message
from .jobs import Append, Jobs
from .settings import settings


def recent(jobs: Jobs, tenant: str, pack: str, session: str) -> tuple[Message, ...]:
    """What was said, oldest first: user and assistant in turn."""
    (turns,) = jobs.ask([("LRANGE", jobs.keys.session(tenant, pack, session), 0, -1)])
    pairs = (json.loads(turn) for turn in turns)
    return tuple(
        message
        for user, assistant in pairs
        for message in (Message(role="user", content=user), Message(role="assistant", content=assistant))
    )


def turn(jobs: Jobs, tenant: str, pack: str, session: str, *, user: str, assistant: str) -> Append:
    """The append that remembers a turn."""
    return Append(
        key=jobs.keys.session(tenant, pack, session),
        value=json.dumps([user, assistant], ensure_ascii=False),
        keep=settings().session_turns,
        ttl_s=settings().session_ttl_s,
    )
