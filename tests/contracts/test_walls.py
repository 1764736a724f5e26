"""The walls between the packages stand at run time, not only in the linter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch", "vllm", "TTS", "faster_whisper", "ctranslate2", "chromadb", "sentence_transformers", "peft", "transformers",
    "tokenizers", "numpy", "workers",
)  # fmt: skip


def _runs(code: str, blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    block = "import sys\nfor name in " + repr(blocked) + ":\n    sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", block + code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        ("shared.producer", (*HEAVY, "celery", "kombu", "tasks", "typer", "rich")),
        ("shared.app", (*HEAVY, "tasks")),
        ("tasks", HEAVY),
        ("celeryconfig", (*HEAVY, "tasks")),
        ("shared.contracts.catalog", (*HEAVY, "celery", "kombu", "redis", "tasks")),
    ],
)
def test_a_package_imports_without_what_lies_behind_its_wall(module: str, blocked: tuple[str, ...]) -> None:
    done = _runs(f"import {module}", blocked)
    assert done.returncode == 0, done.stderr


def test_the_block_of_this_test_does_block() -> None:
    assert "numpy" in _runs("import numpy", ("numpy",)).stderr


def test_workers_import_their_own_tasks_package() -> None:
    done = _runs("import tasks, pathlib; print(pathlib.Path(tasks.__file__).parent.parent)", HEAVY)
    assert done.stdout.strip() == str(ROOT)
