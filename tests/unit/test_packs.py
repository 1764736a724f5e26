"""Packs load from their folders, and a mistake in one is named by file and field."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import packs
from shared.errors import PackInvalid, UnknownPack
from shared.settings import Settings

Home = Callable[[str], Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A copy of the parent pack under a new id, in a folder that the settings name."""
    monkeypatch.setattr(packs, "settings", lambda: Settings(pack_paths=(tmp_path,)))
    packs.load_pack.cache_clear()

    def copy(pack_id: str) -> Path:
        folder = tmp_path / pack_id
        shutil.copytree(packs.BUILT_IN / "parent", folder)
        persona = folder / "persona.yaml"
        persona.write_text(
            persona.read_text(encoding="utf-8").replace("id: parent", f"id: {pack_id}"), encoding="utf-8"
        )
        return folder

    yield copy
    packs.load_pack.cache_clear()


def _swap(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_built_in_packs_load() -> None:
    assert {"artist", "parent"} <= set(packs.pack_ids())
    artist = packs.load_pack("artist")
    assert artist.world is not None
    assert artist.world.fandom in artist.speech.address.default
    assert packs.load_pack("artist") is artist


@pytest.mark.parametrize("pack_id", ["nobody", "../parent", "parent/../artist", "", "Parent", "a" * 64, "parent\n"])
def test_an_unknown_id_is_refused_and_never_read_as_a_path(pack_id: str) -> None:
    with pytest.raises(UnknownPack) as refusal:
        packs.load_pack(pack_id)
    assert refusal.value.field == "pack"


def test_packs_outside_the_checkout_are_found(home: Home) -> None:
    home("grandma")
    assert "grandma" in packs.pack_ids()
    assert packs.load_pack("grandma").id == "grandma"


def test_a_built_in_pack_is_not_shadowed(home: Home) -> None:
    folder = home("parent")
    _swap(folder / "persona.yaml", "name: 엄마", "name: 누구")
    assert packs.load_pack("parent").name == "엄마"


@pytest.mark.parametrize(
    ("file", "old", "new", "field"),
    [
        ("persona.yaml", "formality: informal", "formality: rude", "speech.formality"),
        ("persona.yaml", "top_k: 3", "top_k: 300", "retrieval.top_k"),
        ("persona.yaml", "top_k: 3", "top_k: three", "retrieval.top_k"),
        ("persona.yaml", "temperature: 0.3", "temperature: 9.0", "sampling.temperature"),
        ("persona.yaml", "adapter: parent", "adaptor: parent", "adapter"),
        ("persona.yaml", "version: 1.0.0", "version: one", "version"),
        ("persona.yaml", "name: 엄마", "name: ''", "name"),
        ("voice.yaml", "pitch: 42", "pitch: 142", "formant.pitch"),
        ("voice.yaml", "variant: ko+f2", "variant: '; rm'", "formant.variant"),
        ("voice.yaml", "temperature: 0.65", "reference: ../secret.wav", "neural.reference"),
        ("voice.yaml", "temperature: 0.65", "reference: missing.wav", "neural.reference"),
        ("voice.yaml", "id: parent", "id: other", "id"),
    ],
)
def test_a_mistake_is_named_by_file_and_field(home: Home, file: str, old: str, new: str, field: str) -> None:
    folder = home("grandma")
    _swap(folder / file, old, new)
    with pytest.raises(PackInvalid) as refusal:
        packs.load_pack("grandma")
    assert refusal.value.field == f"grandma/{file}:{field}"


@pytest.mark.parametrize(("content", "field"), [("a: [", "line 1"), ("- 1", "(file)"), ("", "(file)")])
def test_a_file_that_is_no_mapping_is_named(home: Home, content: str, field: str) -> None:
    (home("grandma") / "persona.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(PackInvalid) as refusal:
        packs.load_pack("grandma")
    assert refusal.value.field == f"grandma/persona.yaml:{field}"


def test_bytes_that_are_no_text_are_named(home: Home) -> None:
    (home("grandma") / "voice.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PackInvalid, match=r"voice\.yaml"):
        packs.load_pack("grandma")


def test_a_missing_voice_is_named(home: Home) -> None:
    (home("grandma") / "voice.yaml").unlink()
    with pytest.raises(PackInvalid, match="is missing"):
        packs.load_pack("grandma")


def test_knowledge_must_be_there_and_hold_something(home: Home) -> None:
    folder = home("grandma")
    pack = packs.load_pack("grandma")
    assert len(packs.knowledge_files(pack)) >= 5
    (folder / "knowledge" / "diary.md").write_text("\n", encoding="utf-8")
    with pytest.raises(PackInvalid, match=r"diary\.md"):
        packs.knowledge_files(pack)
    shutil.rmtree(folder / "knowledge")
    with pytest.raises(PackInvalid, match="no Markdown"):
        packs.knowledge_files(pack)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("not json", "line 1"),
        ('{"id": "a", "category": "odd", "turns": ["가", "나"]}', "line 1.category"),
        ('{"id": "a", "category": "daily", "turns": ["가", "나", "다"]}', "line 1.(request)"),
    ],
)
def test_a_bad_seed_is_named_by_line(home: Home, line: str, field: str) -> None:
    folder = home("grandma")
    (folder / "seeds.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(PackInvalid) as refusal:
        packs.seed_dialogues(packs.load_pack("grandma"))
    assert refusal.value.field == f"grandma/seeds.jsonl:{field}"
