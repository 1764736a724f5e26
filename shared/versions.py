"""Versions of adapters: what was trained, how good it is, and which one is served.

A folder per adapter holds `versions/<number>/` (the adapter's files, `version.json`, perhaps `evaluation.json`) and
`serving.json`, which names the version that is served. A version is written beside and renamed, the pointer too, so
that no reader ever sees half of one; llm workers look at the pointer with every request. An adapter without a pointer
is the one that lies under the adapters' path, as it was shipped.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import InvalidAdapter, MaeariError, UnknownAdapter
from .settings import Settings

MARK = "@"
"""Between an adapter's name and a version's number."""

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ABOUT, EVALUATION, POINTER = "version.json", "evaluation.json", "serving.json"

EDGE = 1 << 20
"""Bytes at both ends of a base's weights that tell it from another."""


class NotPromoted(MaeariError):
    """The version may not be served."""

    code = "not_promoted"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Evaluation(_Record):
    """What a version was measured to be."""

    at: str
    """UTC, ISO 8601."""
    source: str
    """`training`: held-out dialogues, greedily; `cluster`: the running cluster."""
    figures: dict[str, float]


class Version(_Record):
    """A trained adapter."""

    name: str
    number: int
    pack: str
    recipe_name: str
    recipe: dict[str, Any]
    recipe_hash: str
    data_hash: str
    base_model: str
    base_fingerprint: str
    """Empty where the base is no folder of this machine."""
    digest: str
    """SHA-256 over configuration and weights."""
    created: str
    """UTC, ISO 8601."""
    figures: dict[str, Any]
    """Of the training: steps, losses, examination."""
    at_least: dict[str, float]
    at_most: dict[str, float]
    """What the recipe asks for before the version may be served."""
    evaluation: Evaluation

    @property
    def label(self) -> str:
        """`artist@3`."""
        return f"{self.name}{MARK}{self.number}"

    def shortcomings(self) -> list[str]:
        """Why it may not be served; empty when it may."""
        found = self.evaluation.figures
        return [
            *(_short(name, found.get(name), "at least", limit) for name, limit in self.at_least.items()
              if found.get(name) is None or not found[name] >= limit),
            *(_short(name, found.get(name), "at most", limit) for name, limit in self.at_most.items()
              if found.get(name) is None or not found[name] <= limit),
        ]  # fmt: skip


def _short(name: str, value: float | None, word: str, limit: float) -> str:
    return f"{name} {'was not measured' if value is None else f'is {value:.2f}'}, {word} {limit:.2f} is asked for"


class Pointer(_Record):
    """Which version is served."""

    serving: int | None = None
    """None: the shipped one."""
    before: tuple[int | None, ...] = ()
    """What was served before, the latest last."""
    at: str = ""


