"""Every built-in pack keeps the contract, and is written for this project in clean Korean."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata

import pytest

from shared.contracts.pack import Pack
from shared.packs import BUILT_IN, knowledge_files, load_pack, pack_folder, sample_questions, seed_dialogues

BUILT_IN_IDS = sorted(path.parent.name for path in BUILT_IN.glob("*/persona.yaml"))

FOREIGN = re.compile(r"[A-Za-z0-9]")


@pytest.fixture(params=BUILT_IN_IDS)
def pack(request: pytest.FixtureRequest) -> Pack:
    """Each pack in turn."""
    return load_pack(request.param)


def test_there_are_packs() -> None:
    assert {"artist", "parent"} <= set(BUILT_IN_IDS)


def test_a_pack_survives_a_round_trip(pack: Pack) -> None:
    assert Pack.model_validate_json(pack.model_dump_json()) == pack


def test_a_pack_is_frozen(pack: Pack) -> None:
    with pytest.raises(ValueError, match="frozen"):
        pack.name = "x"  # type: ignore[misc]


def test_every_file_is_utf8_and_nfc(pack: Pack) -> None:
    for path in pack_folder(pack.id).rglob("*.*"):
        if path.suffix in {".yaml", ".md", ".jsonl", ".txt"}:
            text = path.read_text(encoding="utf-8")
            assert unicodedata.is_normalized("NFC", text), path


def test_the_prompt_lines_are_short(pack: Pack) -> None:
    assert sum(map(len, pack.prompt.persona)) <= 80
    assert sum(map(len, pack.prompt.safety)) <= 60


def test_knowledge_has_headings_and_can_be_spoken(pack: Pack) -> None:
    for file in knowledge_files(pack):
        assert file.text.startswith("# ")
        assert "\n## " in file.text
        assert not FOREIGN.search(file.text), file.document


def test_there_are_seed_dialogues_of_every_category(pack: Pack) -> None:
    seeds = seed_dialogues(pack)
    assert len(seeds) >= 20
    assert len({seed.id for seed in seeds}) == len(seeds)
    assert {seed.category for seed in seeds} == {"daily", "knowledge", "memory", "comfort", "safety"}


def test_there_are_questions_to_try(pack: Pack) -> None:
    assert len(sample_questions(pack)) >= 3


def test_the_contract_imports_pydantic_alone() -> None:
    code = (
        "import sys, shared.contracts.pack\n"
        "print([n for n in ('yaml', 'redis', 'celery', 'torch', 'numpy', 'pydantic_settings') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BUILT_IN.parents[1], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
