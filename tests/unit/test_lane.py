"""Calls of many threads share trips; nobody waits for company, and each gets its own answer or error."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from shared.lane import COMPANY, TRIPS, Calls, Lane
from tests.support.waiting import until


class Trips:
    """Doubles numbers, remembers its trips, and can be held on the way."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.fail = False

    def carry(self, calls: Calls) -> Sequence[Any]:
        self.made.append([args[0] for _, args in calls])
        assert self.go.wait(60)
        if self.fail:
            raise ConnectionError("lost")
        return [ValueError("13 is not welcome") if args[0] == 13 else args[0] * 2 for _, args in calls]


@pytest.fixture
def trips() -> Trips:
    return Trips()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def double(trips: Trips, lane: Lane, number: int) -> Any:
    (answer,) = lane.call(trips.carry, ("double", (number,)))
    if isinstance(answer, Exception):
        raise answer
    return answer


def behind_a_trip(trips: Trips, lane: Lane, pool: ThreadPoolExecutor, numbers: Sequence[int]) -> list[Future[Any]]:
    """Calls with 0 and then `numbers`, all of which came while the first one's trip was under way; it may end now."""
    trips.go.clear()
    calls = [pool.submit(double, trips, lane, 0)]
    until(lambda: trips.made == [[0]], "the first trip is under way")
    for place, number in enumerate(numbers, 1):
        calls.append(pool.submit(double, trips, lane, number))
        until(lambda count=place: len(lane._waiting) == count, "it waits")
    trips.go.set()
    return calls


def test_a_lone_call_goes_at_once_on_its_own_thread(trips: Trips) -> None:
    lane = Lane()
    assert [double(trips, lane, number) for number in (1, 2)] == [2, 4]
    assert trips.made == [[1], [2]]


def test_what_gathers_during_a_trip_goes_with_the_next(trips: Trips, pool: ThreadPoolExecutor) -> None:
    calls = behind_a_trip(trips, Lane(), pool, [1, 2, 3])
    assert [call.result(60) for call in calls] == [0, 2, 4, 6]
    assert trips.made == [[0], [1, 2, 3]]


def test_enough_company_waits_for_no_trips_end(trips: Trips, pool: ThreadPoolExecutor) -> None:
    lane = Lane()
    trips.go.clear()
    calls: list[Future[Any]] = []

    def settled() -> bool:
        return not lane._leaving and len(lane._waiting) + sum(map(len, trips.made)) == len(calls)

    for number in range(1 + TRIPS * COMPANY):
        calls.append(pool.submit(double, trips, lane, number))
        until(settled, "it waits or has gone")
    assert [len(trip) for trip in trips.made] == [1, *[COMPANY] * (TRIPS - 1)]
    trips.go.set()
    assert [call.result(60) for call in calls] == [2 * number for number in range(1 + TRIPS * COMPANY)]
    assert [len(trip) for trip in trips.made] == [1, *[COMPANY] * TRIPS]


def test_an_error_of_one_call_is_its_own(trips: Trips, pool: ThreadPoolExecutor) -> None:
    _, first, bad, last = behind_a_trip(trips, Lane(), pool, [1, 13, 3])
    assert (first.result(60), last.result(60)) == (2, 6)
    with pytest.raises(ValueError, match="13"):
        bad.result(60)


def test_a_trip_that_fails_fails_those_who_were_on_it_and_no_later_one(trips: Trips, pool: ThreadPoolExecutor) -> None:
    lane = Lane()
    trips.fail = True
    for call in behind_a_trip(trips, lane, pool, [1, 2]):
        with pytest.raises(ConnectionError):
            call.result(60)
    trips.fail = False
    assert double(trips, lane, 5) == 10


def test_many_threads_get_their_own_answers(trips: Trips, pool: ThreadPoolExecutor) -> None:
    lane = Lane()
    assert list(pool.map(lambda number: double(trips, lane, number), range(100, 2100))) == [
        2 * number for number in range(100, 2100)
    ]
    assert sum(len(trip) for trip in trips.made) == 2000


def test_calls_of_one_thread_go_together_and_in_order(trips: Trips, pool: ThreadPoolExecutor) -> None:
    lane = Lane()
    trips.go.clear()
    first = pool.submit(double, trips, lane, 0)
    until(lambda: trips.made == [[0]], "the first trip is under way")
    both = pool.submit(lane.call, trips.carry, ("double", (1,)), ("double", (13,)))
    until(lambda: len(lane._waiting) == 1, "they wait")
    last = pool.submit(double, trips, lane, 3)
    until(lambda: len(lane._waiting) == 2, "it waits")
    trips.go.set()
    answer, error = both.result(60)
    assert (first.result(60), answer, last.result(60)) == (0, 2, 6)
    assert isinstance(error, ValueError)
    assert trips.made == [[0], [1, 13, 3]]
