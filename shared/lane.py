"""One way to Redis for the scripts that many threads call: what gathers during a trip goes with the next one.

A lone call goes at once, on its caller's own thread. Where many threads end and begin jobs at a time, each trip carries
several calls, and a thread sleeps once instead of fighting for the interpreter around every send and receive. Where
enough have gathered, they do not wait for a trip's end: with one at a time, Redis and its callers would take turns.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import redis

T = TypeVar("T")

Calls = Sequence[tuple[str, Sequence[Any]]]
"""Names of scripts, or `POP`, with their arguments."""

POP, WAIT = "LMPOP", "BLMPOP"
"""What takes messages, now and as soon as there are any. They stay bytes: nobody knows who wrote them."""

COMPANY, TRIPS = 4, 3
"""Callers that make a further trip worth its way, and how many trips are under way at a time."""

Carry = Callable[[Calls], Sequence[Any]]
"""Makes calls in one trip; gives the answers, or the errors that Redis answered with. Raises when the trip fails."""


class OwnConnections:
    """Connections that are spoken to without what redis-py does around every command, half of a trip's time.

    For commands that may be repeated: after any error a connection is given up, and whether they were run is not known.
    """

    def __init__(self, client: Any) -> None:
        """Of `client`'s pool, from their first use on; one for each thread that asks at a time."""
        self._client = client
        self._idle: list[Any] = []
        self._hearing: list[Hearing] = []
        self._process = os.getpid()

    def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """What Redis answers, errors among it. Raises `redis.RedisError` when the connection fails."""
        connection = self._take_idle() or self._client.connection_pool.get_connection()
        return self._sent(connection, commands, check_health=True).answers()

    def send(self, commands: Sequence[Sequence[Any]]) -> Trip | None:
        """`ask` for somebody else, who takes the answers; for a thread that must not wait.

        None where no connection is idle, or it does not take the commands.
        """
        connection = self._take_idle()
        if connection is None:
            return None
        with contextlib.suppress(redis.RedisError):
            return self._sent(connection, commands, check_health=False)
        return None

    @contextlib.contextmanager
    def hearing(self) -> Iterator[Hearing]:
        """A connection that hears what is published, one of those that have; given up after any error in the block.

        When the connection is lost, the block ends early and nothing is raised. Raises `redis.RedisError` where none is
        to be had.
        """
        self._know_process()
        hearing = _popped(self._hearing) or Hearing(self._client.connection_pool.get_connection())
        sound = False
        try:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                yield hearing
                sound = True
        finally:
            if sound:
                self._hearing.append(hearing)
            else:
                self._leave(hearing.connection, sound=False)

    def _take_idle(self) -> Any:
        self._know_process()
        return _popped(self._idle)

    def _know_process(self) -> None:
        if self._process != os.getpid():  # a fork: these are its parent's
            self._process, self._idle, self._hearing = os.getpid(), [], []

    def _sent(self, connection: Any, commands: Sequence[Sequence[Any]], *, check_health: bool) -> Trip:
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=check_health)
        except BaseException:
            self._leave(connection, sound=False)
            raise
        return Trip(connection, commands, self._leave)

    def _leave(self, connection: Any, *, sound: bool) -> None:
        if sound:
            self._idle.append(connection)
        else:
            connection.disconnect()
            self._client.connection_pool.release(connection)


def _popped(kept: list[T]) -> T | None:
    try:
        return kept.pop()
    except IndexError:  # not asked before: another thread may take the last one meanwhile
        return None


class Trip:
    """Commands on their way. Whoever first asks for the answers reads them, for all."""

    def __init__(self, connection: Any, commands: Sequence[Sequence[Any]], leave: Callable[..., None]) -> None:
        """`leave`: takes the connection back, and whether it is `sound`."""
        self._connection = connection
        self._commands = commands
        self._leave = leave
        self._reading = threading.Lock()
        self._answers: list[Any] | None = None

    def answers(self) -> list[Any]:
        """Redis's, errors among them. Raises `redis.RedisError` when the connection fails."""
        with self._reading:
            if self._connection is not None:
                self._read()
        if self._answers is None:
            raise redis.ConnectionError("The connection failed.")
        return self._answers

    def _read(self) -> None:
        connection, self._connection = self._connection, None
        sound = False
        try:
            answers = [_answer(connection, undecoded=command[0] in (POP, WAIT)) for command in self._commands]
            sound = not any(isinstance(answer, redis.RedisError) for answer in answers)
            self._answers = answers
        finally:
            self._leave(connection, sound=sound)


