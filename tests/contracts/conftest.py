"""What several contract tests need."""

from __future__ import annotations

import pytest

from shared.jobs import Jobs
from shared.keys import Keys
from tests.support.servers import RedisServer


@pytest.fixture
def jobs(redis_server: RedisServer) -> Jobs:
    """The job layer over an empty Redis."""
    redis_server.client.flushall()
    return Jobs(redis_server.client, Keys("maeari:"))
