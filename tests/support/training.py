"""A training that takes seconds: a tiny base model, a recipe over a few dialogues, the settings to run it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.integration.models import make_language_model

LINES = [
    {
        "messages": [
            {"role": "user", "content": f"{n}번 꽃은 뭐야?"},
            {"role": "assistant", "content": f"수국 {n}이란다."},
        ]
    }
    for n in range(24)
]


@dataclass
class Workshop:
    """Folders and environment of a training."""

    folder: Path

    @property
    def recipes(self) -> Path:
        """Recipes that jobs may name."""
        return self.folder / "recipes"

    @property
    def versions(self) -> Path:
        """Versions of adapters."""
        return self.folder / "versions"

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a process that trains."""
        return {
            "MAEARI_HOME": str(self.folder / "home"),
            "MAEARI_MODELS_PATH": str(self.folder / "models"),
            "MAEARI_LLM_MODEL": "tiny",
            "MAEARI_ADAPTER_VERSIONS_PATH": str(self.versions),
            "MAEARI_RECIPE_PATHS": json.dumps([str(self.recipes)]),
            "OMP_NUM_THREADS": "1",
        }

    def recipe(self, name: str, **changes: Any) -> Path:
        """Write the recipe `name`; `changes` replace whole keys."""
        content: dict[str, Any] = {
            "kind": "adapter",
            "seed": 1,
            "base_model": "tiny",
            "pack": "artist",
            "device": "cpu",
            "lora": {"rank": 8, "alpha": 16},
            "data": {"sources": [{"file": "talks.jsonl"}], "validation": 0.2, "max_tokens": 128},
            "schedule": {"batch": 4, "steps": 6, "learning_rate": 0.01, "validate_every": 3},
            "examination": {"cases": 1, "max_new_tokens": 2},
            "promotion": {"at_least": {"style_kept": 0.0}, "at_most": {"other_style_kept": 1.0}},
        }
        path = self.recipes / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content | changes, allow_unicode=True), encoding="utf-8")
        return path


def make_workshop(folder: Path) -> Workshop:
    """A base of random weights called `tiny`, 24 dialogues, no recipe yet."""
    workshop = Workshop(folder)
    workshop.recipes.mkdir(parents=True)
    make_language_model(folder / "models" / "tiny")
    lines = "\n".join(json.dumps(line, ensure_ascii=False) for line in LINES)
    (workshop.recipes / "talks.jsonl").write_text(lines, encoding="utf-8")
    return workshop


def whole_environment(workshop: Workshop, **more: str) -> dict[str, str]:
    """For a process: this one's, without its own settings, with the workshop's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAEARI_")} | (
        workshop.environment | more
    )