class Registry:
    """The versions under one folder; any number of processes may use it at once."""

    def __init__(self, folder: Path, shipped: Path) -> None:
        """`folder`: of versions, which need not exist; `shipped`: adapters by name, each a folder."""
        self.folder = folder
        self._shipped = shipped

    @classmethod
    def of(cls, config: Settings) -> Registry:
        """As the settings say."""
        return cls(config.versions_path.expanduser(), config.adapters_path.expanduser())

    # --- look ---

    def names(self) -> tuple[str, ...]:
        """Every adapter, shipped or trained."""
        shipped = {path.parent.name for path in self._shipped.glob(f"*/{CONFIG}")}
        return tuple(sorted(shipped | {path.name for path in self.folder.glob("*") if self.numbers(path.name)}))

    def is_shipped(self, name: str) -> bool:
        """Whether there is one beside the trained versions."""
        return (self._shipped / name / CONFIG).is_file()

    def numbers(self, name: str) -> tuple[int, ...]:
        """Numbers of an adapter's versions, the oldest first."""
        found = (self.folder / name / "versions").glob(f"*/{ABOUT}")
        return tuple(sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal()))

    def version(self, label: str) -> Version:
        """The version `artist@3`, with its latest evaluation. Raises `UnknownAdapter`, `InvalidAdapter`."""
        name, number = self._split(label)
        if number is None:
            raise UnknownAdapter(f"Name a version, e.g. {name}{MARK}1; there are {self._shown(name)}.", field="adapter")
        folder = self._version_folder(name, number)
        try:
            content = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            if (folder / EVALUATION).is_file():
                content["evaluation"] = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
            return Version.model_validate(content)
        except FileNotFoundError:
            raise UnknownAdapter(f"There is no {label}; there are {self._shown(name)}.", field="adapter") from None
        except (OSError, ValueError, ValidationError) as error:
            raise InvalidAdapter(f"'{label}': {ABOUT} cannot be read.", field="adapter") from error

    def pointer(self, name: str) -> Pointer:
        """Which version of `name` is served. Raises `InvalidAdapter` for a pointer that nobody can read."""
        try:
            return Pointer.model_validate_json((self.folder / name / POINTER).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Pointer()
        except (OSError, ValueError) as error:
            raise InvalidAdapter(f"'{name}': {POINTER} cannot be read.", field="adapter") from error

    def resolve(self, label: str) -> tuple[str, Path]:
        """What is served as `label` now, as name or version, and its folder. Raises `UnknownAdapter`."""
        name, number = self._split(label)
        number = self.pointer(name).serving if number is None else number
        folder = self._shipped / name if number is None else self._version_folder(name, number)
        if not folder.is_dir():
            raise UnknownAdapter(f"'{label}' is not served here.", field="adapter")
        return (name if number is None else f"{name}{MARK}{number}"), folder

    # --- change ---

    def register(self, name: str, files: Path, about: Mapping[str, Any]) -> Version:
        """Keep the adapter in `files` as the next version of `name`. Raises `InvalidAdapter` for half of one."""
        versions = self.folder / name / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        fresh = versions / f".{uuid.uuid4().hex}.new"
        try:
            shutil.copytree(files, fresh)
            with self._locked(name):
                number = max(self.numbers(name), default=0) + 1
                given = {"name": name, "number": number, "digest": digest(fresh), "created": now()}
                version = Version.model_validate({**about, **given})
                _write(fresh / ABOUT, version.model_dump(mode="json"))
                _readable(fresh)
                fresh.rename(self._version_folder(name, number))
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return version

    def record(self, label: str, evaluation: Evaluation) -> Version:
        """Keep what `label` was measured to be; from now on this decides whether it may be served."""
        version = self.version(label)
        _write(self._version_folder(version.name, version.number) / EVALUATION, evaluation.model_dump(mode="json"))
        return self.version(label)

    def promote(self, label: str, base: Path | None) -> Version:
        """Serve `label` from now on. `base`: the served base model's folder, where it is one.

        Raises `NotPromoted` unless it passes its evaluation, is whole and was trained over this base.
        """
        version = self.version(label)
        problems = version.shortcomings()
        if digest(self._version_folder(version.name, version.number)) != version.digest:
            problems.append("its files are not those that were registered")
        if base is not None and version.base_fingerprint and fingerprint(base) != version.base_fingerprint:
            problems.append(f"it was trained over another {version.base_model}")
        if problems:
            raise NotPromoted(f"{label}: {'; '.join(problems)}.", field="adapter")
        with self._locked(version.name):
            was = self.pointer(version.name)
            if was.serving != version.number:
                self._point(version.name, Pointer(serving=version.number, before=(*was.before, was.serving), at=now()))
        return version

    def rollback(self, name: str) -> Pointer:
        """Serve again what was served before. Raises `NotPromoted` where there is nothing to go back to."""
        with self._locked(name):
            was = self.pointer(name)
            if not was.before:
                raise NotPromoted(f"Nothing was served as {name} before.", field="adapter")
            *before, last = was.before
            if not (self._shipped / name if last is None else self._version_folder(name, last)).is_dir():
                raise NotPromoted(f"What was served as {name} before is gone.", field="adapter")
            self._point(name, Pointer(serving=last, before=tuple(before), at=now()))
        return self.pointer(name)

    # --- inside ---

    def _split(self, label: str) -> tuple[str, int | None]:
        name, mark, number = label.partition(MARK)
        if "/" in label or "\0" in label or name in {"", ".", ".."} or (mark and not number.isdecimal()):
            raise UnknownAdapter(f"'{label}' is no name of an adapter.", field="adapter")
        return name, int(number) if mark else None

    def _shown(self, name: str) -> str:
        return ", ".join(f"{name}{MARK}{number}" for number in self.numbers(name)) or "none"

    def _version_folder(self, name: str, number: int) -> Path:
        return self.folder / name / "versions" / str(number)

    def _point(self, name: str, pointer: Pointer) -> None:
        _write(self.folder / name / POINTER, pointer.model_dump(mode="json"))

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def digest(folder: Path) -> str:
    """SHA-256 over an adapter's configuration and weights. Raises `InvalidAdapter` where one is missing."""
    total = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        try:
            with (folder / name).open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InvalidAdapter(f"{name} cannot be read ({error.strerror}).", field="adapter") from error
    return total.hexdigest()


def fingerprint(base: Path) -> str:
    """Tells one base model's folder from another, without reading gigabytes: its small files, its weights' ends."""
    total = hashlib.sha256()
    for path in sorted(base.glob("*.json")):
        if path.name in ("config.json", "tokenizer.json"):
            total.update(path.read_bytes())
    for path in sorted(base.glob("*.safetensors")):
        size = path.stat().st_size
        total.update(str(size).encode())
        with path.open("rb") as file:
            total.update(file.read(EDGE))
            file.seek(max(0, size - EDGE))
            total.update(file.read(EDGE))
    return total.hexdigest()[:16]


def _write(path: Path, content: Any) -> None:
    """Whole or not at all, and there to stay."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=2)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(0o644)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _readable(folder: Path) -> None:
    """A server may run as another user than the trainer."""
    folder.chmod(0o755)
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
