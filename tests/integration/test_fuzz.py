"""Ten thousand broken messages through a real worker: it stays alive, none vanishes, and the good jobs in between all finish.

`python -m tests.integration.test_fuzz 100000 3` throws that many at it, from seed 3.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.catalog import CATALOG
from shared.keys import BATCH, queue_list
from tests.support.figures import figure
from tests.support.scripted import ScriptedCluster
from tests.support.servers import IN_MEMORY, RedisServer
from tests.support.waiting import until

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "schemas" / "golden"
QUEUES = ("rag", "knowledge")
SETTINGS: dict[str, str | float] = {
    "dead_limit": 10_000_000,
    "queue_limit": 1_000_000,
    "redeliver_after_s": 0.2,
    "log_level": "ERROR",
}
LEAVES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 1e308, float("nan"), "", "x", "\x00", "\ud800", "안녕 🌊" * 20, [], {}, [[]], {"": {}}, "[" * 50,
)  # fmt: skip

Mutation = Callable[[random.Random, dict[str, Any]], bytes]


def encode(message: Any) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inner for found in ((*path, key), *places(part, (*path, key)))]


def change(dice: random.Random, value: Any) -> None:
    """Drop, retype or double something inside a JSON value."""
    *way, last = dice.choice(places(value) or [()]) or (None,)
    if last is None:
        return
    for key in way:
        value = value[key]
    what = dice.randrange(4)
    if what == 0:
        del value[last]
    elif what == 1 and isinstance(value, dict):
        value[dice.choice(("extra", "ID", "args", "task "))] = copy.deepcopy(value[last])
    else:
        value[last] = copy.deepcopy(dice.choice(LEAVES))


def flipped(dice: random.Random, message: dict[str, Any]) -> bytes:
    raw = bytearray(encode(message))
    for _ in range(dice.randint(1, 5)):
        raw[dice.randrange(len(raw))] = dice.randrange(256)
    return bytes(raw)


def truncated(dice: random.Random, message: dict[str, Any]) -> bytes:
    raw = encode(message)
    return raw[: dice.randrange(1, len(raw))]


def doubled(dice: random.Random, message: dict[str, Any]) -> bytes:
    raw = encode(message)
    start, end = sorted((dice.randrange(len(raw)), dice.randrange(len(raw))))
    return raw[:end] + raw[start:]


def reshaped(dice: random.Random, message: dict[str, Any]) -> bytes:
    for _ in range(dice.randint(1, 3)):
        change(dice, message)
    return encode(message)


def reshaped_body(dice: random.Random, message: dict[str, Any]) -> bytes:
    body = json.loads(message["body"])
    for _ in range(dice.randint(1, 3)):
        change(dice, body)
    message["body"] = json.dumps(body)
    return encode(message)


def recoded(dice: random.Random, message: dict[str, Any]) -> bytes:
    body = message["body"].encode()
    message["body"] = base64.b64encode(body if dice.random() < 0.5 else flipped(dice, message)).decode()
    message["properties"]["body_encoding"] = dice.choice(("base64", "BASE64", "utf-8", "gzip", 7))
    return encode(message) if dice.random() < 0.8 else json.dumps(message).encode("utf-16")


def nested(dice: random.Random, message: dict[str, Any]) -> bytes:
    depth = int(10 ** dice.uniform(1, 4.5))
    deep = "[" * depth + "]" * depth if dice.random() < 0.5 else '{"a":' * depth + "1" + "}" * depth
    if dice.random() < 0.5:
        message["body"] = f"[[{deep}], {{}}, {{}}]"
        return encode(message)
    field = dice.choice(("headers", "properties", "extra"))
    return encode(message)[:-1] + f', "{field}": {deep}}}'.encode()


def huge(dice: random.Random, message: dict[str, Any]) -> bytes:
    field = dice.choice(("id", "task", "body", "other"))
    filler = "가" * int(10 ** dice.uniform(3, 5.3))
    if field == "body":
        message["body"] = json.dumps([[{"tenant": "acme", "texts": [filler]}], {}, {}])
    else:
        message["headers"][field] = filler
    return encode(message)


def noise(dice: random.Random, _: dict[str, Any]) -> bytes:
    return dice.randbytes(dice.randrange(300))


MUTATIONS: dict[Mutation, int] = {
    flipped: 20, truncated: 10, doubled: 5, reshaped: 30, reshaped_body: 20, recoded: 6, nested: 4, huge: 1, noise: 4,
}  # fmt: skip


class Fuzz:
    """A cluster of a conductor and a rag worker, and what was thrown at it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        server = RedisServer(folder / "redis", *IN_MEMORY)
        self.cluster = ScriptedCluster(folder, "conductor-1", "rag-1", server=server, **SETTINGS)
        self.client = self.cluster.producer.jobs.client
        self.golden = [json.loads(path.read_text("utf-8")) for path in sorted(GOLDEN.glob("*.json"))]
        self.pids = self._pids()
        self.bare = 0
        self.recorded: list[str] = []
        self.good: list[str] = []

    def _pids(self) -> dict[str, int]:
        return {worker.name: worker.pid for worker in self.cluster.producer.workers()}

    def throw(self, count: int) -> None:
        """`count` broken messages: most were never recorded, every fourth is what a producer recorded its job with."""
        for start in range(0, count, 250):
            self.good.append(self.cluster.embed(f"good-{start}", tenant=f"g{start % 7}"))
            pipe = self.client.pipeline(transaction=False)
            for number in range(start, min(start + 250, count)):
                job_id = f"fuzz.{number}.{self.dice.randbytes(6).hex()}"  # so that no broken id is that of another job
                queue, raw = self._broken(job_id)
                if number % 4 or not self._record(job_id, queue, raw):
                    self.bare += 1
                    pipe.lpush(queue, raw)
            pipe.execute()

    def _broken(self, job_id: str) -> tuple[str, bytes]:
        message = copy.deepcopy(self.dice.choice(self.golden))
        message["headers"]["id"] = message["headers"]["root_id"] = job_id
        queue = CATALOG[message["headers"]["task"]].queue
        queue = queue if queue in QUEUES else self.dice.choice(QUEUES)
        (mutation,) = self.dice.choices(list(MUTATIONS), MUTATIONS.values())
        return queue_list(queue, self.dice.choice((0, 0, BATCH))), mutation(self.dice, message)

    def _record(self, job_id: str, queue: str, raw: bytes) -> bool:
        """As a producer whose messages are broken, but who records its jobs. False: it was refused."""
        name, _, priority = queue.partition(":")
        task = {"rag": "rag.embed", "knowledge": "knowledge.list"}[name]
        tenant = self.dice.choice(("acme", f"t{self.dice.randrange(50)}"))
        args = (job_id, task, name, priority or 0, tenant, 0, 0, 3, raw)
        if self.cluster.producer.jobs.run("enqueue", *args) != ["ok"]:
            return False
        self.recorded.append(job_id)
        return True

    def reckon(self) -> None:
        """Everything must have come out somewhere."""
        until(self._empty, "all queues are empty", timeout_s=600, every_s=0.2)
        self.cluster.wait_ended(*self.good, *self.recorded, timeout_s=240)
        assert self._pids() == self.pids, "the same processes are still there"
        ends = Counter(self.cluster.view(job_id).state for job_id in self.recorded)
        with contextlib.suppress(AssertionError):  # too few are told below
            until(lambda: self._letters()[False] >= self.bare, "the last one is a dead letter", every_s=0.5)
        letters = self._letters()
        figure(f"{self.bare} broken messages of nobody's: {letters[False]} dead letters")
        figure(f"{len(self.recorded)} broken messages of recorded jobs: {dict(ends)}, {letters[True]} dead letters")
        assert {self.cluster.view(job_id).state for job_id in self.good} == {"done"}
        assert letters[False] == self.bare, "each message that nobody had recorded is a dead letter"
        assert set(ends) == {"done", "failed"}

    def _letters(self) -> Counter[bool]:
        """Dead letters, by whether their job was recorded."""
        recorded = set(self.recorded)
        return Counter(entry["job_id"] in recorded for _, entry in self.client.xrange("maeari:dead"))

    def _empty(self) -> bool:
        return not any(self.client.llen(queue_list(queue, priority)) for queue in QUEUES for priority in (0, BATCH))


@pytest.mark.timeout(900)
def test_broken_messages_neither_stop_a_worker_nor_vanish(tmp_path: Path) -> None:
    run(tmp_path, 10_500, seed=7)


def run(folder: Path, count: int, seed: int) -> None:
    """Throw, and see what became of it."""
    fuzz = Fuzz(folder, seed)
    try:
        fuzz.throw(count)
        fuzz.reckon()
    finally:
        fuzz.cluster.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        run(Path(name), int(sys.argv[1]), int(sys.argv[2]))
