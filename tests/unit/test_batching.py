"""Calls of many threads become batches; nobody waits for company, nobody pays for a neighbour's bad input."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import EngineFailed, JobCancelled
from workers.engines.batching import MicroBatcher


class Model:
    """Doubles numbers, remembers its batches, and can be held busy."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()

    def run(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.busy.set()
        assert self.go.wait(120)
        if 13 in items:
            raise ValueError("13 is not welcome")
        return [item * 2 for item in items]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def batcher(model: Model) -> Iterator[MicroBatcher[int, int]]:
    made = MicroBatcher(model.run, max_batch=4, name="test")
    yield made
    model.go.set()
    made.close()


def _queue_behind_a_busy_model(
    model: Model, batcher: MicroBatcher[int, int], pool: ThreadPoolExecutor, items: list[int]
) -> list[object]:
    """What each of `items` got when all of them arrived while the model was busy with another."""
    model.go.clear()
    first = pool.submit(batcher.submit, 0)
    assert model.busy.wait(120)
    waiting = pool.submit(_gathered, batcher, items)
    while batcher.waiting < len(items):  # the deadline is pytest's timeout
        threading.Event().wait(0.001)
    model.go.set()
    assert first.result(120) == 0
    return waiting.result(120)


def _gathered(batcher: MicroBatcher[int, int], items: list[int]) -> list[object]:
    def one(item: int) -> object:
        try:
            return batcher.submit(item)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(one, items))


def test_a_lone_call_is_a_batch_of_its_own(model: Model, batcher: MicroBatcher[int, int]) -> None:
    assert batcher.submit(21) == 42
    assert model.batches == [[21]]


def test_calls_that_arrive_while_the_model_is_busy_share_the_next_batches(
    model: Model, batcher: MicroBatcher[int, int]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = _queue_behind_a_busy_model(model, batcher, pool, [1, 2, 3, 4, 5, 6])
    assert results == [2, 4, 6, 8, 10, 12]
    assert [len(batch) for batch in model.batches] == [1, 4, 2]


def test_many_items_of_one_caller_keep_their_order(model: Model, batcher: MicroBatcher[int, int]) -> None:
    assert batcher.submit_all(list(range(10))) == [2 * n for n in range(10)]
    assert [len(batch) for batch in model.batches] == [4, 4, 2]
    assert batcher.submit_all([]) == []


def test_a_bad_item_fails_alone(model: Model, batcher: MicroBatcher[int, int]) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = _queue_behind_a_busy_model(model, batcher, pool, [1, 13, 3])
    assert results[0] == 2
    assert results[2] == 6
    assert isinstance(results[1], ValueError)


def test_a_model_that_loses_items_is_named_as_the_fault() -> None:
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda items: [], max_batch=2, name="lossy")
    with pytest.raises(EngineFailed, match="0 results for 1 items"):
        batcher.submit(1)
    batcher.close()


def test_closing_finishes_what_was_submitted_and_refuses_what_comes_later(
    model: Model, batcher: MicroBatcher[int, int]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        model.go.clear()
        first = pool.submit(batcher.submit, 1)
        assert model.busy.wait(120)
        closing = pool.submit(batcher.close)
        model.go.set()
        closing.result(120)
        assert first.result(120) == 2
    with pytest.raises(EngineFailed, match="closed"):
        batcher.submit(2)
    batcher.close()


def test_a_cancelled_caller_leaves_at_once_and_its_waiting_items_are_not_run(
    model: Model, batcher: MicroBatcher[int, int]
) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        model.go.clear()
        running = pool.submit(batcher.submit, 1)
        assert model.busy.wait(120)
        leaving = pool.submit(batcher.submit_all, [7, 8], stop=stop)
        stop.set()
        with pytest.raises(JobCancelled):
            leaving.result(120)  # while the model is still busy
        model.go.set()
        assert running.result(120) == 2
    assert batcher.submit(3, stop=threading.Event()) == 6
    assert model.batches == [[1], [3]]


def test_results_keep_their_places_when_batches_overtake_each_other() -> None:
    overtaken, release = threading.Event(), threading.Event()

    def run(items: list[int]) -> list[int]:
        if items[0] == 0:  # the first batch waits for the second
            assert release.wait(120)
        else:
            overtaken.set()
        return [item * 2 for item in items]

    batcher = MicroBatcher(run, max_batch=3, name="pair", threads=2)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(batcher.submit_all, list(range(6)))
        assert overtaken.wait(120)
        release.set()
        assert call.result(120) == [0, 2, 4, 6, 8, 10]
    batcher.close()
