"""The folder decides the marker; the environment of the developer decides nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell that starts us in the background lets us ignore Ctrl-C, and with us every command under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in [name for name in os.environ if name.startswith("MAEARI_")]:
    del os.environ[name]
os.environ["MAEARI_LOG_LEVEL"] = "INFO"
os.environ["HF_HUB_OFFLINE"] = "1"  # what is asked of a hub that is not there is tried for a minute
os.environ["OMP_NUM_THREADS"] = "1"  # two spinning threads on two busy cores are slower than one

from tests.support.servers import RedisServer  # noqa: E402

ORDER = {"unit": 0, "contracts": 1, "integration": 2, "acceptance": 3}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the folder of `tests/` that it lies in; run the cheap folders first, shuffled within."""
    root = Path(__file__).parent
    folders = {item: item.path.relative_to(root).parts[0] for item in items}
    for item, folder in folders.items():
        item.add_marker(folder)
        if folder in ("acceptance", "interop"):
            item.add_marker(pytest.mark.timeout(900))  # the first test waits for the whole cluster
    items.sort(key=lambda item: ORDER.get(folders[item], len(ORDER)))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests that do not break it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()
