"""Which processes a cluster consists of."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.errors import ConfigurationInvalid

ROLES = ("conductor", "llm", "stt", "tts", "rag")
"""Kinds of worker, in the order of their start; `python -m workers <role>` runs one."""

ON_DEMAND = ("trainer",)
"""Kinds of worker that a cluster serves people without: run where they are asked for, `--replicas trainer=1`."""

EVERY_ROLE = (*ROLES, *ON_DEMAND)

SERVICES = ("redis", "chroma", "flower")
"""What is not a worker."""

GPU_ROLES = ("llm", "stt", "tts", "rag", "trainer")
"""Roles that run once per GPU when GPUs are named."""

MOST_REPLICAS = 64
"""Per role; more is a typing mistake."""


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    role: str
    """A role or a service."""
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside what it inherits."""
    gpu: str | None = None

    @property
    def is_worker(self) -> bool:
        """It loads engines and drains at its end."""
        return self.role in EVERY_ROLE


@dataclass(frozen=True)
class Plan:
    """Replicas per role and the GPUs that they share."""

    replicas: Mapping[str, int]
    gpus: tuple[str, ...] = ()


def make_plan(replicas: Mapping[str, int], gpus: Sequence[str] | None, before: Plan | None) -> Plan:
    """What was asked for over what runs: `replicas` by role, `gpus` (None: as before).

    A role that nobody mentions runs once, or once per GPU where it uses one.
    """
    cards = tuple(gpus) if gpus is not None else (before.gpus if before else ())
    kept = before.replicas if before and gpus is None else {}
    counts = {}
    for role in EVERY_ROLE:
        usual = 0 if role in ON_DEMAND else len(cards) if cards and role in GPU_ROLES else 1
        counts[role] = replicas.get(role, kept.get(role, usual))
    return Plan({role: count for role, count in counts.items() if count or role in ROLES}, cards)


def parse_replicas(values: Sequence[str]) -> dict[str, int]:
    """`["llm=2", "tts=2"]` to numbers by role."""
    found: dict[str, int] = {}
    for value in values:
        role, _, number = value.partition("=")
        if role not in EVERY_ROLE:
            raise ConfigurationInvalid(
                f"There is no role {role!r}; roles are {', '.join(EVERY_ROLE)}.", field="replicas"
            )
        if not number.isdecimal() or not 0 <= int(number) <= MOST_REPLICAS:
            raise ConfigurationInvalid(
                f"{value!r} is not ROLE=NUMBER with a number from 0 to {MOST_REPLICAS}.", field="replicas"
            )
        found[role] = int(number)
    return found


def parse_gpus(value: str) -> tuple[str, ...]:
    """`"0,1"` to the cards' names, as CUDA_VISIBLE_DEVICES takes them; an empty text to none."""
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if len(set(names)) != len(names):
        raise ConfigurationInvalid(f"{value!r} names a GPU twice.", field="gpus")
    if bad := [name for name in names if not name.replace("-", "").isalnum()]:
        raise ConfigurationInvalid(f"{bad[0]!r} is no GPU index or UUID.", field="gpus")
    return names


def worker_programs(plan: Plan) -> tuple[Program, ...]:
    """One program per worker process."""
    return tuple(_worker(role, index, plan.gpus) for role in EVERY_ROLE for index in range(plan.replicas.get(role, 0)))


def node_name(program: str) -> str:
    """What a worker calls itself to others: unique among the machines that share a Redis."""
    return f"{program}@{socket.gethostname()}"


def _worker(role: str, index: int, gpus: tuple[str, ...]) -> Program:
    gpu = gpus[index % len(gpus)] if gpus and role in GPU_ROLES else None
    name = f"{role}-{index}"
    command = (sys.executable, "-m", "workers", role, "--name", node_name(name))
    return Program(name, role, command, {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}, gpu)
