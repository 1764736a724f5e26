"""The short mode of the chaos driver; `make chaos SEEDS="1 2 3"` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from .driver import Chaos


@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_is_done_twice(tmp_path: Path) -> None:
    chaos = Chaos(seed=7, folder=tmp_path)
    try:
        outcome = chaos.run(jobs=40, faults=7, seconds=15)
    finally:
        chaos.close()
    assert outcome.jobs == 40
    assert outcome.clean, outcome
