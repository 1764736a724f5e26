"""A job's event stream, read to its end. Entries are written by the scripts in `lua/`; an entry's id is `<seq>-0`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import ValidationError

from . import codec
from .contracts.events import EVENT, TERMINAL, Event
from .errors import JobNotFound
from .keys import Keys

BLOCK_MS = 2_000
"""Milliseconds of one blocking read; far below any socket timeout."""


def _events(job_id: str, answer: Any) -> list[tuple[int, Event | None]]:
    """Sequence numbers with their events; None for a type that this reader does not know."""
    found: list[tuple[int, Event | None]] = []
    rows = answer.values() if isinstance(answer, dict) else (rows for _, rows in answer or [])
    for entries in rows:
        # redis-py nests a stream's entries once more under RESP3
        for entry, values in entries[0] if entries and isinstance(entries[0], list) else entries:
            seq = int(entry.split("-")[0])
            found.append((seq, _event(job_id, seq, values)))
    return found


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


def follow(client: Any, keys: Keys, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> Iterator[Event]:
    """A job's events behind sequence number `after`, as they come, up to and with the terminal one.

    Survives lost connections: it goes on behind the last event that was read. Raises `JobNotFound`, `TimeoutError`.
    """
    reader = _Reader(keys, job_id, after, timeout_s)
    while not reader.ended:
        answer = client.xread({reader.key: f"{reader.seq}-0"}, block=reader.block_ms())
        if answer:
            yield from reader.take(answer)
        else:
            reader.nothing_came(client.hget(reader.record, "state"))


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
