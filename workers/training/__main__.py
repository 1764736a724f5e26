"""`python -m workers.training RECIPE|all`: train, examine, write the model and its card."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError

from shared.contracts.training import TrainResult
from shared.errors import ConfigurationInvalid, JobCancelled, MaeariError, TrainingFailed
from shared.settings import settings

from . import keeping
from .card import write_card
from .files import reason
from .progress import stopped_by_signals, watch
from .recipe import (
    DATA_FOLDER,
    FOLDER,
    AdapterRecipe,
    check_data_paths,
    invalid,
    named_recipe,
    read_mapping,
    read_recipe,
    recipe_path,
)
from .reproduction import apart
from .telling import Teller

Figures = dict[str, Any]

INTERRUPTED = 130
"""Exit status of a training that was stopped; its checkpoint is kept."""


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
    target = out or settings().models_path / trainer.folder.format(name=_bare(path))
    with _fresh(target) as fresh:
        figures = _run(path, read_recipe(path, model), run, fresh)
        _replace(target, fresh)
    watch.finish()
    return figures


def train_again(name: str, out: Path | None = None) -> list[str]:
    """Run a recipe once more beside its finished model and compare; what lies further apart than it may."""
    path = recipe_path(name)
    target = out or settings().models_path / _trainer(path).folder.format(name=_bare(path))
    try:
        shipped = json.loads((target / "figures.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationInvalid(f"{target} has no figures to compare with.", field="out") from error
    with tempfile.TemporaryDirectory() as folder:
        return apart(shipped, train(name, Path(folder) / "model"))


def train_and_keep(path: Path, *, promote: bool = False) -> TrainResult:
    """Run a recipe; keep an adapter as a version, another model under the home folder's `models`. Serves neither."""
    trainer = _trainer(path)
    model, run = trainer.load()
    recipe = read_recipe(path, model)
    target = settings().home / "models" / trainer.folder.format(name=_bare(path))
    if not isinstance(recipe, AdapterRecipe):
        with _fresh(target) as fresh:
            figures = _run(path, recipe, run, fresh)
            _replace(target, fresh)
        watch.finish()
        return keeping.result(path, recipe, figures, None, promote)
    keeping.check_served(recipe)
    with _fresh(target) as fresh:
        figures = _run(path, recipe, run, fresh)
        try:
            version = keeping.register(_bare(path), path, recipe, fresh, figures)
        except OSError as error:
            raise TrainingFailed(f"The version cannot be kept ({reason(error)}); the run's checkpoint is.") from error
    watch.finish()
    return keeping.result(path, recipe, figures, version, promote)


def _run(path: Path, recipe: BaseModel, run: Callable[[Any, Path], Figures], fresh: Path) -> Figures:
    began, token = time.monotonic(), DATA_FOLDER.set(path.parent)
    watch.stage = path.stem
    watch.at_end.clear()
    try:
        figures = run(recipe, fresh)
        figures["minutes"] = round((time.monotonic() - began) / 60, 1)
        write_card(fresh, path, recipe, figures)
    except (OSError, SafetensorError) as error:
        raise TrainingFailed(f"A file cannot be written ({reason(error)}); the run's checkpoint is kept.") from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrainingFailed("It needs more memory: lower schedule.batch; the run's checkpoint is kept.") from error
    finally:
        DATA_FOLDER.reset(token)
    return figures


def _bare(path: Path) -> str:
    return path.stem.removeprefix("adapter-")


@contextmanager
def _fresh(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, gone afterwards whatever happens."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


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
    """Run the command; 0 when every recipe was trained (and gave its figures again), 130 when it was stopped."""
    options = _options(arguments)
    teller = Teller() if options.events else None
    try:
        with stopped_by_signals():
            return _work(options, teller)
    except JobCancelled as error:
        _tell_end(teller, error)
        return INTERRUPTED
    except MaeariError as error:
        _tell_end(teller, error)
        return 1


def _work(options: argparse.Namespace, teller: Teller | None) -> int:
    if teller is not None:
        watch.listener = teller.progress
    if options.keep:
        path = named_recipe(options.recipe) if options.named else recipe_path(options.recipe).absolute()
        if options.named:
            check_data_paths(path, read_recipe(path, _trainer(path).load()[0]))
        result = train_and_keep(path, promote=options.promote)
        if teller is not None:
            teller.done(result)
        else:
            print(result.model_dump_json(indent=2))
        return 0
    names = LAPTOP if options.recipe == "all" else (options.recipe,)
    if options.out and len(names) > 1:
        raise ConfigurationInvalid("--out goes with one recipe.", field="out")
    if options.again:
        differences = [f"{name}: {line}" for name in names for line in train_again(name, options.out)]
        print("\n".join(differences) or "The figures are those on the card, within the bounds.")
        return 1 if differences else 0
    for name in names:
        figures = _plan(name) if options.plan else train(name, options.out)
        print(json.dumps({"recipe": name, **figures}, ensure_ascii=False, indent=2))
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.training", description=__doc__)
    known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
    parser.add_argument("recipe", help=f"`all`, a file, or one of {known}")
    parser.add_argument("--out", type=Path, help="folder of the finished model; default: under the laptop models")
    parser.add_argument("--plan", action="store_true", help="say what memory the recipe needs, and train nothing")
    parser.add_argument("--again", action="store_true", help="train beside the finished model and compare the figures")
    parser.add_argument("--keep", action="store_true", help="keep an adapter as a version, another model in the home")
    parser.add_argument("--promote", action="store_true", help="with --keep: serve the version if it passes")
    parser.add_argument("--named", action="store_true", help="with --keep: a recipe of the folders for jobs, no path")
    parser.add_argument("--events", action="store_true", help="with --keep: progress and result as JSON lines")
    return parser.parse_args(arguments)


def _tell_end(teller: Teller | None, error: MaeariError) -> None:
    if teller is not None:
        teller.failed(error)
    print(f"{error.code}: {error.message}", file=sys.stderr)


def _plan(name: str) -> Figures:
    from .memory import plan

    path = recipe_path(name)
    model, _ = _trainer(path).load()
    return plan(path, read_recipe(path, model))


if __name__ == "__main__":
    sys.exit(main())
