"""Packs as data, one folder each: `persona.yaml`, `voice.yaml`, `knowledge/*.md`; an artist also has `world.yaml`."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from shared.contracts.base import first_problem
from shared.contracts.pack import PACK_ID_PATTERN, Pack, PackVoice, Persona, SeedDialogue, World
from shared.errors import PackInvalid, UnknownPack
from shared.settings import settings

BUILT_IN = Path(__file__).resolve().parent
"""Folder of the packs that ship with the code; it is searched first."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class KnowledgeFile:
    """A Markdown document of a pack."""

    document: str
    """Name of the document: the file's name without `.md`."""
    text: str
    """NFC text, ended by a line feed."""


def pack_ids() -> tuple[str, ...]:
    """Ids of every pack that can be loaded, sorted."""
    return tuple(sorted(_folders()))


def pack_folder(pack_id: str) -> Path:
    """Folder of a pack. Raises `UnknownPack`; an id with anything but letters, digits and hyphens is unknown."""
    folder = _folders().get(pack_id) if re.fullmatch(PACK_ID_PATTERN, pack_id) else None
    if folder is None:
        raise UnknownPack(f"Known packs: {', '.join(pack_ids())}.", field="pack")
    return folder


@cache
def load_pack(pack_id: str) -> Pack:
    """The pack of that id, read once. Raises `UnknownPack`, and `PackInvalid` naming file and field."""
    folder = pack_folder(pack_id)
    persona = _model(folder / "persona.yaml", Persona)
    if persona.id != pack_id:
        raise _invalid(folder / "persona.yaml", "id", f"is {persona.id}, the folder is {pack_id}")
    world = _model(folder / "world.yaml", World) if (folder / "world.yaml").exists() else None
    voice = _model(folder / "voice.yaml", PackVoice)
    if persona.voice != voice.id:
        raise _invalid(folder / "voice.yaml", "id", f"is {voice.id}, persona.yaml names {persona.voice}")
    reference = voice.neural.reference
    if reference and not (folder / reference).is_file():
        raise _invalid(folder / "voice.yaml", "neural.reference", f"there is no {reference}")
    return Pack(**dict(persona), speaker=voice, world=world)


def knowledge_files(pack: Pack) -> tuple[KnowledgeFile, ...]:
    """The pack's Markdown documents, sorted by name. Raises `PackInvalid` where there is none or one is empty."""
    folder = pack_folder(pack.id) / "knowledge"
    files = tuple(KnowledgeFile(path.stem, _text(path)) for path in sorted(folder.glob("*.md")))
    if not files:
        raise _invalid(folder, "knowledge", "holds no Markdown file")
    for file in files:
        if not file.text.strip():
            raise _invalid(folder / f"{file.document}.md", "text", "is empty")
    return files


def seed_dialogues(pack: Pack) -> tuple[SeedDialogue, ...]:
    """The hand-written dialogues of `seeds.jsonl`. Raises `PackInvalid` naming the line."""
    path = pack_folder(pack.id) / "seeds.jsonl"
    lines = [(number, line) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()]
    return tuple(_seed(path, number, line) for number, line in lines)


def sample_questions(pack: Pack) -> tuple[str, ...]:
    """Questions to try the pack with: the lines of `questions.txt`."""
    lines = _text(pack_folder(pack.id) / "questions.txt").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _folders() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in (BUILT_IN, *settings().pack_paths):
        if not root.is_dir():
            continue
        for folder in sorted(root.iterdir()):
            if re.fullmatch(PACK_ID_PATTERN, folder.name) and (folder / "persona.yaml").is_file():
                found.setdefault(folder.name, folder)
    return found


def _seed(path: Path, number: int, line: str) -> SeedDialogue:
    try:
        return SeedDialogue.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise _invalid(path, f"line {number}", f"is not JSON ({error.msg})") from error
    except ValidationError as error:
        field, problem = first_problem(error.errors())
        raise _invalid(path, f"line {number}.{field}", problem) from error


def _model(path: Path, model: type[M]) -> M:
    try:
        return model.model_validate(_yaml(path))
    except ValidationError as error:
        field, problem = first_problem(error.errors())
        raise _invalid(path, field, problem) from error


def _yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "(file)"
        raise _invalid(path, where, "is not YAML") from error
    if not isinstance(content, dict):
        raise _invalid(path, "(file)", "must be a mapping")
    return content


def _text(path: Path) -> str:
    try:
        return unicodedata.normalize("NFC", path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _invalid(path, "(file)", "is missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(path, "(file)", f"cannot be read ({type(error).__name__})") from error


def _invalid(path: Path, field: str, problem: str) -> PackInvalid:
    where = f"{path.parent.name}/{path.name}"
    return PackInvalid(f"{where}, {field}: {problem}", field=f"{where}:{field}")
