"""Tokens that nobody waits for leave the engine's core in pieces; none is lost, doubled or out of order."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from workers.engines.gathering import PIECE, gathering

LONG = 3 * PIECE + 5


class FakeScheduler:
    """Every step gives each request its next token."""

    def __init__(self, **lengths: int) -> None:
        """Requests by name, with the tokens of their replies."""
        self.lengths = lengths
        self.requests: dict[str, Any] = {}
        self.finished: set[str] = set()

    def add(self, name: str, **params: Any) -> None:
        """A request comes."""
        chosen = {"stream_interval": 512, "stop": [], "num_logprobs": None} | params
        self.requests[name] = SimpleNamespace(sampling_params=SimpleNamespace(**chosen), tokens=0)

    def update(self) -> dict[int, Any]:
        """A step; who has all tokens is forgotten, as vLLM's scheduler does."""
        outputs = []
        for name, request in tuple(self.requests.items()):
            request.tokens += 1
            ends = request.tokens == self.lengths[name]
            outputs.append(
                SimpleNamespace(
                    request_id=name, new_token_ids=[request.tokens], finish_reason="length" if ends else None
                )
            )
            if ends:
                del self.requests[name]
        return {0: SimpleNamespace(outputs=outputs, finished_requests=self.finished, scheduler_stats=None)}


def pieces(scheduler: FakeScheduler, steps: int) -> list[dict[str, list[int]]]:
    """What leaves the core in each step."""
    update = gathering(FakeScheduler.update)
    found = []
    for _ in range(steps):
        clients = update(scheduler)
        found.append({out.request_id: out.new_token_ids for one in clients.values() for out in one.outputs})
    return found


def of(name: str, steps: Sequence[dict[str, list[int]]]) -> list[list[int]]:
    """The pieces of one reply."""
    return [step[name] for step in steps if name in step]


def test_the_first_token_goes_at_once_and_the_others_in_pieces() -> None:
    scheduler = FakeScheduler(a=LONG)
    scheduler.add("a")
    found = of("a", pieces(scheduler, LONG))
    assert [len(piece) for piece in found] == [1, PIECE, PIECE, PIECE, 4]
    assert [token for piece in found for token in piece] == list(range(1, LONG + 1))


@pytest.mark.parametrize(
    "params", [{"stream_interval": None}, {"stream_interval": 1}, {"stop": ["끝"]}, {"num_logprobs": 0}]
)
def test_what_is_read_along_or_looked_through_goes_token_by_token(params: dict[str, Any]) -> None:
    scheduler = FakeScheduler(a=LONG)
    scheduler.add("a", **params)
    assert of("a", pieces(scheduler, LONG)) == [[number] for number in range(1, LONG + 1)]


def test_replies_do_not_mix() -> None:
    scheduler = FakeScheduler(a=LONG, b=PIECE, c=1)
    for name in "abc":
        scheduler.add(name)
    found = pieces(scheduler, LONG)
    for name, length in scheduler.lengths.items():
        assert [token for piece in of(name, found) for token in piece] == list(range(1, length + 1))


def test_a_step_that_tells_nothing_is_not_sent() -> None:
    scheduler = FakeScheduler(a=LONG)
    scheduler.add("a")
    update = gathering(FakeScheduler.update)
    assert list(update(scheduler)) == [0]
    assert not update(scheduler)
    scheduler.finished = {"someone"}
    assert list(update(scheduler)) == [0]


def test_of_a_reply_that_was_given_up_nothing_is_left() -> None:
    scheduler = FakeScheduler(a=LONG, b=LONG)
    scheduler.add("a")
    update = gathering(FakeScheduler.update)
    for _ in range(5):
        update(scheduler)
    del scheduler.requests["a"]
    scheduler.finished = {"a"}
    update(scheduler)
    scheduler.add("a")
    found = [
        clients[0].outputs[0].new_token_ids
        for _ in range(LONG)
        if (clients := update(scheduler)) and clients[0].outputs
    ]
    assert found[0] == [1]
    assert [token for piece in found for token in piece] == list(range(1, LONG + 1))
