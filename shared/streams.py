"""A job's event stream, read to its end. Entries are written by the scripts in `lua/`; an entry's id is `<seq>-0`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from . import codec
from .contracts.events import EVENT, TERMINAL, Event
from .errors import JobNotFound
from .keys import Keys

if TYPE_CHECKING:
    from .jobs import Jobs

BLOCK_MS = 2_000
"""Milliseconds of one blocking read; far below any socket timeout."""


def _events(job_id: str, answer: Any) -> list[tuple[int, Event | None]]:
    """Sequence numbers with their events; None for a type that this reader does not know."""
    found: list[tuple[int, Event | None]] = []
    rows = answer.values() if isinstance(answer, dict) else (rows for _, rows in answer or [])
    for entries in rows:
        for entry, values in entries[0] if _nested(entries) else entries:
            seq = int(entry.split("-")[0])
            named = values if isinstance(values, dict) else dict(zip(values[::2], values[1::2], strict=True))
            found.append((seq, _event(job_id, seq, named)))
    return found


def _nested(entries: Any) -> bool:
    """Under RESP3 redis-py wraps a stream's entries once more; an entry in Redis's own form begins with its id."""
    return bool(entries) and isinstance(entries[0], list) and not isinstance(entries[0][0], str)


def _event(job_id: str, seq: int, values: dict[str, str]) -> Event | None:
    head = {"job_id": job_id, "seq": seq, "type": values["type"], "at": int(values["at"])}
    try:
        return EVENT.validate_python(codec.read(values["data"]) | head)
    except ValidationError:
        return None


class _Reader:
    """What the blocking and the asynchronous reader share: where they are and when to give up."""

    def __init__(self, keys: Keys, job_id: str, after: int, timeout_s: float | None) -> None:
        self.key = keys.events(job_id)
        self.record = keys.job(job_id)
        self.job_id = job_id
        self.seq = after
        self.until = None if timeout_s is None else time.monotonic() + timeout_s
        self.asked = False
        self.ended = False
        self.over = False

    def block_ms(self) -> int:
        if self.over:
            return 1
        if self.until is None:
            return BLOCK_MS
        left = self.until - time.monotonic()
        if left <= 0 and self.asked:  # what is there already is given, however late it is
            raise TimeoutError(f"job {self.job_id} has not ended yet")
        self.asked = True
        return max(1, min(BLOCK_MS, int(left * 1000)))

    def take(self, answer: Any) -> Iterator[Event]:
        for seq, event in _events(self.job_id, answer):
            self.seq = seq
            if event is not None:
                self.ended = event.type in TERMINAL
                yield event

    def nothing_came(self, state: str | None) -> None:
        """Raise when there is nothing to wait for: no such job, or its stream has expired.

        A job may have ended between the read that gave nothing and the look at its state, so one more read is due.
        """
        if state is None:
            raise JobNotFound(self.job_id)
        if state in ("done", "failed", "cancelled"):
            if self.over:
                raise JobNotFound(f"{self.job_id}: it is {state}, and its events are no longer kept behind {self.seq}.")
            self.over = True


def follow(jobs: Jobs, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> Iterator[Event]:
    """A job's events behind sequence number `after`, as they come, up to and with the terminal one.

    Survives lost connections: it goes on behind the last event that was read. Raises `JobNotFound`, `TimeoutError`.
    """
    reader = _Reader(jobs.keys, job_id, after, timeout_s)
    while not reader.ended:
        answer = jobs.ask([("XREAD", "BLOCK", reader.block_ms(), "STREAMS", reader.key, f"{reader.seq}-0")])[0]
        if answer:
            yield from reader.take(answer)
        else:
            reader.nothing_came(jobs.client.hget(reader.record, "state"))


async def follow_async(
    client: Any, keys: Keys, job_id: str, *, after: int = 0, timeout_s: float | None = None
) -> AsyncIterator[Event]:
    """`follow` for asyncio."""
    reader = _Reader(keys, job_id, after, timeout_s)
    while not reader.ended:
        answer = await client.xread({reader.key: f"{reader.seq}-0"}, block=reader.block_ms())
        if answer:
            for event in reader.take(answer):
                yield event
        else:
            reader.nothing_came(await client.hget(reader.record, "state"))