def _answer(connection: Any, *, undecoded: bool) -> Any:
    try:
        return connection.read_response(disable_decoding=undecoded)
    except redis.ResponseError as error:
        return error.with_traceback(None)  # whose frames would hold this connection, and the error itself


class Hearing:
    """A connection that is told what a channel is told, and takes commands meanwhile; it speaks RESP3."""

    def __init__(self, connection: Any) -> None:
        """It hears nothing yet."""
        self.connection = connection
        self._channel = ""
        self._heard: str | None = None

    def ask(self, channel: str, commands: Sequence[Sequence[Any]]) -> list[str | None]:
        """Hear `channel` from now on, and no other; Redis's answers to commands that answer with a string or nothing.

        Raises `redis.RedisError` when Redis refuses, or the connection fails.
        """
        left = [("UNSUBSCRIBE", self._channel)] if self._channel else []
        self._channel, self._heard = channel, None
        packed = self.connection.pack_commands([*left, ("SUBSCRIBE", channel), *commands])
        self.connection.send_packed_command(packed)
        answers: list[str | None] = []
        while len(answers) < len(commands):
            self._read_into(answers)
        return answers

    def wait(self, seconds: float) -> str | None:
        """What was published since the question; None when nothing comes within `seconds`."""
        until = time.monotonic() + seconds
        with contextlib.suppress(redis.TimeoutError):
            while self._heard is None:
                self._read_into([], timeout=max(0.001, until - time.monotonic()), disconnect_on_error=False)
        return self._heard

    def _read_into(self, answers: list[str | None], **options: Any) -> None:
        """An answer, or something that was pushed: a list."""
        found = self.connection.read_response(push_request=True, **options)
        if not isinstance(found, list):
            answers.append(found)
        elif found[:2] == ["message", self._channel]:
            self._heard = found[2]


class _Party:
    """Calls of one thread, which go together."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.answers: Sequence[Any] | None = None
        self.bell = threading.Lock()
        """Released when the calls are answered, or when it is their caller's turn to carry."""
        self.bell.acquire()


class Lane:
    """Carries calls."""

    def __init__(self) -> None:
        """Nothing is under way."""
        self._lock = threading.Lock()
        self._waiting: list[_Party] = []
        self._under_way = 0
        self._leaving = False
        """Somebody is about to take along all that waits."""

    @property
    def busy(self) -> bool:
        """Calls are under way or wait."""
        return bool(self._under_way or self._waiting)

    def call(self, carry: Carry, *calls: tuple[str, Sequence[Any]]) -> Sequence[Any]:
        """The scripts' answers, errors among them; of a trip that failed, its error for each.

        `carry` makes a trip; at most `TRIPS` threads at a time are in it.
        """
        party = _Party(calls)
        with self._lock:
            self._waiting.append(party)
            leaves = self._somebody_leaves()
        if not leaves:
            party.bell.acquire()
        if party.answers is None:
            self._go(carry)
        return party.answers or ()

    def _somebody_leaves(self) -> bool:
        """Whether it is now that one of those who wait makes a trip; asked with the lock held."""
        enough = COMPANY if self._under_way else 1
        if self._leaving or self._under_way == TRIPS or len(self._waiting) < enough:
            return False
        self._leaving = True
        return True

    def _go(self, carry: Carry) -> None:
        """One trip with everything that waits; then perhaps somebody who came meanwhile makes the next."""
        with self._lock:
            parties, self._waiting = self._waiting, []
            self._leaving = False
            self._under_way += 1
        calls = [call for party in parties for call in party.calls]
        try:
            answers = iter(carry(calls))
        except BaseException as error:  # noqa: BLE001 - every caller is told
            answers = itertools.repeat(error)
        for party in parties:
            party.answers = list(itertools.islice(answers, len(party.calls)))
        with self._lock:
            self._under_way -= 1
            if self._somebody_leaves():
                parties.append(self._waiting[0])
        for party in parties:
            party.bell.release()
