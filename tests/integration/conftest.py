"""For the tests of several modules: records on a real Redis, and the real engine, which takes long to start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from shared.contracts.catalog import QUEUES
from shared.jobs import Jobs
from shared.keys import BATCH, PERMANENT, Keys, queue_list
from shared.settings import Settings
from tests.support.servers import RedisServer

if TYPE_CHECKING:  # what they import takes seconds, and most modules here need none of it
    from tests.support.training import Workshop
    from workers.engines.generator import BatchingGenerator


@pytest.fixture
def jobs(redis_server: RedisServer) -> Iterator[Jobs]:
    """Records on an empty database; afterwards no key may be left that neither expires nor is meant to stay."""
    client = redis_server.client
    client.flushall()
    yield Jobs(client, Keys("maeari:"))
    permanent = {f"maeari:{name}" for name in PERMANENT} | {queue_list(q, p) for q in QUEUES for p in (0, BATCH)}
    counters = ("maeari:shares", "maeari:parked")  # gone with the last waiting job
    leaked = {key for key in client.scan_iter("*") if client.ttl(key) == -1 and not key.startswith(counters)}
    assert leaked <= permanent


def configuration(studio: Workshop) -> Settings:
    """Two adapter slots for two adapters: the last slot is filled, which is when a mixed batch goes wrong."""
    return Settings(
        models_path=studio.folder / "models",
        llm_model="tiny",
        adapter_versions_path=studio.versions,
        llm_dtype="float32",
        llm_max_loras=2,
        llm_max_lora_rank=8,
        log_level="ERROR",
    )


@pytest.fixture(scope="package")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A tiny model with the adapters `one` and `two`."""
    from tests.integration.models import make_adapter, make_language_model
    from tests.support.training import Workshop

    studio = Workshop(tmp_path_factory.mktemp("studio"))
    base = make_language_model(studio.folder / "models" / "tiny")
    for seed, name in enumerate(("one", "two"), start=1):
        make_adapter(base, studio.folder / "models" / "adapters" / name, seed=seed)
    return studio


@pytest.fixture(scope="package")
def generator(studio: Workshop) -> Iterator[BatchingGenerator]:
    """One engine for all tests that do not kill it."""
    from workers.engines.generator import BatchingGenerator

    engine = BatchingGenerator(configuration(studio))
    engine.warm_up()
    yield engine
    engine.close()
