"""`python -m workers.training RECIPE|all`: train, examine, write the model and its card."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from shared.errors import ConfigurationInvalid, MaeariError
from shared.settings import settings

from .card import write_card
from .recipe import FOLDER, invalid, read_mapping, read_recipe, recipe_path

Figures = dict[str, Any]


@dataclass(frozen=True)
class Trainer:
    """Where the code of a kind lies; imported only when it is used, so that no kind needs another's libraries."""

    module: str
    recipe: str
    """The pydantic model of the kind's recipe, in `module`."""
    folder: str
    """Where its models go under the models' path; `{name}` is the recipe's name without the kind."""

    def load(self) -> tuple[type[BaseModel], Callable[[Any, Path], Figures]]:
        """The recipe's model and `train(recipe, out) -> figures`, which writes the model's files into `out`."""
        module = importlib.import_module(f"{__package__}.{self.module}")
        return getattr(module, self.recipe), module.train


TRAINERS = {
    "language": Trainer("language", "LanguageRecipe", "{name}"),
    "adapter": Trainer("adapter", "AdapterRecipe", "adapters/{name}"),
    "speech": Trainer("speech", "SpeechRecipe", "{name}"),
    "embedding": Trainer("embedding", "EmbeddingRecipe", "{name}"),
    "voice": Trainer("voice", "VoiceRecipe", "{name}"),
}
"""Every kind of recipe, in the order in which `all` runs them: an adapter needs its base."""

LAPTOP = ("language", "adapter-parent", "adapter-artist", "speech", "embedding", "voice")
"""The recipes of the shipped laptop models."""


def train(name: str, out: Path | None = None) -> Figures:
    """Run the recipe `name` and put the finished model in place of the old one; a failure leaves the old one."""
    path = recipe_path(name)
    trainer = _trainer(path)
    model, run = trainer.load()
    recipe = read_recipe(path, model)
    target = out or settings().models_path / trainer.folder.format(name=path.stem.removeprefix("adapter-"))
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    started = time.monotonic()
    figures = run(recipe, fresh)
    figures["minutes"] = round((time.monotonic() - started) / 60, 1)
    write_card(fresh, path, recipe, figures)
    _replace(target, fresh)
    return figures


def _trainer(path: Path) -> Trainer:
    kind = read_mapping(path).get("kind")
    if kind not in TRAINERS:
        raise invalid(path, "kind", f"must be one of {', '.join(TRAINERS)}")
    return TRAINERS[kind]


def _replace(target: Path, fresh: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    for file in fresh.rglob("*"):
        # Some writers make private files; a server may run as another user.
        file.chmod(0o755 if file.is_dir() else 0o644)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when every recipe was trained."""
    parser = argparse.ArgumentParser(prog="python -m workers.training", description=__doc__)
    known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
    parser.add_argument("recipe", help=f"`all`, a file, or one of {known}")
    parser.add_argument("--out", type=Path, help="folder of the finished model; default: under the laptop models")
    parser.add_argument("--plan", action="store_true", help="say what memory the recipe needs, and train nothing")
    options = parser.parse_args(arguments)
    try:
        names = LAPTOP if options.recipe == "all" else (options.recipe,)
        if options.out and len(names) > 1:
            raise ConfigurationInvalid("--out goes with one recipe.", field="out")
        for name in names:
            figures = _plan(name) if options.plan else train(name, options.out)
            print(json.dumps({"recipe": name, **figures}, ensure_ascii=False, indent=2))
    except MaeariError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    return 0


def _plan(name: str) -> Figures:
    from .memory import plan

    path = recipe_path(name)
    model, _ = _trainer(path).load()
    return plan(path, read_recipe(path, model))


if __name__ == "__main__":
    sys.exit(main())
