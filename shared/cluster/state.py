"""What the last `up` started, kept in the home folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from shared.errors import ConfigurationInvalid

from .layout import Layout
from .plan import Plan
from .services import RedisHost


@dataclass(frozen=True)
class State:
    """A started cluster."""

    plan: Plan
    redis: RedisHost
    settings: dict[str, str]
    """Fingerprints by variable, see `environment.fingerprints`."""


def load_state(layout: Layout) -> State | None:
    """The state of the running cluster; None where there is none."""
    try:
        raw = json.loads(layout.state.read_text(encoding="utf-8"))
        plan = Plan({str(role): int(number) for role, number in raw["replicas"].items()}, tuple(raw["gpus"]))
        return State(plan, raw["redis"], dict(raw["settings"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationInvalid(f"{layout.state} is damaged ({error}); end the cluster and remove it.") from error


def save_state(layout: Layout, state: State) -> None:
    """Remember what was started."""
    raw = {
        "replicas": dict(state.plan.replicas),
        "gpus": list(state.plan.gpus),
        "redis": state.redis,
        "settings": state.settings,
    }
    layout.write_private(layout.state, json.dumps(raw, indent=1) + "\n")


@contextlib.contextmanager
def exclusive(layout: Layout, timeout_s: float = 120.0) -> Iterator[None]:
    """Only one `up` or `down` changes a cluster at a time."""
    deadline = time.monotonic() + timeout_s
    with layout.lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigurationInvalid("Another `maeari up` or `maeari down` is at work here.") from None
                time.sleep(0.1)
        yield
